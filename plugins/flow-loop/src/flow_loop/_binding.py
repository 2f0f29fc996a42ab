"""How loops and refinements run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from flow import Binder, Execute, Scope, StepFailed, StepResult, bind_callable, hookimpl

from ._loop import Loop
from ._refine import Refine, Refinement


@hookimpl
def flow_bind_step(step: Any, binder: Binder) -> Execute | None:
    """Bind a `Loop` or a `Refine`."""
    if isinstance(step, Loop):
        return _bind_loop(step, binder)
    return _bind_refine(step, binder) if isinstance(step, Refine) else None


def _bind_loop(step: Loop[Any, Any], binder: Binder) -> Execute:
    body = binder.bind(step.body)
    is_done = bind_callable(step.exit_condition, what="exit condition")
    first_input = _mapper(step.initial_input, "initial input mapper")
    next_input = _mapper(step.iteration_input, "iteration input mapper")
    final_output = _mapper(step.loop_output, "loop output mapper")

    async def run(data: Any, scope: Scope) -> StepResult:
        output: Any = None
        iteration = 0
        if scope.run.observers is not None:
            await scope.progress(0, step.max_loops, unit="iteration")
        try:
            if first_input is not None:
                data = await first_input(data, scope.context)
            for iteration in range(1, step.max_loops + 1):
                result = await body(data, scope.child(f"i{iteration}"))
                if not result.success:
                    return _body_failed(step, iteration, result)
                output = result.output
                if await is_done(output, scope.context):
                    return await _finished(step, iteration, "condition", output, scope)
                if iteration < step.max_loops:
                    data = output if next_input is None else await next_input(output, scope.context, iteration)
            if step.on_exhausted == "return":
                return await _finished(step, step.max_loops, "max_loops", output, scope)
        except StepFailed as error:  # of a condition or mapper, which says so
            return StepResult.failed(step, str(error), error, attempts=iteration, metadata={"iterations": iteration})
        feedback = f"reached max_loops ({step.max_loops}) without meeting the exit condition"
        metadata = _metadata(step.max_loops, "max_loops")
        return StepResult.failed(step, feedback, output=output, attempts=step.max_loops, metadata=metadata)

    async def _finished(step: Loop[Any, Any], iterations: int, reason: str, output: Any, scope: Scope) -> StepResult:
        if final_output is not None:
            output = await final_output(output, scope.context)
        return StepResult.ok(step, output, attempts=iterations, metadata=_metadata(iterations, reason))

    return run


def _bind_refine(step: Refine[Any, Any], binder: Binder) -> Execute:
    generate = binder.bind(step.generator)
    criticise = binder.bind(step.critic, "critic")

    async def run(data: Any, scope: Scope) -> StepResult:
        artifact, feedback = None, None
        if scope.run.observers is not None:
            await scope.progress(0, step.max_refinements, unit="iteration")
        for iteration in range(1, step.max_refinements + 1):
            turn = scope.child(f"i{iteration}")
            made = await generate({"original_input": data, "feedback": feedback}, turn)
            if not made.success:
                return _body_failed(step, iteration, made)
            artifact = made.output
            judged = await criticise(artifact, turn)
            if not judged.success:
                return _body_failed(step, iteration, judged)
            try:
                verdict = _verdict(judged.output)
            except StepFailed as error:
                metadata = {"iterations": iteration}
                return StepResult.failed(step, str(error), error, attempts=iteration, metadata=metadata)
            feedback = verdict.feedback
            if verdict.is_complete:
                metadata = _metadata(iteration, "condition")
                return StepResult.ok(step, artifact, attempts=iteration, feedback=feedback, metadata=metadata)
        metadata = _metadata(step.max_refinements, "max_loops")
        if step.on_exhausted == "return":
            return StepResult.ok(step, artifact, attempts=step.max_refinements, feedback=feedback, metadata=metadata)
        text = f"reached max_refinements ({step.max_refinements}); the last feedback: {feedback}"
        return StepResult.failed(step, text, output=artifact, attempts=step.max_refinements, metadata=metadata)

    return run


def _mapper(function: Callable[..., Any] | None, what: str) -> Callable[..., Awaitable[Any]] | None:
    return None if function is None else bind_callable(function, what=what)


def _metadata(iterations: int, reason: str) -> dict[str, Any]:
    return {"iterations": iterations, "exit_reason": reason}


def _body_failed(step: Loop[Any, Any] | Refine[Any, Any], iteration: int, result: StepResult) -> StepResult:
    feedback = f"iteration {iteration} failed at {result.path!r}: {result.feedback}"
    metadata = _metadata(iteration, "body_failed")
    return StepResult.failed(step, feedback, result.error, attempts=iteration, metadata=metadata)


def _verdict(output: Any) -> Refinement:
    if isinstance(output, Refinement):
        return output
    try:
        return Refinement.model_validate(output, from_attributes=True)
    except ValidationError as error:
        raise StepFailed(
            f"the critic returned {type(output).__name__} instead of a Refinement",
            hint="Return Refinement(is_complete=..., feedback=...)",
            cause=error,
        ) from error
