"""``memory://`` state: journals of this process, for tests and for retrying within one process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from .._lease import lease_clock, lease_is_over
from .._protocols import RunRecord, StateBackend, StepRecord, holds_text
from ..errors import LeaseLost, RunNotFound, RunOwned, StateError
from ..hookspecs import hookimpl


@hookimpl
def flow_open_state(url: str, settings: Mapping[str, Any]) -> StateBackend | None:
    """Open ``memory://``; each flow gets a store of its own."""
    return MemoryState() if url.startswith("memory://") else None


_UNFINISHED = frozenset({"running", "paused", "interrupted"})


class MemoryState:
    """Keeps runs in dictionaries; nothing survives the process."""

    def __init__(self) -> None:
        self._runs: dict[str, RunRecord] = {}
        self._leases: dict[str, float] = {}
        self._steps: dict[str, dict[str, StepRecord]] = {}
        self._pipelines: dict[str, bytes] = {}

    async def create_run(self, run: RunRecord, lease_s: float = 0.0, *, sync: bool = True) -> None:
        """Store a new run."""
        if run.run_id in self._runs:
            raise StateError(f"run {run.run_id!r} exists already", hint="Resume it, or choose another run_id")
        self._runs[run.run_id] = run
        self._steps[run.run_id] = {}
        self._lease(run.run_id, lease_s)

    async def load_run(self, run_id: str) -> RunRecord | None:
        """Return the run, if known."""
        return self._runs.get(run_id)

    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        """Take the run over when nobody else holds it."""
        run = self._known(run_id)
        if run.owner != owner and not lease_is_over(run.owner, self._leases[run_id], run.lease_until):
            raise RunOwned(f"run {run_id!r} is executed by {run.owner}", hint="Wait until it has ended")
        self._runs[run_id] = attrs.evolve(run, owner=owner, epoch=run.epoch + 1)
        self._lease(run_id, lease_s)
        return run.epoch + 1

    async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
        """Prolong the lease."""
        self._fence(run_id, epoch)
        self._lease(run_id, lease_s)

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        """Add finished steps."""
        self._fence(run_id, epoch)
        steps = self._steps[run_id]
        for record in records:
            steps.pop(record.path, None)
            steps[record.path] = record

    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        """Return the journal."""
        return tuple(self._steps.get(run_id, {}).values())

    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        """Change fields of the run."""
        run = self._fence(run_id, epoch)
        self._runs[run_id] = attrs.evolve(run, **{"updated_at": time.time(), **changes})
        if changes.get("owner", run.owner) is None:
            self._lease(run_id, 0.0)

    async def list_runs(
        self,
        *,
        status: str | None = None,
        pipeline: str | None = None,
        since: float | None = None,
        due: float | None = None,
        id_prefix: str | None = None,
        text: str | None = None,
        min_cost_usd: float | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> Sequence[RunRecord]:
        """Return the newest runs first."""
        found = [
            run
            for run in self._newest_first()
            if status in (None, run.status)
            and pipeline in (None, run.pipeline)
            and (since is None or run.created_at >= since)
            and (due is None or (run.wake_at is not None and run.wake_at <= due))
            and (id_prefix is None or run.run_id.startswith(id_prefix))
            and (min_cost_usd is None or run.usage.cost_usd >= min_cost_usd)
            and (text is None or holds_text(run, text))
        ]
        return found[offset : offset + limit]

    async def delete_run(self, run_id: str) -> bool:
        """Forget a run."""
        self._steps.pop(run_id, None)
        self._leases.pop(run_id, None)
        return self._runs.pop(run_id, None) is not None

    async def prune(self, *, older_than: float, keep: int = 0) -> int:
        """Forget runs that ended long ago."""
        ended = [run for run in self._newest_first() if run.status not in _UNFINISHED]
        old = [run for run in ended[keep:] if run.updated_at < older_than]
        for run in old:
            await self.delete_run(run.run_id)
        return len(old)

    async def save_pipeline(self, fingerprint: str, structure: bytes) -> None:
        """Keep the description of a pipeline."""
        self._pipelines[fingerprint] = structure

    async def load_pipeline(self, fingerprint: str) -> bytes | None:
        """Return the description of a pipeline, if known."""
        return self._pipelines.get(fingerprint)

    async def aclose(self) -> None:
        """Nothing to release: the runs stay until the store is garbage."""

    def _lease(self, run_id: str, lease_s: float) -> None:
        self._leases[run_id] = lease_clock() + lease_s
        run = self._runs[run_id]
        self._runs[run_id] = attrs.evolve(run, lease_until=time.time() + lease_s if run.owner else 0.0)

    def _newest_first(self) -> list[RunRecord]:
        runs = list(self._runs.values())[::-1]  # of those made in one tick of the clock the later one is first
        runs.sort(key=lambda run: run.created_at, reverse=True)
        return runs

    def _known(self, run_id: str) -> RunRecord:
        if run_id not in self._runs:
            raise RunNotFound(f"no run has the id {run_id!r}")
        return self._runs[run_id]

    def _fence(self, run_id: str, epoch: int) -> RunRecord:
        run = self._known(run_id)
        if run.epoch != epoch:
            raise LeaseLost(f"run {run_id!r} was taken over by {run.owner}; this result is discarded")
        return run
