"""The file on disk: made private, looked at before SQLite touches it, copied."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import attrs

from flow import StateError
from flow_sqlite._faults import corrupt_error

APPLICATION_ID = int.from_bytes(b"flow")
_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_USER_VERSION, _APPLICATION_ID = 60, 68  # offsets in the header, four bytes each, big-endian


@attrs.frozen
class Header:
    """What the first bytes of a database say; a newer value may still wait in the -wal."""

    application_id: int
    version: int


def file_uri(path: Path, mode: str) -> str:
    """Return the URI with which SQLite opens `path`; ``rw`` never creates a file, ``ro`` never writes one."""
    return f"file:{quote(str(path))}?mode={mode}"


def create_private(path: Path) -> bool:
    """Make an empty file that only its owner may read, and missing directories likewise; False when it exists.

    SQLite would make it readable for everybody, and gives -wal and -shm the mode of the file.
    """
    for parent in [folder for folder in reversed(path.parents) if not folder.exists()]:
        with contextlib.suppress(FileExistsError):
            parent.mkdir(mode=0o700)
            _flush_directory(parent.parent)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600))
    except FileExistsError:
        return False
    return True


def require_usable(path: Path, newest: int, patience: float = 5.0) -> None:
    """Refuse what is not ours before SQLite has touched it; `newest` is the schema that this code knows.

    Not for a file that this process has open, see `_connection`.
    """
    header = read_header(path)
    if header is not None and header.application_id == 0:
        header = _header_with_wal(path, patience)
    if header is not None:
        require_ours(path, header.application_id, header.version, newest)


def require_ours(path: Path, application_id: int, version: int, newest: int) -> None:
    """Raise `StateError` for a database of another program or of a later release."""
    if application_id != APPLICATION_ID:
        raise StateError(
            f"{path} is a database of another program",
            hint="Name another file; this one was not changed",
        )
    if version > newest:
        raise StateError(
            f"{path} was written by a newer flow-sqlite: its schema is {version}, this one knows {newest}",
            hint="Update it: pip install --upgrade flow-sqlite. The file was not changed",
        )


def read_header(path: Path) -> Header | None:
    """Return the header; ``None`` when the file does not exist or is empty and nothing is missing.

    Raises `StateCorrupt` for what is no database, or has lost the file that its -wal belongs to.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
    except FileNotFoundError:
        head = b""
    if not head:
        _require_no_orphan(path)
        return None
    if len(head) < _HEADER or not head.startswith(_MAGIC):
        raise corrupt_error(path, "it is no SQLite database, or its first page is damaged")
    (version,) = struct.unpack_from(">i", head, _USER_VERSION)
    (application_id,) = struct.unpack_from(">i", head, _APPLICATION_ID)
    return Header(application_id, version)


def _require_no_orphan(path: Path) -> None:
    """SQLite would delete a -wal that stands beside no database, and what it holds."""
    wal = wal_of(path)
    with contextlib.suppress(FileNotFoundError):
        if wal.stat().st_size:
            raise corrupt_error(path, f"it is missing or empty, but {wal.name} beside it holds data of it")


def _header_with_wal(path: Path, patience: float) -> Header | None:
    """Ask SQLite, without writing: a process that was killed early leaves the identification in the -wal."""
    with closing(sqlite3.connect(file_uri(path, "ro"), uri=True, timeout=patience)) as connection:
        connection.execute("BEGIN")  # all of one moment: another process may be making the tables now
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    return Header(application_id, version) if application_id or tables else None


def wal_of(path: Path) -> Path:
    """Return the file with the commits that are not yet in `path`."""
    return path.with_name(f"{path.name}-wal")


def copy_database(path: Path, to: Path) -> None:
    """Copy a database that may be in use, as of one moment; `to` must not exist."""
    if not create_private(to):
        raise StateError(f"{to} exists already", hint="Name a file that does not; nothing is overwritten")
    try:
        with closing(sqlite3.connect(file_uri(path, "ro"), uri=True, timeout=30.0)) as connection:
            connection.execute("VACUUM INTO ?", (str(to),))
        _flush(to)
    except BaseException:
        to.unlink()
        raise


def _flush(path: Path) -> None:
    """Wait until a new file, and its name, are on disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    _flush_directory(path.parent)


def _flush_directory(path: Path) -> None:
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def back_up(path: Path, version: int) -> Path:
    """Copy a database of an older schema beside itself and return the copy."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    copy = path.with_name(f"{path.name}.schema-{version}-{stamp}.bak")
    unfinished = copy.with_name(f"{copy.name}.{os.getpid()}.part")
    copy_database(path, unfinished)
    return unfinished.replace(copy)
