"""Damaged files: noticed, named, never changed; and what is intact in them is brought back."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from flow_sqlite import SqliteState
from flow_sqlite._integrity import check
from flow_sqlite._pages import Pages
from flow_sqlite._salvage import LOST, salvage
from flow_sqlite._tables import TABLES

from flow import RunRecord, StateCorrupt, StateError, StepRecord, Usage

RUNS, STEPS = 15, 40


@attrs.frozen
class Content:
    """What a store holds, as one sees it through its methods."""

    runs: dict[str, RunRecord]
    steps: dict[tuple[str, str], StepRecord]


def _step(run_id: str, number: int) -> StepRecord:
    text = random.Random(f"{run_id}/{number}").randbytes(random.Random(number).choice([20, 200, 900])).hex()
    size = 20_000 if number == 7 else 0
    return StepRecord(
        path=f"{number}:step",
        parent="",
        name="step",
        kind="step",
        status="completed",
        output=f'"{text}{run_id * (size // 6)}"'.encode(),
        changes=b'{"set": {"seen": true}}',
        usage=Usage(0.25, number, 2, 1),
        started_at=1_700_000_000.0 + number,
        latency_s=0.5,
    )


async def _fill(url: str) -> None:
    state = SqliteState(f"{url}?synchronous=off")
    for run in range(RUNS):
        run_id = f"run-{run:02}"
        await state.create_run(RunRecord(run_id=run_id, pipeline="audit", fingerprint="f", created_at=float(run)))
        for first in range(0, STEPS, 5):
            await state.append_steps(run_id, 0, [_step(run_id, number) for number in range(first, first + 5)])
    await state.aclose()


async def _read(file: Path) -> Content:
    state = SqliteState(f"sqlite:///{file}")
    try:
        runs = {run.run_id: run for run in await state.list_runs(limit=1000)}
        loaded = {run_id: await state.load_run(run_id) for run_id in runs}
        assert loaded == runs
        steps = {(run_id, step.path): step for run_id in runs for step in await state.load_steps(run_id)}
        return Content(runs, steps)
    finally:
        await state.aclose()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with some runs of many steps, one of them with a large output."""
    file = tmp_path_factory.mktemp("original") / "runs.db"
    asyncio.run(_fill(f"sqlite:///{file}"))
    return file


@pytest.fixture
def damaged(original: Path, file: Path) -> Path:
    """A copy of the original, to be damaged."""
    shutil.copyfile(original, file)
    return file


def _change(file: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(statement, values)
        connection.commit()


# -- noticed


async def test_changed_step_is_named(damaged: Path, opened: Callable[..., Any]) -> None:
    _change(damaged, "UPDATE steps SET output = '\"forged\"' WHERE run_id = 'run-03' AND path = '4:step'")
    before = damaged.read_bytes()
    async with opened() as state:
        with pytest.raises(StateCorrupt) as caught:
            await state.load_steps("run-03")
        for part in (str(damaged), "'4:step'", "'run-03'", f"flow sqlite salvage {damaged}"):
            assert part in str(caught.value)
        assert len(await state.load_steps("run-04")) == STEPS, "other runs can be read"
    assert damaged.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        *(
            f"UPDATE steps SET {column} = 'x' WHERE run_id = 'run-03' AND path = '4:step'"
            for column in (
                "path",
                "status",
                "attempts",
                "cost_usd",
                "typed",
                "error",
                "metadata",
                "changes",
                "checksum",
            )
        ),
        "UPDATE steps SET run_id = 'run-04' WHERE run_id = 'run-03' AND path = '4:step'",
        "UPDATE steps SET output = x'00' WHERE run_id = 'run-03' AND path = '4:step'",
        "UPDATE blobs SET data = data || ' ' WHERE hash = (SELECT output FROM steps WHERE seq = (4 << 32) + 7)",
    ],
)
async def test_no_column_of_a_step_can_change_unnoticed(
    statement: str, damaged: Path, opened: Callable[..., Any]
) -> None:
    _change(damaged, statement)
    async with opened() as state:
        with pytest.raises(StateCorrupt, match="is damaged"):
            await state.load_steps("run-03")
    assert check(damaged).findings != []


