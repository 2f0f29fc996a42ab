"""Journals in a state backend."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any

import attrs
import pytest

from flow import StepRecord
from flow_testkit.suites._records import HOSTILE, step_record
from flow_testkit.suites._state_subject import StateSubject, begun, journal

MIB = 2**20

# What a store may refuse: text that is not Unicode, a number of more than 64 bits, what is not bytes at all.
REFUSABLE: dict[str, dict[str, Any]] = {
    "lone surrogate": {"error": "no such file: \udce4.txt"},
    "surrogate in the path": {"path": "1:\ud83d", "output": b"1"},
    "huge number": {"attempts": 2**200},
    "no bytes": {"output": object()},
}


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
            epoch = await begun(state)
            await state.append_steps("run-1", epoch, [step_record("0:a")])
            await state.append_steps("run-1", epoch, [least], sync=False)
            assert list(await state.load_steps("run-1")) == [step_record("0:a"), least]

    @pytest.mark.asyncio
    async def test_output_that_is_empty_is_not_no_output(self) -> None:
        """Failing means: ``b""`` and ``None`` are taken for each other."""
        records = [step_record("0:a", output=b"", feedback=""), step_record("1:b", output=None, feedback=None)]
        async with self.opened() as state:
            epoch = await begun(state)
            await state.append_steps("run-1", epoch, records)
            assert list(await state.load_steps("run-1")) == records

    @pytest.mark.asyncio
    async def test_steps_are_in_the_order_of_writing(self) -> None:
        """Failing means: the journal is sorted by something else, such as the path."""
        paths = ["2:c", "0:a/1:x", "10:k", "0:a", "1:b", "0:a/0:x"]
        async with self.opened() as state:
            epoch = await begun(state)
            for path in paths:
                await state.append_steps("run-1", epoch, [step_record(path)])
            assert await journal(state) == paths

    @pytest.mark.asyncio
    async def test_steps_written_together_are_in_their_order(self) -> None:
        """Failing means: several records of one call are mixed up, or some of them lost."""
        batches = [["2:c", "0:a/1:x", "10:k"], ["0:a"], ["1:b", "0:a/0:x", "00:z"], [f"9:{n}" for n in range(200)]]
        async with self.opened() as state:
            epoch = await begun(state)
            for paths in batches:
                await state.append_steps("run-1", epoch, [step_record(path) for path in paths])
            assert await journal(state) == list(chain(*batches))

    @pytest.mark.asyncio
    async def test_later_record_replaces_an_earlier_one(self) -> None:
        """Failing means: a step that was executed again is in the journal twice, or as it was at first."""
        async with self.opened() as state:
            epoch = await begun(state)
            failed = step_record("0:a", status="failed", output=None)
            for record in (failed, step_record("1:b"), step_record("0:a")):
                await state.append_steps("run-1", epoch, [record])
            assert list(await state.load_steps("run-1")) == [step_record("1:b"), step_record("0:a")]

    @pytest.mark.asyncio
    async def test_later_record_replaces_an_earlier_one_of_the_same_call(self) -> None:
        """Failing means: two records for one path in one call are both kept, or refused."""
        failed = step_record("0:a", status="failed", output=None)
        async with self.opened() as state:
            epoch = await begun(state)
            await state.append_steps("run-1", epoch, [failed, step_record("1:b"), step_record("0:a")])
            assert list(await state.load_steps("run-1")) == [step_record("1:b"), step_record("0:a")]
            await state.append_steps("run-1", epoch, [step_record("2:c"), step_record("1:b", feedback="again")])
            assert await journal(state) == ["0:a", "2:c", "1:b"]

    @pytest.mark.asyncio
    async def test_nothing_can_be_appended(self) -> None:
        """Failing means: an append without records raises, or leaves something behind."""
        async with self.opened() as state:
            epoch = await begun(state)
            await state.append_steps("run-1", epoch, [step_record("0:a")])
            await state.append_steps("run-1", epoch, [])
            await state.append_steps("run-1", epoch, (), sync=False)
            assert await journal(state) == ["0:a"]

    @pytest.mark.asyncio
    async def test_journals_do_not_mix(self) -> None:
        """Failing means: equal paths of two runs meet."""
        async with self.opened() as state:
            for run_id in ("run-1", "run-11"):
                epoch = await begun(state, run_id)
                await state.append_steps(run_id, epoch, [step_record("0:a", feedback=run_id)])
            assert [record.feedback for record in await state.load_steps("run-1")] == ["run-1"]
            assert [record.feedback for record in await state.load_steps("run-11")] == ["run-11"]

    @pytest.mark.parametrize("text", HOSTILE)
    @pytest.mark.asyncio
    async def test_any_path_is_kept(self, text: str) -> None:
        """Failing means: step names with quotes, wildcards or characters outside ASCII are not safe."""
        record = step_record(f"0:{text}", output=text.encode(), feedback=text, error=text)
        async with self.opened() as state:
            epoch = await begun(state)
            await state.append_steps("run-1", epoch, [record])
            await state.append_steps("run-1", epoch, [record])
            assert list(await state.load_steps("run-1")) == [record]

    @pytest.mark.asyncio
    async def test_large_and_deep_records_are_kept(self) -> None:
        """Failing means: outputs of 8 MiB are cut, or long paths refused."""
        path = "/".join(f"{level}:a-step-with-a-long-name" for level in range(40))
        records = [step_record(path, output=b'"' + "é".encode() * (4 * MIB) + b'"'), step_record("1:b")]
        async with self.opened() as state:
            epoch = await begun(state)
            await state.append_steps("run-1", epoch, records)
            stored = list(await state.load_steps("run-1"))
            assert [len(record.output or b"") for record in stored] == [len(record.output or b"") for record in records]
            assert stored == records

    @pytest.mark.parametrize("fields", REFUSABLE.values(), ids=list(REFUSABLE))
    @pytest.mark.asyncio
    async def test_refused_record_takes_those_of_its_call_with_it(self, fields: dict[str, Any]) -> None:
        """Failing means: half of what was written together is stored; use one transaction."""
        refusable = attrs.evolve(step_record("1:b"), **fields)
        async with self.opened() as state:
            epoch = await begun(state)
            before = [step_record("0:a"), step_record("2:c")]
            await state.append_steps("run-1", epoch, before)
            together = [step_record("2:c", feedback="again"), refusable, step_record("3:d")]
            outcome, beside = await asyncio.gather(
                state.append_steps("run-1", epoch, together),
                state.append_steps("run-1", epoch, [step_record("4:e")]),
                return_exceptions=True,
            )
            assert beside is None, "a write was refused for what another one holds"
            stored = [record for record in await state.load_steps("run-1") if record.path != "4:e"]
            if outcome is None:  # a store may keep everything
                assert stored == [step_record("0:a"), *together]
            else:
                assert stored == before
            await state.append_steps("run-1", epoch, [step_record("5:f")])
            assert (await journal(state))[-1] == "5:f"

    @pytest.mark.asyncio
    async def test_written_step_is_seen_at_once(self) -> None:
        """Failing means: reads return an older journal than what was written before them."""
        async with self.opened() as state:
            epoch = await begun(state)
            for count in range(1, 11):
                await state.append_steps("run-1", epoch, [step_record(f"{count}:step")], sync=count % 2 == 0)
                assert len(await state.load_steps("run-1")) == count

    @pytest.mark.asyncio
    async def test_what_was_read_does_not_change(self) -> None:
        """Failing means: a journal that was handed out is the store's own list."""
        async with self.opened() as state:
            epoch = await begun(state)
            await state.append_steps("run-1", epoch, [step_record("0:a")])
            before = await state.load_steps("run-1")
            run = await state.load_run("run-1")
            await state.append_steps("run-1", epoch, [step_record("1:b")])
            await state.update_run("run-1", epoch, status="failed")
            assert list(before) == [step_record("0:a")]
            assert run is not None
            assert run.status == "running"

    @pytest.mark.asyncio
    async def test_what_was_given_is_not_kept(self) -> None:
        """Failing means: the store keeps the caller's list, which the caller goes on to change."""
        records = [step_record("0:a")]
        async with self.opened() as state:
            epoch = await begun(state)
            await state.append_steps("run-1", epoch, records)
            records.append(step_record("1:b"))
            assert await journal(state) == ["0:a"]
