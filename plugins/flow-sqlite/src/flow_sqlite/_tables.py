"""The tables whose rows can be checked: their columns as they are on disk, and what proves that a row is intact."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import attrs

from flow_sqlite._rows import RUN_COLUMNS, STEP_COLUMNS, Row, checksum, content_hash

RUNS: dict[str, Any] = {
    "id": int,
    "run_id": str,
    "pipeline": str,
    "status": str,
    "created_at": float,
    "updated_at": float,
    "deadline_at": float,
    "fingerprint": str,
    "trace_id": str,
    "owner": str,
    "epoch": int,
    "lease_until": float,
    "lease_clock": float,
    "recoveries": int,
    "cost_usd": float,
    "input_tokens": int,
    "output_tokens": int,
    "requests": int,
    "error": str,
    "metadata": str,
    "pending": str,
    "input": str,
    "context": str,
    "checksum": bytes,
}
RUNS_LATER: dict[str, Any] = {"wake_at": float, "recorded": int}
STEPS: dict[str, Any] = {
    "seq": int,
    "run_id": str,
    "path": str,
    "parent": str,
    "name": str,
    "kind": str,
    "status": str,
    "attempts": int,
    "started_at": float,
    "latency_s": float,
    "cost_usd": float,
    "input_tokens": int,
    "output_tokens": int,
    "requests": int,
    "typed": int,
    "feedback": str,
    "error": str,
    "metadata": str,
    "changes": str,
    "output": str,
    "checksum": bytes,
}
BLOBS: dict[str, Any] = {"hash": bytes, "data": str}
PIPELINES: dict[str, Any] = {"fingerprint": str, "structure": str, "checksum": bytes}


def lenient_text(data: bytes) -> str | bytes:
    r"""Return text, or what stands in its place in a damaged row: a ``text_factory`` that never raises.

    >>> lenient_text(b"abc"), lenient_text(b"\xff")
    ('abc', b'\xff')
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def columns_of(connection: sqlite3.Connection, table: str) -> set[str]:
    """Return the names of the columns that a table has in this file."""
    return {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def _by_checksum(row: Row) -> bool:
    try:
        return bool(checksum(row[:-1]) == row[-1])
    except TypeError:  # a number that no JSON can hold, in place of what was written
        return False


def _by_hash(row: Row) -> bool:
    key, data = row
    return isinstance(data, str) and content_hash(data.encode("utf-8", "surrogatepass")) == key


@attrs.frozen
class Table:
    """A table and how its rows are checked.

    :ivar key: the column that is the row's number; ``rowid`` when no column is.
    :ivar columns: what a row consists of, its number aside, in the order that `is_intact` expects.
    :ivar on_disk: the type of each column in the order on disk, those that were added later at the end.
    :ivar least: how many of them the oldest rows have.
    :ivar large: columns that may hold the hash of a blob.
    """

    name: str
    key: str
    columns: Sequence[str]
    on_disk: Mapping[str, Any]
    least: int
    is_intact: Callable[[Row], bool] = _by_checksum
    large: Sequence[str] = ()

    def select(self, present: Container[str]) -> str:
        """Return the statement that reads number and columns of all rows; of `present` ones, in an older schema."""
        columns = ", ".join(name if name in present else "NULL" for name in self.columns)
        return f"SELECT {self.key}, {columns} FROM {self.name}"  # noqa: S608  (constants)

    @property
    def insert(self) -> str:
        """The statement that writes a row of number and columns."""
        places = ", ".join("?" * (1 + len(self.columns)))
        names = f"{self.key}, {', '.join(self.columns)}"
        return f"INSERT OR IGNORE INTO {self.name} ({names}) VALUES ({places})"  # noqa: S608  (constants)

    def row_of(self, number: int, values: Sequence[Any]) -> Row | None:
        """Return the row for the values of a record on disk; ``None`` when they are not of this table or damaged."""
        if not self.least <= len(values) <= len(self.on_disk):
            return None
        padded = (*values, *(None,) * (len(self.on_disk) - len(values)))
        # A whole number in a REAL column is stored as an integer, to save space.
        found = {
            name: float(value) if kind is float and isinstance(value, int) else value
            for (name, kind), value in zip(self.on_disk.items(), padded, strict=True)
        }
        row = tuple(found[name] for name in self.columns)
        return (number, *row) if self.is_intact(row) else None


RUN_TABLE = Table(
    "runs",
    "id",
    RUN_COLUMNS.split(", "),
    {**RUNS, **RUNS_LATER},
    len(RUNS),
    large=("pending", "input", "context"),
)
STEP_TABLE = Table("steps", "seq", STEP_COLUMNS.split(", "), STEPS, len(STEPS), large=("metadata", "changes", "output"))
BLOB_TABLE = Table("blobs", "rowid", list(BLOBS), BLOBS, len(BLOBS), _by_hash)
PIPELINE_TABLE = Table("pipelines", "rowid", list(PIPELINES), PIPELINES, len(PIPELINES))
TABLES = (RUN_TABLE, STEP_TABLE, BLOB_TABLE, PIPELINE_TABLE)
