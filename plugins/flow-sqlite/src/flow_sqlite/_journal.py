"""The journal in SQL: what is done in a transaction on the table ``steps``.

The rows of a run are neighbours: ``seq`` is the number of the run and, below it, that of the record. So no index has to
be written with a step, and a journal is read in one sweep. A record that replaces another takes the next number, and
the earlier row is deleted; which paths a run has is remembered, not looked up, since only one process writes to a run.
"""
# ruff: noqa: S608  (the statements are put together from constants)

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from flow import LeaseLost, RunNotFound, StateError, StepRecord
from flow_sqlite._blobs import BlobStore
from flow_sqlite._database import Database
from flow_sqlite._faults import corrupt_error
from flow_sqlite._migrations import LAST, SHIFT
from flow_sqlite._rows import STEP_COLUMNS, RowDamaged, step_records, step_row

_REMEMBERED = 4096

_FENCE = f"""
    SELECT id, epoch, owner,
           (SELECT max(seq) FROM steps WHERE seq BETWEEN runs.id << {SHIFT} AND (runs.id << {SHIFT}) + {LAST})
    FROM runs WHERE run_id = ?
"""
_INSERT = f"INSERT INTO steps (seq, {STEP_COLUMNS}) VALUES (?, {', '.join('?' * len(STEP_COLUMNS.split(',')))})"
_PATHS = "SELECT path FROM steps WHERE seq BETWEEN ? AND ?"
_SUPERSEDE = "DELETE FROM steps WHERE seq BETWEEN ? AND ? AND path = ?"
_LOAD = f"""
    SELECT {STEP_COLUMNS} FROM steps
    WHERE seq BETWEEN (SELECT id << {SHIFT} FROM runs WHERE run_id = :run_id)
                  AND (SELECT (id << {SHIFT}) + {LAST} FROM runs WHERE run_id = :run_id)
    ORDER BY seq
"""


def append(
    connection: sqlite3.Connection, database: Database, run_id: str, epoch: int, records: Sequence[StepRecord]
) -> None:
    """Add records to the journal of a run; `LeaseLost` when its epoch is another."""
    found = connection.execute(_FENCE, (run_id,)).fetchone()
    if found is None:
        raise RunNotFound(f"no run has the id {run_id!r}")
    run, current, owner, last = found
    if current != epoch:
        raise lease_lost(run_id, owner)
    first = run << SHIFT
    written = _written(connection, database, run_id, epoch, first, last)
    keep = _Keep(connection, run)
    rows: list[tuple[object, ...]] = []
    for seq, record in enumerate(records, first if last is None else last + 1):
        path = record.path
        if path in written:
            rows = [row for row in rows if row[2] != path]
            connection.execute(_SUPERSEDE, (first, first + LAST, path))
        written.add(path)
        rows.append((seq, *_row(run_id, record, keep)))
    if len(rows) == 1:
        connection.execute(_INSERT, rows[0])
    else:
        connection.executemany(_INSERT, rows)


class _Keep:
    """Stores large values of one run; made for each write, so it costs nothing when there are none."""

    __slots__ = ("_connection", "_run")

    def __init__(self, connection: sqlite3.Connection, run: int) -> None:
        self._connection, self._run = connection, run

    def __call__(self, data: bytes) -> bytes:
        return BlobStore(self._connection).refer(self._run, data)


def _row(run_id: str, record: StepRecord, keep: _Keep) -> tuple[object, ...]:
    try:
        return step_row(run_id, record, keep)
    except (ValueError, TypeError) as error:
        raise StateError(f"step {record.path!r} of run {run_id!r} cannot be stored: {error}") from error


def _written(
    connection: sqlite3.Connection, database: Database, run_id: str, epoch: int, first: int, last: int | None
) -> set[str]:
    """Return the paths in the journal of a run.

    They are remembered for as long as the run has the same epoch. A path too many, of a transaction that was rolled
    back, does no harm, and neither does one too few: `load` goes by the order.
    """
    known = database.journals.get(run_id)
    if known is not None and known[0] == epoch and last is not None:
        return known[1]
    paths = set() if last is None else {path for (path,) in connection.execute(_PATHS, (first, last))}
    while len(database.journals) >= _REMEMBERED:
        del database.journals[next(iter(database.journals))]
    database.journals[run_id] = (epoch, paths)
    return paths


def load(connection: sqlite3.Connection, file: Path, run_id: str) -> list[StepRecord]:
    """Return the journal of a run, the last record of each path; `StateCorrupt` when a row is damaged."""
    rows = connection.execute(_LOAD, {"run_id": run_id})
    try:
        records = step_records(rows, run_id, BlobStore(connection).fetch)
    except RowDamaged as damaged:
        what = f"step {damaged.args[0]!r} of run {run_id!r} is damaged: its content does not fit its checksum"
        raise corrupt_error(file, what) from damaged
    found = len({record.path for record in records})
    recorded = connection.execute("SELECT recorded FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if recorded is not None and found < (recorded[0] or 0):
        raise corrupt_error(file, f"run {run_id!r} has lost {recorded[0] - found} of its {recorded[0]} steps")
    if found == len(records):
        return records
    latest: dict[str, StepRecord] = {}
    for record in records:
        latest.pop(record.path, None)
        latest[record.path] = record
    return list(latest.values())


def lease_lost(run_id: str, owner: str | None) -> LeaseLost:
    """Return the error for a write of an earlier epoch."""
    return LeaseLost(f"run {run_id!r} was taken over by {owner}; this result is discarded")
