"""What SQLite complains of, in the words of flow: which file, why, and what helps."""

from __future__ import annotations

import shlex
import sqlite3
from pathlib import Path

from flow import StateBusy, StateCorrupt, StateError

_UNTOUCHED = "The file was not changed"
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REMEDIES = {
    sqlite3.SQLITE_FULL: ("the disk is full", "Make room, then resume the run; everything acknowledged is stored"),
    sqlite3.SQLITE_IOERR: (
        "the disk refuses to read or write",
        "Check the disk, its free space and the limits of the process (ulimit -f), then resume the run",
    ),
    sqlite3.SQLITE_READONLY: (
        "it cannot be written",
        "Make the file and its directory writable: SQLite keeps a -wal and a -shm file beside it",
    ),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "Check that its directory exists and may be written"),
    sqlite3.SQLITE_PERM: ("it may not be opened", "Check the permissions of the file and its directory"),
    sqlite3.SQLITE_AUTH: ("it may not be opened", "Check the permissions of the file and its directory"),
    sqlite3.SQLITE_TOOBIG: ("a value is larger than SQLite can hold", "Keep large data in files and store their names"),
}
# Not one operation failed but the file or the disk: the others of the same transaction would fail as well.
_OF_THE_FILE = {*_DAMAGED, *_BUSY, *_REMEDIES} - {sqlite3.SQLITE_TOOBIG}


def code_of(error: BaseException) -> int:
    """Return SQLite's primary result code, 0 when the error is none of SQLite's library."""
    # Python sets the attribute only on errors that the library reported, not on its own.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Tell whether another connection holds the lock."""
    return code_of(error) in _BUSY


def concerns_file(error: BaseException) -> bool:
    """Tell whether the file is at fault, rather than the one operation that failed."""
    return code_of(error) in _OF_THE_FILE


def state_error(error: Exception, path: Path) -> StateError:
    """Return the error to report for one of SQLite, or of preparing a row.

    >>> print(state_error(sqlite3.OperationalError("no such table: runs"), Path("runs.db")))
    runs.db: no such table: runs
    """
    if isinstance(error, StateError):
        return error
    code = code_of(error)
    if code in _BUSY:
        return busy_error(path)
    if code in _DAMAGED or "Could not decode to UTF-8" in str(error):
        return corrupt_error(path, str(error))
    if code in _REMEDIES:
        cause, hint = _REMEDIES[code]
        return StateError(f"{path}: {cause} ({_name(error)}: {error})", hint=hint)
    if isinstance(error, OSError):
        return StateError(f"{path}: {error.strerror or error}", hint="Check the path and its permissions")
    return StateError(f"{path}: {error}")


def _name(error: Exception) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))


def busy_error(path: Path, waited: float | None = None) -> StateBusy:
    """Return the error for a lock that was waited for in vain."""
    so_long = f" for {waited:g} s" if waited is not None else ""
    return StateBusy(
        f"{path}: another process holds the lock{so_long}",
        hint=f"{_UNTOUCHED}. Let the other process finish, or wait longer with ?busy_timeout=SECONDS",
    )


def corrupt_error(path: Path, what: str) -> StateCorrupt:
    """Return the error for content that is damaged; it names the command that saves the rest."""
    return StateCorrupt(
        f"{path}: {what}",
        hint=f"{_UNTOUCHED}. Copy what is intact to a new file: flow sqlite salvage {shlex.quote(str(path))} NEW.db",
    )
