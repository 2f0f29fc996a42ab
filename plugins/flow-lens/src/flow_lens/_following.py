"""Watches a stored run while another process executes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import attrs

from flow import RunNotFound, RunRecord, StateBackend
from flow.cli import is_orphaned
from flow_lens._loading import Loader
from flow_lens._trace import OPEN, Trace, TraceStep

Sleep = Callable[[float], Awaitable[None]]


def goes_on(run: RunRecord) -> bool:
    """Tell whether a living process executes a run."""
    return run.status == "running" and not is_orphaned(run)


async def follow(
    backend: StateBackend, run_id: str, *, interval_s: float = 1.0, sleep: Sleep = asyncio.sleep
) -> AsyncIterator[Trace]:
    """Yield the trace of a run as it is, and again at each look, until nobody executes the run any more.

    :param interval_s: seconds between two looks.
    :param sleep: what waits between them.

    Raises `RunNotFound`, also when the run is deleted meanwhile.
    """
    loader = Loader(backend)
    while True:
        run = await backend.load_run(run_id)
        if run is None:
            raise RunNotFound(f"no run has the id {run_id!r:.140}", hint="See: flow lens list")
        yield await loader.trace_of(run)  # read after the run: what a run that has ended has done is there
        if not goes_on(run):
            return
        await sleep(interval_s)


@attrs.define(eq=False)
class News:
    """Tells which steps have been recorded since it was asked last."""

    _known: set[tuple[str, float, str]] = attrs.field(init=False, factory=set)

    def of(self, trace: Trace) -> Iterator[TraceStep]:
        """Yield the steps that are new, in the order in which they ended."""
        found = [step for step in trace.executed if step.status != OPEN]
        for step in sorted(found, key=lambda step: (step.ended_at, -step.started_at)):
            key = (step.path, step.started_at, step.status)
            if key not in self._known:
                self._known.add(key)
                yield step
