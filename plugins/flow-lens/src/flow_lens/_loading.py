"""Reads runs and their journals out of a store, one or many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from flow import RunNotFound, RunRecord, StateBackend, StateCorrupt
from flow_lens._building import build_trace
from flow_lens._trace import Trace


async def load_trace(backend: StateBackend, run_id: str) -> Trace:
    """Return a stored run with its steps.

    :param run_id: the whole id.

    Raises `RunNotFound`, and `StateCorrupt` when what is stored cannot be read.

    >>> import asyncio
    >>> from flow import Flow, Kernel, Settings, Step
    >>> kernel = Kernel(Settings(), only=[])
    >>> store = kernel.open_state("memory://")
    >>> _ = Flow(Step("upper", str.upper), state=store, kernel=kernel).run("hello", run_id="one")
    >>> [(step.path, step.status) for step in asyncio.run(load_trace(store, "one")).walk()]
    [('0:upper', 'completed')]
    """
    run = await backend.load_run(run_id)
    if run is None:
        raise RunNotFound(f"no run has the id {run_id!r:.140}", hint="See: flow lens list")
    return await Loader(backend).trace_of(run)


@attrs.frozen(eq=False)
class Loader:
    """Reads the traces of runs; structures of pipelines are read once, however many runs share them."""

    backend: StateBackend
    _structures: dict[str, Mapping[str, Any] | None] = attrs.field(init=False, factory=dict)

    async def trace_of(self, run: RunRecord) -> Trace:
        """Return the trace of a run; `StateCorrupt` when it cannot be read."""
        records = await self.backend.load_steps(run.run_id)
        return build_trace(run, records, await self.structure(run.fingerprint))

    async def structure(self, fingerprint: str) -> Mapping[str, Any] | None:
        """Return the structure of a pipeline, ``None`` when the store does not have it or it cannot be read."""
        if fingerprint not in self._structures:
            self._structures[fingerprint] = _structure(await self.backend.load_pipeline(fingerprint))
        return self._structures[fingerprint]

    async def each_of(
        self, runs: Sequence[RunRecord], take: Callable[[Trace], object], damaged: list[StateCorrupt]
    ) -> None:
        """Hand the traces of runs to `take` one by one; of one that cannot be read `damaged` gets the error."""
        for run in runs:
            try:
                trace = await self.trace_of(run)
            except StateCorrupt as error:
                damaged.append(error)
            else:
                take(trace)


def _structure(text: bytes | None) -> Mapping[str, Any] | None:
    """Read a structure; it only helps to name things, so that one that is damaged is like one that is missing."""
    try:
        found = None if text is None else orjson.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
