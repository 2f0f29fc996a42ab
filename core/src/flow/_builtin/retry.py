"""The ``RETRY`` layer: attempts, and what the error hooks decide after a failed one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._events import EventKind
from .._kernel import failed_result
from .._policies import Failure, Recovery, RecoveryAction, RecoveryStrategy
from .._protocols import Execute, Layer, Wrapper
from .._results import StepResult
from ..errors import ErrorCategory, StateError, StepFailed
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from .._kernel import Binder
    from .._run import Scope


@hookimpl
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Retry steps that say so, by ``retries`` or a `RecoveryStrategy`, and all steps when a plugin decides recovery."""
    if not (step.retries or binder.policies(step, RecoveryStrategy) or _plugins_decide(binder)):
        return None
    hook = binder.kernel.hook

    async def decide(result: StepResult, scope: Scope, attempt: int) -> Recovery:
        error = result.error or StepFailed(result.feedback or "failed")
        category = hook.flow_classify_error(error=error, step=step) or ErrorCategory.UNKNOWN
        failure = Failure(step=step, path=scope.path, error=error, category=category, attempt=attempt)
        if scope.run.observers is not None:
            await scope.run.publish(EventKind.ATTEMPT_FAILED, scope.path, step=step.name, attempt=attempt, error=error)
        return hook.flow_choose_recovery(failure=failure) or Recovery(RecoveryAction.FALLBACK)

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
                if recovery.action is not RecoveryAction.RETRY:
                    return _settle(step, recovery, result, data)
                await _before_retry(step, scope, recovery, attempt, result)
                attempt += 1

        return attempts

    return Wrapper(Layer.RETRY, wrap)


def _plugins_decide(binder: Binder) -> bool:
    return len(binder.kernel.plugins.implementers("flow_choose_recovery")) > 1


def _settle(step: Any, recovery: Recovery, result: StepResult, data: Any) -> StepResult:
    """Apply a decision that ends the attempts; a fallback is the business of the layer outside."""
    metadata = {**result.metadata, "recovery": recovery.action.value}
    if recovery.action is RecoveryAction.USE_VALUE:
        metadata["original_error"] = result.feedback
        return StepResult.ok(step, recovery.value, attempts=result.attempts, metadata=metadata)
    if recovery.action is RecoveryAction.SKIP:
        metadata["original_error"] = result.feedback
        return StepResult.ok(step, data, attempts=result.attempts, metadata=metadata)
    if recovery.action is not RecoveryAction.FALLBACK:
        result.metadata.update(metadata)
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
        await asyncio.sleep(recovery.delay_s)
    scope.reset(attempt + 1, result.feedback)
    if scope.run.journal is not None and step.children():
        await scope.run.journal.restart(step, scope, attempt + 1)
    await scope.restart_stream()
