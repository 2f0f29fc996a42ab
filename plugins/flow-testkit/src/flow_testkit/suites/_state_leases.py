"""Who may write to a run of a state backend: claims, leases and epochs."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flow import LeaseLost, RunNotFound, RunOwned, StateBackend
from flow_testkit.suites._clocks import owner_that_is_gone
from flow_testkit.suites._records import comparable, run_record, step_record
from flow_testkit.suites._state_subject import AT_ONCE, HOUR, OWNER, RIVAL, StateSubject, begun, journal, loaded

DAY = 24 * HOUR

WRITES: dict[str, Callable[[StateBackend, str, int], Awaitable[Any]]] = {
    "claim": lambda state, run_id, epoch: state.claim_run(run_id, OWNER, HOUR),
    "renew": lambda state, run_id, epoch: state.renew_run(run_id, epoch, 2 * HOUR),
    "append": lambda state, run_id, epoch: state.append_steps(run_id, epoch, [step_record("0:a", attempts=9)]),
    "append without sync": lambda state, run_id, epoch: state.append_steps(
        run_id, epoch, [step_record("0:a", attempts=9)], sync=False
    ),
    "append many": lambda state, run_id, epoch: state.append_steps(
        run_id, epoch, [step_record(path, attempts=9) for path in ("1:b", "0:a", "2:c")]
    ),
    "update": lambda state, run_id, epoch: state.update_run(run_id, epoch, status="completed", owner=None),
    "update without sync": lambda state, run_id, epoch: state.update_run(run_id, epoch, status="dead", sync=False),
}
FENCED = sorted(set(WRITES) - {"claim"})


class StateLeaseTests(StateSubject):
    """A run is executed by one owner at a time."""

    @pytest.mark.asyncio
    async def test_every_claim_has_a_higher_epoch(self) -> None:
        """Failing means: two executions of a run cannot be told apart."""
        async with self.opened() as state:
            await state.create_run(run_record())
            epochs = [await state.claim_run("run-1", OWNER, HOUR) for _ in range(3)]
            assert epochs == sorted(set(epochs)), f"epochs must grow: {epochs}"
            run = await loaded(state)
            assert (run.owner, run.epoch) == (OWNER, epochs[-1])

    @pytest.mark.asyncio
    async def test_claim_changes_nothing_else(self) -> None:
        """Failing means: a claim touches what the run is, such as its status or input."""
        async with self.opened() as state:
            epoch = await begun(state)
            await state.append_steps("run-1", epoch, [step_record("0:a")])
            await state.claim_run("run-1", OWNER, HOUR)
            await state.renew_run("run-1", epoch + 1, HOUR)
            assert comparable(await state.load_run("run-1")) == comparable(run_record())
            assert list(await state.load_steps("run-1")) == [step_record("0:a")]

    @pytest.mark.asyncio
    async def test_leased_run_is_refused_to_others(self) -> None:
        """Failing means: two processes execute one run; raise `RunOwned` while the lease lasts."""
        self._require_leases()
        async with self.opened() as state:
            epoch = await begun(state)
            before = await loaded(state)
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", RIVAL, HOUR)
            assert await loaded(state) == before, "a claim that was refused has changed the run"
            await state.append_steps("run-1", epoch, [step_record("0:a")])

    @pytest.mark.asyncio
    async def test_run_can_be_created_claimed(self) -> None:
        """Failing means: a new run is open to others before its creator has begun with it."""
        self._require_leases()
        async with self.opened() as state:
            await state.create_run(run_record(owner=OWNER, epoch=1), HOUR)
            run = await loaded(state)
            assert (run.owner, run.epoch) == (OWNER, 1)
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", RIVAL, HOUR)
            await state.append_steps("run-1", 1, [step_record("0:a")])
            await state.renew_run("run-1", 1, AT_ONCE)
            assert await state.claim_run("run-1", RIVAL, HOUR) > 1
            with pytest.raises(LeaseLost):
                await state.append_steps("run-1", 1, [step_record("1:b")])

    @pytest.mark.parametrize(("owner", "lease_s"), [(None, HOUR), (None, AT_ONCE), (OWNER, AT_ONCE)])
    @pytest.mark.asyncio
    async def test_run_can_be_created_free(self, owner: str | None, lease_s: float) -> None:
        """Failing means: a new run belongs to somebody although nobody has claimed it."""
        async with self.opened() as state:
            await state.create_run(run_record(owner=owner, epoch=1), lease_s)
            assert await state.claim_run("run-1", RIVAL, HOUR) > 1

    @pytest.mark.asyncio
    async def test_lease_ends(self) -> None:
        """Failing means: the run of a process that hangs can never be resumed, or is taken from one that does not."""
        self._require_leases()
        async with self.opened() as state:
            await state.create_run(run_record())
            first = await state.claim_run("run-1", OWNER, 30.0)
            self.let_time_pass(20.0)
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", RIVAL, HOUR)
            self.let_time_pass(11.0)
            second = await state.claim_run("run-1", RIVAL, HOUR)
            assert second > first
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", OWNER, HOUR)
            assert (await loaded(state)).owner == RIVAL

    @pytest.mark.asyncio
    async def test_lease_of_no_time_is_over_at_once(self) -> None:
        """Failing means: a lease is longer than what was asked for."""
        async with self.opened() as state:
            await state.create_run(run_record())
            first = await state.claim_run("run-1", OWNER, AT_ONCE)
            assert await state.claim_run("run-1", RIVAL, AT_ONCE) > first

    @pytest.mark.asyncio
    async def test_renewed_lease_lasts(self) -> None:
        """Failing means: `renew_run` does nothing, or adds to what was left instead of counting from now."""
        self._require_leases()
        async with self.opened() as state:
            await state.create_run(run_record())
            epoch = await state.claim_run("run-1", OWNER, 30.0)
            for _beat in range(3):
                self.let_time_pass(20.0)
                await state.renew_run("run-1", epoch, 30.0)
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", RIVAL, HOUR)
            self.let_time_pass(31.0)
            assert await state.claim_run("run-1", RIVAL, HOUR) > epoch

    @pytest.mark.asyncio
    async def test_lease_that_is_over_can_be_renewed_unless_somebody_claimed(self) -> None:
        """Failing means: a process that hung for a while loses a run that nobody else wants."""
        self._require_leases()
        async with self.opened() as state:
            await state.create_run(run_record())
            epoch = await state.claim_run("run-1", OWNER, AT_ONCE)
            await state.append_steps("run-1", epoch, [step_record("0:a")])
            await state.renew_run("run-1", epoch, HOUR)
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", RIVAL, HOUR)
            assert await journal(state) == ["0:a"]

    @pytest.mark.asyncio
    async def test_run_is_given_back(self) -> None:
        """Failing means: ``update_run(owner=None)`` does not end the lease, so that others wait for nothing."""
        async with self.opened() as state:
            epoch = await begun(state)
            await state.update_run("run-1", epoch, status="paused", owner=None)
            run = await loaded(state)
            assert (run.owner, run.status) == (None, "paused")
            assert await state.claim_run("run-1", RIVAL, HOUR) > epoch

    @pytest.mark.asyncio
    async def test_lease_of_a_deleted_run_does_not_count(self) -> None:
        """Failing means: a new run finds the lease of a deleted one that had its id, and is taken from its creator."""
        self._require_leases()
        async with self.opened() as state:
            await state.create_run(run_record(owner=OWNER, epoch=1), HOUR)
            await state.update_run("run-1", 1, owner=None)
            await state.renew_run("run-1", 1, AT_ONCE)  # a renewal that was on its way when the run was given back
            await state.claim_run("run-1", RIVAL, AT_ONCE)
            await state.delete_run("run-1")
            await state.create_run(run_record(owner=OWNER, epoch=1), HOUR)
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", RIVAL, HOUR)

    @pytest.mark.asyncio
    async def test_run_of_a_process_that_is_gone_is_taken_over_at_once(self) -> None:
        """Failing means: after a crash everybody waits for the lease to end; ask `lease_is_over`."""
        self._require_leases()
        async with self.opened() as state:
            await state.create_run(run_record(owner=owner_that_is_gone(), epoch=1), HOUR)
            second = await state.claim_run("run-1", owner_that_is_gone() + "0", HOUR)
            assert await state.claim_run("run-1", RIVAL, HOUR) > second > 1
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", OWNER, HOUR)

    @pytest.mark.parametrize("days", [1, -1, 400], ids=["forward", "backward", "far"])
    @pytest.mark.asyncio
    async def test_wall_clock_does_not_matter(self, days: int) -> None:
        """Failing means: setting the clock of the machine ends leases, or makes them last; use `lease_clock`."""
        self._require_leases()
        async with self.opened() as state:
            epoch = await begun(state)
            await state.create_run(run_record("run-2", owner=OWNER, epoch=1), AT_ONCE)
            self.clocks.set_wall(days * DAY)
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", RIVAL, HOUR)
            assert await state.claim_run("run-2", RIVAL, HOUR) > 1
            await state.renew_run("run-1", epoch, 30.0)
            self.clocks.set_wall(-2 * days * DAY)
            with pytest.raises(RunOwned):
                await state.claim_run("run-1", RIVAL, HOUR)
            self.let_time_pass(31.0)
            assert await state.claim_run("run-1", RIVAL, HOUR) > epoch

    @pytest.mark.asyncio
    async def test_end_of_the_lease_can_be_read(self) -> None:
        """Failing means: nobody can see how long the owner has promised to hold the run."""
        self._require_leases()
        async with self.opened() as state:
            now = time.time()
            epoch = await begun(state)
            assert now + HOUR - 5.0 <= (await loaded(state)).lease_until <= time.time() + HOUR + 5.0
            await state.renew_run("run-1", epoch, DAY)
            assert now + DAY - 5.0 <= (await loaded(state)).lease_until <= time.time() + DAY + 5.0

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


class StateFenceTests(StateSubject):
    """Whoever lost a run cannot write to it."""

    @pytest.mark.parametrize("action", sorted(WRITES))
    @pytest.mark.asyncio
    async def test_unknown_run_cannot_be_written(self, action: str) -> None:
        """Failing means: writes for a run that is not there vanish; raise `RunNotFound`."""
        async with self.opened() as state:
            with pytest.raises(RunNotFound):
                await WRITES[action](state, "nobody", 1)
            assert await state.load_run("nobody") is None
            assert list(await state.load_steps("nobody")) == []

    @pytest.mark.parametrize("claimant", [OWNER, RIVAL], ids=["itself", "another"])
    @pytest.mark.parametrize("action", FENCED)
    @pytest.mark.asyncio
    async def test_writes_of_an_earlier_owner_are_refused(self, action: str, claimant: str) -> None:
        """Failing means: a process that lost its lease goes on writing; compare the epoch and raise `LeaseLost`."""
        self._require_leases()
        async with self.opened() as state:
            old = await begun(state)
            await state.renew_run("run-1", old, AT_ONCE)
            new = await state.claim_run("run-1", claimant, HOUR)
            await state.append_steps("run-1", new, [step_record("0:a")])
            before = await loaded(state)
            with pytest.raises(LeaseLost):
                await WRITES[action](state, "run-1", old)
            assert list(await state.load_steps("run-1")) == [step_record("0:a")]
            assert await loaded(state) == before
            await state.append_steps("run-1", new, [step_record("1:b")])
            assert await journal(state) == ["0:a", "1:b"]

    @pytest.mark.parametrize("action", FENCED)
    @pytest.mark.asyncio
    async def test_writes_of_an_epoch_that_was_never_given_are_refused(self, action: str) -> None:
        """Failing means: only lower epochs are refused; the epoch has to be the one of the run."""
        self._require_leases()
        async with self.opened() as state:
            epoch = await begun(state)
            for wrong in (epoch + 1, 0, -1):
                with pytest.raises(LeaseLost):
                    await WRITES[action](state, "run-1", wrong)
            assert comparable(await state.load_run("run-1")) == comparable(run_record())
            assert await journal(state) == []

    @pytest.mark.asyncio
    async def test_writes_that_meet_a_claim_come_before_it_or_not_at_all(self) -> None:
        """Failing means: the epoch is compared first and the step written later, when the run has changed hands."""
        self._require_leases()
        async with self.opened() as state:
            for number in range(10):
                run_id = f"run-{number}"
                await state.create_run(run_record(run_id))
                old = await state.claim_run(run_id, OWNER, AT_ONCE)
                works = {
                    "claim": self._takes_over(state, run_id),
                    "write": state.append_steps(run_id, old, [step_record("0:a"), step_record("1:b")]),
                }
                order = sorted(works, reverse=bool(number % 2))
                ended = await asyncio.gather(*(works[name] for name in order), return_exceptions=True)
                seen, written = (ended[order.index(name)] for name in ("claim", "write"))
                assert written is None or isinstance(written, LeaseLost), repr(written)
                kept = ["0:a", "1:b"] if written is None else []
                assert seen == kept, "the new owner has read a journal that was not yet, or not wholly, written"
                assert await journal(state, run_id) == kept

    async def _takes_over(self, state: StateBackend, run_id: str) -> list[str]:
        await state.claim_run(run_id, RIVAL, HOUR)
        return await journal(state, run_id)
