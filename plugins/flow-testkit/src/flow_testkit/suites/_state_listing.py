"""Runs of a state backend: listed and pruned."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from flow import StateBackend, Usage
from flow_testkit.suites._records import run_record, step_record
from flow_testkit.suites._state_subject import HOUR, OWNER, StateSubject, begun, journal, listed, loaded

BEGIN = 1_700_000_000.0
LONG_AGO = BEGIN + 1000.0
FAR_AWAY = 9_000_000_000.0
ENDED = ("completed", "failed", "cancelled", "limit_exceeded", "deadline_exceeded", "dead")
UNFINISHED = ("running", "paused", "interrupted")


class StateListTests(StateSubject):
    """Runs are found."""

    @pytest.mark.asyncio
    async def test_runs_are_listed_newest_first(self) -> None:
        """Failing means: the newest runs are not on the first page."""
        async with self.opened() as state:
            await _create(state, 5)
            assert await listed(state) == ["run-04", "run-03", "run-02", "run-01", "run-00"]
            epoch = await state.claim_run("run-02", OWNER, HOUR)
            await state.update_run("run-02", epoch, status="completed")
            assert await listed(state) == ["run-04", "run-03", "run-02", "run-01", "run-00"], "new is what began late"

    @pytest.mark.asyncio
    async def test_listed_runs_are_whole(self) -> None:
        """Failing means: a listing says something else about a run than `load_run`."""
        async with self.opened() as state:
            for run_id in ("run-1", "run-2"):
                epoch = await begun(state, run_id)
                await state.append_steps(run_id, epoch, [step_record("0:a")])
                await state.update_run(run_id, epoch, status="paused", error=run_id)
            for run in await state.list_runs():
                assert run == await state.load_run(run.run_id)

    @pytest.mark.asyncio
    async def test_runs_are_listed_in_pages(self) -> None:
        """Failing means: a page repeats or leaves out runs."""
        async with self.opened() as state:
            await _create(state, 25)
            everything = [f"run-{number:02}" for number in reversed(range(25))]
            assert await listed(state) == everything[:20], "the limit is 20 unless given"
            assert await listed(state, limit=10) == everything[:10]
            assert await listed(state, limit=10, offset=10) == everything[10:20]
            assert await listed(state, limit=10, offset=20) == everything[20:]
            assert await listed(state, limit=10, offset=25) == []
            assert await listed(state, limit=1000) == everything

    @pytest.mark.asyncio
    async def test_runs_of_the_same_moment_are_listed_in_pages(self) -> None:
        """Failing means: runs that began at the same time change places from page to page; sort by the id as well."""
        async with self.opened() as state:
            for number in (3, 1, 4, 0, 2, 8, 6, 5, 7):
                await state.create_run(run_record(f"run-{number}", created_at=BEGIN))
            pages = [await listed(state, limit=2, offset=offset) for offset in range(0, 10, 2)]
            assert [len(page) for page in pages] == [2, 2, 2, 2, 1]
            assert sorted(chain(*pages)) == [f"run-{number}" for number in range(9)]

    @pytest.mark.asyncio
    async def test_runs_are_filtered(self) -> None:
        """Failing means: filters are ignored, combined with "or", or applied after the page was cut."""
        async with self.opened() as state:
            for number in range(8):
                status, pipeline = ("failed", "completed")[number % 2], ("audit", "report")[number // 4]
                record = run_record(f"run-{number}", status=status, pipeline=pipeline, created_at=BEGIN + number)
                await state.create_run(record)
            assert await listed(state, status="failed") == ["run-6", "run-4", "run-2", "run-0"]
            assert await listed(state, pipeline="audit") == ["run-3", "run-2", "run-1", "run-0"]
            assert await listed(state, status="failed", pipeline="audit") == ["run-2", "run-0"]
            assert await listed(state, status="failed", limit=1, offset=1) == ["run-4"]
            assert await listed(state, status="failed", pipeline="audit", since=BEGIN + 1) == ["run-2"]
            assert await listed(state, status="paused") == []
            assert await listed(state, pipeline="AUDIT") == []
            assert await listed(state, pipeline="audi_") == []

    @pytest.mark.asyncio
    async def test_runs_are_found_by_when_they_began(self) -> None:
        """Failing means: `since` is not the earliest ``created_at``, that moment included."""
        async with self.opened() as state:
            await _create(state, 4)
            assert await listed(state, since=BEGIN + 2) == ["run-03", "run-02"]
            assert await listed(state, since=BEGIN + 2.001) == ["run-03"]
            assert await listed(state, since=BEGIN - HOUR, limit=1, offset=3) == ["run-00"]
            assert await listed(state, since=FAR_AWAY) == []
            assert len(await listed(state, since=0.0)) == 4

    @pytest.mark.asyncio
    async def test_runs_that_are_due_are_found(self) -> None:
        """Failing means: a paused run whose time has come is not woken, or one that only waits for an answer is."""
        async with self.opened() as state:
            await _create(state, 4, status="paused", wake_at=None)
            for number, wake_at in ((1, BEGIN), (3, BEGIN + 0.5)):
                epoch = await state.claim_run(f"run-{number:02}", OWNER, HOUR)
                await state.update_run(f"run-{number:02}", epoch, wake_at=wake_at, owner=None)
            assert await listed(state, due=BEGIN - 1) == []
            assert await listed(state, due=BEGIN) == ["run-01"], "the moment itself is due"
            assert await listed(state, due=FAR_AWAY) == ["run-03", "run-01"], "a run without wake_at is never due"
            assert await listed(state, due=FAR_AWAY, status="paused", limit=1, offset=1) == ["run-01"]
            assert await listed(state, due=FAR_AWAY, status="running") == []
            epoch = await state.claim_run("run-03", OWNER, HOUR)
            await state.update_run("run-03", epoch, wake_at=None)
            assert await listed(state, due=FAR_AWAY) == ["run-01"]

    @pytest.mark.asyncio
    async def test_runs_are_found_by_how_their_ids_begin(self) -> None:
        """Failing means: the beginning of an id finds too much or too little; ids are letters, digits, - and _."""
        async with self.opened() as state:
            for number, run_id in enumerate(("a-1", "a-10", "a-2", "A-1", "a_1", "a", "b-a-1", "azz")):
                await state.create_run(run_record(run_id, created_at=BEGIN + number))
            assert await listed(state, id_prefix="a-1") == ["a-10", "a-1"]
            assert await listed(state, id_prefix="a") == ["azz", "a", "a_1", "a-2", "a-10", "a-1"]
            assert await listed(state, id_prefix="a_") == ["a_1"], "an underscore is a letter as any other"
            assert await listed(state, id_prefix="a-1", limit=1, offset=1) == ["a-1"]
            assert await listed(state, id_prefix="a-1", pipeline="report") == []
            assert await listed(state, id_prefix="c") == []
            assert len(await listed(state, id_prefix="")) == 8

    @pytest.mark.asyncio
    async def test_runs_are_found_by_text(self) -> None:
        """Failing means: `text` looks elsewhere than in `flow.search_texts`, or takes some characters for patterns."""
        async with self.opened() as state:
            told: dict[str, dict[str, Any]] = {
                "by-error": {"error": 'Refused: 100% of "quota_1" used'},
                "by-metadata": {"metadata": {"ticket": 'Größe \\ "Refused"', "input": "refused"}},
                "by-pipeline": {"pipeline": "refused-orders"},
                "refused-id": {},
                "elsewhere": {"input": b'"refused"', "metadata": {"refused": "key", "usage_limits": "refused"}},
                "nothing": {"error": None},
            }
            for number, (run_id, fields) in enumerate(told.items()):
                await state.create_run(run_record(run_id, created_at=BEGIN + number, **fields))
            assert await listed(state, text="rEFUSED") == ["refused-id", "by-pipeline", "by-metadata", "by-error"]
            assert await listed(state, text="refused", limit=2, offset=1) == ["by-pipeline", "by-metadata"]
            assert await listed(state, text="refused", pipeline="audit", since=BEGIN + 1) == [
                "refused-id",
                "by-metadata",
            ]
            assert await listed(state, text="100%") == ["by-error"]
            assert await listed(state, text="quota_1") == ["by-error"]
            assert await listed(state, text="quotax1") == []
            assert await listed(state, text='größe \\ "R') == ["by-metadata"]
            assert await listed(state, text="x%e") == []

    @pytest.mark.asyncio
    async def test_runs_are_found_by_what_they_cost(self) -> None:
        """Failing means: `min_cost_usd` is not the least cost, that sum included."""
        async with self.opened() as state:
            for number in range(4):
                record = run_record(f"run-{number}", created_at=BEGIN + number, usage=Usage(number * 0.25))
                await state.create_run(record)
            assert await listed(state, min_cost_usd=0.5) == ["run-3", "run-2"]
            assert await listed(state, min_cost_usd=0.51) == ["run-3"]
            assert await listed(state, min_cost_usd=0.0, limit=1, offset=3) == ["run-0"]
            epoch = await state.claim_run("run-0", OWNER, HOUR)
            await state.update_run("run-0", epoch, usage=Usage(9.0), owner=None)
            assert await listed(state, min_cost_usd=1.0) == ["run-0"]


class StatePruneTests(StateSubject):
    """Old runs are forgotten when somebody asks for it."""

    @pytest.mark.asyncio
    async def test_prune_takes_runs_that_have_ended(self) -> None:
        """Failing means: a run that can go on is forgotten, or one that has ended stays for ever."""
        async with self.opened() as state:
            for status in (*ENDED, *UNFINISHED):
                await state.create_run(_old(status, status=status))
            assert await state.prune(older_than=FAR_AWAY) == len(ENDED)
            assert sorted(await listed(state)) == sorted(UNFINISHED)
            assert await state.prune(older_than=FAR_AWAY) == 0

    @pytest.mark.asyncio
    async def test_prune_takes_the_journals(self) -> None:
        """Failing means: the steps of forgotten runs stay, or those of other runs go."""
        async with self.opened() as state:
            for run_id, status in (("run-1", "completed"), ("run-2", "running"), ("run-10", "paused")):
                epoch = await begun(state, run_id)
                await state.append_steps(run_id, epoch, [step_record("0:a")])
                await state.update_run(run_id, epoch, status=status, owner=None)
            assert await state.prune(older_than=FAR_AWAY) == 1
            assert await state.load_run("run-1") is None
            assert await journal(state, "run-1") == []
            assert await journal(state, "run-2") == await journal(state, "run-10") == ["0:a"]
            await state.create_run(run_record("run-1"))
            assert await journal(state, "run-1") == []

    @pytest.mark.asyncio
    async def test_prune_keeps_what_is_not_old(self) -> None:
        """Failing means: something else than ``updated_at < older_than`` decides."""
        async with self.opened() as state:
            for number in range(4):
                await state.create_run(_old(f"run-{number}", created_at=BEGIN, updated_at=LONG_AGO + number))
            assert await state.prune(older_than=LONG_AGO) == 0
            assert await state.prune(older_than=LONG_AGO + 2) == 2
            assert sorted(await listed(state)) == ["run-2", "run-3"]

    @pytest.mark.asyncio
    async def test_prune_counts_from_the_last_change(self) -> None:
        """Failing means: a run that began long ago and ended just now is forgotten at once."""
        async with self.opened() as state:
            epoch = await begun(state, created_at=BEGIN, updated_at=BEGIN)
            await state.create_run(_old("run-2"))
            await state.update_run("run-1", epoch, status="completed", owner=None)
            assert await state.prune(older_than=(await loaded(state)).updated_at) == 1
            assert await listed(state) == ["run-1"]

    @pytest.mark.asyncio
    async def test_prune_keeps_the_newest(self) -> None:
        """Failing means: `keep` keeps others than the newest ones, or counts runs that stay anyway."""
        async with self.opened() as state:
            for number in range(8):
                status = ("completed", "paused", "failed", "running")[number % 4]
                await state.create_run(_old(f"run-{number}", status=status, created_at=BEGIN + number))
            assert await state.prune(older_than=FAR_AWAY, keep=5) == 0
            assert await state.prune(older_than=FAR_AWAY, keep=3) == 1
            assert await listed(state) == ["run-7", "run-6", "run-5", "run-4", "run-3", "run-2", "run-1"]
            assert await state.prune(older_than=FAR_AWAY, keep=1) == 2
            assert await listed(state) == ["run-7", "run-6", "run-5", "run-3", "run-1"]

    @pytest.mark.asyncio
    async def test_prune_of_many_runs(self) -> None:
        """Failing means: only the first page of the runs is looked at."""
        async with self.opened() as state:
            for number in range(120):
                await state.create_run(_old(f"run-{number:03}", created_at=BEGIN + number))
            assert await state.prune(older_than=FAR_AWAY, keep=2) == 118
            assert await listed(state) == ["run-119", "run-118"]

    @pytest.mark.asyncio
    async def test_pruned_store_still_knows_the_pipelines_of_its_runs(self) -> None:
        """Failing means: what describes the pipeline of a run that waits is forgotten with another run."""
        async with self.opened() as state:
            await state.save_pipeline("f1", b"{}")
            await state.create_run(_old("run-1"))
            await state.create_run(_old("run-2", status="paused"))
            assert await state.prune(older_than=FAR_AWAY) == 1
            assert await state.load_pipeline("f1") == b"{}"


async def _create(state: StateBackend, count: int, **fields: Any) -> None:
    for number in range(count):
        await state.create_run(run_record(f"run-{number:02}", created_at=BEGIN + number, **fields))


def _old(run_id: str, **fields: Any) -> Any:
    return run_record(run_id, **{"status": "completed", "created_at": BEGIN, "updated_at": BEGIN} | fields)
