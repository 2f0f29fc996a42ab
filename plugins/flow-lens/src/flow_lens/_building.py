"""Makes the tree of a stored run from its flat journal. What does not fit is left out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from flow import RunRecord, StateCorrupt, StepRecord, Usage
from flow_lens._paths import natural, prefixes
from flow_lens._trace import ANSWERED, COMPLETED, FAILED, GROUP, INTERRUPTED, OPEN, RESTARTED, Answer, Trace, TraceStep

_NOTHING = Usage()
_CLOCK_S = 1e-4
"""Times of records are that exact: a step inside may seem to begin a moment before the step that it is inside of."""


def build_trace(run: RunRecord, records: Iterable[StepRecord], structure: Mapping[str, Any] | None = None) -> Trace:
    """Return the trace of a run; `StateCorrupt` names a record that cannot be read.

    :param records: the journal in the order in which it was written.
    """
    kept, superseded = _still_valid(records)
    answers = {record.parent: record for record in kept.values() if record.status == ANSWERED}
    steps = {path: record for path, record in kept.items() if record.status != ANSWERED}
    builder = _Builder(run, steps, answers)
    return Trace(run=run, steps=builder.below(""), superseded=superseded, structure=structure)


def _still_valid(records: Iterable[StepRecord]) -> tuple[dict[str, StepRecord], int]:
    """Return the records by path without those of given up attempts, and how many these are."""
    kept: dict[str, StepRecord] = {}
    superseded = 0
    for record in records:
        if record.status != RESTARTED:
            kept[record.path] = record
            continue
        outer, fallback = f"{record.parent}/", f"{record.parent}/fallback"
        for path in [path for path in kept if path.startswith(outer) and path != f"{outer}answer"]:
            spared = record.metadata is not None and (path == fallback or path.startswith(f"{fallback}/"))
            if not spared:
                superseded += 1
                del kept[path]
    return kept, superseded


@attrs.frozen(eq=False)
class _Builder:
    run: RunRecord
    records: Mapping[str, StepRecord]
    answers: Mapping[str, StepRecord]
    _inside: defaultdict[str, list[str]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_inside", self._nested())

    def _nested(self) -> defaultdict[str, list[str]]:
        """Return the paths of steps by the path of the step that they are in; found by the paths alone."""
        parents = {
            record.parent for record in self.records.values() if f"{record.path}/".startswith(f"{record.parent}/")
        }
        known = (self.records.keys() | parents | self.answers.keys()) - {""}
        inside: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(known, key=natural):
            inside[next((outer for outer in prefixes(path) if outer in known), "")].append(path)
        return inside

    def below(self, outer: str) -> tuple[TraceStep, ...]:
        """Return the steps and groups directly inside of the step `outer`."""
        groups: dict[str, list[str]] = {}
        for path in self._inside.get(outer, ()):
            first = _label(path, outer).partition("/")[0]
            groups.setdefault(f"{outer}/{first}" if outer else first, []).append(path)
        found = []
        for prefix, paths in groups.items():
            steps = [self._step(path, outer) for path in paths]
            found.append(steps[0] if len(steps) == 1 else _group(prefix, _label(prefix, outer), steps))
        return tuple(found)

    def _step(self, path: str, outer: str) -> TraceStep:
        record, children = self.records.get(path), self.below(path)
        label, answer = _label(path, outer), self._answer(path)
        if record is None:
            name = label.rpartition("/")[2].partition(":")[2] or label
            return _summed(path=path, label=label, name=name, kind="", status=OPEN, children=children, answer=answer)
        begun, ended = record.started_at, record.started_at + max(record.latency_s, 0.0)
        spent = _sum(child.usage for child in children)
        complete = record.status == COMPLETED
        return TraceStep(
            path=path,
            label=label,
            name=record.name,
            kind=record.kind,
            status=record.status if record.status in (COMPLETED, FAILED) else INTERRUPTED,
            output=record.output,
            usage=record.usage if complete else record.usage + spent,
            own_usage=record.usage - spent if complete else record.usage,
            attempts=record.attempts,
            started_at=min([begun, *(child.started_at for child in children)]),
            ended_at=max([ended, *(child.ended_at for child in children)]),
            took_s=_took(begun, ended, children),
            feedback=record.feedback,
            error=record.error,
            metadata=self._metadata(record),
            answer=answer,
            children=children,
        )

    def _answer(self, path: str) -> Answer | None:
        record = self.answers.get(path)
        return None if record is None else Answer(text=record.output, at=record.started_at)

    def _metadata(self, record: StepRecord) -> Mapping[str, Any]:
        if record.metadata is None:
            return {}
        try:
            metadata = orjson.loads(record.metadata)
        except ValueError as error:
            raise StateCorrupt(
                f"run {self.run.run_id!r}: the record of step {record.path!r} cannot be read: {error}",
                hint="The store is damaged",
            ) from error
        return metadata if isinstance(metadata, dict) else {"": metadata}


def _label(path: str, outer: str) -> str:
    return path[len(outer) + 1 :] if outer else path


def _group(path: str, label: str, steps: Sequence[TraceStep]) -> TraceStep:
    inner = [attrs.evolve(step, label=_label(step.path, path)) for step in steps]
    status = COMPLETED if all(step.status == COMPLETED for step in inner) else OPEN
    if any(step.failed for step in inner):
        status = FAILED
    return _summed(path=path, label=label, name=label, kind=GROUP, status=status, children=tuple(inner))


def _summed(*, children: tuple[TraceStep, ...], **fields: Any) -> TraceStep:
    """Return a step that has no record: its time and usage are those of what is inside."""
    answer: Answer | None = fields.get("answer")
    begun = min([child.started_at for child in children], default=answer.at if answer is not None else 0.0)
    return TraceStep(
        children=children,
        usage=_sum(child.usage for child in children),
        started_at=begun,
        ended_at=max([child.ended_at for child in children], default=begun),
        took_s=busy(_intervals(children)),
        **fields,
    )


def _took(begun: float, ended: float, children: Sequence[TraceStep]) -> float:
    """Return how long something happened in a step of which steps inside may stem from earlier executions."""
    earlier = [child for child in children if child.started_at < begun - _CLOCK_S]
    if not earlier:
        return ended - begun
    return busy([(begun, ended), *_intervals(earlier)])


def _intervals(steps: Iterable[TraceStep]) -> list[tuple[float, float]]:
    return [(leaf.started_at, leaf.ended_at) for step in steps for leaf in step.walk() if not leaf.children]


def busy(intervals: Iterable[tuple[float, float]]) -> float:
    """Return how many seconds lie in at least one of the intervals.

    >>> busy([(0, 2), (1, 3), (5, 6)])
    4.0
    """
    return float(math.fsum(end - begin for begin, end in merged(intervals)))


def merged(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return intervals that do not touch, in order, and cover the same.

    >>> merged([(5, 6), (0, 2), (1, 3)])
    [(0, 3), (5, 6)]
    """
    found: list[tuple[float, float]] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def _sum(usages: Iterable[Usage]) -> Usage:
    return sum((usage for usage in usages if usage), _NOTHING)
