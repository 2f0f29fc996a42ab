"""``sqlite:///`` state: runs and their journals in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from flow import RunRecord, StateBackend, StepRecord, hookimpl
from flow_sqlite import _journal
from flow_sqlite._database import Handle
from flow_sqlite._faults import corrupt_error
from flow_sqlite._rows import INLINE, checksum
from flow_sqlite._runs import PRUNE_AT_ONCE, Runs, selection
from flow_sqlite._url import SCHEME, STATE_OPTIONS, parse_url


@hookimpl
def flow_open_state(url: str, settings: Mapping[str, Any]) -> StateBackend | None:
    """Open ``sqlite:///runs.db``; nothing is touched before the first use."""
    return SqliteState(url, settings) if url.startswith(SCHEME) else None


class SqliteState:
    """Runs and their journals in a SQLite file.

    :param url: ``sqlite:///runs.db`` or ``sqlite:////var/lib/runs.db``, with ``?synchronous=full|normal|off|extra``
        and ``?busy_timeout=SECONDS``.
    :param settings: defaults for the options.

    Any number of stores, event loops and processes may use one file. Raises `ConfigurationError` for a URL that
    cannot be read; the file is opened when it is first used.

    >>> import asyncio
    >>> state = SqliteState("sqlite:///no-such-file.db")
    >>> asyncio.run(state.aclose())
    """

    def __init__(self, url: str, settings: Mapping[str, Any] | None = None) -> None:
        self._target = parse_url(url, STATE_OPTIONS, settings)
        self._handle = Handle(self._target)

    async def create_run(self, run: RunRecord, lease_s: float = 0.0, *, sync: bool = True) -> None:
        """Store a new run."""
        database = self._handle.database
        await database.write(lambda c: Runs(c, database.path).create(run, lease_s), self._target, sync=sync)

    async def load_run(self, run_id: str) -> RunRecord | None:
        """Return the run, if known."""
        database = self._handle.database
        return await database.read(lambda c: Runs(c, database.path).load(run_id), self._target)

    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        """Take the run over when nobody else holds it."""
        database = self._handle.database
        return await database.write(lambda c: Runs(c, database.path).claim(run_id, owner, lease_s), self._target)

    async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
        """Prolong the lease; it need not survive a loss of power, since its owner would not either."""
        database = self._handle.database
        await database.write(lambda c: Runs(c, database.path).renew(run_id, epoch, lease_s), self._target, sync=False)

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        """Add finished steps."""
        database = self._handle.database
        work = partial(_journal.append, database=database, run_id=run_id, epoch=epoch, records=records)
        await database.write(work, self._target, sync=sync, lone=run_id if _is_small(records) else None)

    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        """Return the journal."""
        database = self._handle.database
        return await database.read(lambda c: _journal.load(c, database.path, run_id), self._target)

    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        """Change fields of the run."""
        database = self._handle.database

        def update(connection: sqlite3.Connection) -> None:
            Runs(connection, database.path).update(run_id, epoch, changes)
            if changes.get("owner", run_id) is None:  # the run is given free
                database.journals.pop(run_id, None)

        await database.write(update, self._target, sync=sync, lone=run_id)

    async def list_runs(
        self,
        *,
        status: str | None = None,
        pipeline: str | None = None,
        since: float | None = None,
        due: float | None = None,
        id_prefix: str | None = None,
        text: str | None = None,
        min_cost_usd: float | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> Sequence[RunRecord]:
        """Return the newest runs first."""
        where, values = selection(
            status=status,
            pipeline=pipeline,
            since=since,
            due=due,
            id_prefix=id_prefix,
            text=text,
            min_cost_usd=min_cost_usd,
            limit=limit,
            offset=offset,
        )
        database = self._handle.database
        return await database.read(lambda c: Runs(c, database.path).select(where, values), self._target)

    async def delete_run(self, run_id: str) -> bool:
        """Forget a run."""
        database = self._handle.database
        return await database.write(lambda c: Runs(c, database.path).delete(run_id), self._target)

    async def prune(self, *, older_than: float, keep: int = 0) -> int:
        """Forget runs that ended long ago, some hundred in a transaction so that others can write in between."""
        database = self._handle.database
        total = 0
        while True:
            pruned = await database.write(lambda c: Runs(c, database.path).prune(older_than, keep), self._target)
            total += pruned
            if pruned < PRUNE_AT_ONCE:
                return total

    async def save_pipeline(self, fingerprint: str, structure: bytes) -> None:
        """Keep the description of a pipeline."""
        row = (fingerprint, structure.decode())
        insert = "INSERT OR REPLACE INTO pipelines (fingerprint, structure, checksum) VALUES (?, ?, ?)"

        def save(connection: sqlite3.Connection) -> None:
            connection.execute(insert, (*row, checksum(row)))

        await self._handle.database.write(save, self._target)

    async def load_pipeline(self, fingerprint: str) -> bytes | None:
        """Return the description of a pipeline, if known."""
        database = self._handle.database
        select = "SELECT fingerprint, structure, checksum FROM pipelines WHERE fingerprint = ?"

        def load(connection: sqlite3.Connection) -> bytes | None:
            found = connection.execute(select, (fingerprint,)).fetchone()
            if found is None:
                return None
            if checksum(found[:-1]) != found[-1]:
                raise corrupt_error(database.path, f"the description of pipeline {fingerprint!r} is damaged")
            return str(found[1]).encode()

        return await database.read(load, self._target)

    async def aclose(self) -> None:
        """Finish what was begun; the last store of a file closes it. Used afterwards, it opens again."""
        await self._handle.aclose()


def _is_small(records: Sequence[StepRecord]) -> bool:
    """Tell whether a write is so short that the event loop may do it."""
    return len(records) == 1 and len(records[0].output or b"") <= INLINE
