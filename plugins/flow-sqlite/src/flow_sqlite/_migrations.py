"""The tables, and how an older file gets those of this release.

Migrations only ever add: a column, an index, a view. A column that is new is the last of its table and empty in old
rows, which keeps their checksums valid.
"""
# ruff: noqa: S608  (the statements are put together from constants)

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from flow_sqlite._files import APPLICATION_ID, back_up, require_ours
from flow_sqlite._tables import BLOBS, PIPELINES, RUNS, STEPS

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

VERSION = 3

# The rows of steps are kept together by run: the number of the run, then that of the record in it.
SHIFT = 32
LAST = (1 << SHIFT) - 1

_OWN_STEPS = f"BETWEEN runs.id << {SHIFT} AND (runs.id << {SHIFT}) + {LAST}"

_DELETE_WITH_RUN = f"""
    CREATE TRIGGER run_deleted AFTER DELETE ON runs BEGIN
        DELETE FROM steps WHERE seq BETWEEN old.id << {SHIFT} AND (old.id << {SHIFT}) + {LAST};
        DELETE FROM blob_refs WHERE run = old.id;
    END
"""

_WHOLE = "CASE typeof({0}) WHEN 'blob' THEN (SELECT data FROM blobs WHERE hash = {0}) ELSE {0} END"

_JOURNAL = f"""
    CREATE VIEW journal AS
    SELECT runs.run_id, steps.seq - (runs.id << {SHIFT}) AS number, steps.path, steps.name, steps.kind, steps.status,
           datetime(steps.started_at, 'unixepoch') AS started, steps.latency_s, steps.attempts, steps.cost_usd,
           steps.input_tokens + steps.output_tokens AS tokens,
           {_WHOLE.format("steps.output")} AS output, steps.error
    FROM runs JOIN steps ON steps.seq {_OWN_STEPS}
"""

_OVERVIEW = """
    CREATE VIEW overview AS
    SELECT run_id, pipeline, status, datetime(created_at, 'unixepoch') AS created,
           datetime(updated_at, 'unixepoch') AS updated, recoveries, cost_usd, input_tokens + output_tokens AS tokens,
           error
    FROM runs ORDER BY created_at DESC, id DESC
"""


def migrations() -> Migrations:
    """Return the migrations in their order; the imports cost too much for a file that needs none."""
    from sqlite_utils import Migrations

    found = Migrations("flow-sqlite")

    @found()
    def m001_runs_and_steps(db: Database) -> None:
        _create_runs(db)
        _create_steps(db)
        _create_side_tables(db)
        for statement in (_DELETE_WITH_RUN, _JOURNAL, _OVERVIEW):
            db.execute(statement)

    @found()
    def m002_wake_at(db: Database) -> None:
        db.table("runs").add_column("wake_at", float)
        db.execute("CREATE INDEX runs_by_wake_at ON runs (wake_at) WHERE wake_at IS NOT NULL")

    @found()
    def m003_recorded(db: Database) -> None:
        db.table("runs").add_column("recorded", int)

    return found


def _create_runs(db: Database) -> None:
    may_be_null = {"id", "deadline_at", "owner", "error", "pending", "input", "context"}
    runs = db.table("runs").create(RUNS, pk="id", not_null=set(RUNS) - may_be_null)
    runs.create_index(["run_id"], unique=True, index_name="runs_by_run_id")
    runs.create_index(["created_at"], index_name="runs_by_created_at")
    runs.create_index(["status", "created_at"], index_name="runs_by_status")
    runs.create_index(["pipeline", "created_at"], index_name="runs_by_pipeline")


def _create_steps(db: Database) -> None:
    may_be_null = {"seq", "feedback", "error", "metadata", "changes", "output"}
    db.table("steps").create(STEPS, pk="seq", not_null=set(STEPS) - may_be_null)


def _create_side_tables(db: Database) -> None:
    db.table("blobs").create(BLOBS, pk="hash", not_null={"data"})
    db.table("blob_refs").create({"hash": bytes, "run": int}, pk=("hash", "run"), foreign_keys=[("hash", "blobs")])
    db.table("blob_refs").create_index(["run"], index_name="blob_refs_by_run")
    db.table("pipelines").create(PIPELINES, pk="fingerprint", not_null={"structure", "checksum"})
    cache = db.table("cache").create(
        {"key": bytes, "value": bytes, "size": int, "expires_at": float, "used_at": float, "checksum": bytes},
        pk="key",
        not_null={"value", "size", "used_at", "checksum"},
    )
    cache.create_index(["used_at", "size"], index_name="cache_by_used_at")


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date: all of it or nothing, also when several processes open the file at once.

    A database with an older schema is copied beside itself before.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection)
        if version != VERSION:
            _require_free_or_ours(connection, path, version)
            if version:
                back_up(path, version)
            _apply(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _require_free_or_ours(connection: sqlite3.Connection, path: Path, version: int) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id or tables:
        require_ours(path, application_id, version, VERSION)


def _apply(connection: sqlite3.Connection) -> None:
    from sqlite_utils import Database

    migrations().apply(Database(connection, recursive_triggers=False, execute_plugins=False))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of the schema; 0 for an empty file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
