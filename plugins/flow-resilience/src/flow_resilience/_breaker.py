"""The state machine of a circuit breaker. It knows neither steps nor events: callers tell it the time."""

from __future__ import annotations

import enum
import threading
from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ._circuits import CircuitBreaker

SLICES = 60
"""Into how many parts the window of a failure rate is divided; what is older than the oldest part is forgotten."""


class CircuitState(enum.StrEnum):
    """Whether calls are let through: all of them, none, or a few to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


@attrs.frozen(kw_only=True)
class BreakerState:
    """What a circuit breaker is doing: `failures` are those in its window, `retry_after` seconds until it lets a call
    through, 0 when it does now, `probes` the calls that are out to see.
    """

    name: str
    state: CircuitState
    failures: int = 0
    retry_after: float = 0.0
    probes: int = 0


@attrs.frozen
class Change:
    """A state that was left for another, and why."""

    before: CircuitState
    after: CircuitState
    reason: str


class Rejected(Exception):
    """The breaker lets the call not through."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class Breaker:
    """One circuit, shared by the calls of all runs, loops and threads.

    A call that is admitted gets the number of the period it belongs to, and reports under it: what a call has to say
    that began before the circuit changed its state does not count any more.
    """

    __slots__ = ("_lock", "_opened_at", "_out", "_settings", "_slices", "_succeeded", "_times", "period", "state")

    def __init__(self, settings: CircuitBreaker) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.state = CLOSED
        self.period = 0
        self._opened_at = 0.0
        self._out = 0
        self._succeeded = 0
        self._times: deque[float] = deque(maxlen=settings.failures)
        self._slices: deque[_Slice] = deque()

    @property
    def name(self) -> str:
        """The name of the circuit."""
        return self._settings.name

    def admit(self, now: float) -> tuple[int, Change | None]:
        """Let a call through and return its period; raises `Rejected`."""
        with self._lock:
            change = self._look_again(now)
            if self.state is HALF_OPEN:
                if self._out + self._succeeded >= self._settings.probes:
                    raise Rejected(0.0)
                self._out += 1
            return self.period, change

    def check(self, now: float) -> None:
        """Raise `Rejected` if a call that comes now would not be let through; lets nothing through itself."""
        with self._lock:
            wait = self._opened_at + self._settings.open_for - now
            if self.state is OPEN and wait > 0:
                raise Rejected(wait)
            if self.state is HALF_OPEN and self._out + self._succeeded >= self._settings.probes:
                raise Rejected(0.0)

    def succeed(self, period: int, now: float, took: float = 0.0) -> Change | None:
        """Report a call that went well; a slow one counts as a failure."""
        slowest = self._settings.slow_call
        if slowest is not None and took > slowest:
            return self.fail(period, now, f"a call took {took:.3g} s")
        with self._lock:
            if period != self.period or self.state is OPEN:
                return None
            if self.state is CLOSED:
                if self._settings.rate is not None:
                    self._count(now, failed=False)
                return None
            self._out -= 1
            self._succeeded += 1
            if self._succeeded < self._settings.probes:
                return None
            return self._change(CLOSED, now, "the probe went well")

    def fail(self, period: int, now: float, reason: str) -> Change | None:
        """Report a call that failed in a way that speaks of the resource."""
        with self._lock:
            if period != self.period or self.state is OPEN:
                return None
            if self.state is HALF_OPEN:
                return self._change(OPEN, now, f"the probe failed: {reason}")
            self._times.append(now)
            if self._settings.rate is not None:
                self._count(now, failed=True)
            if not self._is_too_much(now):
                return None
            return self._change(OPEN, now, f"{self._settings.describe()}; the last: {reason}")

    def abandon(self, period: int) -> None:
        """Report a call that says nothing about the resource, such as a cancelled one: a probe gives its slot back."""
        with self._lock:
            if period == self.period and self.state is HALF_OPEN:
                self._out -= 1

    def open(self, now: float, reason: str) -> Change | None:
        """Open the circuit, or keep it open from now on."""
        with self._lock:
            if self.state is OPEN:
                self._opened_at = now
                return None
            return self._change(OPEN, now, reason)

    def close(self, now: float, reason: str) -> Change | None:
        """Close the circuit and forget its failures."""
        with self._lock:
            return self._change(CLOSED, now, reason)

    def look(self, now: float) -> BreakerState:
        """Return what the circuit is doing."""
        with self._lock:
            wait = self._opened_at + self._settings.open_for - now if self.state is OPEN else 0.0
            recent = sum(self._is_recent(time, now) for time in self._times)
            return BreakerState(
                name=self._settings.name,
                state=self.state,
                failures=recent if self._settings.rate is None else self._totals(now)[0],
                retry_after=max(0.0, wait),
                probes=self._out,
            )

    # -- inside, with the lock held

    def _look_again(self, now: float) -> Change | None:
        if self.state is not OPEN:
            return None
        wait = self._opened_at + self._settings.open_for - now
        if wait > 0:
            raise Rejected(wait)
        return self._change(HALF_OPEN, now, f"it was open for {self._settings.open_for:g} s")

    def _change(self, state: CircuitState, now: float, reason: str) -> Change | None:
        before, self.state = self.state, state
        self.period += 1
        self._opened_at = now
        self._out = self._succeeded = 0
        self._times.clear()
        self._slices.clear()
        return Change(before, state, reason) if before is not state else None

    def _is_recent(self, time: float, now: float) -> bool:
        return time > now - self._settings.window

    def _is_too_much(self, now: float) -> bool:
        """Tell whether the window holds enough failures; it remembers no more of them than are needed."""
        needed, rate = self._settings.failures, self._settings.rate
        if rate is None:
            return len(self._times) == needed and self._is_recent(self._times[0], now)
        failed, total = self._totals(now)
        return failed >= needed and failed >= rate * total

    def _count(self, now: float, *, failed: bool) -> None:
        number = self._slice_number(now)
        if not self._slices or self._slices[-1].number != number:
            self._slices.append(_Slice(number))
        latest = self._slices[-1]
        latest.total += 1
        latest.failed += failed
        while self._slices[0].number <= number - SLICES:
            self._slices.popleft()

    def _totals(self, now: float) -> tuple[int, int]:
        oldest = self._slice_number(now) - SLICES
        counted = [part for part in self._slices if part.number > oldest]
        return sum(part.failed for part in counted), sum(part.total for part in counted)

    def _slice_number(self, now: float) -> int:
        return int(now * SLICES / self._settings.window)


class _Slice:
    """The calls of one part of the window."""

    __slots__ = ("failed", "number", "total")

    def __init__(self, number: int) -> None:
        self.number = number
        self.total = 0
        self.failed = 0
