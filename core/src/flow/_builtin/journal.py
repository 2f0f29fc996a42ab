"""The ``JOURNAL`` layer: a committed step returns its record instead of running again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .._journal import interrupted_record, make_record
from .._kernel import failed_result
from .._protocols import Execute, Layer, Wrapper
from .._serialize import codec_for
from .._usage import NO_USAGE
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
    codec = codec_for(step.declared_types()[1])

    def wrap(execute: Execute) -> Execute:
        async def journaled(data: Any, scope: Scope) -> StepResult:
            journal = scope.run.journal
            if journal is None:
                return await execute(data, scope)
            record = journal.completed(scope.path)
            if record is not None:
                return journal.replay(step, record, scope, codec)
            owed = journal.owed(scope.path)
            if owed is not NO_USAGE:
                scope.spend(owed)
            started_at = time.time()
            try:
                result = await execute(data, scope)
            except StateError:
                raise
            except (ControlSignal, asyncio.CancelledError):
                if scope.usage:  # it is not finished, but what it spent counts when the run goes on
                    await journal.append(interrupted_record(step, scope, started_at))
                raise
            except Exception as error:  # noqa: BLE001  the failure is recorded, then reported like any other
                result = failed_result(step, error, attempts=scope.attempt)
            await journal.append(make_record(result, scope, codec, started_at))
            return result

        return journaled

    return Wrapper(Layer.JOURNAL, wrap)
