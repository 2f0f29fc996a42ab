"""``memory://`` state: journals of this process, for tests and for retrying within one process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from .._protocols import RunRecord, StateBackend, StepRecord
from ..errors import LeaseLost, RunNotFound, RunOwned, StateError
from ..hookspecs import hookimpl


@hookimpl
def flow_open_state(url: str, settings: Mapping[str, Any]) -> StateBackend | None:
    """Open ``memory://``; each flow gets a store of its own."""
    return MemoryState() if url.startswith("memory://") else None


class MemoryState:
    """Keeps runs in dictionaries; nothing survives the process."""

    def __init__(self) -> None:
        self._runs: dict[str, RunRecord] = {}
        self._steps: dict[str, dict[str, StepRecord]] = {}

    async def create_run(self, run: RunRecord) -> None:
        """Store a new run."""
        if run.run_id in self._runs:
            raise StateError(f"run {run.run_id!r} exists already", hint="Resume it, or choose another run_id")
        self._runs[run.run_id] = run
        self._steps[run.run_id] = {}

    async def load_run(self, run_id: str) -> RunRecord | None:
        """Return the run, if known."""
        return self._runs.get(run_id)

    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        """Take the run over when nobody else holds it."""
        run = self._known(run_id)
        now = time.time()
        if run.owner not in (None, owner) and run.lease_until > now:
            raise RunOwned(f"run {run_id!r} is executed by {run.owner}", hint="Wait until its lease expires")
        claimed = attrs.evolve(run, owner=owner, epoch=run.epoch + 1, lease_until=now + lease_s)
        self._runs[run_id] = claimed
        return claimed.epoch

    async def append_step(self, run_id: str, epoch: int, record: StepRecord) -> None:
        """Add a finished step."""
        self._fence(run_id, epoch)
        steps = self._steps[run_id]
        steps.pop(record.path, None)
        steps[record.path] = record

    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        """Return the journal."""
        return tuple(self._steps.get(run_id, {}).values())

    async def update_run(self, run_id: str, epoch: int, **changes: Any) -> None:
        """Change fields of the run."""
        run = self._fence(run_id, epoch)
        self._runs[run_id] = attrs.evolve(run, **{"updated_at": time.time(), **changes})

    async def list_runs(
        self, *, status: str | None = None, pipeline: str | None = None, limit: int = 20, offset: int = 0
    ) -> Sequence[RunRecord]:
        """Return the newest runs first."""
        found = [
            run
            for run in reversed(self._runs.values())
            if status in (None, run.status) and pipeline in (None, run.pipeline)
        ]
        return found[offset : offset + limit]

    async def delete_run(self, run_id: str) -> bool:
        """Forget a run."""
        self._steps.pop(run_id, None)
        return self._runs.pop(run_id, None) is not None

    async def aclose(self) -> None:
        """Nothing to release: the runs stay until the store is garbage."""

    def _known(self, run_id: str) -> RunRecord:
        if run_id not in self._runs:
            raise RunNotFound(f"no run has the id {run_id!r}")
        return self._runs[run_id]

    def _fence(self, run_id: str, epoch: int) -> RunRecord:
        run = self._known(run_id)
        if run.epoch != epoch:
            raise LeaseLost(f"run {run_id!r} was taken over by {run.owner}; this result is discarded")
        return run
