"""One file, opened once per process however many stores use it."""

from __future__ import annotations

import asyncio
import atexit
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from flow import StateError
from flow_sqlite._connection import guard as connection_guard
from flow_sqlite._reader import Reader
from flow_sqlite._url import Level, Target
from flow_sqlite._worker import Operation, Worker
from flow_sqlite._writer import Writer

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_IDLE_S = 5.0
_FORK_S = 5.0  # how long a fork waits for what is being written
_EXIT_S = 30.0  # how long the end of the program waits for what is still queued


class Database:
    """The threads of one file.

    :ivar alive: False when the last store was closed, or in a child process: stores then open the file anew.
    :ivar journals: the paths that the runs of this process have written, by run id; see `_journal`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.alive = True
        self.users = 0
        self.journals: dict[str, tuple[int, set[str]]] = {}
        self._guard = threading.Lock()
        self._writer = Writer(path)
        self._reader = Reader(path)
        self._write_worker: Worker | None = None
        self._read_worker: Worker | None = None
        self._last: object = None

    async def write(self, work: Work[T], target: Target, *, sync: bool = True, lone: object = None) -> T:
        """Do `work` in a transaction and return its result when that is committed.

        :param sync: wait until it survives a loss of power, as far as the URL asks for it.
        :param lone: who writes; a write that need not be synced, of the one who wrote before, is done at once.
        """
        level = target.synchronous if sync else min(target.synchronous, Level.NORMAL)
        if level <= Level.NORMAL and lone is not None and self._is_alone(lone):
            done = self._writer.write_alone(work, level)
            if done is not None:
                return done[0]
        self._last = lone
        return await self._submit(self._writing(), work, level, target)

    async def read(self, work: Work[T], target: Target) -> T:
        """Do `work` on a connection that only reads."""
        return await self._submit(self._reading(), work, 0, target)

    def post(self, work: Work[Any], target: Target) -> None:
        """Do `work` in a transaction some time; nobody hears of it."""
        self._writing().submit(Operation(work, min(target.synchronous, Level.NORMAL), target.busy_timeout))

    def _is_alone(self, lone: object) -> bool:
        worker = self._write_worker
        return self._last == lone and worker is not None and not worker.waiting

    async def _submit(self, worker: Worker, work: Work[T], level: int, target: Target) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        worker.submit(Operation(work, level, target.busy_timeout, future))
        return await future

    def _writing(self) -> Worker:
        worker = self._write_worker
        if worker is None:
            with self._guard:
                worker = self._write_worker = self._write_worker or Worker(
                    f"flow-sqlite-write:{self.path.name}",
                    self._writer.handle,
                    after=self._writer.checkpoint,
                    idle=self._writer.tidy,
                    close=self._writer.close,
                    refuse=self._closed,
                    idle_s=_IDLE_S,
                )
        return worker

    def _reading(self) -> Worker:
        worker = self._read_worker
        if worker is None:
            with self._guard:
                worker = self._read_worker = self._read_worker or Worker(
                    f"flow-sqlite-read:{self.path.name}",
                    self._reader.handle,
                    close=self._reader.close,
                    refuse=self._closed,
                    idle_s=_IDLE_S,
                )
        return worker

    def _closed(self) -> StateError:
        return StateError(f"{self.path} was closed while it was used", hint="Close a flow when its runs have ended")

    def stop(self) -> None:
        """Let the threads end when they have done what is queued."""
        self.alive = False
        for worker in self._workers():
            worker.stop()

    async def ended(self) -> None:
        """Stop, and wait for the end without blocking the event loop."""
        self.alive = False
        for worker in self._workers():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            worker.stop(future)
            await future
            worker.join()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the threads."""
        for worker in self._workers():
            worker.join(timeout)

    def pause(self, deadline: float) -> bool:
        """Take the turn of both connections; False when that is not possible in time."""
        if not self._writer.turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        if self._reader.turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return True
        self._writer.turn.release()
        return False

    def go_on(self) -> None:
        """Give the turns back."""
        self._reader.turn.release()
        self._writer.turn.release()

    def drop(self) -> None:
        """Close the connections of a database that is paused."""
        self._reader.drop()
        self._writer.drop()

    def _workers(self) -> list[Worker]:
        # The writer ends last: the last connection to close empties the -wal.
        return [worker for worker in (self._read_worker, self._write_worker) if worker is not None]


