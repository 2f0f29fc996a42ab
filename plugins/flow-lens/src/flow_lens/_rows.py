"""Which steps of a run are shown, as rows: nested ones below their container, long fan-outs and loops folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

from flow_lens._trace import Trace, TraceStep

MOST = 12
"""How many rows a container has at most when it is folded."""


@attrs.frozen
class Row:
    """A row: a step or group, or what is left out of its container.

    :ivar lasts: for each level from the outside whether nothing follows on it: what a tree is drawn from.
    :ivar folded: the steps that are left out, when the row stands for them.
    :ivar hidden: how many steps inside of this one are not shown.
    """

    lasts: tuple[bool, ...]
    step: TraceStep | None = None
    folded: tuple[TraceStep, ...] = ()
    hidden: int = 0

    @property
    def depth(self) -> int:
        """How many steps and groups enclose it."""
        return len(self.lasts) - 1


def rows_of(trace: Trace, *, depth: int | None = None, most: int | None = MOST) -> list[Row]:
    """Return the rows of a run, each container before what is inside.

    :param depth: how many levels are shown.
    :param most: how many rows a container may have; those that failed come first, then those that took longest.
        ``None`` shows all.
    """
    return list(_below(trace.steps, (), depth, most))


def _below(steps: Sequence[TraceStep], lasts: tuple[bool, ...], depth: int | None, most: int | None) -> Iterator[Row]:
    shown, folded = _folded(steps, most if lasts else None)  # the pipeline itself is shown whole
    for index, step in enumerate(shown):
        here = (*lasts, index == len(shown) - 1 and not folded)
        if depth is not None and len(here) >= depth:
            yield Row(here, step, hidden=sum(inner.is_step for inner in step.walk()) - step.is_step)
        else:
            yield Row(here, step)
            yield from _below(step.children, here, depth, most)
    if folded:
        yield Row((*lasts, True), folded=tuple(folded))


def _folded(steps: Sequence[TraceStep], most: int | None) -> tuple[Sequence[TraceStep], Sequence[TraceStep]]:
    if most is None or len(steps) <= most:
        return steps, ()
    telling = sorted(steps, key=lambda step: (not _has_failed(step), step.status == "completed", -step.took_s))
    kept = {id(step) for step in telling[: most - 1]}
    return [step for step in steps if id(step) in kept], [step for step in steps if id(step) not in kept]


def _has_failed(step: TraceStep) -> bool:
    return any(inner.failed for inner in step.walk())


def folded_in_words(steps: Sequence[TraceStep]) -> str:
    """Say what is left out: ``88 more: 87 completed, 1 failed``."""
    counts = Counter(step.status for step in steps)
    return f"{len(steps):,} more: " + ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
