"""Looking at a file without changing it: its structure, and every row against its checksum."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from flow import ConfigurationError
from flow_sqlite._connection import connect, look_at
from flow_sqlite._faults import state_error
from flow_sqlite._files import copy_database, wal_of
from flow_sqlite._migrations import LAST, SHIFT, VERSION, version_of
from flow_sqlite._tables import RUN_TABLE, STEP_TABLE, TABLES, Table, columns_of, lenient_text

_PATIENCE_S = 5.0
_AT_MOST = 20  # findings of one sort
_WAL_RESET_FIXED = (3, 51, 3)


_LOST = f"""
    SELECT run_id, recorded - found FROM (
        SELECT run_id, recorded, (
            SELECT count(DISTINCT path) FROM steps
            WHERE seq BETWEEN runs.id << {SHIFT} AND (runs.id << {SHIFT}) + {LAST}
        ) AS found FROM runs
    ) WHERE found < recorded LIMIT {_AT_MOST}
"""  # noqa: S608


@attrs.define
class Report:
    """What a check found.

    :ivar findings: damage, one sentence each.
    :ivar notes: what is worth knowing and no damage.
    """

    file: str
    bytes: int
    wal_bytes: int
    schema: int
    sqlite: str = sqlite3.sqlite_version
    rows: dict[str, int] = attrs.field(factory=dict)
    findings: list[str] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)


def check(path: Path) -> Report:
    """Read all of `path`; raises `StateError` when that is not a store or cannot be opened."""
    if not path.is_file():
        raise ConfigurationError(f"{path} is no file", hint="Name the file of a store, or its sqlite:/// URL")
    wal = wal_of(path)
    try:
        with closing(connect(path, "ro", VERSION, _PATIENCE_S)) as connection:
            size = wal.stat().st_size if wal.exists() else 0
            report = Report(str(path), path.stat().st_size, size, version_of(connection))
            report.notes += _notes(path, report)
            report.findings += _structure(connection)
            for table in TABLES:
                _check_rows(connection, table, report)
            report.findings += _references(connection)
    except (sqlite3.Error, OSError) as error:
        raise state_error(error, path) from error
    return report


def back_up(path: Path, to: Path) -> int:
    """Copy a store to `to`, which must not exist, and return the size of the copy; raises `StateError`."""
    try:
        look_at(path, VERSION)
        copy_database(path, to)
        return to.stat().st_size
    except (sqlite3.Error, OSError) as error:
        raise state_error(error, path) from error


def _notes(path: Path, report: Report) -> Iterator[str]:
    if report.schema == 0:
        yield "It is empty: nothing was stored yet"
    elif report.schema < VERSION:
        yield f"Its schema is {report.schema}; it is copied and brought to {VERSION} when a flow uses it"
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        yield f"Others may read it (mode {mode:o}); chmod 600 keeps it private"
    if sqlite3.sqlite_version_info < _WAL_RESET_FIXED:
        yield (
            f"SQLite {sqlite3.sqlite_version} can, very rarely, damage a file that several processes write to; "
            "3.51.3 repairs that"
        )


def _structure(connection: sqlite3.Connection) -> list[str]:
    try:
        answers = [text for (text,) in connection.execute(f"PRAGMA integrity_check({_AT_MOST})")]
    except sqlite3.DatabaseError as error:
        return [f"The structure is damaged: {error}"]
    return [] if answers == ["ok"] else [f"The structure is damaged: {' '.join(text.split())}" for text in answers]


def _check_rows(connection: sqlite3.Connection, table: Table, report: Report) -> None:
    if report.schema == 0:
        return
    intact, damaged = 0, []
    present = columns_of(connection, table.name)
    connection.text_factory = lenient_text
    try:
        for row in connection.execute(table.select(present)):
            if table.is_intact(row[1:]):
                intact += 1
            else:
                damaged.append(_describe(table, row))
    except sqlite3.Error as error:
        report.findings.append(f"{table.name} cannot be read to the end: {error}")
    report.rows[table.name] = intact
    report.findings += [f"{what} is damaged: its content does not fit its checksum" for what in damaged[:_AT_MOST]]
    if len(damaged) > _AT_MOST:
        report.findings.append(f"{len(damaged) - _AT_MOST} more rows of {table.name} are damaged")


def _describe(table: Table, row: tuple[Any, ...]) -> str:
    if table is RUN_TABLE:
        return f"Run {row[1]!r}"
    if table is STEP_TABLE:
        return f"Step {row[2]!r} of run {row[1]!r}"
    return f"Row {row[0]} of {table.name}"


def _references(connection: sqlite3.Connection) -> list[str]:
    """Find rows whose run, or whose large value, is not there."""
    findings = []
    orphans = f"SELECT count(*) FROM steps WHERE NOT EXISTS (SELECT 1 FROM runs WHERE id = steps.seq >> {SHIFT})"  # noqa: S608
    missing = (
        "SELECT count(*) FROM {0} WHERE typeof({1}) = 'blob' AND NOT EXISTS (SELECT 1 FROM blobs WHERE hash = {0}.{1})"
    )
    try:
        if version_of(connection) == 0:
            return []
        (lost,) = connection.execute(orphans).fetchone()
        if lost:
            findings.append(f"{lost} steps belong to no run")
        if "recorded" in columns_of(connection, "runs"):
            findings += [f"Run {run!r} has lost {lost} of its steps" for run, lost in connection.execute(_LOST)]
        for table in (RUN_TABLE, STEP_TABLE):
            for column in table.large:
                (lost,) = connection.execute(missing.format(table.name, column)).fetchone()
                if lost:
                    findings.append(f"{lost} large values of {table.name}.{column} are missing")
    except sqlite3.DatabaseError as error:
        findings.append(f"References cannot be checked: {error}")
    return findings
