"""The time axis of a run: from its first moment to its last, without the time between its executions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise

import attrs

from flow_lens._building import merged
from flow_lens._trace import Trace, TraceStep

_SHORTEST_CUT_S = 1.0
_SHORTEST_CUT = 0.1
"""Of the time in which something happened: a shorter rest is shown as it was."""


@attrs.frozen
class Cut:
    """Time that the axis leaves out: nothing was executed between two moments (epoch seconds).

    :ivar offset: where on the axis, in seconds from its beginning.
    :ivar answered: the step whose question was answered in between.
    """

    since: float
    until: float
    offset: float
    answered: str | None = None

    @property
    def seconds(self) -> float:
        """How much time is left out."""
        return self.until - self.since


@attrs.frozen
class Axis:
    """Stretches of time (epoch seconds) put one behind the other.

    >>> axis = Axis(((0.0, 2.0), (100.0, 103.0)))
    >>> axis.length, axis.offset(1.5), axis.offset(50.0), axis.offset(101.0), axis.offset(999.0)
    (5.0, 1.5, 2.0, 3.0, 5.0)
    """

    stretches: tuple[tuple[float, float], ...]
    cuts: tuple[Cut, ...] = ()
    _begins: tuple[float, ...] = attrs.field(init=False)
    _offsets: tuple[float, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        offsets = [0.0]
        for begin, end in self.stretches:
            offsets.append(offsets[-1] + end - begin)
        object.__setattr__(self, "_begins", tuple(begin for begin, _ in self.stretches))
        object.__setattr__(self, "_offsets", tuple(offsets))

    @property
    def length(self) -> float:
        """The seconds on the axis."""
        return self._offsets[-1]

    def offset(self, at: float) -> float:
        """Return the seconds from the beginning of the axis to a moment; one that was cut out is where the cut is."""
        index = bisect_right(self._begins, at) - 1
        if index < 0:
            return 0.0
        begin, end = self.stretches[index]
        return self._offsets[index] + min(at, end) - begin


def axis_of(trace: Trace, now: float | None = None) -> Axis:
    """Return the axis of a run.

    :param now: the moment (epoch seconds) until which a run that goes on is shown.
    """
    times = [(step.started_at, step.ended_at) for step in trace.walk() if _has_time(step)]
    times.append((trace.run.created_at, trace.run.created_at))
    if now is not None:
        last = max(end for _, end in times)
        times.append((min(last, now), now))
    stretches = merged(times)
    worked = sum(end - begin for begin, end in stretches)
    least = max(_SHORTEST_CUT_S, _SHORTEST_CUT * worked)
    kept = [stretches[0]]
    for begin, end in stretches[1:]:
        if begin - kept[-1][1] < least:
            kept[-1] = (kept[-1][0], end)
        else:
            kept.append((begin, end))
    return Axis(tuple(kept), tuple(_cuts(kept, trace)))


def _has_time(step: TraceStep) -> bool:
    """Tell whether the times of a step say when something happened; those of a container may span executions."""
    return step.started_at > 0 and (not step.children or step.took_s >= (step.ended_at - step.started_at) * 0.999)


def _cuts(stretches: Iterable[tuple[float, float]], trace: Trace) -> Iterable[Cut]:
    answers = [(step.answer.at, step.path) for step in trace.walk() if step.answer is not None]
    offset = 0.0
    for (begin, end), (following, _) in pairwise(stretches):
        offset += end - begin
        answered = next((path for at, path in answers if end <= at <= following + _SHORTEST_CUT_S), None)
        yield Cut(end, following, offset, answered)
