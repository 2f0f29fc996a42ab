"""``flow file``: checking a store, and saving what is intact of a journal."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from flow_file import FileState

from flow import RunRecord, StepRecord


@attrs.frozen
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def flow(tmp_path: Path) -> Callable[..., Ended]:
    """Run the command line: ``flow("file", "check", store)``."""

    def run(*words: object) -> Ended:
        command = [sys.executable, "-m", "flow", *map(str, words)]
        ended = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=tmp_path, check=False)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def journal(store: Path, make_run: Callable[..., RunRecord], make_step: Callable[..., StepRecord]) -> Path:
    async def fill() -> None:
        state = FileState(store)
        for run_id in ("run-1", "run-2"):
            await state.create_run(make_run(run_id, owner="a", epoch=1), 60.0)
            for path in ("0:a", "1:b", "2:c"):
                await state.append_steps(run_id, 1, [make_step(path)])
        await state.aclose()

    asyncio.run(fill())
    return store / "runs" / "run-1.jsonl"


def test_intact_store(flow: Callable[..., Ended], store: Path, journal: Path) -> None:
    ended = flow("file", "check", store)
    assert (ended.code, ended.out, ended.err) == (0, "2 journals, 0 damaged\n", "")


def test_write_that_did_not_finish_is_no_damage(flow: Callable[..., Ended], store: Path, journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:-100])
    ended = flow("file", "check", store)
    assert ended.code == 0
    assert "usable   run-1: its last " in ended.out
    assert "2 journals, 0 damaged" in ended.out


def test_damaged_journal_is_found_and_what_is_intact_is_saved(
    flow: Callable[..., Ended], store: Path, journal: Path, tmp_path: Path
) -> None:
    journal.write_bytes(journal.read_bytes().replace(b'"1:b"', b'"1:B"'))
    ended = flow("file", "check", store)
    assert ended.code == 1
    assert f"damaged  run-1: {journal} is damaged at line 3" in ended.out
    assert "2 journals, 1 damaged" in ended.out
    new = tmp_path / "new.jsonl"
    ended = flow("file", "salvage", journal, new)
    assert ended.code == 0
    assert f"{new}: 3 lines with 2 steps saved" in ended.out
    new.rename(journal)
    assert flow("file", "check", store).code == 0


def test_wrong_use_ends_with_2(flow: Callable[..., Ended], journal: Path, tmp_path: Path) -> None:
    for words in (
        ("check", tmp_path),
        ("check", tmp_path / "nowhere"),
        ("salvage", tmp_path / "nowhere.jsonl", tmp_path / "new.jsonl"),
        ("salvage", journal, journal.with_name("run-2.jsonl")),
    ):
        ended = flow("file", *words)
        assert ended.code == 2, words
        assert ended.err.startswith("error: ")
        assert "Traceback" not in ended.err


def test_nothing_to_save_ends_with_4(flow: Callable[..., Ended], journal: Path, tmp_path: Path) -> None:
    journal.write_bytes(b"nothing of ours\n")
    ended = flow("file", "salvage", journal, tmp_path / "new.jsonl")
    assert ended.code == 4
    assert "the line that describes the run is lost" in ended.err
