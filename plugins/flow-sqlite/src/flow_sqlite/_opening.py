"""Connections: opened, configured, their schema brought up to date."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from flow import StateError
from flow_sqlite._connection import connect
from flow_sqlite._faults import is_busy, state_error
from flow_sqlite._migrations import VERSION, migrate, version_of

WAL_LIMIT = 64 * 2**20
_POLL_S = 0.01
_PRAGMAS = (
    "foreign_keys = ON",
    f"journal_size_limit = {WAL_LIMIT}",
    "mmap_size = 0",  # a damaged file must be an error and not a signal
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "secure_delete = ON",  # what was deleted is gone, and no salvage brings it back
    "synchronous = FULL",
)


def open_connection(path: Path, patience: float) -> sqlite3.Connection:
    """Open `path` for reading and writing, creating it when it does not exist.

    :param patience: seconds that are waited for a lock of another process.

    Raises `StateError`; a file that cannot be used is left as it is.
    """
    try:
        connection = connect(path, "rw", VERSION, patience, isolation_level=None)
    except (sqlite3.Error, OSError) as error:
        raise state_error(error, path) from error
    try:
        _configure(connection, path, patience)
    except (sqlite3.Error, OSError) as error:
        connection.close()
        raise state_error(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, path: Path, patience: float) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    _use_wal(connection, path, patience)
    if version_of(connection) != VERSION:
        migrate(connection, path)


def _use_wal(connection: sqlite3.Connection, path: Path, patience: float) -> None:
    """Switch to write-ahead logging; SQLite does not wait when several connections do so at the same time."""
    deadline = time.monotonic() + patience
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_S)
            continue
        if mode != "wal":
            raise StateError(
                f"{path}: the file system does not allow write-ahead logging (journal_mode is {mode})",
                hint="Keep the file on a local disk",
            )
        return
