"""A thread that works for event loops: takes what is waiting, does it, and reports back once per batch and loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

BATCH = 512


def _nothing() -> None:
    """Do nothing."""


class Operation(Generic[T]):
    """One thing to do, and who waits for it.

    :ivar work: what is done in the thread; its result, or its exception, is the operation's.
    :ivar level: how much the commit has to wait for the disk.
    :ivar patience: seconds that locks of other processes are waited for.
    """

    __slots__ = ("error", "future", "level", "patience", "result", "work")

    def __init__(
        self, work: Callable[..., T], level: int = 0, patience: float = 0.0, future: asyncio.Future[T] | None = None
    ) -> None:
        self.work = work
        self.level = level
        self.patience = patience
        self.future = future
        self.result: T | None = None
        self.error: BaseException | None = None


class _Stop(Operation[None]):
    """The last operation of a worker."""

    __slots__ = ()


class Worker:
    """Hands batches of operations to `handle` in a thread of its own, which sets each one's result or error.

    :param after: called in the thread when those who wait for a batch have been told.
    :param idle: called in the thread when nothing came for `idle_s` seconds.
    :param close: called in the thread at its end.
    :param refuse: makes the error for an operation that came too late.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[list[Operation[Any]]], None],
        *,
        after: Callable[[], None] = _nothing,
        idle: Callable[[], None] = _nothing,
        close: Callable[[], None],
        refuse: Callable[[], Exception],
        idle_s: float,
    ) -> None:
        self._queue: queue.SimpleQueue[Operation[Any]] = queue.SimpleQueue()
        self._handle, self._after, self._idle = handle, after, idle
        self._close, self._refuse = close, refuse
        self._idle_s = idle_s
        self._stopped = False
        self._end: list[Operation[Any]] = []
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many operations nobody has begun yet."""
        return self._queue.qsize()

    def submit(self, operation: Operation[Any]) -> None:
        """Queue an operation; it is refused when the thread has ended."""
        self._queue.put(operation)
        if self._stopped:
            self._refuse_the_rest()

    def stop(self, future: asyncio.Future[None] | None = None) -> None:
        """Let the thread end when everything queued is done; `future` is set when it has."""
        self._queue.put(_Stop(_nothing, future=future))

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the thread, unless it is this one."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _work(self) -> None:
        try:
            while not self._end:
                batch = self._next_batch()
                if batch:
                    self._handle(batch)
                    report(batch)
                    self._after()
                del batch  # results are not kept alive while the thread waits
        finally:
            self._stopped = True
            self._close()
            self._refuse_the_rest()
            report(self._end)

    def _next_batch(self) -> list[Operation[Any]]:
        """Return what is waiting; nothing when the worker is to end."""
        batch = [self._wait()]
        while len(batch) < BATCH and not isinstance(batch[-1], _Stop):
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        if isinstance(batch[-1], _Stop):
            self._end.append(batch.pop())
        return batch

    def _wait(self) -> Operation[Any]:
        try:
            return self._queue.get(timeout=self._idle_s)
        except queue.Empty:
            self._idle()
            return self._queue.get()

    def _refuse_the_rest(self) -> None:
        refused = []
        while True:
            try:
                operation = self._queue.get_nowait()
            except queue.Empty:
                break
            if not isinstance(operation, _Stop):
                operation.error = self._refuse()
            refused.append(operation)
        report(refused)


def report(batch: list[Operation[Any]]) -> None:
    """Tell those who wait: one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Operation[Any]]] = {}
    for operation in batch:
        if operation.future is not None:
            loops.setdefault(operation.future.get_loop(), []).append(operation)
    for loop, operations in loops.items():
        try:
            loop.call_soon_threadsafe(_settle, operations)
        except RuntimeError:
            if not loop.is_closed():
                raise


def _settle(operations: list[Operation[Any]]) -> None:
    for operation in operations:
        future = operation.future
        if future is None or future.done():
            continue  # whoever waited was cancelled
        if operation.error is not None:
            future.set_exception(operation.error)
        else:
            future.set_result(operation.result)
