"""Reading a store of runs: a bounded number of them, counted by pipeline and status."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping

import attrs

from flow import RunRecord, RunStatus, StateBackend, lease_is_over
from flow_prometheus._labels import Labels

RUNNING, DEAD = "running", "dead"

# Those that somebody may have to do something about come first: they are few, and must be complete.
_ORDER = (
    DEAD,
    RunStatus.INTERRUPTED.value,
    RUNNING,
    RunStatus.PAUSED.value,
    RunStatus.FAILED.value,
    RunStatus.LIMIT_EXCEEDED.value,
    RunStatus.DEADLINE_EXCEEDED.value,
    RunStatus.CANCELLED.value,
    RunStatus.COMPLETED.value,
)
AGEING = (RUNNING, RunStatus.PAUSED.value)
_PAGE = 500


@attrs.define
class PipelineTally:
    """What was counted for one pipeline. Times are epoch seconds."""

    runs: Counter[str] = attrs.field(factory=Counter)
    since: dict[str, float] = attrs.field(factory=dict)
    """By status: since when the run is in it that is in it for longest."""
    waiting: int = 0
    overdue: int = 0
    orphaned: int = 0
    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    last_success: float | None = None

    def add(self, run: RunRecord, now: float) -> None:
        """Count one run."""
        self.runs[run.status] += 1
        self.cost_usd += run.usage.cost_usd
        self.input_tokens += run.usage.input_tokens
        self.output_tokens += run.usage.output_tokens
        self.requests += run.usage.requests
        if run.status in AGEING:
            self.grows_old(run)
        if run.status == RunStatus.PAUSED:
            due = run.wake_at is not None and run.wake_at <= now
            self.overdue += due
            self.waiting += not due
        elif run.status == RUNNING:
            self.orphaned += _is_orphaned(run, now)
        elif run.status == RunStatus.COMPLETED:
            self.last_success = max(self.last_success or 0.0, run.updated_at)

    def grows_old(self, run: RunRecord) -> None:
        """Note since when `run` is running or paused."""
        since = run.updated_at if run.status == RunStatus.PAUSED else run.created_at
        self.since[run.status] = min(since, self.since.get(run.status, since))


def _is_orphaned(run: RunRecord, now: float) -> bool:
    """Tell whether the process that executes a run is gone, or has not shown itself for longer than it promised."""
    return run.lease_until <= now or lease_is_over(run.owner, float("inf"), run.lease_until)


@attrs.frozen(kw_only=True)
class Snapshot:
    """A store as it was read at one moment.

    :ivar at: when, in epoch seconds.
    :ivar took_s: how long the reading took.
    :ivar examined: how many runs were looked at.
    :ivar truncated: by status, whether there are more runs than were looked at.
    """

    at: float
    took_s: float
    examined: int
    truncated: Mapping[str, bool]
    pipelines: Mapping[str, PipelineTally]


class Reader:
    """Reads snapshots.

    :param most: how many runs are looked at in one reading.
    :param labels: which pipelines are told by name.
    :param now: the time in epoch seconds.
    """

    def __init__(self, most: int, labels: Labels, now: Callable[[], float] = time.time) -> None:
        self._most = most
        self._labels = labels
        self._now = now

    async def read(self, backend: StateBackend) -> Snapshot:
        """Count the runs in `backend`; raises what it raises."""
        started, now, left = time.perf_counter(), self._now(), self._most
        tallies: dict[str, PipelineTally] = {}
        truncated = {}
        for status in _ORDER:
            share = left if status == _ORDER[-1] else (left + 1) // 2
            seen = 0
            async for run in _newest(backend, status, share):
                self._tally(tallies, run).add(run, now)
                seen += 1
            truncated[status] = seen >= share and await _run_at(backend, status, seen) is not None
            if truncated[status] and status in AGEING:
                oldest = await _oldest(backend, status, seen)
                if oldest is not None:
                    self._tally(tallies, oldest).grows_old(oldest)
            left -= seen
        took_s = time.perf_counter() - started
        return Snapshot(at=now, took_s=took_s, examined=self._most - left, truncated=truncated, pipelines=tallies)

    def _tally(self, tallies: dict[str, PipelineTally], run: RunRecord) -> PipelineTally:
        return tallies.setdefault(self._labels.of(run.pipeline), PipelineTally())


async def _newest(backend: StateBackend, status: str, most: int) -> AsyncIterator[RunRecord]:
    """Yield at most `most` runs with a status, the newest first, none twice although others begin meanwhile."""
    seen: set[str] = set()
    offset = 0
    while offset < most:
        page = await backend.list_runs(status=status, limit=min(_PAGE, most - offset), offset=offset)
        for run in page:
            if run.run_id not in seen:
                seen.add(run.run_id)
                yield run
        offset += len(page)
        if len(page) < _PAGE:
            return


async def _run_at(backend: StateBackend, status: str, offset: int) -> RunRecord | None:
    return next(iter(await backend.list_runs(status=status, limit=1, offset=offset)), None)


async def _oldest(backend: StateBackend, status: str, known: int) -> RunRecord | None:
    """Return the last of the runs with a status, of which there are more than `known`, with few questions."""
    there, beyond = known, max(2 * known, 1)
    found = None
    while (run := await _run_at(backend, status, beyond)) is not None:
        there, beyond, found = beyond, 2 * beyond, run
    while beyond - there > 1:
        middle = (there + beyond) // 2
        run = await _run_at(backend, status, middle)
        if run is None:
            beyond = middle
        else:
            there, found = middle, run
    return found or await _run_at(backend, status, there)
