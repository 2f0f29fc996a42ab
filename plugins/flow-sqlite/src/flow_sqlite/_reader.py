"""The connection that reads: one statement or a short transaction at a time, never in the way of the writer."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

from flow_sqlite._faults import state_error
from flow_sqlite._opening import open_connection
from flow_sqlite._worker import Operation


class Reader:
    """Reads for all stores of this process that use one file; sees every write that was acknowledged.

    :ivar turn: held by whoever uses the connection.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.turn = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def handle(self, batch: list[Operation[Any]]) -> None:
        """Do the operations one by one."""
        for operation in batch:
            try:
                with self.turn:
                    operation.result = self._read(operation)
            except Exception as error:  # noqa: BLE001  (reported to whoever waits)
                operation.error = state_error(error, self._path)
                operation.error.__cause__ = error if operation.error is not error else error.__cause__

    def _read(self, operation: Operation[Any]) -> Any:
        connection = self._connection
        if connection is None:
            connection = open_connection(self._path, operation.patience)
            connection.execute("PRAGMA query_only = ON")
            self._connection = connection
        connection.execute("BEGIN")
        try:
            return operation.work(connection)
        finally:
            # A transaction left open would keep the -wal growing.
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        with self.turn:
            self.drop()

    def drop(self) -> None:
        """Close the connection, for whoever has the turn."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
