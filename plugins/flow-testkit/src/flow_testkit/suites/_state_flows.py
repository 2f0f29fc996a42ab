"""Flows that keep their runs in a state backend."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import datetime
import time
from typing import Any

import attrs
import pytest
from pydantic import BaseModel

from flow import (
    BaseStep,
    Flow,
    LeaseLost,
    PauseSignal,
    Pipeline,
    PipelineChanged,
    RunStatus,
    StateBackend,
    Step,
    StepRun,
)
from flow_testkit.suites._clocks import owner_that_is_gone
from flow_testkit.suites._probes import Probe, broken
from flow_testkit.suites._state_subject import AT_ONCE, HOUR, RIVAL, StateSubject, journal, loaded


class Article(BaseModel):
    """A Pydantic model that a step returns."""

    title: str
    written: datetime.date


@attrs.frozen
class Typed:
    """A declared type and a value of it."""

    declared: Any
    value: Any


VALUES = {
    "model": Typed(Article, Article(title="ünï", written=datetime.date(2024, 2, 29))),
    "tuple": Typed(tuple[int, str], (1, "a")),
    "bytes": Typed(bytes, b"\x00\xff"),
    "set": Typed(frozenset[str], frozenset({"a", "b"})),
    "none": Typed(type(None), None),
    "plain": Typed(dict[str, Any], {"a": [1, 2.5, None, True], "ü": {"b": "c"}}),
}


class StateFlowTests(StateSubject):
    """Flows that keep their runs in the backend can be resumed."""

    def _flow(self, state: StateBackend, *steps: BaseStep[Any, Any], **options: Any) -> Flow[Any, Any]:
        return self.flow(Pipeline(steps), state=state, **options)

    @pytest.mark.parametrize("durability", ["full", "normal", "exit"])
    @pytest.mark.asyncio
    async def test_finished_steps_are_not_executed_again(self, durability: str) -> None:
        """Failing means: resuming a run repeats work that was paid for."""
        first, second = Probe(), Probe(error=broken, times=1)
        async with self.opened() as state:
            flow = self._flow(state, Step("first", first), Step("second", second), durability=durability)
            failed = await flow.run_async("data")
            assert failed.status is RunStatus.FAILED
            resumed = await flow.resume_async(failed.run_id)
        assert resumed.success, f"{resumed.error}"
        assert (first.calls, second.calls) == (1, 2)
        assert [step.replayed for step in resumed.step_history] == [True, False]

    @pytest.mark.asyncio
    async def test_run_is_resumed_by_another_flow(self) -> None:
        """Failing means: a run ends with the process that began it."""
        self._require_reopening()
        first, second = Probe(writes="note"), Probe(error=broken, times=1)
        steps = (Step("first", first), Step("second", second))
        async with self.opened() as state:
            failed = await self._flow(state, *steps).run_async("data", initial_context={"initial_prompt": "prompt"})
        async with self.opened() as state:
            resumed = await self._flow(state, *steps).resume_async(failed.run_id)
        assert resumed.success, f"{resumed.error}"
        assert resumed.output == "data"
        assert (first.calls, second.calls) == (1, 2)
        assert resumed.final_pipeline_context.scratchpad == {"note": True}
        assert resumed.final_pipeline_context.initial_prompt == "prompt"

    @pytest.mark.asyncio
    async def test_run_whose_process_died_is_recovered(self) -> None:
        """Failing means: runs of dead processes are not found, or those of living ones are taken from them."""
        self._require_leases()
        first, second = Probe(), Probe(error=broken, times=2)
        async with self.opened() as state:
            flow = self._flow(state, Step("first", first), Step("second", second))
            died, lives = await flow.run_many(["died", "lives"])
            for run_id, owner in ((died.run_id, owner_that_is_gone()), (lives.run_id, RIVAL)):
                epoch = await state.claim_run(run_id, owner, HOUR)
                await state.update_run(run_id, epoch, status="running", error=None)
            recovered = await flow.recover_async()
            assert [(result.run_id, result.output) for result in recovered] == [(died.run_id, "died")]
            assert (first.calls, second.calls) == (2, 3)
            assert (await loaded(state, died.run_id)).recoveries == 1
            assert (await loaded(state, lives.run_id)).owner == RIVAL

    @pytest.mark.asyncio
    async def test_run_that_was_taken_over_stops(self) -> None:
        """Failing means: a process that was taken for dead goes on with a run that another one executes."""
        self._require_leases()
        after = Probe()

        async with self.opened() as state:

            async def hangs(data: Any, *, run: StepRun) -> Any:
                await state.renew_run(run.run_id, (await loaded(state, run.run_id)).epoch, AT_ONCE)
                await state.claim_run(run.run_id, RIVAL, HOUR)
                return data

            with pytest.raises(LeaseLost):
                await self._flow(state, Step("hangs", hangs), Step("after", after)).run_async("data", run_id="run-1")
            assert after.calls == 0
            assert await journal(state) == []
            run = await loaded(state)
            assert (run.owner, run.status) == (RIVAL, "running")

    @pytest.mark.asyncio
    async def test_paused_run_is_woken_when_its_time_has_come(self) -> None:
        """Failing means: ``wake_at`` is lost, so that a question without an answer is waited for without end."""
        asks = Probe(error=lambda: PauseSignal("which?", deadline=time.time() + HOUR), times=1)
        async with self.opened() as state:
            flow = self._flow(state, Step("ask", asks))
            paused = await flow.run_async("data")
            assert paused.status is RunStatus.PAUSED
            assert await flow.recover_async() == []
            self.clocks.pass_by(2 * HOUR)
            assert [result.run_id for result in await flow.recover_async()] == [paused.run_id]

    @pytest.mark.asyncio
    async def test_changed_pipeline_is_told_from_the_one_of_the_run(self) -> None:
        """Failing means: nobody learns what has changed since the run began."""
        async with self.opened() as state:
            failed = await self._flow(state, Step("before", Probe(error=broken))).run_async("data")
            with pytest.raises(PipelineChanged, match="after"):
                await self._flow(state, Step("after", Probe())).resume_async(failed.run_id)
            assert (await loaded(state, failed.run_id)).status == "failed"

    @pytest.mark.asyncio
    async def test_paused_run_waits_in_the_store(self) -> None:
        """Failing means: a question is lost, or a run that waits is not found."""
        asks = Probe(error=lambda: PauseSignal("which?", schema={"type": "string"}), times=1)
        async with self.opened() as state:
            flow = self._flow(state, Step("ask", asks))
            paused = await flow.run_async("data")
            assert paused.status is RunStatus.PAUSED
            assert [run.run_id for run in await state.list_runs(status="paused")] == [paused.run_id]
            resumed = await flow.resume_async(paused.run_id, "this")
            assert resumed.success, f"{resumed.error}"
            assert [run.run_id for run in await state.list_runs(status="completed")] == [paused.run_id]

    @pytest.mark.asyncio
    async def test_end_of_a_run_is_stored(self) -> None:
        """Failing means: the store says something else than the result."""

        async def spends(data: Any, *, run: StepRun) -> Any:
            run.usage.add(cost_usd=0.5, input_tokens=3)
            return data

        async with self.opened() as state:
            result = await self._flow(state, Step("spend", spends), Step("fail", Probe(error=broken))).run_async("data")
            stored = await state.load_run(result.run_id)
        assert stored is not None
        assert (stored.status, stored.usage, stored.owner) == ("failed", result.usage, None)
        assert "the probe is broken" in (stored.error or "")

    @pytest.mark.parametrize("name", sorted(VALUES))
    @pytest.mark.asyncio
    async def test_values_come_back_with_their_types(self, name: str) -> None:
        """Failing means: bytes of the journal are changed on their way."""
        typed, seen = VALUES[name], []

        async def produce(data: str) -> Any:
            return typed.value

        async def consume(data: Any) -> str:
            seen.append(data)
            if len(seen) == 1:
                raise broken()
            return "done"

        produce.__annotations__["return"] = typed.declared
        async with self.opened() as state:
            flow = self._flow(state, Step("produce", produce), Step("consume", consume))
            failed = await flow.run_async("data")
            resumed = await flow.resume_async(failed.run_id)
        assert resumed.success, f"{resumed.error}"
        assert seen == [typed.value, typed.value]
        assert type(seen[1]) is type(typed.value)

    @pytest.mark.asyncio
    async def test_many_runs_at_the_same_time(self) -> None:
        """Failing means: runs that share a backend disturb each other."""
        async with self.opened() as state:
            flow = self._flow(state, Step("first", Probe()), Step("second", Probe()))
            results = await flow.run_many([f"data-{number}" for number in range(20)])
            assert [result.output for result in results] == [f"data-{number}" for number in range(20)]
            stored = await state.list_runs(status="completed", limit=50)
            assert sorted(run.run_id for run in stored) == sorted(result.run_id for result in results)
            for result in results:
                assert [record.path for record in await state.load_steps(result.run_id)] == ["0:first", "1:second"]
