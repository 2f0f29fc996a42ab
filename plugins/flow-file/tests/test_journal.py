"""What is in a journal, and what happens when it is damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from flow_file import FileState
from flow_file._disk import Disk

from flow import RunRecord, StateCorrupt, StateError, StepRecord

MakeRun = Callable[..., RunRecord]
MakeStep = Callable[..., StepRecord]


@pytest.fixture
async def state(store: Path) -> AsyncIterator[FileState]:
    state = FileState(store)
    yield state
    await state.aclose()


@pytest.fixture
async def other(store: Path) -> AsyncIterator[FileState]:
    """The same store in another process: it knows nothing of the runs and reads them from the beginning."""
    state = FileState(store)
    yield state
    await state.aclose()


@pytest.fixture
async def journal(state: FileState, store: Path, make_run: MakeRun, make_step: MakeStep) -> Path:
    """A journal of five lines: the run, a claim, three steps; ``run-1``, epoch 1."""
    await state.create_run(make_run())
    await state.claim_run("run-1", "a", 60.0)
    for path in ("0:a", "1:b", "2:c"):
        await state.append_steps("run-1", 1, [make_step(path)])
    return store / "runs" / "run-1.jsonl"


async def paths(state: FileState) -> list[str]:
    return [step.path for step in await state.load_steps("run-1")]


# -- the format


async def test_payloads_are_strings_that_no_field_of_ours_can_come_from(
    state: FileState, store: Path, make_run: MakeRun, make_step: MakeStep
) -> None:
    hostile = (
        b'{"sum": "00", "kind": "claim", "epoch": 99, "owner": "mallory", "run": {"status": "dead"}}\n{"kind":"run"}'
    )
    await state.create_run(make_run(input=hostile, context=hostile, pipeline=hostile.decode()))
    epoch = await state.claim_run("run-1", "a", 60.0)
    await state.append_steps("run-1", epoch, [make_step("0:a", output=hostile, feedback=hostile.decode())])
    run = await state.load_run("run-1")
    assert run is not None
    assert (run.status, run.owner, run.epoch, run.input) == ("running", "a", 1, hostile)
    assert [step.output for step in await state.load_steps("run-1")] == [hostile]
    lines = [json.loads(line) for line in (store / "runs/run-1.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["run", "claim", "steps"]
    assert lines[2]["steps"][0]["output"] == hostile.decode()


async def test_append_of_many_records_is_one_line(state: FileState, journal: Path, make_step: MakeStep) -> None:
    before = journal.read_bytes()
    await state.append_steps("run-1", 1, [make_step(f"3:{number}") for number in range(50)])
    assert journal.read_bytes().removeprefix(before).count(b"\n") == 1


async def test_renewals_do_not_make_the_journal_longer(state: FileState, store: Path, journal: Path) -> None:
    size = journal.stat().st_size
    for _ in range(100):
        await state.renew_run("run-1", 1, 60.0)
    assert journal.stat().st_size == size
    (lease,) = (store / "leases").iterdir()
    assert lease.stat().st_size == 256
    await state.update_run("run-1", 1, status="completed", owner=None)
    assert list((store / "leases").iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"damaged", b'{"sum":"' + b"0" * 32 + b'","of":"","until":9e99,"lease_until":9e99}\n']
)
async def test_damaged_renewal_leaves_the_lease_of_the_claim(
    state: FileState, store: Path, journal: Path, content: bytes
) -> None:
    before = await state.load_run("run-1")
    await state.renew_run("run-1", 1, 3600.0)
    assert await state.load_run("run-1") != before
    (store / "leases" / "run-1.1").write_bytes(content)
    assert await state.load_run("run-1") == before


async def test_journal_of_a_later_version_is_refused(state: FileState, store: Path, make_run: MakeRun) -> None:
    from flow_file import _head

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flow_file._plans.FORMAT", _head.FORMAT + 1)
        patch.setattr(_head, "FORMAT", _head.FORMAT + 1)
        await state.create_run(make_run())
    with pytest.raises(StateError, match=r"written by a later version.*pip install -U flow-file"):
        await state.load_run("run-1")


async def test_journal_under_another_name_is_refused(state: FileState, journal: Path) -> None:
    shutil.copy(journal, journal.with_name("run-2.jsonl"))
    for work in (state.load_run("run-2"), state.claim_run("run-2", "b", 60.0), state.load_steps("run-2")):
        with pytest.raises(StateError, match=r"run-2\.jsonl is the journal of run 'run-1'"):
            await work


# -- the last line is torn


async def test_line_that_is_cut_off_anywhere_was_never_written(
    state: FileState, journal: Path, make_step: MakeStep
) -> None:
    whole = journal.read_bytes()
    begin = whole.rindex(b"\n", 0, -1) + 1
    for size in range(begin, len(whole)):
        journal.write_bytes(whole[:size])
        assert await paths(state) == ["0:a", "1:b"]
        assert journal.read_bytes() == whole[:size], "reading changes nothing"
        await state.append_steps("run-1", 1, [make_step("3:d")])
        await state.append_steps("run-1", 1, [make_step("4:e")])
        assert await paths(state) == ["0:a", "1:b", "3:d", "4:e"]
        assert journal.read_bytes().startswith(whole[:size]), "nothing is ever cut off or overwritten"


async def test_batch_that_is_cut_off_anywhere_is_not_there_in_part(
    state: FileState, journal: Path, make_step: MakeStep
) -> None:
    await state.append_steps("run-1", 1, [make_step(f"3:{number}") for number in range(4)])
    whole = journal.read_bytes()
    for size in range(whole.rindex(b"\n", 0, -1) + 1, len(whole), 7):
        journal.write_bytes(whole[:size])
        assert await paths(state) == ["0:a", "1:b", "2:c"]


async def test_writes_can_be_cut_off_again_and_again(state: FileState, journal: Path, make_step: MakeStep) -> None:
    expected = await paths(state)
    for number in range(5):
        journal.write_bytes(journal.read_bytes() + b'{"sum":"0123' * number)
        await state.append_steps("run-1", 1, [make_step(f"{number}:x")])
        expected.append(f"{number}:x")
        journal.write_bytes(journal.read_bytes() + b'{"sum":"4567')
        assert await paths(state) == expected


async def test_run_whose_first_line_is_cut_off_does_not_exist(state: FileState, store: Path, make_run: MakeRun) -> None:
    await state.create_run(make_run())
    journal = store / "runs" / "run-1.jsonl"
    whole = journal.read_bytes()
    for size in range(len(whole)):
        journal.write_bytes(whole[:size])
        await state.aclose()  # so that it begins anew, as after a crash
        assert await state.load_run("run-1") is None
        assert await state.list_runs() == []
        await state.create_run(make_run(status="paused"))
        run = await state.load_run("run-1")
        assert run is not None
        assert run.status == "paused"
        assert [run.status for run in await state.list_runs()] == ["paused"]


# -- another line is damaged


@pytest.mark.parametrize("number", [2, 3, 4, 5])
async def test_changed_byte_is_noticed_wherever_it_is(other: FileState, journal: Path, number: int) -> None:
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    begin = len(b"".join(lines[: number - 1]))
    is_last = number == len(lines)
    for offset in range(begin, begin + len(lines[number - 1]) - is_last, 3):
        damaged = bytearray(whole)
        damaged[offset] ^= 0x04
        journal.write_bytes(damaged)
        for work in (other.load_run, other.load_steps):
            with pytest.raises(StateCorrupt) as caught:
                await work("run-1")
            assert f"{journal} is damaged at line {number}" in caught.value.message
            assert f"flow file salvage {journal} NEW" in (caught.value.hint or "")
        assert journal.read_bytes() == damaged


async def test_damaged_journal_is_not_written_to(other: FileState, journal: Path, make_step: MakeStep) -> None:
    damaged = journal.read_bytes().replace(b'"1:b"', b'"1:B"')
    journal.write_bytes(damaged)
    for work in (
        other.claim_run("run-1", "a", 60.0),
        other.append_steps("run-1", 1, [make_step("3:d")]),
        other.update_run("run-1", 1, status="failed"),
        other.renew_run("run-1", 1, 60.0),
    ):
        with pytest.raises(StateCorrupt, match="line 4"):
            await work
    assert journal.read_bytes() == damaged


async def test_damaged_journal_is_left_out_of_listings_with_a_warning(
    other: FileState, journal: Path, make_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    await other.create_run(make_run("run-2"))
    journal.write_bytes(journal.read_bytes().replace(b'"1:b"', b'"1:B"'))
    assert [run.run_id for run in await other.list_runs()] == ["run-2"]
    assert "run-1.jsonl is damaged at line 4" in caplog.text


async def test_damaged_journal_can_be_deleted(state: FileState, journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b'"1:b"', b'"1:B"'))
    assert await state.delete_run("run-1") is True
    assert not journal.exists()


@pytest.mark.parametrize("content", [b"SQLite format 3\0", b"hello\n", b'{"kind":"run"}\n', b"\n\n\n", b"[1, 2]"])
async def test_file_of_something_else_is_refused_and_left_alone(
    state: FileState, store: Path, make_run: MakeRun, content: bytes
) -> None:
    await state.create_run(make_run("run-2"))
    file = store / "runs" / "run-1.jsonl"
    file.write_bytes(content)
    for work in (state.load_run("run-1"), state.create_run(make_run()), state.claim_run("run-1", "a", 60.0)):
        with pytest.raises(StateCorrupt, match="line 1"):
            await work
    assert file.read_bytes() == content


# -- what a loss of power may leave


class NextBoot(Disk):
    def boot(self) -> str:
        return "another"


async def test_last_line_may_have_holes_after_the_machine_was_restarted(
    state: FileState, store: Path, journal: Path, make_step: MakeStep
) -> None:
    whole = journal.read_bytes()
    begin = whole.rindex(b"\n", 0, -1) + 1
    holed = whole[: begin + 20] + bytes(60) + whole[begin + 80 :]
    journal.write_bytes(holed)
    with pytest.raises(StateCorrupt):
        await state.load_run("run-1")
    after = FileState(store, disk=NextBoot())
    assert await paths(after) == ["0:a", "1:b"]
    await after.append_steps("run-1", 1, [make_step("3:d")])
    assert await paths(after) == await paths(state) == ["0:a", "1:b", "3:d"]
    assert journal.read_bytes().startswith(holed)
    await after.aclose()


async def test_line_that_was_synced_must_not_have_holes_after_a_restart_either(store: Path, journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b'"1:b"', bytes(5)))
    after = FileState(store, disk=NextBoot())
    with pytest.raises(StateCorrupt, match="line 4"):
        await after.load_run("run-1")
    await after.aclose()


# -- salvage


async def salvaged(journal: Path, damaged: bytes, tmp_path: Path) -> tuple[Any, FileState]:
    from flow_file._salvage import salvage

    journal.write_bytes(damaged)
    new = tmp_path / "new.jsonl"
    saved = salvage(journal, new)
    assert journal.read_bytes() == damaged
    new.rename(journal)
    return saved, FileState(journal.parent.parent)


@pytest.mark.parametrize(("lost", "kept"), [("2:c", ["0:a", "1:b"]), ("0:a", ["1:b", "2:c"])])
async def test_all_but_the_damaged_line_is_saved(
    journal: Path, tmp_path: Path, lost: str, kept: list[str], make_step: MakeStep
) -> None:
    damaged = journal.read_bytes().replace(f'"{lost}"'.encode(), b'"?:?"')
    saved, state = await salvaged(journal, damaged, tmp_path)
    assert (saved.lines, saved.steps) == (4, 2)
    assert saved.lost > 100
    assert await paths(state) == kept
    epoch = await state.claim_run("run-1", "b", 60.0)
    assert epoch > 1
    await state.append_steps("run-1", epoch, [make_step("3:d")])
    assert await paths(state) == [*kept, "3:d"]
    await state.aclose()


async def test_steps_are_saved_although_the_claim_is_lost(journal: Path, tmp_path: Path) -> None:
    damaged = journal.read_bytes().replace(b'"kind":"claim"', b'"kind":"clown"')
    saved, state = await salvaged(journal, damaged, tmp_path)
    assert saved.steps == 3
    assert await paths(state) == ["0:a", "1:b", "2:c"]
    await state.aclose()


async def test_nothing_is_saved_without_the_run(journal: Path, tmp_path: Path) -> None:
    from flow_file._salvage import salvage

    journal.write_bytes(journal.read_bytes().replace(b'"kind":"run"', b'"kind":"pun"'))
    with pytest.raises(StateCorrupt, match="the line that describes the run is lost"):
        salvage(journal, tmp_path / "new.jsonl")
    assert not (tmp_path / "new.jsonl").exists()
