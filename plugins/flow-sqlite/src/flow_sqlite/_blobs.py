"""Large values: each stored once under the hash of its content, as long as a run refers to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from flow_sqlite._rows import RowDamaged, content_hash


class BlobStore:
    """The blobs of one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def refer(self, run: int, data: bytes) -> bytes:
        """Keep `data` for the run with the number `run` and return its hash."""
        key = content_hash(data)
        self._connection.execute("INSERT OR IGNORE INTO blobs (hash, data) VALUES (?, ?)", (key, data.decode()))
        self._connection.execute("INSERT OR IGNORE INTO blob_refs (hash, run) VALUES (?, ?)", (key, run))
        return key

    def fetch(self, key: bytes) -> bytes:
        """Return the value; `RowDamaged` when it is gone or is not what was written."""
        found = self._connection.execute("SELECT data FROM blobs WHERE hash = ?", (key,)).fetchone()
        data: bytes | None = found[0].encode() if found is not None and isinstance(found[0], str) else None
        if data is None or content_hash(data) != key:
            raise RowDamaged(f"the large value {key.hex()[:16]}...")
        return data

    def referred(self, runs: Iterable[int]) -> set[bytes]:
        """Return the hashes that the runs with these numbers refer to."""
        find = self._connection.execute
        return {key for run in runs for (key,) in find("SELECT hash FROM blob_refs WHERE run = ?", (run,))}

    def sweep(self, keys: Iterable[bytes]) -> None:
        """Delete those of `keys` that no run refers to any more."""
        self._connection.executemany(
            "DELETE FROM blobs WHERE hash = :key AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE hash = :key)",
            [{"key": key} for key in keys],
        )
