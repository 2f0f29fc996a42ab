"""The one connection that writes: transactions of all operations that wait, a single one at once when it is alone."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from flow import StateError
from flow_sqlite._faults import busy_error, concerns_file, is_busy, state_error
from flow_sqlite._files import wal_of
from flow_sqlite._opening import open_connection
from flow_sqlite._worker import Operation

T = TypeVar("T")

# Commits until the content of the -wal is copied into the database. SQLite would do so within a commit, and make
# whoever waits for that commit wait for it.
CHECKPOINT_AFTER = 300
# What SQLite itself does should this process not come to it, in pages.
_BACKSTOP = 8000
_DELAYS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.025)


class Writer:
    """Writes for all stores of this process that use one file.

    Both the writer's thread and event loops use the connection, one at a time.

    :ivar turn: held by whoever uses it.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._wal = path, wal_of(path)
        self.turn = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity = self._wal_identity = (0, 0)
        self._level = self._highest = -1
        self._commits = 0

    # -- in the thread --

    def handle(self, batch: list[Operation[Any]]) -> None:
        """Do all operations in one transaction; one that fails does so alone."""
        with self.turn:
            try:
                self._open(batch)
                self._commit_together(batch)
            except Exception as error:  # noqa: BLE001  (reported to each of those who wait)
                fail_all(batch, error, self._path)
                self._roll_back()

    def checkpoint(self) -> None:
        """Copy the -wal into the database when it has grown long enough."""
        with self.turn:
            if self._commits >= CHECKPOINT_AFTER:
                self._checkpoint("PASSIVE")

    def tidy(self) -> None:
        """Copy the -wal into the database and empty it, unless somebody reads it or writes."""
        with self.turn:
            if self._commits:
                self._checkpoint("TRUNCATE")

    def close(self) -> None:
        """Close the connection; the last one of all processes removes the -wal."""
        with self.turn:
            if self._commits:
                self._checkpoint("TRUNCATE")
            self.drop()

    def drop(self) -> None:
        """Close the connection, for whoever has the turn."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self, batch: list[Operation[Any]]) -> None:
        if self._connection is not None:
            return
        connection = open_connection(self._path, max(operation.patience for operation in batch))
        # From here on locks are waited for in Python, so that an event loop never waits.
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_BACKSTOP}")
        self._connection, self._level = connection, -1
        self._identity, self._wal_identity = _identity(self._path), (0, 0)

    def _commit_together(self, batch: list[Operation[Any]]) -> None:
        connection = self._begin(batch)
        try:
            for operation in batch:
                operation.error = None
                before = connection.total_changes
                try:
                    operation.result = operation.work(connection)
                except StateError as error:
                    if connection.total_changes != before:
                        raise
                    operation.error = error  # refused before anything was written, so the others go on
            self._commit(connection)
        except Exception as error:
            self._roll_back()
            if len(batch) == 1 or concerns_file(error):
                raise
            self._commit_apart(batch)

    def _commit_apart(self, batch: list[Operation[Any]]) -> None:
        """Do the operations once more, each behind a savepoint: at least one of them cannot be done."""
        while batch:
            connection = self._begin(batch)
            for operation in batch:
                self._attempt(connection, operation)
                if not connection.in_transaction:  # SQLite has rolled everything back: again without this one
                    break
            else:
                self._commit(connection)
                return
            batch = [other for other in batch if other is not operation]

    def _attempt(self, connection: sqlite3.Connection, operation: Operation[Any]) -> None:
        operation.error = None
        connection.execute("SAVEPOINT operation")
        try:
            operation.result = operation.work(connection)
        except Exception as error:
            if concerns_file(error):
                raise
            operation.error = state_error(error, self._path)
            if connection.in_transaction:
                connection.execute("ROLLBACK TO operation")
                connection.execute("RELEASE operation")
        else:
            connection.execute("RELEASE operation")

    def _begin(self, batch: list[Operation[Any]]) -> sqlite3.Connection:
        connection = self._connection
        if connection is None:
            raise StateError(f"{self._path} is closed")
        self._set_level(connection, max(operation.level for operation in batch))
        patience = max(operation.patience for operation in batch)
        deadline = time.monotonic() + patience
        for attempt in range(2**31):
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                left = deadline - time.monotonic()
                if not is_busy(error):
                    raise
                if left <= 0:
                    raise busy_error(self._path, patience) from error
                time.sleep(min(left, _DELAYS[min(attempt, len(_DELAYS) - 1)]))
            else:
                break
        self._require_same_file(thoroughly=True)
        return connection

    # -- in an event loop --

    def write_alone(self, work: Callable[[sqlite3.Connection], T], level: int) -> tuple[T] | None:
        """Do one operation at once, in a transaction of its own; ``None`` when it would have to wait for anybody.

        Raises what is wrong, with nothing written.
        """
        if not self.turn.acquire(blocking=False):
            return None
        try:
            connection = self._connection
            if connection is None or self._commits >= CHECKPOINT_AFTER:
                return None
            self._set_level(connection, level)
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if is_busy(error):
                    return None
                raise
            self._require_same_file()
            result = work(connection)
            self._commit(connection)
            return (result,)
        except StateError:
            self._roll_back()
            raise
        except Exception as error:
            self._roll_back()
            raise state_error(error, self._path) from error
        finally:
            self.turn.release()

    # -- in both --

    def _set_level(self, connection: sqlite3.Connection, level: int) -> None:
        if level != self._level:
            connection.execute(f"PRAGMA synchronous = {level:d}")
            self._level = level
            self._highest = max(level, self._highest)

    def _commit(self, connection: sqlite3.Connection) -> None:
        connection.execute("COMMIT")
        self._commits += 1

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is not None and connection.in_transaction:
            connection.execute("ROLLBACK")

    def _require_same_file(self, *, thoroughly: bool = False) -> None:
        """Refuse to write into a file that was deleted or replaced: nobody would ever read it."""
        if _identity(self._path) != self._identity:
            raise self._moved(self._path)
        if thoroughly:
            wal = _identity(self._wal)
            if self._wal_identity not in ((0, 0), wal):
                raise self._moved(self._wal)
            self._wal_identity = wal

    @staticmethod
    def _moved(path: Path) -> StateError:
        return StateError(
            f"{path} was moved, deleted or replaced while it was open",
            hint="Put it back, together with the other of the file and its -wal, and start the program again",
        )

    def _checkpoint(self, kind: str) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            # As careful as the most careful of those who share the file.
            self._set_level(connection, self._highest)
            connection.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
        except sqlite3.Error as error:
            # The data is safe in the -wal, and whoever writes next hears of a disk that has failed.
            if not (is_busy(error) or concerns_file(error)):
                raise
        self._commits = 0


def fail_all(batch: list[Operation[Any]], error: Exception, path: Path) -> None:
    """Give each operation an error of its own for what went wrong with all of them."""
    for operation in batch:
        failed = state_error(error, path)
        if failed is error:
            failed = type(failed)(failed.message, path=failed.path, hint=failed.hint)
        failed.__cause__ = error
        operation.error, operation.result = failed, None


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_dev, status.st_ino)
