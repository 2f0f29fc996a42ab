"""How a branch runs."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flow import Binder, Execute, Scope, StepFailed, StepResult, bind_callable, hookimpl

from ._branch import DEFAULT, Branch
from ._policy import RoutingPolicy, label_of


@hookimpl
def flow_bind_step(step: Any, binder: Binder) -> Execute | None:
    """Bind a `Branch`: every pipeline is bound once, whichever is chosen."""
    if not isinstance(step, Branch):
        return None
    choose = _chooser(step)
    executes = {key: binder.bind(pipeline, label_of(key)) for key, pipeline in step.branches.items()}
    default = None if step.default is None else binder.bind(step.default, DEFAULT)

    async def run(data: Any, scope: Scope) -> StepResult:
        key = await choose(data, scope.context)
        execute = _find(executes, key, by_label=step.policy is not None) or default
        metadata = {"executed_branch_key": _plain(key)}
        if execute is None:
            choices = ", ".join(repr(label_of(choice)) for choice in executes) or "none"
            feedback = f"no branch for key {key!r} and no default branch; the branches are: {choices}"
            return StepResult.failed(step, feedback, metadata=metadata)
        result = await execute(data, scope)
        if result.success:
            return StepResult.ok(step, result.output, metadata=metadata)
        feedback = f"branch {label_of(key)!r} failed at {result.path!r}: {result.feedback}"
        return StepResult.failed(step, feedback, result.error, metadata=metadata)

    return run


def _chooser(step: Branch[Any, Any]) -> Callable[[Any, Any], Awaitable[Any]]:
    if step.policy is None:
        return bind_callable(step.choose, what="condition")
    key_of = bind_callable(step.choose, what="routing key")
    policy: RoutingPolicy = step.policy

    async def choose(data: Any, context: Any) -> Any:
        key = await key_of(data, context)
        try:
            chosen = await policy.choose(key)
        except TypeError as error:
            raise StepFailed(f"the routing key is {key!r:.60}, which cannot be looked up", cause=error) from error
        if chosen is None and step.default is None:
            raise StepFailed(
                f"the routing policy has no branch for {key!r}", hint="Give it a default, or the step a default branch"
            )
        return chosen

    return choose


def _find(executes: Mapping[Any, Execute], key: Any, *, by_label: bool) -> Execute | None:
    """Return the branch of a key; booleans, and what a policy says, also find the branch that is called like them."""
    try:
        if key in executes:
            return executes[key]
    except TypeError as error:
        raise StepFailed(f"the key chosen is {key!r:.60}, which cannot be that of a branch", cause=error) from error
    if isinstance(key, bool) or (by_label and key is not None):
        label = label_of(key)
        return next((execute for choice, execute in executes.items() if label_of(choice) == label), None)
    return None


def _plain(key: Any) -> Any:
    """Return what stands for a key in metadata, which must be storable as JSON."""
    if isinstance(key, enum.Enum):
        key = key.value
    return key if isinstance(key, (str, bool, int, type(None))) else repr(key)