async def test_changed_run_is_named(damaged: Path, opened: Callable[..., Any]) -> None:
    _change(damaged, "UPDATE runs SET status = 'completed' WHERE run_id = 'run-03'")
    async with opened() as state:
        with pytest.raises(StateCorrupt, match="run 'run-03' is damaged"):
            await state.load_run("run-03")
        with pytest.raises(StateCorrupt, match="run 'run-03' is damaged"):
            await state.claim_run("run-03", "somebody", 60.0)
        with pytest.raises(StateCorrupt, match="run 'run-03' is damaged"):
            await state.list_runs(limit=1000)


async def test_truncated_file_is_refused(damaged: Path) -> None:
    with damaged.open("rb+") as file:
        file.truncate(damaged.stat().st_size // 2)
    before = damaged.read_bytes()
    with pytest.raises(StateError):
        await _read(damaged)
    assert damaged.read_bytes() == before


def _damage(original: bytes, seed: int) -> bytes:
    """Return the file with a piece of it overwritten, zeroed, or taken from elsewhere in it."""
    chance = random.Random(seed)
    data = bytearray(original)
    size = chance.choice([1, 4, 16, 100, 512, 4096])
    at = chance.randrange(100, len(data) - size)
    elsewhere = chance.randrange(0, len(data) - size)
    data[at : at + size] = chance.choice([chance.randbytes(size), bytes(size), original[elsewhere : elsewhere + size]])
    return bytes(data)


def _what_is_seen(file: Path) -> Content | None:
    """Read everything; ``None`` when the store says that it cannot."""
    try:
        return asyncio.run(_read(file))
    except StateError:
        return None


def test_random_damage_is_noticed_and_intact_rows_come_back(
    original: Path, tmp_path: Path, rounds: Callable[[int, int], int]
) -> None:
    content, data = asyncio.run(_read(original)), original.read_bytes()
    wrong, harmful, least = [], 0, 1.0
    for seed in range(rounds(30, 300)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        file, new = folder / "runs.db", folder / "new.db"
        file.write_bytes(_damage(data, seed))
        before = file.read_bytes()
        seen = _what_is_seen(file)
        noticed = seen is None or bool(check_quietly(file))
        harmful += seen != content
        if seen is not None and seen != content and not noticed:
            wrong.append(seed)
        assert file.read_bytes() == before, f"seed {seed}: the file was changed"
        salvage(file, new)
        saved = _what_is_seen(new)
        assert saved is not None, f"seed {seed}: what was salvaged is damaged"
        assert saved.steps.items() <= content.steps.items(), f"seed {seed}: something else was salvaged"
        least = min(least, len(saved.steps) / len(content.steps))
        shutil.rmtree(folder)
    print(f"{harmful} harmful, unnoticed {wrong}, at least {least:.1%} of the steps salvaged")
    assert len(wrong) <= harmful * 0.02
    assert least >= 0.95


def check_quietly(file: Path) -> list[str]:
    try:
        return check(file).findings
    except StateError as error:
        return [str(error)]


# -- brought back


async def test_salvage_of_an_intact_file_is_complete(original: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    found = salvage(original, new)
    assert found.complete
    assert found.rows == {"runs": RUNS, "steps": RUNS * STEPS, "blobs": RUNS, "pipelines": 0}
    assert await _read(new) == await _read(original)
    assert check(new).findings == []
    assert new.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("lost", ["sqlite_schema", "runs", "steps", "blobs"])
async def test_salvage_does_without_the_page_that_leads_to_the_rows(lost: str, damaged: Path, tmp_path: Path) -> None:
    expected = await _read(damaged)
    with closing(sqlite3.connect(damaged)) as connection:
        found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (lost,)).fetchone()
    (page,) = found or (1,)
    with damaged.open("rb+") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xee" * 4096)
    assert not salvage(damaged, tmp_path / "new.db").complete
    saved = await _read(tmp_path / "new.db")
    assert saved.steps == expected.steps
    assert set(saved.runs) == set(expected.runs)


async def test_salvage_reads_what_is_only_in_the_wal(
    file: Path, tmp_path: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened() as state:
        epoch = await begun(state)
        await state.append_steps("run-1", epoch, [make_step(f"{number}:step") for number in range(200)])
        old = tmp_path / "copy.db"
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{file}{suffix}", f"{old}{suffix}")
    with old.open("rb+") as copied:
        copied.write(bytes(4096))  # the database itself says nothing any more
    found = salvage(old, tmp_path / "new.db")
    assert found.rows["steps"] == 200
    assert found.rows["runs"] == 1


@pytest.mark.parametrize("loss", ["damaged", "gone"])
async def test_run_that_lost_steps_is_interrupted(
    loss: str,
    file: Path,
    tmp_path: Path,
    opened: Callable[..., Any],
    begun: Callable[..., Any],
    make_step: Callable[..., Any],
) -> None:
    async with opened() as state:
        for run_id in ("run-1", "run-2"):
            epoch = await begun(state, run_id, context=b'"' + b"large " * 5000 + b'"')
            await state.append_steps(run_id, epoch, [make_step(f"{number}:s") for number in range(5)])
            await state.update_run(run_id, epoch, status="completed", owner=None)
    statement = {"damaged": "UPDATE steps SET status = 'x'", "gone": "DELETE FROM steps"}[loss]
    _change(file, f"{statement} WHERE run_id = 'run-2' AND path = '4:s'")
    async with opened() as state:
        with pytest.raises(StateCorrupt, match="is damaged" if loss == "damaged" else "has lost 1 of its 5 steps"):
            await state.load_steps("run-2")
    assert len(check(file).findings) >= 1
    found = salvage(file, tmp_path / "new.db")
    assert found.incomplete == ["run-2"]
    saved = await _read(tmp_path / "new.db")
    assert (saved.runs["run-1"].status, saved.runs["run-2"].status) == ("completed", "interrupted")
    assert saved.runs["run-2"].context == saved.runs["run-1"].context
    assert check(tmp_path / "new.db").findings == []


async def test_run_that_is_lost_is_rebuilt_from_its_steps(damaged: Path, tmp_path: Path) -> None:
    _change(damaged, "UPDATE runs SET checksum = x'00' WHERE run_id = 'run-07'")
    found = salvage(damaged, tmp_path / "new.db")
    assert (found.damaged, found.rebuilt) == (1, ["run-07"])
    saved = await _read(tmp_path / "new.db")
    assert (saved.runs["run-07"].status, saved.runs["run-07"].error) == ("failed", LOST)
    assert sum(run_id == "run-07" for run_id, _ in saved.steps) == STEPS


async def test_deleted_runs_stay_deleted(damaged: Path, tmp_path: Path, opened: Callable[..., Any]) -> None:
    async with opened() as state:
        for run in range(5, 10):
            await state.delete_run(f"run-{run:02}")
    with damaged.open("rb+") as file:
        file.write(b"\xee" * 4096)
    salvage(damaged, tmp_path / "new.db")
    saved = await _read(tmp_path / "new.db")
    assert len(saved.runs) == RUNS - 5
    assert len(saved.steps) == (RUNS - 5) * STEPS


def test_salvage_writes_over_nothing(damaged: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    new.write_text("mine")
    with pytest.raises(StateError, match="exists already"):
        salvage(damaged, new)
    assert new.read_text() == "mine"


def test_salvage_of_a_file_without_rows_says_so(tmp_path: Path) -> None:
    (tmp_path / "old.db").write_bytes(random.Random(1).randbytes(20_000))
    with pytest.raises(StateError, match="no intact row was found"):
        salvage(tmp_path / "old.db", tmp_path / "new.db")
    assert [path.name for path in tmp_path.iterdir()] == ["old.db"]


def test_pages_read_what_sqlite_reads(original: Path) -> None:
    found = {table.name: {} for table in TABLES}
    pages = Pages(original, original.with_name("runs.db-wal"))
    for number, values in pages.records():
        for table in TABLES:
            row = table.row_of(number, values)
            if row is not None:
                found[table.name][row[0]] = row
                break
    with closing(sqlite3.connect(original)) as connection:
        for table in TABLES:
            assert found[table.name] == {row[0]: row for row in connection.execute(table.select(table.columns))}
