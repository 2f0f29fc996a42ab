"""``flow sqlite`` says what is in a file, saves what can be saved, and copies without stopping anybody."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_sqlite._commands import app
from flow_sqlite._migrations import VERSION
from flow_testkit import FlowTester
from typer.testing import CliRunner, Result

from flow import ConfigurationError, StateCorrupt, StateError


@pytest.fixture
def store(file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]) -> Path:
    """A store with two runs of three steps."""

    async def fill() -> None:
        async with opened() as state:
            for run_id in ("run-1", "run-2"):
                epoch = await begun(state, run_id)
                await state.append_steps(run_id, epoch, [make_step(f"{number}:s") for number in range(3)])

    asyncio.run(fill())
    return file


def _damage(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE steps SET output = 'x' WHERE run_id = 'run-2' AND path = '1:s'")
        connection.commit()


def _run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_check_counts_what_is_intact(store: Path) -> None:
    before = store.read_bytes()
    result = _run("check", store)
    assert result.exit_code == 0
    assert f"SQLite {sqlite3.sqlite_version}" in result.output
    assert "runs: 2 intact" in result.output
    assert "steps: 6 intact" in result.output
    assert "Nothing is wrong." in result.output
    assert store.read_bytes() == before


def test_check_names_what_is_damaged(store: Path) -> None:
    _damage(store)
    result = _run("check", store)
    assert result.exit_code == 1
    assert "damage: Step '1:s' of run 'run-2' is damaged" in result.output
    assert f"flow sqlite salvage {store} NEW.db" in result.output


def test_check_takes_urls_and_prints_json(store: Path) -> None:
    result = _run("check", f"sqlite:///{store}?synchronous=normal", "--json")
    report = json.loads(result.output)
    assert (report["rows"]["steps"], report["findings"], report["schema"]) == (6, [], VERSION)


@pytest.mark.parametrize(
    ("version", "mentioned"), [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 54, 0), False)]
)
def test_check_mentions_a_faulty_sqlite(
    version: tuple[int, ...], mentioned: bool, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert ("3.51.3 repairs that" in _run("check", store).output) is mentioned


def test_check_notes_what_is_no_damage(older: Path) -> None:
    older.chmod(0o644)
    result = _run("check", older)
    assert result.exit_code == 0
    assert "Its schema is 1" in result.output
    assert "Others may read it (mode 644)" in result.output


def test_check_of_a_file_in_use(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert _run("check", store).exit_code == 0


@pytest.mark.parametrize("command", [["check"], ["salvage", "new.db"], ["backup", "new.db"]], ids=lambda c: c[0])
def test_missing_file_is_wrong_use(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, *further = command
    with pytest.raises(ConfigurationError, match=r"nothing\.db is no file"):
        _run(name, "nothing.db", *further)
    assert list(tmp_path.iterdir()) == []


def test_other_files_cannot_be_checked(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database" * 20)
    with pytest.raises(StateCorrupt, match="it is no SQLite database"):
        _run("check", tmp_path / "notes.txt")


def test_salvage_copies_what_is_intact(store: Path, tmp_path: Path) -> None:
    _damage(store)
    before = store.read_bytes()
    result = _run("salvage", store, tmp_path / "new.db")
    assert result.exit_code == 1
    assert "2 runs, 5 steps" in result.output
    assert "1 rows are damaged" in result.output
    assert "are interrupted, to be resumed: run-2" in result.output
    assert store.read_bytes() == before
    assert _run("check", tmp_path / "new.db").exit_code == 0


def test_salvage_prints_json(store: Path, tmp_path: Path) -> None:
    result = _run("salvage", store, tmp_path / "new.db", "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["rows"]["steps"] == 6


def test_salvage_into_a_missing_directory_is_wrong_use(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no directory"):
        _run("salvage", store, tmp_path / "missing" / "new.db")


def test_backup_of_a_file_in_use_is_complete(
    store: Path, tmp_path: Path, opened: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async def work() -> None:
        async with opened() as state:
            await state.append_steps("run-1", 1, [make_step("9:s")])
            result = _run("backup", store, tmp_path / "copy.db", "--json")
            assert json.loads(result.output)["bytes"] == (tmp_path / "copy.db").stat().st_size

    asyncio.run(work())
    assert "steps: 7 intact" in _run("check", tmp_path / "copy.db").output
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_backup_writes_over_nothing(store: Path, tmp_path: Path) -> None:
    shutil.copyfile(store, tmp_path / "copy.db")
    with pytest.raises(StateError, match="exists already"):
        _run("backup", store, tmp_path / "copy.db")
    (tmp_path / "other.db").write_text("x" * 200)
    with pytest.raises(StateCorrupt):
        _run("backup", tmp_path / "other.db", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def test_exit_codes_and_messages_of_the_program(store: Path, flow_tester: FlowTester) -> None:
    flow_tester.run("sqlite", "check", store).assert_success()
    flow_tester.run("sqlite", "check", "nothing.db").assert_failed(code=2, error="nothing.db is no file").no_traceback()
    flow_tester.write("notes.db", "no database " * 20)
    flow_tester.run("sqlite", "check", "notes.db").assert_failed(
        code=4, error="it is no SQLite database"
    ).no_traceback()
    flow_tester.run("sqlite", "check", "sqlite://notes.db").assert_failed(code=2, error="names no SQLite file")
    for command in ("check", "salvage", "backup"):
        flow_tester.run("sqlite", command, "--help").assert_success()
