"""Which files this process has open: those must not be opened and closed in any other way.

Locks between processes belong to a process as a whole. When it closes any handle of a file, all its locks on that file
are gone, those of SQLite included; another process would take the -wal for left behind and delete it. So a file is
read by ourselves only as long as no connection to it is open.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from flow_sqlite._files import create_private, file_uri, require_usable

guard = threading.RLock()
"""Held while a file is looked at and opened, and while connections are counted."""

_open: Counter[tuple[int, int]] = Counter()


class Connection(sqlite3.Connection):
    """A connection that is counted until it is closed."""

    identity: tuple[int, int] | None = None

    def close(self) -> None:
        """Close it."""
        super().close()
        with guard:
            identity, self.identity = self.identity, None
            if identity is not None:
                _open[identity] -= 1


def look_at(path: Path, newest: int, patience: float = 5.0) -> None:
    """Raise `StateError` when `path` is no store that this code can use; it is not changed."""
    with guard:
        if not _open[_identity(path)]:
            require_usable(path, newest, patience)


def connect(path: Path, mode: str, newest: int, patience: float, **options: Any) -> Connection:
    """Open a store with the mode ``rw``, which makes it when it does not exist, or ``ro``.

    :param patience: seconds that are waited for other processes.
    """
    with guard:
        if mode == "rw":
            create_private(path)
        look_at(path, newest, patience)
        connection = sqlite3.connect(
            file_uri(path, mode), uri=True, timeout=patience, factory=Connection, check_same_thread=False, **options
        )
        connection.identity = _identity(path)
        _open[connection.identity] += 1
        return connection


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_dev, status.st_ino)
