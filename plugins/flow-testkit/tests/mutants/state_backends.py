"""State backends that are wrong in one way each, around the kernel's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import attrs
from flow_testkit import StateBackendSuite

from flow import Kernel, RunRecord, Settings, StateBackend, StepRecord


class Sound:
    """Hands everything through; mutants change one method each."""

    def __init__(self) -> None:
        self.inner: StateBackend = Kernel(Settings(), only=()).open_state("memory://")

    async def create_run(self, run: RunRecord, lease_s: float = 0.0) -> None:
        await self.inner.create_run(run, lease_s)

    async def load_run(self, run_id: str) -> RunRecord | None:
        return await self.inner.load_run(run_id)

    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        return await self.inner.claim_run(run_id, owner, lease_s)

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        await self.inner.append_steps(run_id, epoch, records, sync=sync)

    async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
        await self.inner.renew_run(run_id, epoch, lease_s)

    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        return await self.inner.load_steps(run_id)

    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        await self.inner.update_run(run_id, epoch, sync=sync, **changes)

    async def list_runs(self, *, limit: int = 20, offset: int = 0, **filters: Any) -> Sequence[RunRecord]:
        return await self.inner.list_runs(limit=limit, offset=offset, **filters)

    async def delete_run(self, run_id: str) -> bool:
        return await self.inner.delete_run(run_id)

    async def prune(self, *, older_than: float, keep: int = 0) -> int:
        return await self.inner.prune(older_than=older_than, keep=keep)

    async def save_pipeline(self, fingerprint: str, structure: bytes) -> None:
        await self.inner.save_pipeline(fingerprint, structure)

    async def load_pipeline(self, fingerprint: str) -> bytes | None:
        return await self.inner.load_pipeline(fingerprint)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Subject(StateBackendSuite):
    survives_reopen = False
    mutant: type[Sound] = Sound

    def make_state(self) -> StateBackend:
        return self.mutant()


class TestSound(Subject):
    pass


class LosesWritesThatMeet(Sound):
    """Reads the journal, waits, and writes it back with the new record."""

    def __init__(self) -> None:
        super().__init__()
        self.journals: dict[str, tuple[StepRecord, ...]] = {}

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        await self.inner.append_steps(run_id, epoch, records, sync=sync)
        paths = {record.path for record in records}
        before = [item for item in self.journals.get(run_id, ()) if item.path not in paths]
        await asyncio.sleep(0)
        self.journals[run_id] = (*before, *records)

    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        return self.journals.get(run_id, ()) if await self.load_run(run_id) else ()


class TestLosesWritesThatMeet(Subject):
    mutant = LosesWritesThatMeet


class LosesWrites(Sound):
    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        if len(await self.load_steps(run_id)) < 3:
            await super().append_steps(run_id, epoch, records, sync=sync)


class TestLosesWrites(Subject):
    mutant = LosesWrites


class Reorders(Sound):
    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        return sorted(await super().load_steps(run_id), key=lambda record: record.path)


class TestReorders(Subject):
    mutant = Reorders


class DoesNotFence(Sound):
    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        run = await self.load_run(run_id)
        await super().append_steps(run_id, run.epoch if run else epoch, records, sync=sync)


class TestDoesNotFence(Subject):
    mutant = DoesNotFence


class DoesNotLease(Sound):
    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        return await super().claim_run(run_id, owner, 0.0)


class TestDoesNotLease(Subject):
    mutant = DoesNotLease


class ClaimsInTwoSteps(Sound):
    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        run = await self.load_run(run_id)
        await asyncio.sleep(0)
        if run is not None and run.lease_until == 0.0:
            now = await self.load_run(run_id)
            assert now is not None
            await self.update_run(run_id, now.epoch, owner=None)
        return await super().claim_run(run_id, owner, lease_s)


class TestClaimsInTwoSteps(Subject):
    mutant = ClaimsInTwoSteps


class Tears(Sound):
    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        cut = [attrs.evolve(record, output=(record.output or b"")[:65536] or None) for record in records]
        await super().append_steps(run_id, epoch, cut, sync=sync)


class TestTears(Subject):
    mutant = Tears


class Duplicates(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.journals: dict[str, list[StepRecord]] = {}

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        await super().append_steps(run_id, epoch, records, sync=sync)
        self.journals.setdefault(run_id, []).extend(records)

    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        return self.journals.get(run_id, []) if await self.load_run(run_id) else []

    async def delete_run(self, run_id: str) -> bool:
        self.journals.pop(run_id, None)
        return await super().delete_run(run_id)


class TestDuplicates(Subject):
    mutant = Duplicates


class ReadsStale(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, RunRecord | None] = {}

    async def load_run(self, run_id: str) -> RunRecord | None:
        if self.seen.get(run_id) is None:
            self.seen[run_id] = await super().load_run(run_id)
        return self.seen[run_id]


class TestReadsStale(Subject):
    mutant = ReadsStale


class UpdatesHalf(Sound):
    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        await super().update_run(run_id, epoch, sync=sync, **dict(list(changes.items())[:1]))


class TestUpdatesHalf(Subject):
    mutant = UpdatesHalf


class Overwrites(Sound):
    async def create_run(self, run: RunRecord, lease_s: float = 0.0) -> None:
        await self.delete_run(run.run_id)
        await super().create_run(run, lease_s)


class TestOverwrites(Subject):
    mutant = Overwrites


class DeletesByPrefix(Sound):
    async def delete_run(self, run_id: str) -> bool:
        found = [run.run_id for run in await self.list_runs(limit=100) if run.run_id.startswith(run_id)]
        return any([await self.inner.delete_run(item) for item in found])


class TestDeletesByPrefix(Subject):
    mutant = DeletesByPrefix


class FiltersThePage(Sound):
    async def list_runs(self, *, limit: int = 20, offset: int = 0, **filters: Any) -> Sequence[RunRecord]:
        page = await self.inner.list_runs(limit=limit, offset=offset)
        status, pipeline = filters.get("status"), filters.get("pipeline")
        return [run for run in page if status in (None, run.status) and pipeline in (None, run.pipeline)]


class TestFiltersThePage(Subject):
    mutant = FiltersThePage


class OldestFirst(Sound):
    async def list_runs(self, *, limit: int = 20, offset: int = 0, **filters: Any) -> Sequence[RunRecord]:
        runs = await self.inner.list_runs(limit=10_000, **filters)
        return list(reversed(runs))[offset : offset + limit]


class TestOldestFirst(Subject):
    mutant = OldestFirst


class TestForgetsWhenClosed(Subject):
    survives_reopen = True
