"""A state backend that is used by many at the same time."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flow import LeaseLost, RunOwned, StateBackend, StateError, Step
from flow_testkit.suites._probes import echo
from flow_testkit.suites._records import comparable, run_record, step_record
from flow_testkit.suites._state_subject import AT_ONCE, HOUR, OWNER, RIVAL, StateSubject, begun, journal, listed, loaded


class StateConcurrencyTests(StateSubject):
    """Writes that meet do not disturb each other."""

    @pytest.mark.asyncio
    async def test_writes_at_the_same_time_are_all_kept(self) -> None:
        """Failing means: of two writes that meet, one is lost or damaged."""
        paths = {run_id: [f"{number}:step" for number in range(25)] for run_id in ("run-1", "run-2", "run-3")}
        async with self.opened() as state:
            epochs = {run_id: await begun(state, run_id) for run_id in paths}
            writes = [
                state.append_steps(run_id, epochs[run_id], [step_record(path, feedback=run_id)], sync=number % 2 == 0)
                for run_id, own in paths.items()
                for number, path in enumerate(own)
            ]
            await asyncio.gather(*writes)
            for run_id, own in paths.items():
                stored = {record.path: record for record in await state.load_steps(run_id)}
                assert sorted(stored) == sorted(own)
                assert all(record == step_record(path, feedback=run_id) for path, record in stored.items())

    @pytest.mark.asyncio
    async def test_records_of_one_call_stay_in_order_when_calls_meet(self) -> None:
        """Failing means: calls that meet tear each other's records apart, or lose some."""
        async with self.opened() as state:
            epoch = await begun(state)
            calls = [[step_record(f"{call}:x/{number}:y") for number in range(5)] for call in range(20)]
            await asyncio.gather(*(state.append_steps("run-1", epoch, records) for records in calls))
            stored = await journal(state)
            assert len(stored) == len(set(stored)) == 100
            for records in calls:
                own = [path for path in stored if path in {record.path for record in records}]
                assert own == [record.path for record in records]

    @pytest.mark.asyncio
    async def test_one_of_many_runs_with_one_id_is_created(self) -> None:
        """Failing means: creating is not one indivisible operation."""
        async with self.opened() as state:
            records = [run_record(pipeline=f"pipeline-{number}") for number in range(8)]
            outcomes = await asyncio.gather(*map(state.create_run, records), return_exceptions=True)
            assert outcomes.count(None) == 1
            assert all(outcome is None or isinstance(outcome, StateError) for outcome in outcomes), outcomes
            assert comparable(await loaded(state)) == comparable(records[outcomes.index(None)])

    @pytest.mark.asyncio
    async def test_updates_at_the_same_time_are_all_kept(self) -> None:
        """Failing means: an update writes back fields that it has read and nobody has named."""
        changes: dict[str, Any] = {
            "status": "failed",
            "error": "late",
            "pending": b"[1]",
            "wake_at": 1.5,
            "recoveries": 9,
        }
        async with self.opened() as state:
            epoch = await begun(state)
            writes = [state.update_run("run-1", epoch, **{name: value}) for name, value in changes.items()]
            beside = [state.append_steps("run-1", epoch, [step_record("0:a")]), state.renew_run("run-1", epoch, HOUR)]
            await asyncio.gather(*writes, *beside)
            assert comparable(await state.load_run("run-1")) == comparable(run_record(**changes))
            assert await journal(state) == ["0:a"]

    @pytest.mark.asyncio
    async def test_description_of_a_pipeline_may_come_twice_at_the_same_time(self) -> None:
        """Failing means: two runs of a new pipeline cannot begin together."""
        async with self.opened() as state:
            await asyncio.gather(*(state.save_pipeline("f1", b"{}") for _ in range(8)))
            assert await state.load_pipeline("f1") == b"{}"

    @pytest.mark.asyncio
    async def test_cancelled_write_is_whole_or_not_there(self) -> None:
        """Failing means: cancelling the task that writes leaves half a write, or a backend that hangs."""
        async with self.opened() as state:
            epoch = await begun(state)
            for turns in range(6):
                records = [step_record(f"{turns}:x/{number}:y") for number in range(3)]
                write = asyncio.create_task(state.append_steps("run-1", epoch, records))
                for _turn in range(turns):
                    await asyncio.sleep(0)
                write.cancel()
                await asyncio.wait([write])
                await state.append_steps("run-1", epoch, [step_record(f"{turns}:after")])
                stored = await journal(state)
                assert sum(path.startswith(f"{turns}:x") for path in stored) in (0, 3)
                assert stored[-1] == f"{turns}:after"

    def test_event_loops_come_and_go(self) -> None:
        """Failing means: a backend is bound to the event loop in which it was opened, so ``flow.run`` works once."""
        state = asyncio.run(self.open_state())
        try:
            flow = self.flow(Step("echo", echo), state=state)
            assert [flow.run(f"data-{number}").output for number in range(3)] == ["data-0", "data-1", "data-2"]
            assert len(asyncio.run(listed(state, status="completed"))) == 3
        finally:
            asyncio.run(state.aclose())

    def test_threads_have_event_loops_of_their_own(self) -> None:
        """Failing means: ``flow.run`` in several threads at once loses runs or hangs."""
        state = asyncio.run(self.open_state())
        try:
            flow = self.flow(Step("echo", echo), state=state)
            inputs = [f"data-{number}" for number in range(12)]
            with ThreadPoolExecutor(4) as pool:
                results = list(pool.map(flow.run, inputs))
            assert [result.output for result in results] == inputs
            stored = asyncio.run(listed(state, status="completed"))
            assert sorted(stored) == sorted(result.run_id for result in results)
        finally:
            asyncio.run(state.aclose())


