"""Threads that do what would block an event loop. What is asked about one run is done in order, by one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import attrs

T = TypeVar("T")

THREADS = 16
"""So many files are synced at the same time; the file system makes one commit of them. More gain nothing here."""


@attrs.define(eq=False)
class Job(Generic[T]):
    """Something that was asked for, and the future that waits for it."""

    work: T
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def deliver(self) -> None:
        """Hand over what came of it, in the loop that waits."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Workers(Generic[T]):
    """A few threads that take jobs by key.

    :param execute: does the jobs that have come together for a key, and sets the result or error of each.
    """

    def __init__(self, execute: Callable[[str, Sequence[Job[T]]], None]) -> None:
        self._execute = execute
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._boxes: dict[str, list[Job[T]]] = {}
        self._threads: list[threading.Thread] = []
        self._ending = False
        self._closers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._done: dict[asyncio.AbstractEventLoop, list[Job[T]]] = {}

    @property
    def is_of_this_process(self) -> bool:
        """False after a fork: threads stay behind in the parent."""
        return self._process == os.getpid()

    async def ask(self, key: str, work: T) -> Any:
        """Have `work` done and return its result."""
        loop = asyncio.get_running_loop()
        job = Job(work, loop, loop.create_future())
        self._put(key, job)
        return await job.future

    async def aclose(self) -> None:
        """Finish what was asked for and end the threads; the next question starts new ones."""
        ended = asyncio.Event()
        with self._lock:
            threads = list(self._threads)
            if not threads:
                return
            self._closers.append((asyncio.get_running_loop(), ended))
            self._end_when_idle()
        await ended.wait()
        for thread in threads:
            thread.join()

    def _put(self, key: str, job: Job[T]) -> None:
        with self._lock:
            box = self._boxes.get(key)
            if box is not None:
                box.append(job)
                return
            self._boxes[key] = [job]
            if len(self._threads) < min(len(self._boxes), THREADS):
                self._start()
        self._queue.put(key)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="flow-file", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (key := self._queue.get()) is not None:
            with self._lock:
                jobs, self._boxes[key] = self._boxes[key], []
            self._execute(key, jobs)
            self._acknowledge(jobs)
            with self._lock:
                if self._boxes[key]:
                    self._queue.put(key)
                    continue
                del self._boxes[key]
                self._end_when_idle()
        self._leave()

    def _end_when_idle(self) -> None:
        if self._closers and not self._boxes and not self._ending:
            self._ending = True
            for _ in self._threads:
                self._queue.put(None)

    def _leave(self) -> None:
        with self._lock:
            self._threads.remove(threading.current_thread())
            if self._threads:
                return
            self._ending = False
            closers, self._closers = self._closers, []
            if self._boxes:  # somebody has asked for something since the end was decided
                self._start()
        for loop, ended in closers:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

    def _acknowledge(self, jobs: Sequence[Job[T]]) -> None:
        """Wake each loop once for all jobs that are done until it has turned."""
        woken = []
        with self._lock:
            for job in jobs:
                if job.loop not in self._done:
                    self._done[job.loop] = []
                    woken.append(job.loop)
                self._done[job.loop].append(job)
        for loop in woken:
            try:
                loop.call_soon_threadsafe(self._deliver, loop)
            except RuntimeError:  # the loop was closed: nobody waits any more
                with self._lock:
                    self._done.pop(loop, None)

    def _deliver(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            jobs = self._done.pop(loop, [])
        for job in jobs:
            job.deliver()
