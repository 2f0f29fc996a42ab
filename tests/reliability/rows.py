"""Half done runs, and cells of their rows altered behind the store's back."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from flow import RunFailed, StateError
from tests.reliability.campaigns import job_in
from tests.reliability.driving import Job, drive
from tests.reliability.ledger import EXECUTED, entries
from tests.reliability.mutants import mutated
from tests.reliability.oracle import Violation, expected, plain
from tests.reliability.witness import Fault


def half_done(job: Job, store: Any = None, *, paused: bool = False) -> None:
    """A run that was stopped in the middle, by a write that failed, or while its answer was being stored."""
    fault = Fault(1, "fail", "claim") if paused else Fault(25, "fail", "append")
    with pytest.raises(StateError):
        asyncio.run(drive(attrs.evolve(job, fault=fault), store=store))


def outcome_of(job: Job, store: Any) -> BaseException | None:
    """The error that resuming raises, or the reason of a run that failed; ``None`` when it completes."""
    try:
        asyncio.run(drive(job, store=store))
    except Exception as error:  # noqa: BLE001  which of them it is, is the question
        return error
    end = entries(job.ledger)[-1]
    return None if end["status"] == "completed" else RunFailed(f"the run ended {end['status']}")


def sqlite_texts(path: Path) -> list[tuple[str, str, int]]:
    """Each cell of the journal that holds something: its table, column and row."""
    cells = []
    with closing(sqlite3.connect(path)) as connection:
        for table in ("steps", "runs"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[5] == 0]
            for column in columns:
                rows = connection.execute(f"SELECT rowid FROM {table} WHERE {column} IS NOT NULL").fetchall()
                cells += [(table, column, row[0]) for row in rows]
    return cells


def alter_sqlite(folder: Path, random: Random) -> str:
    path = folder / "runs.db"
    table, column, row = random.choice(sqlite_texts(path))
    with closing(sqlite3.connect(path)) as connection, connection:
        (kind, old) = connection.execute(f"SELECT typeof({column}), {column} FROM {table} WHERE rowid={row}").fetchone()
        new: Any = {"integer": lambda: old + 1, "real": lambda: old + 1.5}.get(kind, lambda: _altered(old, random))()
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))
    return f"{table}.{column} of row {row}"


def _altered(old: Any, random: Random) -> Any:
    data = old if isinstance(old, bytes) else old.encode()
    position = random.randrange(max(1, len(data)))
    new = data[:position] + bytes([(data[position] ^ 1) if data else 48]) + data[position + 1 :]
    return new if isinstance(old, bytes) else new.decode(errors="replace")


def alter_file(folder: Path, random: Random) -> str:
    path = folder / "runs" / "runs" / "campaign.jsonl"
    data = bytearray(path.read_bytes())
    last_line = data.rindex(b"\n", 0, len(data) - 1)
    position = random.randrange(last_line)  # a torn last line is no damage
    data[position] ^= 1
    path.write_bytes(data)
    return f"byte {position}"


ALTER = {"sqlite": alter_sqlite, "file": alter_file}


def alter_rows(kind: str, folder: Path, seed: int, rounds: int, *, mutant: str = "") -> int:
    """Alter one cell of a half done run, so often: resuming it is refused, or ends as if nothing had happened.

    Returns how often it was refused.
    """
    with mutated(mutant):
        return sum(_altered_row_is_noticed(kind, folder / str(number), seed + number) for number in range(rounds))


def _altered_row_is_noticed(kind: str, folder: Path, seed: int) -> bool:
    job = job_in(kind, folder, size="short")
    half_done(job)
    what = ALTER[kind](folder, Random(seed))
    done = len(entries(job.ledger))
    outcome = outcome_of(job, None)
    told = entries(job.ledger)
    said = f"FLOW_TEST_SEED={seed}: {kind}: {what}: {outcome}"
    if outcome is None:
        if plain(told[-1]) != expected("short"):
            raise Violation(f"another result: {plain(told[-1])}: {said}")
        return False
    if not isinstance(outcome, StateError):
        raise Violation(f"not an error of the store: {said}")
    if any(entry["kind"] == EXECUTED for entry in told[done:]):
        raise Violation(f"executed before the damage was noticed: {said}")
    return True
