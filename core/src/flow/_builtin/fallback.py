"""The ``FALLBACK`` layer: another step when this one has failed for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._events import EventKind
from .._kernel import failed_result
from .._policies import RecoveryAction
from .._protocols import Execute, Layer, Wrapper
from .._results import StepResult
from ..errors import StateError
from ..hookspecs import hookimpl
from .retry import OTHERWISE, settle

if TYPE_CHECKING:
    from .._kernel import Binder
    from .._run import Scope

_NO_FALLBACK = (RecoveryAction.FAIL, RecoveryAction.ESCALATE)
_DECIDED = ("recovery", "retry_refused")
"""What the result says of the decisions before the fallback."""


@hookimpl
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Give steps with ``fallback=`` their second chance; it gets the original input."""
    if step.fallback is None:
        return None
    instead = binder.bind_fallback(step, step.fallback)

    def wrap(execute: Execute) -> Execute:
        async def with_fallback(data: Any, scope: Scope) -> StepResult:
            try:
                first = await execute(data, scope)
            except StateError:
                raise
            except Exception as error:  # noqa: BLE001  whatever made it fail, the fallback is tried
                first = failed_result(step, error, attempts=scope.attempt)
            if first.success or first.halts_run or scope.breach() is not None:
                return first
            if first.metadata.get("recovery") in _NO_FALLBACK:
                return first
            otherwise = first.metadata.pop(OTHERWISE, None)
            scope.reset(1, first.feedback)  # a fallback is no further attempt of what has failed
            if scope.run.observers is not None:
                await scope.run.publish(EventKind.FALLBACK, scope.path, step=step.name, error=first.error)
            await scope.restart_stream()
            second = await instead(data, scope)
            result = _joined(step, first, second)
            if result.success or result.halts_run or otherwise is None or scope.breach() is not None:
                return result
            return await settle(step, otherwise, result, data, scope, fallback_failed=True)

        return with_fallback

    return Wrapper(Layer.FALLBACK, wrap)


def _joined(step: Any, first: StepResult, second: StepResult) -> StepResult:
    attempts = first.attempts + second.attempts
    metadata: dict[str, Any] = {key: first.metadata[key] for key in _DECIDED if key in first.metadata}
    metadata |= {**second.metadata, "fallback_triggered": True, "original_error": first.feedback}
    if second.success:
        return StepResult.ok(step, second.output, attempts=attempts, metadata=metadata)
    feedback = f"{first.feedback}; fallback {second.name!r}: {second.feedback}"
    return StepResult.failed(step, feedback, second.error, output=second.output, attempts=attempts, metadata=metadata)
