"""What was spent within a sliding window of time. It knows neither steps nor limits: callers tell it the time."""

from __future__ import annotations

from collections import deque

import attrs

from flow import Usage

SLICES = 60
"""Into how many parts a window is divided: what was spent in one part is forgotten together."""

_NOTHING = Usage()


@attrs.define
class _Slice:
    latest: float
    number: int
    usage: Usage


class Window:
    """Adds up usage, and forgets it when `per` seconds have passed since; without `per` it never forgets.

    A part of the window is forgotten when its latest amount is old enough: never too early, and at most a sixtieth of
    the window too late. So in no stretch of `per` seconds more is spent than the window has shown.
    """

    __slots__ = ("_per", "_slices", "_total")

    def __init__(self, per: float | None) -> None:
        self._per = per
        self._total = _NOTHING
        self._slices: deque[_Slice] = deque()

    def add(self, usage: Usage, now: float) -> None:
        """Count what is spent at the time `now`."""
        self._total = self._total + usage
        if self._per is None:
            return
        number = int(now * SLICES / self._per)
        if self._slices and self._slices[-1].number == number:
            last = self._slices[-1]
            last.latest, last.usage = max(last.latest, now), last.usage + usage
        else:
            self._slices.append(_Slice(now, number, usage))

    def total(self, now: float) -> Usage:
        """Return what counts at the time `now`."""
        if self._per is not None and self._slices and self._slices[0].latest + self._per <= now:
            while self._slices and self._slices[0].latest + self._per <= now:
                self._slices.popleft()
            # Added up anew, not subtracted: differences of prices would leave a rest that nobody has spent.
            self._total = sum((part.usage for part in self._slices), _NOTHING)
        return self._total

    def later(self, now: float) -> list[tuple[float, Usage]]:
        """Return what will still count, by the seconds until it does, if nothing more is spent."""
        if self._per is None:
            return []
        found, rest = [], _NOTHING
        for part in reversed(self._slices):
            found.append((max(0.0, part.latest + self._per - now), rest))
            rest = rest + part.usage
        return found[::-1]
