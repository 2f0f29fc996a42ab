"""How loaded the process is: readings, thresholds, and levels that do not flicker."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import attrs


class LoadLevel(enum.IntEnum):
    """How loaded the process is.

    >>> LoadLevel.SEVERE > LoadLevel.MINOR
    True
    """

    NORMAL = 0
    MINOR = 1
    MODERATE = 2
    SEVERE = 3


@attrs.frozen
class Reading:
    """What was measured: seconds by which the event loop is late, the share of memory in use, calls that wait."""

    lag_s: float = 0.0
    memory: float = 0.0
    queue: float = 0.0


@attrs.frozen
class Thresholds:
    """At which values the levels minor, moderate and severe begin."""

    lag: Sequence[float]
    memory: Sequence[float]
    queue: Sequence[float]

    def level(self, reading: Reading, scale: float = 1.0) -> LoadLevel:
        """Return the worst level that any value reaches; `scale` below 1 lowers all thresholds."""
        values = ((reading.lag_s, self.lag), (reading.memory, self.memory), (reading.queue, self.queue))
        return LoadLevel(max(sum(value >= limit * scale for limit in limits) for value, limits in values))


class LevelMeter:
    """Turns readings into a level: worse at once, better step by step and after a while."""

    __slots__ = ("_calm_since", "_recover_after", "_relief", "_thresholds", "level")

    def __init__(self, thresholds: Thresholds, recover_after: float, relief: float) -> None:
        self._thresholds = thresholds
        self._recover_after = recover_after
        self._relief = relief
        self._calm_since: float | None = None
        self.level = LoadLevel.NORMAL

    def take(self, reading: Reading, now: float) -> LoadLevel:
        """Return the level after a reading at `now`."""
        worst = self._thresholds.level(reading)
        if worst > self.level:
            self.level, self._calm_since = worst, None
        elif self._thresholds.level(reading, self._relief) >= self.level:
            self._calm_since = None  # not better by enough to count as calm
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= self._recover_after:
            self.level, self._calm_since = LoadLevel(self.level - 1), now
        return self.level


def memory_in_use() -> float:
    """Return the share of the memory this process may use that it does use; 0 where the system does not say."""
    limit = _memory_limit()
    resident = _resident_bytes()
    return resident / limit if limit and resident else 0.0


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # not Linux
        return 0


@cache
def _memory_limit() -> int:
    """Return the bytes that the control group of the process may use, or the machine's memory."""
    machine = 0
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
        return min(limit, machine) if machine else limit
    return machine