class Registry:
    """The open files of this process."""

    def __init__(self) -> None:
        # Reentrant: the garbage collector may find a store that was never closed at any moment, also inside.
        self._guard = threading.RLock()
        self._open: dict[str, Database] = {}
        self._paused: list[Database] = []
        self._unusable: dict[str, Database] = {}

    def acquire(self, path: Path) -> Database:
        """Return the database of a file for one more user; a link is followed, unless somebody wants a file made."""
        if path.is_symlink() and not path.exists():
            raise StateError(
                f"{path} is a link to a file that does not exist", hint="Remove the link, or name the file"
            )
        key = os.path.realpath(path)
        if key in self._unusable:
            raise StateError(
                f"{path} was being written when this process was forked",
                hint="Fork before the first run, or start a new process",
            )
        with self._guard:
            while True:
                database = self._open.get(key) or self._open.setdefault(key, Database(Path(key)))
                database.users += 1
                if database.alive:
                    return database

    def release(self, database: Database) -> bool:
        """Give a database back; True when nobody uses it any more and it has to be stopped."""
        with self._guard:
            database.users -= 1
            if database.users or not database.alive:
                return False
            self._open.pop(str(database.path), None)
            database.alive = False
            return True

    def abandon(self, database: Database) -> None:
        """Give back what a store held that was never closed."""
        if self.release(database):
            database.stop()

    def stop_all(self) -> None:
        """Finish everything at the end of the program, for those who forgot to close."""
        databases = list(self._open.values())
        self._open.clear()
        for database in databases:
            database.stop()
        for database in databases:
            database.join(_EXIT_S)

    # -- fork: a child must not use what it inherits, nor leave it open --

    def before_fork(self) -> None:
        """Wait until nothing is being read or written, so that the child can close its connections."""
        deadline = time.monotonic() + _FORK_S
        # Whoever has a turn may need the other locks, so these come last.
        self._paused = [database for database in list(self._open.values()) if database.pause(deadline)]
        self._guard.acquire()
        connection_guard.acquire()

    def after_fork(self) -> None:
        """Go on in the parent."""
        connection_guard.release()
        self._guard.release()
        for database in self._paused:
            database.go_on()

    def begin_child(self) -> None:
        """Close what the child has inherited; stores then open their files anew.

        SQLite would count a connection of the child to those of the parent, and not take locks of its own. A file
        that was being written all the time cannot be closed, so it cannot be used here.
        """
        for key, database in self._open.items():
            database.alive = False
            if database in self._paused:
                database.drop()
            else:
                self._unusable[key] = database
                _immortalise(database)
        self._open = {}
        self._guard.release()
        connection_guard.release()


def _immortalise(database: Database) -> None:
    """Keep the connections open even when the interpreter ends: what they were doing is the parent's."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(database))


registry = Registry()
atexit.register(registry.stop_all)
if os.name == "posix":
    os.register_at_fork(
        before=registry.before_fork, after_in_parent=registry.after_fork, after_in_child=registry.begin_child
    )


class Handle:
    """What a store holds of a database: opened when it is first used, given back when the store is closed or gone."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._opening = threading.RLock()  # reentrant, like the registry's
        self._database: Database | None = None
        self._finalizer: weakref.finalize[[Database], Handle] | None = None

    @property
    def database(self) -> Database:
        """The open database."""
        database = self._database
        return database if database is not None and database.alive else self._open()

    def _open(self) -> Database:
        with self._opening:
            database = self._database
            if database is None or not database.alive:
                database = registry.acquire(self.target.path)
                self._finalizer = weakref.finalize(self, registry.abandon, database)
                self._finalizer.atexit = False  # at the end the registry itself sees to everything
                self._database = database
            return database

    async def aclose(self) -> None:
        """Give the database back; the last one to do so waits until everything is written and the threads ended."""
        with self._opening:
            database, self._database = self._database, None
            finalizer, self._finalizer = self._finalizer, None
        if database is None or finalizer is None or finalizer.detach() is None or not database.alive:
            return
        if registry.release(database):
            await database.ended()
