"""Runs in a state backend: created, read, changed, deleted."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import time
from typing import Any

import attrs
import pytest

from flow import FlowError, RunNotFound, RunRecord, StateError, Usage
from flow_testkit.suites._records import HOSTILE, comparable, run_record, step_record
from flow_testkit.suites._state_subject import HOUR, OWNER, StateSubject, begun, journal, listed, loaded

MIB = 2**20

STATUSES = (
    "running",
    "paused",
    "interrupted",
    "completed",
    "failed",
    "cancelled",
    "limit_exceeded",
    "deadline_exceeded",
    "dead",
)


class StateRunTests(StateSubject):
    """Records of runs come back as they went in."""

    @pytest.mark.asyncio
    async def test_run_comes_back_as_it_was_stored(self) -> None:
        """Failing means: a field of `RunRecord` is lost or changed."""
        async with self.opened() as state:
            await state.create_run(run_record())
            assert comparable(await state.load_run("run-1")) == comparable(run_record())
            assert (await loaded(state)).updated_at == run_record().updated_at, "a new run was changed when it says"

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
                await state.create_run(run_record(pipeline="another", owner=OWNER, epoch=7), HOUR)
            assert comparable(await state.load_run("run-1")) == comparable(run_record())
            assert (await loaded(state)).owner is None

    @pytest.mark.parametrize("run_id", ["a", "A", "run-1", "run_1", "7", "CON", "-".join(["x" * 21] * 5), "x" * 128])
    @pytest.mark.asyncio
    async def test_any_run_id_is_kept(self, run_id: str) -> None:
        """Failing means: an id that flow allows is too long, or the name of something else, where it is stored."""
        other = "b" if run_id == "a" else "a"
        async with self.opened() as state:
            await begun(state, other)
            epoch = await begun(state, run_id)
            await state.append_steps(run_id, epoch, [step_record("0:a", feedback=run_id)])
            assert comparable(await state.load_run(run_id)) == comparable(run_record(run_id))
            assert [record.feedback for record in await state.load_steps(run_id)] == [run_id]
            assert await journal(state, other) == []

    @pytest.mark.parametrize("text", HOSTILE)
    @pytest.mark.asyncio
    async def test_any_text_is_kept(self, text: str) -> None:
        """Failing means: quotes, line ends, wildcards or characters outside ASCII are not safe."""
        record = run_record(pipeline=text, error=text, metadata={text: text}, input=text.encode())
        async with self.opened() as state:
            await state.create_run(record)
            assert comparable(await state.load_run("run-1")) == comparable(record)
            assert await listed(state, pipeline=text) == ["run-1"]
            assert await listed(state, pipeline=f"{text}x") == []

    @pytest.mark.asyncio
    async def test_large_inputs_are_kept(self) -> None:
        """Failing means: an input, context or question of several MiB is cut or refused."""
        large = b'"' + "é".encode() * (4 * MIB) + b'"'
        record = run_record(input=large, context=b'{"topic": ' + large + b"}")
        async with self.opened() as state:
            await state.create_run(record)
            assert comparable(await state.load_run("run-1")) == comparable(record)

    @pytest.mark.asyncio
    async def test_update_changes_what_it_names(self) -> None:
        """Failing means: an update is lost, or touches other fields."""
        changes: dict[str, Any] = {
            "status": "failed",
            "usage": Usage(1.5, 100, 200, 7),
            "error": "step '1:b' failed",
            "pending": b'[{"path": "1:b"}]',
            "wake_at": 1_750_000_000.25,
            "deadline_at": 1_950_000_000.5,
            "recoveries": 3,
            "metadata": {"app": "other.py"},
        }
        async with self.opened() as state:
            epoch = await begun(state)
            await state.update_run("run-1", epoch, **changes)
            assert comparable(await state.load_run("run-1")) == comparable(attrs.evolve(run_record(), **changes))
            nothing: dict[str, Any] = {"error": None, "pending": None, "wake_at": None, "deadline_at": None}
            await state.update_run("run-1", epoch, **nothing)
            expected = attrs.evolve(run_record(), **{**changes, **nothing})
            assert comparable(await state.load_run("run-1")) == comparable(expected)

    @pytest.mark.asyncio
    async def test_update_is_seen_at_once(self) -> None:
        """Failing means: reads after a write return what was there before it."""
        async with self.opened() as state:
            epoch = await begun(state)
            for status in ("running", "paused", "running", "completed"):
                await state.update_run("run-1", epoch, status=status)
                assert (await loaded(state)).status == status
                assert [run.status for run in await state.list_runs()] == [status]

    @pytest.mark.parametrize("status", STATUSES)
    @pytest.mark.asyncio
    async def test_any_status_is_kept(self, status: str) -> None:
        """Failing means: a status that flow uses is refused, or not found."""
        async with self.opened() as state:
            epoch = await begun(state)
            await state.update_run("run-1", epoch, status=status, sync=False)
            assert (await loaded(state)).status == status
            assert await listed(state, status=status) == ["run-1"]

    @pytest.mark.asyncio
    async def test_update_says_when_it_was(self) -> None:
        """Failing means: ``updated_at`` is not kept up to date, so that `prune` forgets what is new."""
        async with self.opened() as state:
            epoch = await begun(state)
            before = time.time()
            await state.update_run("run-1", epoch, status="completed")
            assert before - 1.0 <= (await loaded(state)).updated_at <= time.time() + 1.0

    @pytest.mark.asyncio
    async def test_update_of_no_field_there_is_changes_nothing(self) -> None:
        """Failing means: names of fields become part of a statement unchecked, or half an update is stored."""
        async with self.opened() as state:
            epoch = await begun(state)
            for name in ("colour", "status = 'dead' --", "error, status"):
                changes: dict[str, Any] = {"error": "changed", name: "dead"}
                with pytest.raises((TypeError, ValueError, FlowError)):
                    await state.update_run("run-1", epoch, **changes)
            assert comparable(await state.load_run("run-1")) == comparable(run_record())

    @pytest.mark.asyncio
    async def test_delete_takes_one_run(self) -> None:
        """Failing means: other runs go with it, or its journal stays."""
        async with self.opened() as state:
            for run_id in ("run-1", "run-10", "run-2"):
                epoch = await begun(state, run_id)
                await state.append_steps(run_id, epoch, [step_record("0:a")])
            assert await state.delete_run("run-1") is True
            assert await state.delete_run("run-1") is False
            assert await state.load_run("run-1") is None
            assert list(await state.load_steps("run-1")) == []
            assert sorted(await listed(state)) == ["run-10", "run-2"]
            assert list(await state.load_steps("run-10")) == [step_record("0:a")]

    @pytest.mark.asyncio
    async def test_deleted_run_cannot_be_written(self) -> None:
        """Failing means: the process that executes a run brings it back after somebody has deleted it."""
        async with self.opened() as state:
            epoch = await begun(state)
            await state.delete_run("run-1")
            with pytest.raises(RunNotFound):
                await state.append_steps("run-1", epoch, [step_record("0:a")])
            with pytest.raises(RunNotFound):
                await state.update_run("run-1", epoch, status="completed")
            assert await state.load_run("run-1") is None
            assert list(await state.load_steps("run-1")) == []

    @pytest.mark.asyncio
    async def test_deleted_run_id_starts_afresh(self) -> None:
        """Failing means: a new run finds the steps or the lease of a deleted one."""
        async with self.opened() as state:
            epoch = await begun(state)
            await state.append_steps("run-1", epoch, [step_record("0:a")])
            await state.delete_run("run-1")
            await state.create_run(run_record())
            assert list(await state.load_steps("run-1")) == []
            assert await state.claim_run("run-1", "somebody:else", HOUR) > 0

    @pytest.mark.asyncio
    async def test_description_of_a_pipeline_is_kept(self) -> None:
        """Failing means: nobody can be told what has changed in a pipeline since its run began."""
        structure = '{"steps": ["ünï", "\u2028", "\'; --"]}'.encode() + b" " * MIB
        async with self.opened() as state:
            assert await state.load_pipeline("f1") is None
            await state.save_pipeline("f1", structure)
            await state.save_pipeline("f1", structure)
            await state.save_pipeline("f2", b"{}")
            assert await state.load_pipeline("f1") == structure
            assert await state.load_pipeline("f2") == b"{}"
            assert await state.load_pipeline("f") is None
            assert await listed(state) == [], "the description of a pipeline is no run"


class StateReopenTests(StateSubject):
    """What was stored is still there when the process has ended."""

    @pytest.mark.parametrize("sync", [True, False])
    @pytest.mark.asyncio
    async def test_runs_survive_reopening(self, sync: bool) -> None:
        """Failing means: what a method had stored when it returned is gone after the process ends."""
        self._require_reopening()
        async with self.opened() as state:
            await state.save_pipeline("f1", b"{}")
            await state.create_run(run_record(), sync=sync)
            epoch = await state.claim_run("run-1", OWNER, HOUR)
            await state.append_steps("run-1", epoch, [step_record("1:b"), step_record("0:a")], sync=sync)
            await state.update_run("run-1", epoch, status="failed", sync=sync)
            stored = await loaded(state)
        async with self.opened() as state:
            assert await loaded(state) == stored
            assert comparable(stored) == comparable(run_record(status="failed"))
            assert list(await state.load_steps("run-1")) == [step_record("1:b"), step_record("0:a")]
            assert await state.load_pipeline("f1") == b"{}"

    @pytest.mark.asyncio
    async def test_deleted_run_stays_deleted(self) -> None:
        """Failing means: a deletion does not reach the store."""
        self._require_reopening()
        async with self.opened() as state:
            for run_id in ("run-1", "run-2"):
                epoch = await begun(state, run_id)
                await state.append_steps(run_id, epoch, [step_record("0:a")])
            await state.delete_run("run-1")
        async with self.opened() as state:
            assert await listed(state) == ["run-2"]
            assert await state.load_run("run-1") is None
            assert list(await state.load_steps("run-1")) == []
            assert list(await state.load_steps("run-2")) == [step_record("0:a")]

    @pytest.mark.asyncio
    async def test_closing_twice_is_harmless(self) -> None:
        """Failing means: ``aclose`` raises when there is nothing left to close."""
        async with self.opened() as state:
            await state.aclose()

    @pytest.mark.asyncio
    async def test_closing_what_was_never_used_is_harmless(self) -> None:
        """Failing means: ``aclose`` needs what only the first use opens."""
        async with self.opened():
            pass
