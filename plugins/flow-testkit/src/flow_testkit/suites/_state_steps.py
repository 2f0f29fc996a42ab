"""Journals in a state backend, and flows that use it."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import attrs
import pytest
from pydantic import BaseModel

from flow import BaseStep, Flow, PauseSignal, Pipeline, RunStatus, StateBackend, Step, StepRecord, StepRun
from flow_testkit.suites._probes import Probe, broken
from flow_testkit.suites._records import HOSTILE, run_record, step_record
from flow_testkit.suites._state_subject import OWNER, StateSubject

HOUR = 3600.0


class StateStepTests(StateSubject):
    """A journal holds what was written, in order, once."""

    @pytest.mark.asyncio
    async def test_unknown_run_has_no_steps(self) -> None:
        """Failing means: reading the journal of a run that is not there raises."""
        async with self.opened() as state:
            assert list(await state.load_steps("nobody")) == []

    @pytest.mark.asyncio
    async def test_steps_come_back_as_they_were_stored(self) -> None:
        """Failing means: a field of `StepRecord` is lost or changed."""
        least = StepRecord(path="1:b", parent="", name="b", kind="step", status="failed")
        async with self.opened() as state:
            epoch = await _begun(state)
            await state.append_step("run-1", epoch, step_record("0:a"))
            await state.append_step("run-1", epoch, least)
            assert list(await state.load_steps("run-1")) == [step_record("0:a"), least]

    @pytest.mark.asyncio
    async def test_steps_are_in_the_order_of_writing(self) -> None:
        """Failing means: the journal is sorted by something else, such as the path."""
        paths = ["2:c", "0:a/1:x", "10:k", "0:a", "1:b", "0:a/0:x"]
        async with self.opened() as state:
            epoch = await _begun(state)
            for path in paths:
                await state.append_step("run-1", epoch, step_record(path))
            assert [record.path for record in await state.load_steps("run-1")] == paths

    @pytest.mark.asyncio
    async def test_later_record_replaces_an_earlier_one(self) -> None:
        """Failing means: a step that was executed again is in the journal twice, or as it was at first."""
        async with self.opened() as state:
            epoch = await _begun(state)
            failed = step_record("0:a", status="failed", output=None)
            for record in (failed, step_record("1:b"), step_record("0:a")):
                await state.append_step("run-1", epoch, record)
            assert list(await state.load_steps("run-1")) == [step_record("1:b"), step_record("0:a")]

    @pytest.mark.asyncio
    async def test_journals_do_not_mix(self) -> None:
        """Failing means: equal paths of two runs meet."""
        async with self.opened() as state:
            for run_id in ("run-1", "run-11"):
                epoch = await _begun(state, run_id)
                await state.append_step(run_id, epoch, step_record("0:a", feedback=run_id))
            assert [record.feedback for record in await state.load_steps("run-1")] == ["run-1"]
            assert [record.feedback for record in await state.load_steps("run-11")] == ["run-11"]

    @pytest.mark.parametrize("text", HOSTILE)
    @pytest.mark.asyncio
    async def test_any_path_is_kept(self, text: str) -> None:
        """Failing means: step names with quotes, wildcards or characters outside ASCII are not safe."""
        record = step_record(f"0:{text}", output=text.encode(), feedback=text, error=text)
        async with self.opened() as state:
            epoch = await _begun(state)
            await state.append_step("run-1", epoch, record)
            await state.append_step("run-1", epoch, record)
            assert list(await state.load_steps("run-1")) == [record]

    @pytest.mark.asyncio
    async def test_large_and_deep_records_are_kept(self) -> None:
        """Failing means: long outputs are cut, or long paths refused."""
        path = "/".join(f"{level}:a-step-with-a-long-name" for level in range(40))
        record = step_record(path, output=b'"' + "é".encode() * 2**19 + b'"')
        async with self.opened() as state:
            epoch = await _begun(state)
            await state.append_step("run-1", epoch, record)
            assert list(await state.load_steps("run-1")) == [record]

    @pytest.mark.asyncio
    async def test_writes_at_the_same_time_are_all_kept(self) -> None:
        """Failing means: of two writes that meet, one is lost or damaged."""
        paths = {run_id: [f"{number}:step" for number in range(25)] for run_id in ("run-1", "run-2", "run-3")}
        async with self.opened() as state:
            epochs = {run_id: await _begun(state, run_id) for run_id in paths}
            writes = [
                state.append_step(run_id, epochs[run_id], step_record(path, feedback=run_id))
                for run_id, own in paths.items()
                for path in own
            ]
            await asyncio.gather(*writes)
            for run_id, own in paths.items():
                stored = {record.path: record for record in await state.load_steps(run_id)}
                assert sorted(stored) == sorted(own)
                assert all(record == step_record(path, feedback=run_id) for path, record in stored.items())

    @pytest.mark.asyncio
    async def test_written_step_is_seen_at_once(self) -> None:
        """Failing means: reads return an older journal than what was written before them."""
        async with self.opened() as state:
            epoch = await _begun(state)
            for count in range(1, 6):
                await state.append_step("run-1", epoch, step_record(f"{count}:step"))
                assert len(await state.load_steps("run-1")) == count

    @pytest.mark.asyncio
    async def test_what_was_read_does_not_change(self) -> None:
        """Failing means: a journal that was handed out is the store's own list."""
        async with self.opened() as state:
            epoch = await _begun(state)
            await state.append_step("run-1", epoch, step_record("0:a"))
            before = await state.load_steps("run-1")
            await state.append_step("run-1", epoch, step_record("1:b"))
            assert list(before) == [step_record("0:a")]


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

    @pytest.mark.asyncio
    async def test_finished_steps_are_not_executed_again(self) -> None:
        """Failing means: resuming a run repeats work that was paid for."""
        first, second = Probe(), Probe(error=broken, times=1)
        async with self.opened() as state:
            flow = self._flow(state, Step("first", first), Step("second", second))
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


async def _begun(state: StateBackend, run_id: str = "run-1") -> int:
    await state.create_run(run_record(run_id))
    return await state.claim_run(run_id, OWNER, HOUR)
