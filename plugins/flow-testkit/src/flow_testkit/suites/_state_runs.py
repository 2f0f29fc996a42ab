"""Runs in a state backend: created, listed, changed, deleted, leased."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from flow import LeaseLost, RunNotFound, RunOwned, RunRecord, StateBackend, StateError, Usage
from flow_testkit.suites._records import HOSTILE, comparable, run_record, step_record
from flow_testkit.suites._state_subject import OWNER, RIVAL, StateSubject

HOUR = 3600.0

WRITES: dict[str, Callable[[StateBackend, str, int], Awaitable[Any]]] = {
    "claim": lambda state, run_id, epoch: state.claim_run(run_id, OWNER, HOUR),
    "append": lambda state, run_id, epoch: state.append_step(run_id, epoch, step_record("0:a", attempts=9)),
    "update": lambda state, run_id, epoch: state.update_run(run_id, epoch, status="completed"),
}


class StateRunTests(StateSubject):
    """Records of runs come back as they went in."""

    @pytest.mark.asyncio
    async def test_run_comes_back_as_it_was_stored(self) -> None:
        """Failing means: a field of `RunRecord` is lost or changed."""
        async with self.opened() as state:
            await state.create_run(run_record())
            assert comparable(await state.load_run("run-1")) == comparable(run_record())

    @pytest.mark.asyncio
    async def test_run_with_the_least_fields_comes_back(self) -> None:
        """Failing means: ``None`` or an empty default does not survive."""
        least = RunRecord(run_id="least", pipeline="p", fingerprint="f")
        async with self.opened() as state:
            await state.create_run(least)
            assert comparable(await state.load_run("least")) == least

    @pytest.mark.asyncio
    async def test_unknown_run_is_none(self) -> None:
        """Failing means: asking for a run that is not there raises, or invents one."""
        async with self.opened() as state:
            assert await state.load_run("nobody") is None

    @pytest.mark.asyncio
    async def test_run_id_is_taken_once(self) -> None:
        """Failing means: a second run with the same id overwrites the first; raise `StateError`."""
        async with self.opened() as state:
            await state.create_run(run_record())
            with pytest.raises(StateError):
                await state.create_run(run_record(pipeline="another"))
            assert comparable(await state.load_run("run-1")) == comparable(run_record())

    @pytest.mark.parametrize("text", HOSTILE)
    @pytest.mark.asyncio
    async def test_any_text_is_kept(self, text: str) -> None:
        """Failing means: quotes, line ends, wildcards or characters outside ASCII are not safe."""
        record = run_record(pipeline=text, error=text, metadata={text: text}, input=text.encode())
        async with self.opened() as state:
            await state.create_run(record)
            assert comparable(await state.load_run("run-1")) == comparable(record)
            assert [run.run_id for run in await state.list_runs(pipeline=text)] == ["run-1"]
            assert list(await state.list_runs(pipeline=f"{text}x")) == []

    @pytest.mark.asyncio
    async def test_update_changes_what_it_names(self) -> None:
        """Failing means: an update is lost, or touches other fields."""
        changes: dict[str, Any] = {
            "status": "failed",
            "usage": Usage(1.5, 100, 200, 7),
            "error": "step '1:b' failed",
            "pending": b'[{"path": "1:b"}]',
            "recoveries": 3,
            "metadata": {"app": "other.py"},
        }
        async with self.opened() as state:
            epoch = await _claimed(state)
            await state.update_run("run-1", epoch, **changes)
            assert comparable(await state.load_run("run-1")) == comparable(attrs.evolve(run_record(), **changes))
            await state.update_run("run-1", epoch, error=None, pending=None)
            expected = attrs.evolve(run_record(), **{**changes, "error": None, "pending": None})
            assert comparable(await state.load_run("run-1")) == comparable(expected)

    @pytest.mark.asyncio
    async def test_update_is_seen_at_once(self) -> None:
        """Failing means: reads after a write return what was there before it."""
        async with self.opened() as state:
            epoch = await _claimed(state)
            for status in ("running", "paused", "running", "completed"):
                await state.update_run("run-1", epoch, status=status)
                loaded = await state.load_run("run-1")
                assert loaded is not None
                assert loaded.status == status
                assert [run.status for run in await state.list_runs()] == [status]

    @pytest.mark.asyncio
    async def test_runs_are_listed_newest_first(self) -> None:
        """Failing means: the newest runs are not on the first page."""
        async with self.opened() as state:
            for number in range(5):
                await state.create_run(run_record(f"run-{number}", created_at=1_700_000_000.0 + number))
            assert await _listed(state) == ["run-4", "run-3", "run-2", "run-1", "run-0"]

    @pytest.mark.asyncio
    async def test_runs_are_listed_in_pages(self) -> None:
        """Failing means: a page repeats or leaves out runs."""
        async with self.opened() as state:
            for number in range(25):
                await state.create_run(run_record(f"run-{number:02}", created_at=1_700_000_000.0 + number))
            everything = [f"run-{number:02}" for number in reversed(range(25))]
            assert await _listed(state) == everything[:20], "the limit is 20 unless given"
            assert await _listed(state, limit=10) == everything[:10]
            assert await _listed(state, limit=10, offset=10) == everything[10:20]
            assert await _listed(state, limit=10, offset=20) == everything[20:]
            assert await _listed(state, limit=10, offset=25) == []

    @pytest.mark.asyncio
    async def test_runs_are_filtered(self) -> None:
        """Failing means: filters are ignored, combined with "or", or applied after the page was cut."""
        async with self.opened() as state:
            for number in range(8):
                status, pipeline = ("failed", "completed")[number % 2], ("audit", "report")[number // 4]
                record = run_record(
                    f"run-{number}", status=status, pipeline=pipeline, created_at=1_700_000_000.0 + number
                )
                await state.create_run(record)
            assert await _listed(state, status="failed") == ["run-6", "run-4", "run-2", "run-0"]
            assert await _listed(state, pipeline="audit") == ["run-3", "run-2", "run-1", "run-0"]
            assert await _listed(state, status="failed", pipeline="audit") == ["run-2", "run-0"]
            assert await _listed(state, status="failed", limit=1, offset=1) == ["run-4"]
            assert await _listed(state, status="paused") == []

    @pytest.mark.asyncio
    async def test_delete_takes_one_run(self) -> None:
        """Failing means: other runs go with it, or its journal stays."""
        async with self.opened() as state:
            for run_id in ("run-1", "run-10", "run-2"):
                epoch = await _claimed(state, run_id)
                await state.append_step(run_id, epoch, step_record("0:a"))
            assert await state.delete_run("run-1") is True
            assert await state.delete_run("run-1") is False
            assert await state.load_run("run-1") is None
            assert list(await state.load_steps("run-1")) == []
            assert sorted(await _listed(state)) == ["run-10", "run-2"]
            assert list(await state.load_steps("run-10")) == [step_record("0:a")]

    @pytest.mark.asyncio
    async def test_deleted_run_id_starts_afresh(self) -> None:
        """Failing means: a new run finds the steps of a deleted one."""
        async with self.opened() as state:
            epoch = await _claimed(state)
            await state.append_step("run-1", epoch, step_record("0:a"))
            await state.delete_run("run-1")
            await state.create_run(run_record())
            assert list(await state.load_steps("run-1")) == []

    @pytest.mark.asyncio
    async def test_runs_survive_reopening(self) -> None:
        """Failing means: what a method had stored when it returned is gone after the process ends."""
        self._require_reopening()
        async with self.opened() as state:
            epoch = await _claimed(state)
            await state.append_step("run-1", epoch, step_record("0:a"))
            await state.update_run("run-1", epoch, status="failed")
        async with self.opened() as state:
            loaded = await state.load_run("run-1")
            assert comparable(loaded) == comparable(run_record(status="failed"))
            assert loaded is not None
            assert loaded.epoch == epoch
            assert list(await state.load_steps("run-1")) == [step_record("0:a")]

    @pytest.mark.asyncio
    async def test_closing_twice_is_harmless(self) -> None:
        """Failing means: ``aclose`` raises when there is nothing left to close."""
        async with self.opened() as state:
            await state.aclose()


class StateLeaseTests(StateSubject):
    """A run is executed by one owner at a time."""

    @pytest.mark.parametrize("action", ["claim", "append", "update"])
    @pytest.mark.asyncio
    async def test_unknown_run_cannot_be_written(self, action: str) -> None:
        """Failing means: writes for a run that is not there vanish; raise `RunNotFound`."""
        async with self.opened() as state:
            with pytest.raises(RunNotFound):
                await WRITES[action](state, "nobody", 1)

    @pytest.mark.asyncio
    async def test_every_claim_has_a_higher_epoch(self) -> None:
        """Failing means: two executions of a run cannot be told apart."""
        async with self.opened() as state:
            await state.create_run(run_record())
            epochs = [await state.claim_run("run-1", OWNER, HOUR) for _ in range(3)]
            assert epochs == sorted(set(epochs)), f"epochs must grow: {epochs}"
            loaded = await state.load_run("run-1")
            assert loaded is not None
            assert (loaded.owner, loaded.epoch) == (OWNER, epochs[-1])

    @pytest.mark.asyncio
    async def test_leased_run_is_refused_to_others(self) -> None:
        """Failing means: two processes execute one run; raise `RunOwned` while the lease lasts."""
        self._require_leases()
        async with self.opened() as state:
            epoch = await _claimed(state)
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", RIVAL, HOUR)
            await state.append_step("run-1", epoch, step_record("0:a"))

    @pytest.mark.asyncio
    async def test_expired_lease_is_taken_over(self) -> None:
        """Failing means: the run of a process that died can never be resumed."""
        self._require_leases()
        async with self.opened() as state:
            await state.create_run(run_record())
            first = await state.claim_run("run-1", OWNER, 0.01)
            await self.let_leases_expire(0.05)
            assert await state.claim_run("run-1", RIVAL, HOUR) > first

    @pytest.mark.asyncio
    async def test_lease_can_be_prolonged_and_given_back(self) -> None:
        """Failing means: ``update_run(lease_until=..., owner=None)`` has no effect on claims."""
        self._require_leases()
        async with self.opened() as state:
            await state.create_run(run_record())
            epoch = await state.claim_run("run-1", OWNER, 0.01)
            await state.update_run("run-1", epoch, lease_until=4_000_000_000.0)
            await self.let_leases_expire(0.05)
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", RIVAL, HOUR)
            await state.update_run("run-1", epoch, owner=None, lease_until=0.0)
            assert await state.claim_run("run-1", RIVAL, HOUR) > epoch

    @pytest.mark.parametrize("action", ["append", "update"])
    @pytest.mark.asyncio
    async def test_writes_of_an_earlier_owner_are_refused(self, action: str) -> None:
        """Failing means: a process that lost its lease goes on writing; compare the epoch and raise `LeaseLost`."""
        self._require_leases()
        async with self.opened() as state:
            old = await _claimed(state)
            new = await state.claim_run("run-1", OWNER, HOUR)
            await state.append_step("run-1", new, step_record("0:a"))
            before = await state.load_run("run-1")
            with pytest.raises(LeaseLost):
                await WRITES[action](state, "run-1", old)
            assert list(await state.load_steps("run-1")) == [step_record("0:a")]
            assert await state.load_run("run-1") == before

    @pytest.mark.asyncio
    async def test_one_of_many_claims_wins(self) -> None:
        """Failing means: claiming is not one indivisible operation."""
        self._require_leases()
        async with self.opened() as state:
            await state.create_run(run_record())
            claims = [state.claim_run("run-1", f"host:{number}", HOUR) for number in range(8)]
            outcomes = await asyncio.gather(*claims, return_exceptions=True)
            winners = [outcome for outcome in outcomes if isinstance(outcome, int)]
            assert len(winners) == 1, f"{len(winners)} owners claimed the run"
            assert all(isinstance(outcome, (int, RunOwned)) for outcome in outcomes), outcomes


async def _claimed(state: StateBackend, run_id: str = "run-1") -> int:
    await state.create_run(run_record(run_id))
    return await state.claim_run(run_id, OWNER, HOUR)


async def _listed(state: StateBackend, **options: Any) -> list[str]:
    return [run.run_id for run in await state.list_runs(**options)]
