"""Rate limits and bulkheads: how often a step may be called, and how many times at once."""

from __future__ import annotations

import asyncio
import threading

import attrs

from flow import ErrorCategory
from flow.errors import StepFailed

from ._checks import a_name_or_none, above_zero, count, count_or_none
from ._clock import now
from ._line import Line
from ._registry import Shared

_ROUNDING = 1e-9  # sums of times are not exact in binary, and a caller who waits its time must get through
_SHORTEST_SLEEP = 1e-6


class RateLimited(StepFailed):
    """The run's deadline comes before the rate limit lets the call through; ``retry_after`` is in seconds."""

    code = "rate_limited"
    category = ErrorCategory.RATE_LIMIT

    def __init__(self, message: str, *, retry_after: float, path: str | None = None) -> None:
        super().__init__(message, path=path)
        self.retry_after = retry_after


class BulkheadFull(StepFailed):
    """As many calls wait for a bulkhead already as its ``max_waiting`` allows."""

    code = "bulkhead_full"
    category = ErrorCategory.RESOURCE


@attrs.frozen
class RateLimit:
    """Lets `calls` calls through in `per` seconds; further ones wait for their turn, in their order.

    After a pause up to `calls` calls may follow each other at once; in any time there are no more than that and what
    the rate allows for the time. Steps that carry the same object share the limit, as do all runs and event loops of
    the process, and policies with the same `name`. Each attempt counts.

    >>> RateLimit(10, per=1.0)
    RateLimit(calls=10, per=1.0, name=None)
    """

    calls: float = attrs.field(validator=above_zero)
    per: float = attrs.field(default=1.0, validator=above_zero)
    name: str | None = attrs.field(default=None, validator=a_name_or_none)


@attrs.frozen
class Bulkhead:
    """Lets `limit` calls run at the same time; further ones wait for their turn, in their order.

    With `max_waiting`, calls beyond so many waiting ones fail at once with `BulkheadFull`. Shared like a `RateLimit`.
    """

    limit: int = attrs.field(validator=count)
    name: str | None = attrs.field(default=None, validator=a_name_or_none)
    max_waiting: int | None = attrs.field(default=None, validator=count_or_none)


class Bucket:
    """The calls of a rate limit: each adds to a bucket what takes `_interval` seconds to leak out."""

    # Not aiolimiter, which does this for one event loop: each `flow.run` has a loop of its own, and a limit that begins
    # anew with each of them is none.

    __slots__ = ("_burst", "_empty_at", "_interval", "_line", "_lock", "name")

    def __init__(self, limit: RateLimit) -> None:
        self.name = _describe(limit)  # and not the policy, which this would keep alive
        self._interval = limit.per / limit.calls
        self._burst = max(limit.per, self._interval)
        self._empty_at = 0.0
        self._line = Line()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return len(self._line.places)

    def try_take(self, time: float) -> bool:
        """Go through at once if that is possible and nobody waits."""
        with self._lock:
            return not self._line.places and self._lacks(time) <= _ROUNDING

    def wait_s(self, time: float) -> float:
        """Return the seconds that a caller who comes now will wait, if nobody who waits gives up."""
        with self._lock:
            full_by = max(self._empty_at, time) + (self.waiting + 1) * self._interval
            return max(0.0, full_by - time - self._burst)

    async def take(self) -> None:
        """Go through when it is this caller's turn and there is room."""
        with self._lock:
            place = self._line.join()
            self._line.call_first()
        try:
            await place.turn()
            while True:
                with self._lock:
                    lacking = self._lacks(now())
                if lacking <= _ROUNDING:
                    return
                await asyncio.sleep(max(lacking, _SHORTEST_SLEEP))
        finally:
            with self._lock:
                if self._line.leave(place):
                    self._line.call_first()

    def _lacks(self, time: float) -> float:
        """Let a call through if there is room; else return the seconds until there is."""
        empty_at = (self._empty_at if self._empty_at > time else time) + self._interval  # noqa: FURB136  0.1 µs less
        lacking = empty_at - time - self._burst
        if lacking <= _ROUNDING:
            self._empty_at = empty_at
        return lacking


class Slots:
    """The calls inside a bulkhead."""

    __slots__ = ("_inside", "_line", "_lock", "_most_waiting", "_room", "name")

    def __init__(self, limit: Bulkhead) -> None:
        self.name = _describe(limit)
        self._room = limit.limit
        self._most_waiting = limit.max_waiting
        self._inside = 0
        self._line = Line()
        self._lock = threading.Lock()

    @property
    def inside(self) -> int:
        """How many calls run, counting callers who have been called in and do not know it yet."""
        return self._inside

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return len(self._line.places)

    def try_enter(self) -> bool:
        """Go in at once if there is a free slot; nobody waits then."""
        with self._lock:
            if self._inside >= self._room:
                return False
            self._inside += 1
            return True

    @property
    def is_full(self) -> bool:
        """True when no further caller may wait."""
        return self._most_waiting is not None and self.waiting >= self._most_waiting

    async def enter(self) -> None:
        """Go in when it is this caller's turn; raises `BulkheadFull` when too many wait already."""
        with self._lock:
            if self._inside < self._room:
                self._inside += 1
                return
            if self.is_full:
                raise BulkheadFull(f"{self.name} is full: {self._inside} calls run and {self.waiting} wait")
            place = self._line.join()
        try:
            await place.turn()
        except BaseException:
            with self._lock:
                if place.called:  # a slot was handed over to a caller who is gone
                    self._pass_on()
                else:
                    self._line.leave(place)
            raise

    def leave(self) -> None:
        """Give the slot to the next caller, or free it."""
        with self._lock:
            if self._line.places:
                self._pass_on()
            else:
                self._inside -= 1

    def _pass_on(self) -> None:
        if not self._line.take_first():
            self._inside -= 1


def _describe(limit: RateLimit | Bulkhead) -> str:
    """Name a limit as people do."""
    what = "rate limit" if isinstance(limit, RateLimit) else "bulkhead"
    if limit.name is not None:
        return f"{what} {limit.name!r}"
    return f"the {what} of {limit.calls:g} per {limit.per:g} s" if isinstance(limit, RateLimit) else f"the {what}"


buckets: Shared[RateLimit, Bucket] = Shared(Bucket)
bulkheads: Shared[Bulkhead, Slots] = Shared(Slots)


def waiting_calls() -> int:
    """Return how many calls wait for the rate limits and bulkheads of this process."""
    return sum(bucket.waiting for bucket in buckets.every()) + sum(slots.waiting for slots in bulkheads.every())
