"""Copying what is intact in a damaged file into a new one. The damaged file is only read."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import attrs

from flow import RunRecord, StateError
from flow_sqlite._files import file_uri, wal_of
from flow_sqlite._migrations import SHIFT
from flow_sqlite._opening import open_connection
from flow_sqlite._pages import Pages
from flow_sqlite._rows import RECORDED, Row, content_hash, run_record, run_row
from flow_sqlite._tables import (
    BLOB_TABLE,
    PIPELINE_TABLE,
    RUN_TABLE,
    STEP_TABLE,
    TABLES,
    Table,
    columns_of,
    lenient_text,
)

_PATIENCE_S = 30.0
INCOMPLETE = "some of its steps were damaged and are lost"
LOST = "the record of this run was damaged; its steps were salvaged"


@attrs.define
class Salvaged:
    """What was found.

    :ivar rows: how many intact rows, by table.
    :ivar damaged: how many rows could be read but are not what was written.
    :ivar unreadable: the tables that could not be read to their end; intact rows were picked out of their pages.
    :ivar incomplete: ids of runs that have lost steps; they count as interrupted now.
    :ivar rebuilt: ids of runs whose steps were found but not the run itself.
    """

    rows: dict[str, int] = attrs.field(factory=dict)
    damaged: int = 0
    unreadable: list[str] = attrs.field(factory=list)
    incomplete: list[str] = attrs.field(factory=list)
    rebuilt: list[str] = attrs.field(factory=list)

    @property
    def complete(self) -> bool:
        """True when nothing seems to be lost."""
        return not (self.damaged or self.unreadable or self.rebuilt or self.incomplete)


def salvage(old: Path, new: Path) -> Salvaged:
    """Write the intact rows of `old` to `new`, which must not exist; raises `StateError` when there are none."""
    for path in (new, wal_of(new)):
        if path.exists():
            raise StateError(f"{path} exists already", hint="Name a file that does not; nothing is overwritten")
    result = Salvaged()
    with tempfile.TemporaryDirectory(prefix=".salvage-", dir=new.parent) as folder:
        copy = Path(folder) / "copy.db"
        for source, to in ((old, copy), (wal_of(old), wal_of(copy))):
            if source.exists():
                shutil.copyfile(source, to)
        found = _Found(result)
        _read_tables(copy, found)
        if result.unreadable:
            _read_pages(Pages(copy, wal_of(copy)), found)
    if not any(found.rows[table.name] for table in (RUN_TABLE, STEP_TABLE)):
        raise StateError(f"{old}: no intact row was found", hint="Restore it from a backup")
    _write(found, new)
    return result


class _Found:
    """The intact rows, by table and by what identifies them."""

    def __init__(self, result: Salvaged) -> None:
        self.result = result
        self.rows: dict[str, dict[object, Row]] = {table.name: {} for table in TABLES}
        self.runs_with_damage: set[int] = set()

    def add(self, table: Table, row: Row) -> None:
        """Take a row; of two for the same thing the one that is newer stays."""
        rows, key = self.rows[table.name], self._identity(table, row)
        known = rows.get(key)
        if known is None or self._age(table, row) > self._age(table, known):
            rows[key] = row

    def lose(self, table: Table, row: Row) -> None:
        """Note a row that is not what was written."""
        self.result.damaged += 1
        if table is STEP_TABLE:
            self.runs_with_damage.add(row[0] >> SHIFT)

    @staticmethod
    def _identity(table: Table, row: Row) -> object:
        return row[1:3] if table is STEP_TABLE else row[1]

    @staticmethod
    def _age(table: Table, row: Row) -> tuple[Any, ...]:
        if table is RUN_TABLE:
            run = dict(zip(table.columns, row[1:], strict=True))
            return run["epoch"], run["updated_at"], run["lease_clock"]
        return row[:1]


def _read_tables(copy: Path, found: _Found) -> None:
    """Read with SQLite as far as that goes, from both ends of each table."""
    try:
        with closing(sqlite3.connect(file_uri(copy, "rw"), uri=True)) as connection:
            connection.text_factory = lenient_text
            for table in TABLES:
                if not _read_table(connection, table, found):
                    found.result.unreadable.append(table.name)
    except sqlite3.Error:
        found.result.unreadable = [table.name for table in TABLES]


def _read_table(connection: sqlite3.Connection, table: Table, found: _Found) -> bool:
    columns = columns_of(connection, table.name)
    if not columns:
        return False
    select = table.select(columns)
    for direction in ("ASC", "DESC"):
        with suppress(sqlite3.Error):
            for row in connection.execute(f"{select} ORDER BY {table.key} {direction}"):
                _take(table, row, found)
            return True
    return False


def _take(table: Table, row: Row, found: _Found) -> None:
    if table.is_intact(row[1:]):
        found.add(table, row)
    else:
        found.lose(table, row)


def _read_pages(pages: Pages, found: _Found) -> None:
    """Pick the rows of unreadable tables out of the pages, wherever these are."""
    wanted = [table for table in TABLES if table.name in found.result.unreadable]
    known = {name: set(rows) for name, rows in found.rows.items()}
    for number, values in pages.records():
        for table in wanted:
            row = table.row_of(number, values)
            if row is not None and found._identity(table, row) not in known[table.name]:
                found.add(table, row)
                break


def _write(found: _Found, new: Path) -> None:
    result = found.result
    steps = list(_with_their_blobs(found, STEP_TABLE))
    runs = {row[0]: row for row in _with_their_blobs(found, RUN_TABLE)}
    _interrupt_incomplete(runs, steps, found)
    runs.update(_rebuilt(steps, runs, result))
    with closing(open_connection(new, _PATIENCE_S)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        blobs = found.rows[BLOB_TABLE.name].values()
        pipelines = found.rows[PIPELINE_TABLE.name].values()
        for table, rows in ((BLOB_TABLE, blobs), (RUN_TABLE, runs.values()), (STEP_TABLE, steps)):
            connection.executemany(table.insert, rows)
        connection.executemany(PIPELINE_TABLE.insert, pipelines)
        _refer(connection, [*runs.values()], RUN_TABLE, 0)
        _refer(connection, steps, STEP_TABLE, SHIFT)
        for table in TABLES:
            (result.rows[table.name],) = connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()  # noqa: S608
        connection.execute("COMMIT")


def _with_their_blobs(found: _Found, table: Table) -> Iterator[Row]:
    """Yield the rows whose large values were found as well; the others are as good as damaged."""
    blobs = found.rows[BLOB_TABLE.name]
    for row in found.rows[table.name].values():
        if all(key in blobs for key in _large(table, row)):
            yield row
        else:
            found.lose(table, row)


def _large(table: Table, row: Row) -> Iterable[bytes]:
    values = dict(zip(table.columns, row[1:], strict=True))
    return [values[name] for name in table.large if isinstance(values[name], bytes)]


def _refer(connection: sqlite3.Connection, rows: Iterable[Row], table: Table, shift: int) -> None:
    references = [(key, row[0] >> shift) for row in rows for key in _large(table, row)]
    connection.executemany("INSERT OR IGNORE INTO blob_refs (hash, run) VALUES (?, ?)", references)


def _rebuilt(steps: Iterable[Row], runs: dict[int, Row], result: Salvaged) -> dict[int, Row]:
    """Return a row for each run of which only steps are left, so that they can be looked at."""
    lost = {row[0] >> SHIFT: row[1] for row in steps if row[0] >> SHIFT not in runs}
    result.rebuilt = sorted(lost.values())
    return {number: (number, *_stand_in(run_id)) for number, run_id in lost.items()}


def _stand_in(run_id: str) -> Row:
    return run_row(
        RunRecord(run_id=run_id, pipeline="?", fingerprint="?", status="failed", error=LOST), 0.0, None, content_hash
    )


def _interrupt_incomplete(runs: dict[int, Row], steps: Iterable[Row], found: _Found) -> None:
    """Mark the runs that lost steps as interrupted: whatever they were, they are no longer that."""
    paths: dict[int, set[str]] = {}
    for row in steps:
        paths.setdefault(row[0] >> SHIFT, set()).add(row[2])
    for number, row in runs.items():
        recorded, left = row[1 + RECORDED], len(paths.get(number, ()))
        if number in found.runs_with_damage or left < (recorded or 0):
            runs[number] = (number, *_interrupted(row[1:], left, found))
            found.result.incomplete.append(row[1])


def _interrupted(row: Row, left: int, found: _Found) -> Row:
    blobs = found.rows[BLOB_TABLE.name]
    run = run_record(row, lambda key: blobs[key][2].encode())
    changed = attrs.evolve(run, status="interrupted", owner=None, lease_until=0.0, error=INCOMPLETE)
    return run_row(changed, 0.0, left, content_hash)
