"""A clock that skips: waiting takes no time when nothing is happening."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_Ready: TypeAlias = list[tuple[selectors.SelectorKey, int]]
_Select: TypeAlias = Callable[[float | None], _Ready]

_START = 1000.0  # not 0: code that takes a time for a truth value must not see a special case


class FakeClock:
    """Runs coroutines on an event loop whose clock jumps to the next timer when all tasks wait.

    ``asyncio.sleep``, ``asyncio.timeout`` and ``loop.call_later`` follow this clock; ``time.time`` and
    ``time.monotonic`` do not. While a call in an executor is outstanding (a sync agent, ``asyncio.to_thread``) nothing
    is skipped and time passes as it really does, so that a thread gets the time it needs.

    >>> clock = FakeClock()
    >>> clock.run(asyncio.sleep(3600, "an hour later"))
    'an hour later'
    >>> clock.elapsed
    3600.0
    """

    def __init__(self) -> None:
        self._now = _START
        self._outstanding = 0

    @property
    def now(self) -> float:
        """Seconds on this clock: the ``loop.time()`` of its loops. Never goes back."""
        return self._now

    @property
    def elapsed(self) -> float:
        """Seconds that have passed on this clock since it was made."""
        return round(self._now - _START, 9)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end on a new loop of this clock and return what it returns."""
        with asyncio.Runner(loop_factory=self.new_event_loop) as runner:
            return runner.run(work)

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new loop of this clock, for `asyncio.Runner` and whatever else takes a loop factory."""
        return _SkippingLoop(self)

    def advance(self, seconds: float) -> None:
        """Let time pass; timers that come due run when the loop gets its turn."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self._now += seconds

    def _wait(self, select: _Select, timeout: float | None) -> _Ready:
        """Wait as the loop asks: really when something outside may happen, else by moving the clock."""
        ready = select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None and not self._outstanding:
            self._now += timeout
            return ready
        started = time.monotonic()
        ready = select(timeout)
        self._now += time.monotonic() - started
        return ready


class _SkippingSelector(selectors.DefaultSelector):
    """The selector of a loop, which is where a loop waits."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> _Ready:
        return self._clock._wait(super().select, timeout)


class _SkippingLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__(_SkippingSelector(clock))
        self._fake_clock = clock

    def time(self) -> float:
        return self._fake_clock.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._fake_clock._outstanding += 1
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _: object) -> None:
        self._fake_clock._outstanding -= 1

    async def shutdown_default_executor(self, *limit: Any) -> None:
        self._fake_clock._outstanding += 1  # the loop waits for the threads, since 3.12 with a timeout
        try:
            await super().shutdown_default_executor(*limit)
        finally:
            self._fake_clock._outstanding -= 1
