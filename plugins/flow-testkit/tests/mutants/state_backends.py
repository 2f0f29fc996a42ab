"""State backends that are wrong in one way each, around the kernel's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import attrs
from flow_testkit import StateBackendSuite

from flow import Kernel, LeaseLost, RunOwned, RunRecord, Settings, StateBackend, StateError, StepRecord


class Sound:
    """Hands everything through; mutants change one method each."""

    def __init__(self) -> None:
        self.inner: StateBackend = Kernel(Settings(), only=()).open_state("memory://")

    async def create_run(self, run: RunRecord, lease_s: float = 0.0, *, sync: bool = True) -> None:
        await self.inner.create_run(run, lease_s, sync=sync)

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


class KeptSubject(Subject):
    """For mutants that are wrong only when there are several of them: all of a test have one store."""

    survives_reopen = True

    def make_state(self) -> StateBackend:
        kept: Sound = self.__dict__.setdefault("kept", Sound())
        made = self.mutant()
        made.inner = kept.inner
        return made


class TestSoundAndKept(KeptSubject):
    pass


class TestSound(Subject):
    pass


# -- lost writes


class LosesWritesThatMeet(Sound):
    """Reads the journal, waits, and writes it back with the new records."""

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


class LosesAllButTheFirst(Sound):
    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        await super().append_steps(run_id, epoch, records[:1], sync=sync)


class TestLosesAllButTheFirst(Subject):
    mutant = LosesAllButTheFirst


class LosesWhatIsNotSynced(Sound):
    """Keeps it in memory and never writes it out."""

    def __init__(self) -> None:
        super().__init__()
        self.later: list[tuple[str, StepRecord]] = []

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        if sync:
            await super().append_steps(run_id, epoch, records)
        else:
            await super().append_steps(run_id, epoch, ())
            self.later += [(run_id, record) for record in records]

    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        return [*await super().load_steps(run_id), *(record for owner, record in self.later if owner == run_id)]


class TestLosesWhatIsNotSynced(KeptSubject):
    mutant = LosesWhatIsNotSynced


class UpdatesHalf(Sound):
    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        await super().update_run(run_id, epoch, sync=sync, **dict(list(changes.items())[:1]))


class TestUpdatesHalf(Subject):
    mutant = UpdatesHalf


class WritesBackWhatItRead(Sound):
    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        before = await self.load_run(run_id)
        await asyncio.sleep(0)
        kept = {} if before is None else {name: getattr(before, name) for name in ("status", "error", "pending")}
        await super().update_run(run_id, epoch, sync=sync, **{**kept, **changes})


class TestWritesBackWhatItRead(Subject):
    mutant = WritesBackWhatItRead


class Overwrites(Sound):
    async def create_run(self, run: RunRecord, lease_s: float = 0.0, *, sync: bool = True) -> None:
        await self.delete_run(run.run_id)
        await super().create_run(run, lease_s, sync=sync)


class TestOverwrites(Subject):
    mutant = Overwrites


class TestForgetsWhenClosed(Subject):
    survives_reopen = True


class HasNoDescriptions(Sound):
    async def load_pipeline(self, fingerprint: str) -> bytes | None:
        return None


class TestHasNoDescriptions(Subject):
    mutant = HasNoDescriptions


# -- order


class Reorders(Sound):
    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        return sorted(await super().load_steps(run_id), key=lambda record: record.path)


class TestReorders(Subject):
    mutant = Reorders


class ReordersWhatIsWrittenTogether(Sound):
    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        await super().append_steps(run_id, epoch, sorted(records, key=lambda record: record.path), sync=sync)


class TestReordersWhatIsWrittenTogether(Subject):
    mutant = ReordersWhatIsWrittenTogether


class OldestFirst(Sound):
    async def list_runs(self, *, limit: int = 20, offset: int = 0, **filters: Any) -> Sequence[RunRecord]:
        runs = await self.inner.list_runs(limit=10_000, **filters)
        return list(reversed(runs))[offset : offset + limit]


class TestOldestFirst(Subject):
    mutant = OldestFirst


# -- fencing


class DoesNotFence(Sound):
    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        run = await self.load_run(run_id)
        await super().append_steps(run_id, run.epoch if run else epoch, records, sync=sync)


class TestDoesNotFence(Subject):
    mutant = DoesNotFence


class FencesOnlyAppends(Sound):
    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        run = await self.load_run(run_id)
        await super().update_run(run_id, run.epoch if run else epoch, sync=sync, **changes)

    async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
        run = await self.load_run(run_id)
        await super().renew_run(run_id, run.epoch if run else epoch, lease_s)


class TestFencesOnlyAppends(Subject):
    mutant = FencesOnlyAppends


class FencesBeforeItWrites(Sound):
    """Compares the epoch, waits, and writes whoever has the run by then."""

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        await self.inner.append_steps(run_id, epoch, ())
        for _turn in range(3):
            await asyncio.sleep(0)
        now = await self.load_run(run_id)
        assert now is not None
        await self.inner.append_steps(run_id, now.epoch, records)


class TestFencesBeforeItWrites(Subject):
    mutant = FencesBeforeItWrites


# -- torn writes


class TearsBatches(Sound):
    """Writes record by record, and refuses what is not Unicode."""

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        await super().append_steps(run_id, epoch, ())
        for record in records:
            try:
                f"{record.path}{record.error}".encode()
            except UnicodeEncodeError:
                raise StateError(f"step {record.path!r} cannot be stored") from None
            await super().append_steps(run_id, epoch, [record], sync=sync)


class TestTearsBatches(Subject):
    mutant = TearsBatches


class FencesAfterTheFirst(Sound):
    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        run = await self.load_run(run_id)
        if run is not None and run.epoch != epoch:
            await super().append_steps(run_id, run.epoch, records[:1])
            raise LeaseLost(run_id)
        await super().append_steps(run_id, epoch, records, sync=sync)


class TestFencesAfterTheFirst(Subject):
    mutant = FencesAfterTheFirst


class CutsRecords(Sound):
    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        cut = [attrs.evolve(record, output=_cut(record.output)) for record in records]
        await super().append_steps(run_id, epoch, cut, sync=sync)


def _cut(output: Any) -> Any:
    return output[: 2**20] if isinstance(output, bytes) else output


class TestCutsRecords(Subject):
    mutant = CutsRecords


# -- duplicates


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


# -- stale reads


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


class ReadsItsOwn(Sound):
    """Remembers what it has written and read itself, and does not ask for what others have written."""

    def __init__(self) -> None:
        super().__init__()
        self.journals: dict[str, Sequence[StepRecord]] = {}

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        await super().append_steps(run_id, epoch, records, sync=sync)
        self.journals[run_id] = await super().load_steps(run_id)

    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        if run_id not in self.journals:
            self.journals[run_id] = await super().load_steps(run_id)
        return self.journals[run_id]

    async def delete_run(self, run_id: str) -> bool:
        self.journals.pop(run_id, None)
        return await super().delete_run(run_id)


class TestReadsItsOwn(KeptSubject):
    mutant = ReadsItsOwn


# -- leases


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


class CreatesUnclaimed(Sound):
    async def create_run(self, run: RunRecord, lease_s: float = 0.0, *, sync: bool = True) -> None:
        await super().create_run(run, sync=sync)


class TestCreatesUnclaimed(Subject):
    mutant = CreatesUnclaimed


class LeasesForEver(Sound):
    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        return await super().claim_run(run_id, owner, 1e9 if lease_s else 0.0)


class TestLeasesForEver(Subject):
    mutant = LeasesForEver


class NeverRenews(Sound):
    async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
        await self.inner.append_steps(run_id, epoch, ())


class TestNeverRenews(Subject):
    mutant = NeverRenews


class LeasesByTheWallClock(Sound):
    """Keeps the end of the lease as a time of day, and does not ask whether the owner is alive."""

    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        run = await self.load_run(run_id)
        if run is not None and run.owner not in (None, owner):
            if time.time() < run.lease_until:
                raise RunOwned(run_id)
            await self.update_run(run_id, run.epoch, owner=None)
        return await super().claim_run(run_id, owner, lease_s)


class TestLeasesByTheWallClock(Subject):
    mutant = LeasesByTheWallClock


class HoldsOn(Sound):
    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        changes.pop("owner", None)
        await super().update_run(run_id, epoch, sync=sync, **changes)


class TestHoldsOn(Subject):
    mutant = HoldsOn


# -- listings and deletions


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


class ListsLittle(Sound):
    async def list_runs(self, *, limit: int = 20, offset: int = 0, **filters: Any) -> Sequence[RunRecord]:
        page = await self.inner.list_runs(limit=limit, offset=offset, **filters)
        return [attrs.evolve(run, input=None) for run in page]


class TestListsLittle(Subject):
    mutant = ListsLittle


class KnowsNoTimes(Sound):
    async def list_runs(self, *, limit: int = 20, offset: int = 0, **filters: Any) -> Sequence[RunRecord]:
        filters.pop("since", None)
        due = filters.pop("due", None)
        found = await self.inner.list_runs(limit=limit, offset=offset, **filters)
        return [run for run in found if due is None or (run.wake_at or 0.0) <= due]


class TestKnowsNoTimes(Subject):
    mutant = KnowsNoTimes


class FindsIdsAnywhere(Sound):
    async def list_runs(self, *, limit: int = 20, offset: int = 0, **filters: Any) -> Sequence[RunRecord]:
        part = filters.pop("id_prefix", None)
        found = await self.inner.list_runs(limit=10_000, **filters)
        return [run for run in found if part is None or part in run.run_id][offset : offset + limit]


class TestFindsIdsAnywhere(Subject):
    mutant = FindsIdsAnywhere


class SearchesTheInput(Sound):
    async def list_runs(self, *, limit: int = 20, offset: int = 0, **filters: Any) -> Sequence[RunRecord]:
        text = filters.pop("text", None)
        found = await self.inner.list_runs(limit=10_000, **filters)
        return [run for run in found if text is None or text.lower() in str(run).lower()][offset : offset + limit]


class TestSearchesTheInput(Subject):
    mutant = SearchesTheInput


class CountsNoCents(Sound):
    async def list_runs(self, *, limit: int = 20, offset: int = 0, **filters: Any) -> Sequence[RunRecord]:
        least = filters.pop("min_cost_usd", None)
        found = await self.inner.list_runs(limit=10_000, **filters)
        return [run for run in found if least is None or run.usage.cost_usd > least][offset : offset + limit]


class TestCountsNoCents(Subject):
    mutant = CountsNoCents


class PrunesEverything(Sound):
    async def prune(self, *, older_than: float, keep: int = 0) -> int:
        old = [run for run in await self.list_runs(limit=1000) if run.updated_at < older_than][keep:]
        for run in old:
            await self.delete_run(run.run_id)
        return len(old)


class TestPrunesEverything(Subject):
    mutant = PrunesEverything


class PrunesByTheBeginning(Sound):
    async def prune(self, *, older_than: float, keep: int = 0) -> int:
        ended = [run for run in await self.list_runs(limit=20) if run.status in ("completed", "failed")]
        old = [run for run in ended if run.created_at < older_than]
        for run in old:
            await self.delete_run(run.run_id)
        return len(old)


class TestPrunesByTheBeginning(Subject):
    mutant = PrunesByTheBeginning


# -- event loops


class IsBoundToItsLoop(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def create_run(self, run: RunRecord, lease_s: float = 0.0, *, sync: bool = True) -> None:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("attached to a different loop")
        await super().create_run(run, lease_s, sync=sync)


class TestIsBoundToItsLoop(Subject):
    mutant = IsBoundToItsLoop


class HangsWhenCancelled(Sound):
    """Takes a lock that a cancelled write does not give back."""

    def __init__(self) -> None:
        super().__init__()
        self.locked = False

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        if self.locked:
            raise StateError("the store is locked")
        self.locked = len(records) == 3
        await asyncio.sleep(0)
        await super().append_steps(run_id, epoch, records, sync=sync)
        self.locked = False


class TestHangsWhenCancelled(Subject):
    mutant = HangsWhenCancelled
