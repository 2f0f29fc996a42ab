"""How the steps that ask run."""

from __future__ import annotations

from typing import Any

from flow import Binder, Execute, Scope, StepResult, hookimpl

from ._question import Question, Reply
from ._steps import ON_REJECT, Approval, HumanInTheLoop


@hookimpl
def flow_bind_step(step: Any, binder: Binder) -> Execute | None:
    """Bind an `Approval` or a `HumanInTheLoop`."""
    if isinstance(step, Approval):
        return _bind_approval(step, binder)
    return _bind_question(step) if isinstance(step, HumanInTheLoop) else None


def _bind_question(step: HumanInTheLoop[Any, Any]) -> Execute:
    question = Question(step)

    async def run(data: Any, scope: Scope) -> StepResult:
        reply = await question.reply(data, scope)
        return StepResult.ok(step, reply.value, metadata=_metadata(reply))

    return run


def _bind_approval(step: Approval[Any, Any], binder: Binder) -> Execute:
    question = Question(step)
    rejected = None if step.on_reject is None else binder.bind(step.on_reject, ON_REJECT)

    async def run(data: Any, scope: Scope) -> StepResult:
        reply = await question.reply(data, scope)
        metadata = {"approved": reply.value, **_metadata(reply)}
        if reply.value:
            return StepResult.ok(step, data, metadata=metadata)
        if rejected is None:
            return StepResult.failed(step, f"rejected: {reply.message!r}", metadata=metadata)
        result = await rejected(data, scope)
        if result.success:
            return StepResult.ok(step, result.output, metadata=metadata)
        feedback = f"what runs on a rejection failed at {result.path!r}: {result.feedback}"
        return StepResult.failed(step, feedback, result.error, metadata=metadata)

    return run


def _metadata(reply: Reply) -> dict[str, Any]:
    return {"default_applied": True} if reply.is_default else {}
