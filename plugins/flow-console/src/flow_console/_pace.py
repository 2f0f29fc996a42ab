"""How fast something comes: a rate over the moments just past, and whether it can be trusted to tell of the rest."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

_MOMENT_S = 0.5
_MOMENTS = 32  # the last sixteen seconds of what comes quickly, the last 31 arrivals of what comes slowly
_WARM_AFTER = 8
_FEWEST = 3


class Pace:
    """The rate at which a count grows, from a window that slides.

    What arrives within half a second is one moment, so that a burst of items that were worked on side by side counts
    for the time they took together. The first items pay for connections and caches: once there are enough others, they
    count no longer.

    :param at: when the counting begins, in seconds.
    :param count: what it begins with.

    >>> pace = Pace(0.0)
    >>> for second in range(1, 5):
    ...     pace.note(float(second), 10 * second)
    >>> pace.rate(4.0), pace.is_telling
    (10.0, True)
    """

    __slots__ = ("_is_cold", "_moments")

    def __init__(self, at: float, count: int = 0) -> None:
        self._moments: deque[list[float]] = deque([[at, at, count]], maxlen=_MOMENTS)  # begin, end, count at the end
        self._is_cold = True

    def restart(self, at: float, count: int = 0) -> None:
        """Begin anew."""
        self._moments.clear()
        self._moments.append([at, at, count])
        self._is_cold = True

    def note(self, at: float, count: int) -> None:
        """Take the count of a moment."""
        moments = self._moments
        last = moments[-1]
        if at - last[0] < _MOMENT_S and len(moments) > 1:
            last[1], last[2] = at, count
            return
        moments.append([at, at, count])
        if self._is_cold and len(moments) > _WARM_AFTER:
            moments.popleft()
            self._is_cold = False

    def rate(self, now: float) -> float | None:
        """Return the count per second; ``None`` while too little is known.

        Silence slows the rate only when it lasts longer than any in the window: what comes in bursts is not slow
        between two of them.
        """
        first, last = self._moments[0], self._moments[-1]
        silence = max((after[0] - before[1] for before, after in pairwise(self._moments)), default=0.0)
        span = max(last[1] - first[1], now - first[1] - silence)
        gained = last[2] - first[2]
        return gained / span if gained > 0 and span >= _MOMENT_S else None

    @property
    def is_telling(self) -> bool:
        """True when the rate says something of the future: it comes from several moments, not from the first item."""
        return len(self._moments) >= _FEWEST and self._moments[-1][2] - self._moments[0][2] >= _FEWEST
