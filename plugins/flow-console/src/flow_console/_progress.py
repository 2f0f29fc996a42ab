"""How far a running step is: what it reports, what can be counted of the items inside it, and what it streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flow_console._format import clean, count
from flow_console._pace import Pace

ITERATION = "iteration"
"""The unit of loops. Their total is a bound: they may end before it."""

_FAILED = -1  # stands for a position, where items are counted that did not get to their last step
_LONGEST_UNIT = 20


@dataclass(frozen=True, slots=True)
class Gauge:
    """How far a step is at a moment.

    :ivar rate: of `unit` per second, ``None`` while it is not known.
    :ivar left_s: seconds that the rest will take, ``None`` where that cannot be told.
    :ivar extra: what else there is to say, when there is room.
    """

    done: int
    unit: str
    total: int | None = None
    failed: int = 0
    rate: float | None = None
    left_s: float | None = None
    extra: str = ""

    @property
    def has_bar(self) -> bool:
        """True when it is known which part is done."""
        return bool(self.total) and self.unit != ITERATION

    def counted(self, *, named: bool = True, padded: bool = False) -> str:
        """Return the count in words.

        :param named: with the unit.
        :param padded: as wide as it will ever be, so that what follows stays where it is.

        >>> Gauge(3, "page", 120).counted(), Gauge(3, "page").counted(), Gauge(3, "iteration", 10).counted()
        ('3/120 pages', '3 pages', 'iteration 3 of at most 10')
        """
        unit = self.unit if named else ""
        if self.unit == ITERATION and not self.done:
            return f"at most {count(self.total, unit) if named else self.total}" if self.total else "none yet"
        if self.unit == ITERATION:
            bound = f" of at most {self.total:,}" if self.total else ""
            return f"{unit} {self.done:,}{bound}".lstrip()
        if self.total is None:
            return f"{self.done:,} {plural(self.done, unit)}".rstrip()
        total = f"{self.total:,}"
        done = f"{self.done:,}".rjust(len(total) if padded else 0)
        return f"{done}/{total} {plural(self.total, unit)}".rstrip()


def plural(number: int, unit: str) -> str:
    """Return a unit as it stands after a number. Symbols, and what is a plural already, stay as they are.

    >>> plural(2, "page"), plural(2, "MiB"), plural(2, "%"), plural(2, "files")
    ('pages', 'MiB', '%', 'files')
    """
    is_word = len(unit) > 2 and unit.isalpha() and unit.islower() and not unit.endswith("s")
    return count(number, unit).partition(" ")[2] if is_word else unit


class Progress:
    """How far one step is.

    It counts what the step reports. Where only the total was announced, it counts the items that have ended inside: an
    item has when its last step has, or when one of its steps failed. Replayed items do not make the rate.

    :param unit: what is counted, in the singular.
    :param at: when it begins, in seconds.
    :param done: what it begins with.
    """

    __slots__ = ("_ended", "_last", "_pace", "_positions", "_replayed", "_reported", "_turn", "total", "unit")

    def __init__(self, unit: str, at: float, done: int = 0) -> None:
        self.unit = unit
        self.total: int | None = None
        self._reported = done
        self._pace = Pace(at, done)
        self._turn = 0
        self._positions: dict[str, int] = {}
        """By their part of the path, where the steps of an item stand: all items run the same ones."""
        self._last = 0
        """The highest of these positions."""
        self._ended: dict[int, int] = {}
        self._replayed: dict[int, int] = {}

    def report(self, done: int | None, total: int | None, at: float) -> None:
        """Take what the step says itself."""
        self.total = total
        if not done:
            return
        if done < self._reported:
            self._pace.restart(at, done)
        elif done > self._reported:
            self._pace.note(at, done)
        self._reported = done

    def enter(self, segment: str) -> None:
        """Take the first sight of an item or iteration, by its part of the path."""
        if segment[:1] == "i" and segment[1:].isdecimal():
            self._turn = max(self._turn, int(segment[1:]))

    def start(self, segment: str) -> None:
        """Take the start of a step of an item."""
        if segment not in self._positions:
            self._learn(segment)

    def finish(self, segment: str, at: float, *, failed: bool, replayed: bool) -> None:
        """Take the end of a step of an item."""
        self.start(segment)
        where = _FAILED if failed else self._positions[segment]
        self._ended[where] = self._ended.get(where, 0) + 1
        if replayed:
            self._replayed[where] = self._replayed.get(where, 0) + 1
        if self._reported or where not in (self._last, _FAILED):
            return
        fresh = self._counted(self._ended) - (self._counted(self._replayed) if self._replayed else 0)
        if fresh:
            self._pace.note(at, fresh)
        else:
            self._pace.restart(at)

    def gauge(self, now: float) -> Gauge:
        """Return how far it is now, in seconds."""
        if self.unit == ITERATION:
            return Gauge(self._turn or self._reported, self.unit, self.total)
        done = self._reported or self._counted(self._ended)
        rate, left_s = self._pace.rate(now), None
        if rate and self.total is not None and self.total > done and self._pace.is_telling:
            left_s = (self.total - done) / rate
        replayed = self._counted(self._replayed)
        extra = f"{replayed:,} replayed" if replayed else ""
        return Gauge(done, self.unit, self.total, self._ended.get(_FAILED, 0), rate, left_s, extra)

    def _learn(self, segment: str) -> None:
        head = segment.partition(":")[0]
        position = self._positions[segment] = int(head) if head.isdecimal() else 0
        self._last = max(self._last, position)

    def _counted(self, ends: Mapping[int, int]) -> int:
        return ends.get(self._last, 0) + ends.get(_FAILED, 0)


def progress_after(known: Progress | None, detail: Mapping[str, Any], at: float) -> Progress:
    """Return the progress of a step that has reported `detail`; a report of nothing done begins a new one."""
    done, unit = detail.get("done"), clean(str(detail.get("unit", "")), _LONGEST_UNIT)
    if known is None or done == 0 or known.unit != unit:
        known = Progress(unit, at, done or 0)
    known.report(done, detail.get("total"), at)
    return known


class Stream:
    """What a step has streamed since its stream began.

    :param at: when the first chunk came, in seconds.
    """

    __slots__ = ("_pace", "characters", "chunks")

    def __init__(self, at: float) -> None:
        self.chunks = 0
        self.characters = 0
        self._pace = Pace(at, 1)

    def add(self, chunk: str, at: float) -> None:
        """Take a chunk."""
        self.chunks += 1
        self.characters += len(chunk)
        if self.chunks > 1:
            self._pace.note(at, self.chunks)

    def gauge(self, now: float) -> Gauge:
        """Return how far it is now, in seconds."""
        extra = count(self.characters, "character") if self.characters else ""
        return Gauge(self.chunks, "chunk", rate=self._pace.rate(now), extra=extra)
