"""The ``TIMEOUT`` layer: the seconds one attempt may take."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._protocols import Execute, Layer, Wrapper
from ..errors import StepTimeout
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from .._kernel import Binder
    from .._results import StepResult
    from .._run import Scope


@hookimpl
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Cancel an attempt after ``timeout`` seconds; a thread that does not return is left behind."""
    if step.timeout is None:
        return None
    seconds = step.timeout

    def wrap(execute: Execute) -> Execute:
        async def timed(data: Any, scope: Scope) -> StepResult:
            limit = asyncio.timeout(seconds)
            try:
                async with limit:
                    return await execute(data, scope)
            except TimeoutError as error:
                if not limit.expired():
                    raise  # the agent's own
                raise StepTimeout(f"step {scope.path!r} timed out after {seconds:g} s", path=scope.path) from error

        return timed

    return Wrapper(Layer.TIMEOUT, wrap)