class StateSharingTests(StateSubject):
    """Several processes use one store: here, several backends that are open at the same time."""

    @pytest.mark.asyncio
    async def test_writes_of_another_process_are_seen_at_once(self) -> None:
        """Failing means: a backend goes by what it has read or written itself."""
        self._require_reopening()
        async with self.opened() as state, self.opened() as beside:
            epoch = await begun(state)
            assert await loaded(beside) == await loaded(state)
            assert await journal(beside) == []
            await state.append_steps("run-1", epoch, [step_record("0:a")])
            assert list(await beside.load_steps("run-1")) == [step_record("0:a")]
            await state.update_run("run-1", epoch, status="completed")
            assert await listed(beside, status="completed") == ["run-1"]
            assert await loaded(beside) == await loaded(state)
            assert await beside.delete_run("run-1") is True
            assert await state.load_run("run-1") is None
            assert await listed(state) == []

    @pytest.mark.asyncio
    async def test_run_is_taken_over_by_another_process(self) -> None:
        """Failing means: leases and epochs count within one process only."""
        self._require_leases()
        self._require_reopening()
        async with self.opened() as state, self.opened() as beside:
            old = await begun(state)
            with pytest.raises(RunOwned):
                await beside.claim_run("run-1", RIVAL, HOUR)
            await state.renew_run("run-1", old, AT_ONCE)
            new = await beside.claim_run("run-1", RIVAL, HOUR)
            assert new > old
            for write in (
                state.append_steps("run-1", old, [step_record("0:a"), step_record("1:b")]),
                state.update_run("run-1", old, status="completed"),
                state.renew_run("run-1", old, HOUR),
            ):
                with pytest.raises(LeaseLost):
                    await write
            await beside.append_steps("run-1", new, [step_record("2:c")])
            assert await journal(state) == ["2:c"]
            assert comparable(await state.load_run("run-1")) == comparable(run_record())

    @pytest.mark.asyncio
    async def test_processes_that_claim_and_write_at_the_same_time(self) -> None:
        """Failing means: a store that is busy refuses instead of waiting, or two processes get one run."""
        self._require_leases()
        self._require_reopening()
        async with self.opened() as state, self.opened() as beside:
            for number in range(8):
                await state.create_run(run_record(f"run-{number}"))
            outcomes = await asyncio.gather(*(_works(state, OWNER)), *(_works(beside, RIVAL)))
            assert sum(outcomes) == 8, f"{sum(outcomes)} of 8 runs were executed"
            for number in range(8):
                assert await journal(state, f"run-{number}") == ["0:a", "1:b"]


def _works(state: StateBackend, owner: str) -> list[asyncio.Task[bool]]:
    return [asyncio.create_task(_execute(state, owner, f"run-{number}")) for number in range(8)]


async def _execute(state: StateBackend, owner: str, run_id: str) -> bool:
    try:
        epoch = await state.claim_run(run_id, owner, HOUR)
    except RunOwned:
        return False
    for path in ("0:a", "1:b"):
        await state.append_steps(run_id, epoch, [step_record(path)])
    await state.update_run(run_id, epoch, status="completed")
    return True


class StateModelTests(StateSubject):
    """A backend does what a model of one does, whatever happens."""

    def test_does_what_a_model_does(self) -> None:
        """Failing means: the steps that are printed end in something else than dictionaries would.

        25 examples of 30 steps, always the same; with ``FLOW_TEST_SOAK=1`` 300 of 50, others each time.
        """
        from flow_testkit.suites._state_machine import run_suite  # only this test needs Hypothesis

        run_suite(self)
