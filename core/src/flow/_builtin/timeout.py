"""The ``TIMEOUT`` layer: the seconds one attempt may take."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from .._protocols import Execute, Layer, Wrapper
from ..errors import StepTimeout
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from .._kernel import Binder
    from .._results import StepResult
    from .._run import Scope


@hookimpl
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Cancel an attempt after ``timeout`` seconds; a thread that does not return is left behind."""
    if step.timeout is None:
        return None
    seconds = step.timeout

    def wrap(execute: Execute) -> Execute:
        latest = _Latest()

        async def timed(data: Any, scope: Scope) -> StepResult:
            loop, watch = asyncio.get_running_loop(), latest.watch
            if watch is None or watch.loop is not loop:
                watch = latest.watch = _Watch(loop, seconds)
            attempt = _Attempt()
            watch.begin(attempt)
            try:
                return await execute(data, scope)
            except asyncio.CancelledError:
                if attempt.is_stopped_by_watch():
                    raise StepTimeout(f"step {scope.path!r} timed out after {seconds:g} s", path=scope.path) from None
                raise
            finally:
                watch.end(attempt)

        return timed

    return Wrapper(Layer.TIMEOUT, wrap)


class _Attempt:
    """One attempt that is watched: the task to cancel, and whether the watch has cancelled it."""

    __slots__ = ("cancelling", "ends_at", "overdue", "task")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a coroutine runs in a task
        self.task = task
        self.cancelling = task.cancelling()
        self.ends_at = 0.0
        self.overdue = False

    def is_stopped_by_watch(self) -> bool:
        """Take back the watch's request to cancel; False when the task was to end for another reason as well."""
        if not self.overdue:
            return False
        self.overdue = False
        return self.task.uncancel() <= self.cancelling


class _Latest(threading.local):
    """The watch that a thread used last: its loop seldom changes."""

    watch: _Watch | None = None


class _Watch:
    """The running attempts of one step on one loop, in the order in which they end: all may take equally long.

    One timer for all of them, which is left running when an attempt ends in time: `asyncio.timeout` sets one and
    cancels it for every attempt, which is 4 µs of the 6 that a step with all its layers may cost.
    """

    __slots__ = ("_attempts", "_clock", "_seconds", "_timer", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop = loop
        self._clock = loop.time
        self._seconds = seconds
        self._attempts: dict[_Attempt, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, attempt: _Attempt) -> None:
        """Cancel the attempt's task when its time is over, unless it has ended."""
        attempt.ends_at = self._clock() + self._seconds
        self._attempts[attempt] = None
        if self._timer is None:
            self._timer = self.loop.call_at(attempt.ends_at, self._look)

    def end(self, attempt: _Attempt) -> None:
        """Forget the attempt; a request to cancel its task that came to nothing is taken back."""
        self._attempts.pop(attempt, None)
        attempt.is_stopped_by_watch()

    def _look(self) -> None:
        self._timer = None
        now = self._clock()
        for attempt in list(self._attempts):
            if attempt.ends_at > now:
                self._timer = self.loop.call_at(attempt.ends_at, self._look)
                return
            del self._attempts[attempt]
            attempt.overdue = True
            attempt.task.cancel()
