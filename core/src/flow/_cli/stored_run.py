"""A stored run that is to be continued: looked up, and reported as it is when there is nothing to do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from .._answers import questions_of
from .._blocking import run_sync
from .._durable import _stored_limits
from .._flow import Flow
from .._protocols import RunRecord, StepRecord
from .._results import Pending, RunStatus
from .._usage import UsageLimits
from ..errors import NotPaused, RunOwned
from . import report
from .run_views import RUNNING, as_dict, is_orphaned
from .store import Store, find_run, store_of
from .wording import moment, one_line


@attrs.frozen(kw_only=True)
class StoredRun:
    """A run as it is in its store.

    :ivar output: what it returned, when it has completed.
    """

    store: Store
    run: RunRecord
    output: Any = None

    @property
    def is_completed(self) -> bool:
        """True when there is nothing left to do."""
        return self.run.status == RunStatus.COMPLETED

    @property
    def questions(self) -> Mapping[str, Pending]:
        """What the run waits for, by path."""
        return questions_of(self.run) if self.run.status == RunStatus.PAUSED else {}

    @property
    def limits(self) -> UsageLimits | None:
        """What the run was given to spend of its own."""
        return _stored_limits(self.run)

    @property
    def waits(self) -> bool:
        """True when nothing happens without an answer: it asks, and the time to answer is not over."""
        return bool(self.questions) and (self.run.wake_at is None or self.run.wake_at > time.time())

    def require_free(self) -> None:
        """Raise `RunOwned` when a living process executes the run: then its app need not even be imported."""
        if self.run.status == RUNNING and not is_orphaned(self.run):
            raise RunOwned(
                f"run {self.run.run_id} is executed by {one_line(self.run.owner or 'another process')}",
                hint=f"Wait until it has ended; if its process hangs, it is free at {moment(self.run.lease_until)}",
            )

    def require_paused(self) -> None:
        """Raise `NotPaused` when the run takes no answers."""
        if not self.questions:
            state = self.run.status.replace("_", " ")
            raise NotPaused(f"run {self.run.run_id} is {state} and waits for no answer")

    def show(self, *, as_json: bool, app: str | None = None) -> None:
        """Print the output of a completed run, or the questions of a paused one and how to answer them."""
        if as_json:
            values = {**as_dict(self.run), "success": self.is_completed, "output": self.output}
            report.print_json(values)
        elif self.is_completed:
            report.print_output(self.output)
        if self.questions:
            report.print_questions(list(self.questions.values()), self._command(app))

    def _command(self, app: str | None) -> str | None:
        return report.command_to_resume(self.run.run_id, self.store, app)


def look_up(run_id: str, state: str | None, flow: Flow[Any, Any] | None) -> StoredRun:
    """Find a run by its id or the beginning of it; raises `RunNotFound` and what the store raises.

    :param state: what ``--state`` says.
    :param flow: the flow of ``--app``, whose store is used when there is no `state`.
    """
    store = store_of(state, flow)
    return run_sync(_read(store, run_id), "resume", "resume_async")


async def _read(store: Store, run_id: str) -> StoredRun:
    async with store.opened() as backend:
        run = await find_run(backend, run_id, store.name)
        steps = await backend.load_steps(run.run_id) if run.status == RunStatus.COMPLETED else ()
        return StoredRun(store=store, run=run, output=_output(steps))


def _output(steps: Sequence[StepRecord]) -> Any:
    """Return what the last step of the pipeline returned: the one with the highest number, whenever it was written."""
    outermost = [step for step in steps if not step.parent and step.status == RunStatus.COMPLETED]
    last = max(outermost, key=_number, default=None)
    return None if last is None or last.output is None else orjson.loads(last.output)


def _number(step: StepRecord) -> int:
    number = step.path.partition(":")[0]
    return int(number) if number.isdecimal() else -1
