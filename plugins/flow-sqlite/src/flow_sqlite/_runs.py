"""Runs in SQL: what is done in a transaction on the table ``runs``."""
# ruff: noqa: S608  (the statements are put together from constants)

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from flow import INTERNAL_METADATA, RunNotFound, RunOwned, RunRecord, StateError, lease_clock, lease_is_over
from flow_sqlite._blobs import BlobStore
from flow_sqlite._faults import corrupt_error
from flow_sqlite._journal import lease_lost
from flow_sqlite._migrations import LAST, SHIFT
from flow_sqlite._rows import LEASE_CLOCK, RECORDED, RUN_COLUMNS, Row, RowDamaged, run_record, run_row

PRUNE_AT_ONCE = 200

_NAMES = RUN_COLUMNS.split(", ")
_SELECT = f"SELECT id, {RUN_COLUMNS} FROM runs"
_NEXT = "SELECT (SELECT coalesce(max(id), 0) + 1 FROM runs), EXISTS (SELECT 1 FROM runs WHERE run_id = ?)"
_INSERT = f"INSERT INTO runs (id, {RUN_COLUMNS}) VALUES (?, {', '.join('?' * len(_NAMES))})"
_UPDATE = f"UPDATE runs SET {', '.join(f'{name} = ?' for name in _NAMES)} WHERE id = ?"
_RECORDED = "SELECT count(DISTINCT path) FROM steps WHERE seq BETWEEN ? AND ?"
_OLD = """
    SELECT id FROM (
        SELECT id, updated_at FROM runs WHERE status NOT IN ('running', 'paused', 'interrupted')
        ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?
    ) WHERE updated_at < ? LIMIT ?
"""


@attrs.frozen
class Stored:
    """A run as it is in the file: its number there, its record, and what that does not show, see `run_row`."""

    number: int
    record: RunRecord
    lease_clock: float
    recorded: int | None


class Runs:
    """The runs of a file, seen through one connection."""

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self._connection = connection
        self._file = file
        self._blobs = BlobStore(connection)

    def create(self, run: RunRecord, lease_s: float) -> None:
        """Store a new run; `StateError` when the id is taken."""
        number, taken = self._connection.execute(_NEXT, (run.run_id,)).fetchone()
        if taken:
            raise StateError(f"run {run.run_id!r} exists already", hint="Resume it, or choose another run_id")
        self._connection.execute(_INSERT, (number, *self._row(number, *_leased(run, lease_s), 0)))

    def load(self, run_id: str) -> RunRecord | None:
        """Return the run, if known; `StateCorrupt` when its row is damaged."""
        stored = self._find(run_id)
        return None if stored is None else stored.record

    def claim(self, run_id: str, owner: str, lease_s: float) -> int:
        """Make `owner` the one execution of the run."""
        stored = self._find(run_id)
        if stored is None:
            raise RunNotFound(f"no run has the id {run_id!r}")
        run = stored.record
        if run.owner != owner and not lease_is_over(run.owner, stored.lease_clock, run.lease_until):
            raise RunOwned(f"run {run_id!r} is executed by {run.owner}", hint="Wait until it has ended")
        claimed = attrs.evolve(run, owner=owner, epoch=run.epoch + 1)
        self._write(stored.number, *_leased(claimed, lease_s), stored.recorded)
        return claimed.epoch

    def renew(self, run_id: str, epoch: int, lease_s: float) -> None:
        """Prolong the lease."""
        stored = self._fenced(run_id, epoch)
        self._write(stored.number, *_leased(stored.record, lease_s), stored.recorded)

    def update(self, run_id: str, epoch: int, changes: Mapping[str, Any]) -> None:
        """Change fields of the run."""
        stored = self._fenced(run_id, epoch)
        run: RunRecord = attrs.evolve(stored.record, **{"updated_at": time.time(), **changes})
        leased = _leased(run, 0.0) if run.owner is None else (run, stored.lease_clock)
        first = stored.number << SHIFT
        (recorded,) = self._connection.execute(_RECORDED, (first, first + LAST)).fetchone()
        self._write(stored.number, *leased, recorded)

    def select(self, where: str, values: Mapping[str, Any]) -> list[RunRecord]:
        """Return the runs that a clause selects; the clause is made of fixed texts, see `selection`."""
        rows = self._connection.execute(f"{_SELECT} {where}", values).fetchall()
        return [self._stored(row).record for row in rows]

    def delete(self, run_id: str) -> bool:
        """Forget one run with its steps and what only it refers to."""
        found = self._connection.execute("SELECT id FROM runs WHERE run_id = ?", (run_id,)).fetchall()
        return self._delete(found) == 1

    def prune(self, older_than: float, keep: int) -> int:
        """Forget some of the runs that ended long ago; fewer than `PRUNE_AT_ONCE` when no more are left."""
        return self._delete(self._connection.execute(_OLD, (keep, older_than, PRUNE_AT_ONCE)).fetchall())

    def _delete(self, numbers: list[tuple[int]]) -> int:
        keys = self._blobs.referred(number for (number,) in numbers)
        self._connection.executemany("DELETE FROM runs WHERE id = ?", numbers)
        self._blobs.sweep(keys)
        return len(numbers)

    def _find(self, run_id: str) -> Stored | None:
        row = self._connection.execute(f"{_SELECT} WHERE run_id = ?", (run_id,)).fetchone()
        return None if row is None else self._stored(row)

    def _fenced(self, run_id: str, epoch: int) -> Stored:
        stored = self._find(run_id)
        if stored is None:
            raise RunNotFound(f"no run has the id {run_id!r}")
        if stored.record.epoch != epoch:
            raise lease_lost(run_id, stored.record.owner)
        return stored

    def _stored(self, row: Row) -> Stored:
        try:
            return Stored(row[0], run_record(row[1:], self._blobs.fetch), row[1 + LEASE_CLOCK], row[1 + RECORDED])
        except RowDamaged as damaged:
            what = damaged.args[0] or "its content does not fit its checksum"
            raise corrupt_error(self._file, f"run {row[1]!r} is damaged: {what}") from damaged

    def _write(self, number: int, run: RunRecord, clock: float, recorded: int | None) -> None:
        self._connection.execute(_UPDATE, (*self._row(number, run, clock, recorded), number))

    def _row(self, number: int, run: RunRecord, clock: float, recorded: int | None) -> Row:
        try:
            return run_row(run, clock, recorded, lambda data: self._blobs.refer(number, data))
        except (ValueError, TypeError) as error:
            raise StateError(f"run {run.run_id!r} cannot be stored: {error}") from error


