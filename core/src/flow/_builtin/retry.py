"""The ``RETRY`` layer: attempts, and what the error hooks decide after a failed one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from .._classification import retry_after_of, status_of
from .._events import EventKind
from .._kernel import failed_result
from .._policies import Failure, OpensCircuit, Recovery, RecoveryAction, RecoveryStrategy
from .._protocols import Execute, Layer, Wrapper
from .._results import StepResult
from ..errors import ErrorCategory, Escalated, FlowError, StateError, StepFailed
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from .._kernel import Binder
    from .._run import Scope

Decide: TypeAlias = Callable[[StepResult, "Scope", int], Awaitable[Recovery]]

OTHERWISE = "recovery.otherwise"
"""Where the ``FALLBACK`` layer finds what follows when the fallback fails too; it takes the key away."""


@hookimpl
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Retry steps that say so, by ``retries`` or a `RecoveryStrategy`, and all steps when a plugin decides recovery."""
    carried = _with_policies_of_the_flow(step, binder)
    if not (step.retries or any(isinstance(p, RecoveryStrategy) for p in carried.policies) or _plugins_decide(binder)):
        return None
    decide = _decider(carried, binder)

    def wrap(execute: Execute) -> Execute:
        async def attempts(data: Any, scope: Scope) -> StepResult:
            attempt = 1
            while True:
                try:
                    result = await execute(data, scope)
                except StateError:
                    raise
                except Exception as error:  # noqa: BLE001  the hooks decide what follows from it
                    result = failed_result(step, error)
                result.attempts = attempt
                if result.success or result.halts_run or scope.breach() is not None:
                    return result  # a spent budget is turned into the run's end where the step's result is completed
                recovery = await decide(result, scope, attempt)
                if recovery.action is not RecoveryAction.RETRY or _retry_is_refused(scope, recovery, result):
                    return await settle(step, recovery, result, data, scope)
                await _before_retry(step, scope, recovery, attempt, result)
                attempt += 1

        return attempts

    return Wrapper(Layer.RETRY, wrap)


def _with_policies_of_the_flow(step: Any, binder: Binder) -> Any:
    """Return `step` with the flow's policies behind its own, for the hooks to read.

    A step with steps inside fails because of them: there the flow's policies have been followed already, and would
    multiply what they ask for with each level.
    """
    ours = binder.services.policies
    return step.evolve(policies=(*step.policies, *ours)) if ours and not step.children() else step


def _plugins_decide(binder: Binder) -> bool:
    return len(binder.kernel.plugins.implementers("flow_choose_recovery")) > 1


def _decider(step: Any, binder: Binder) -> Decide:
    hook = binder.kernel.hook

    async def decide(result: StepResult, scope: Scope, attempt: int) -> Recovery:
        error = result.error or StepFailed(result.feedback or "failed")
        failure = Failure(
            step=step,
            path=scope.path,
            error=error,
            category=hook.flow_classify_error(error=error, step=step) or ErrorCategory.UNKNOWN,
            attempt=attempt,
            status=status_of(error),
            retry_after=retry_after_of(error),
        )
        if scope.run.observers is not None:
            await scope.run.publish(
                EventKind.ATTEMPT_FAILED,
                scope.path,
                step=step.name,
                attempt=attempt,
                error=error,
                detail={"category": failure.category.value},
            )
        return hook.flow_choose_recovery(failure=failure) or Recovery(RecoveryAction.FALLBACK)

    return decide


def _retry_is_refused(scope: Scope, recovery: Recovery, result: StepResult) -> bool:
    """Tell, in the result too, when a retry cannot be made: the run ends before it, or has no retries left for it."""
    run = scope.run
    remaining = run.remaining_s
    if remaining is not None and recovery.delay_s >= remaining:
        result.metadata["retry_refused"] = "deadline"
        return True
    if not _is_inside_a_retry(scope):
        return False
    if run.retries_left <= 0:
        result.metadata["retry_refused"] = "budget"
        return True
    run.retries_left -= 1
    return False


def _is_inside_a_retry(scope: Scope) -> bool:
    """Tell whether a step around this one is not in its first attempt: retries multiply there, and nowhere else."""
    around = scope.parent
    while around is not None:
        if around.attempt > 1:
            return True
        around = around.parent
    return False


async def settle(
    step: Any, recovery: Recovery, result: StepResult, data: Any, scope: Scope, *, fallback_failed: bool = False
) -> StepResult:
    """Take the first action that can be taken and ends the attempts; a fallback is run by the layer outside."""
    decision: Recovery | None = recovery
    has_fallback = step.fallback is not None and not fallback_failed
    while decision is not None:
        match decision.action:
            case RecoveryAction.USE_VALUE:
                return _replaced(step, result, decision, decision.value)
            case RecoveryAction.SKIP:
                return _replaced(step, result, decision, data)
            case RecoveryAction.FAIL:
                result.metadata["recovery"] = decision.action.value
                return result
            case RecoveryAction.ESCALATE:
                return _escalated(result, scope)
            case RecoveryAction.FALLBACK if has_fallback:
                result.metadata[OTHERWISE] = decision.otherwise
                return result
            case RecoveryAction.CIRCUIT_BREAK:
                result.metadata["recovery"] = decision.action.value
                for policy in step.policies:
                    if isinstance(policy, OpensCircuit):
                        await policy.open_circuit(scope)
        decision = decision.otherwise
    return result  # FALLBACK, which nothing has forbidden: the layer outside runs the step's fallback if there is one


def _replaced(step: Any, result: StepResult, decision: Recovery, output: Any) -> StepResult:
    metadata = {**result.metadata, "recovery": decision.action.value, "original_error": result.feedback}
    return StepResult.ok(step, output, attempts=result.attempts, metadata=metadata)


def _escalated(result: StepResult, scope: Scope) -> StepResult:
    """Make the failure one that every step around this one passes on."""
    cause = result.error
    message = cause.message if isinstance(cause, FlowError) else result.feedback or "failed"
    hint = cause.hint if isinstance(cause, FlowError) else None
    path = cause.path if isinstance(cause, FlowError) and cause.path else scope.path
    result.error = Escalated(message, path=path, hint=hint, cause=cause)
    result.metadata["recovery"] = RecoveryAction.ESCALATE.value
    return result


async def _before_retry(step: Any, scope: Scope, recovery: Recovery, attempt: int, result: StepResult) -> None:
    if scope.run.observers is not None:
        await scope.run.publish(
            EventKind.RETRY,
            scope.path,
            step=step.name,
            attempt=attempt + 1,
            error=result.error,
            delay_s=recovery.delay_s,
        )
    if recovery.delay_s > 0:
        await asyncio.sleep(recovery.delay_s)  # outside GUARD and TIMEOUT: no slot is held and no attempt's time runs
    scope.reset(attempt + 1, result.feedback)
    if scope.run.journal is not None and step.children():
        await scope.run.journal.restart(step, scope, attempt + 1)
    await scope.restart_stream()
