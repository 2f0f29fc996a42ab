"""Ctrl-C and SIGTERM while a run goes on, and threads that would keep the program from ending."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from .._agents import _threads

GRACE_S = 0.5
"""How long a program that has printed its result waits for agents in threads, which nothing can stop."""
_WORKERS = ("flow-step", "asyncio_", "uvloop_")
"""How threads of steps are called, and those of `asyncio.to_thread` on the loops of asyncio and uvloop."""


class Interruption:
    """``with Interruption() as interruption:`` the first signal cancels the run, the second ends the program at once.

    Python's own handlers and not the loop's, which are not called while a step blocks the loop.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The signal that came."""
        self._cancel: Callable[[], object] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def cancels(self, cancel: Callable[[], object]) -> None:
        """Call `cancel` in the running loop when a signal comes; soon if one has come already."""
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(cancel)
        for number in self._before:
            # A signal between two instructions of the loop, just before it waits, would go unnoticed: with a handler
            # of its own the loop is woken. What is called is still `_take`.
            with contextlib.suppress(NotImplementedError):  # on Windows
                loop.add_signal_handler(number, _nothing)
            signal.signal(number, self._take)
        if self.signal is not None:
            self._cancel()

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that was ended by the signal; 0 when none came."""
        return 0 if self.signal is None else 128 + self.signal

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and background jobs of a shell have it
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(self.exit_code)
        self.signal = signal.Signals(number)
        if self._cancel is not None:
            self._cancel()


def _nothing() -> None: ...


def leave_threads_behind(exit_code: int) -> None:
    """Let the program end with `exit_code` although an agent still works in a thread; called when all is printed.

    Python waits for such threads at its end, for ever if need be. Those that are idle end at once and delay nothing.
    """
    if _threads.cache_info().currsize:
        _threads().shutdown(wait=False)
        _threads.cache_clear()
    workers = [thread for thread in threading.enumerate() if thread.name.startswith(_WORKERS)]
    if workers:
        timer = threading.Timer(GRACE_S, _end, [exit_code, workers])
        timer.daemon = True
        timer.start()


def _end(exit_code: int, workers: Sequence[threading.Thread]) -> None:
    if any(thread.is_alive() for thread in workers):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # a pipe that nobody reads any more
                stream.flush()
        os._exit(exit_code)