def _leased(run: RunRecord, lease_s: float) -> tuple[RunRecord, float]:
    """Return the run with a lease from now on, and the end of the lease on the `lease_clock`."""
    until = time.time() + lease_s if run.owner is not None else 0.0
    return attrs.evolve(run, lease_until=until), lease_clock() + lease_s


# Most rows are passed over by one look at all that could hold the text, if JSON writes it as it is. A look at each
# of these, and into the JSON, takes several times as long: half a second over 100,000 runs.
_MAY_HOLD = "run_id || char(10) || pipeline || char(10) || coalesce(error, '') || char(10) || metadata"
_INTERNAL = ", ".join(f"'{name}'" for name in sorted(INTERNAL_METADATA))
_HOLDS = f"""(
    instr(lower(run_id), lower(:text)) OR instr(lower(pipeline), lower(:text))
    OR instr(lower(coalesce(error, '')), lower(:text))
    OR EXISTS (
        SELECT 1 FROM json_each(metadata) AS told
        WHERE told.key NOT IN ({_INTERNAL}) AND instr(lower(told.value), lower(:text))
    )
)"""


def selection(*, limit: int, offset: int, **filters: Any) -> tuple[str, dict[str, Any]]:
    """Return the clause that selects the newest runs with all the given values, and the values it is bound to.

    >>> selection(status="failed", limit=20, offset=0)[0]
    'WHERE status = :status ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset'
    """
    values = {name: value for name, value in filters.items() if value is not None}
    few = "due" in values or "id_prefix" in values
    used = [condition for name, condition in _conditions(values).items() if name in values]
    if "id_prefix" in values:
        values["id_end"] = f"{values['id_prefix']}{_AFTER_EVERY_ID}"
    values |= {"limit": limit, "offset": offset}
    where = f"WHERE {' AND '.join(used)} " if used else ""
    # The plus keeps SQLite from walking all runs by their age when only few can be meant.
    return f"{where}ORDER BY {'+' if few else ''}created_at DESC, id DESC LIMIT :limit OFFSET :offset", values


def _conditions(values: Mapping[str, Any]) -> dict[str, str]:
    text = values.get("text", "")
    in_json_as_it_is = json.dumps(text, ensure_ascii=False) == f'"{text}"'
    by_id = "+" if "id_prefix" in values else ""  # and not all runs of a status
    return {
        "status": f"{by_id}status = :status",
        "pipeline": f"{by_id}pipeline = :pipeline",
        "since": "created_at >= :since",
        "due": "wake_at <= :due",
        "id_prefix": "run_id >= :id_prefix AND run_id < :id_end",
        "min_cost_usd": "cost_usd >= :min_cost_usd",
        "text": f"instr(lower({_MAY_HOLD}), lower(:text)) AND {_HOLDS}" if in_json_as_it_is else _HOLDS,
    }


_AFTER_EVERY_ID = "\x7f"
"""Greater than every character of an id."""
