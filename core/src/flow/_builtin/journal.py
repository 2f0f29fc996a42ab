"""The ``JOURNAL`` layer: a committed step returns its record instead of running again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .._kernel import failed_result
from .._protocols import Execute, Layer, Wrapper
from .._replay import ReplayJournal
from .._serialize import codec_for
from ..errors import ControlSignal, StateError
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from .._kernel import Binder
    from .._results import StepResult
    from .._run import Scope


@hookimpl
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Journal every step of a flow that has a state store."""
    if binder.services.state is None:
        return None
    codec = codec_for(step.stored_type())
    hands_on: bool = step.hands_on

    def wrap(execute: Execute) -> Execute:
        async def journaled(data: Any, scope: Scope) -> StepResult:
            journal = scope.run.journal
            if journal is None:
                return await execute(data, scope)
            record = journal.completed(scope.path)
            if record is not None:
                return journal.replay(step, record, data, scope, codec)
            if isinstance(journal, ReplayJournal):
                ended = journal.unfinished(step, scope, codec)
                return ended if ended is not None else await execute(data, scope)
            if scope.run.resumed:
                scope.carry(journal.spent(scope.path))
                breach = scope.breach()  # before it spends more: what was spent earlier is in the books already
                if breach is not None:
                    raise breach
            started_at = time.time()
            try:
                result = await execute(data, scope)
            except StateError:
                raise
            except (ControlSignal, asyncio.CancelledError):
                await journal.record_interruption(step, scope, started_at)
                raise
            except Exception as error:  # noqa: BLE001  the failure is recorded, then reported like any other
                result = failed_result(step, error, attempts=scope.attempt)
            await journal.record(
                result, scope, codec, started_at, handed_on=hands_on and result.success and result.output is data
            )
            return result

        return journaled

    return Wrapper(Layer.JOURNAL, wrap)
