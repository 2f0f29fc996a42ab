"""The ``GUARD`` of declared estimates: what a step is expected to cost is reserved before each attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._policies import Estimate
from .._protocols import Execute, Layer, Wrapper
from .._reservations import reservations_of
from .._usage import Usage
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from .._kernel import Binder
    from .._results import StepResult
    from .._run import Scope


@hookimpl(tryfirst=True)  # innermost of its layer: a call that only waits for its turn has promised nothing
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Reserve the estimate of a step, so that steps that run beside each other cannot overspend together."""
    estimate = binder.policy(step, Estimate)
    if estimate is None:
        return None
    expected = Usage(cost_usd=estimate.cost_usd, input_tokens=estimate.tokens)

    def wrap(execute: Execute) -> Execute:
        async def reserved(data: Any, scope: Scope) -> StepResult:
            reservations = reservations_of(scope.run)
            reservations.reserve(scope, expected)
            try:
                return await execute(data, scope)
            finally:
                reservations.release(scope)

        return reserved

    return Wrapper(Layer.GUARD, wrap)
