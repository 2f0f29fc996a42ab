"""How two stored runs differ: by run, by step, by pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from flow import describe_differences
from flow_lens._content import Contents, decoded
from flow_lens._paths import natural
from flow_lens._trace import Trace, TraceStep

_MOST_DIFFERENCES = 200

Side = Literal["a", "b"]


@attrs.frozen(kw_only=True)
class Difference:
    """One thing that is not the same.

    :ivar path: that of the step; empty for the run itself.
    :ivar what: ``only_in_a``, ``only_in_b``, or the field: ``status``, ``kind``, ``input``, ``output``, ``answer``,
        ``attempts``, ``error``, ``feedback``, ``metadata``.
    :ivar a: the value of the first run; content is ``None`` unless it was asked for.
    """

    path: str
    what: str
    a: Any = None
    b: Any = None


@attrs.frozen(kw_only=True)
class Timing:
    """What a step took and cost in both runs: seconds and US dollars."""

    path: str
    took_a: float
    took_b: float
    cost_a: float
    cost_b: float


@attrs.frozen(kw_only=True, eq=False)
class Comparison:
    """How two runs differ. The times and costs of steps are no differences; they are told beside them.

    :ivar differences: in the order in which things happened, steps before what contains them.
    :ivar structure: how the pipelines differ, one text each.
    :ivar timings: of the steps that both runs have.
    """

    a: Trace
    b: Trace
    differences: tuple[Difference, ...] = ()
    structure: tuple[str, ...] = ()
    timings: tuple[Timing, ...] = ()

    @property
    def same(self) -> bool:
        """True when nothing differs."""
        return not self.differences and not self.structure

    @property
    def first(self) -> Difference | None:
        """The first difference of a step, or else the first of the run."""
        of_steps = [difference for difference in self.differences if difference.path]
        return next(iter([*of_steps, *self.differences]), None)

    @property
    def differing(self) -> list[str]:
        """The paths of steps that both runs have and that differ."""
        found = dict.fromkeys(item.path for item in self.differences if item.path and not item.what.startswith("only"))
        return list(found)

    def only(self, side: Side) -> list[str]:
        """Return the paths of steps that only one of the runs has."""
        return [item.path for item in self.differences if item.what == f"only_in_{side}"]


def compare(a: Trace, b: Trace, *, content: bool = False) -> Comparison:
    """Compare two runs.

    :param content: inputs, outputs and answers that differ are told and not only that they do; secrets are masked.

    >>> from flow import RunRecord
    >>> run = RunRecord(run_id="one", pipeline="p", fingerprint="f", status="failed")
    >>> compare(Trace(run=run), Trace(run=run)).same
    True
    """
    sides = (Contents(a, content), Contents(b, content))
    paths = sorted({step.path for trace in (a, b) for step in trace.executed}, key=_inner_first)
    differences = [*_of_runs(*sides)]
    timings = []
    for path in paths:
        first, second = _at(a, path), _at(b, path)
        if first is None or second is None:
            differences.append(Difference(path=path, what="only_in_a" if second is None else "only_in_b"))
            continue
        differences += _of_steps(first, second, *sides)
        timings.append(_timing(first, second))
    structure = () if a.run.fingerprint == b.run.fingerprint else tuple(structure_differences(a.structure, b.structure))
    return Comparison(a=a, b=b, differences=tuple(differences), structure=structure, timings=tuple(timings))


def _at(trace: Trace, path: str) -> TraceStep | None:
    step = trace.by_path.get(path)
    return step if step is not None and step.is_step else None


def _inner_first(path: str) -> tuple[Any, ...]:
    """Return a key that puts a step behind everything inside it: that is what made it what it is."""
    return (*natural(path), _AFTER)


_AFTER = ((2, 0, ""),)


def _of_runs(a: Contents, b: Contents) -> Iterator[Difference]:
    first, second = a.trace.run, b.trace.run
    if first.pipeline != second.pipeline:
        yield Difference(path="", what="pipeline", a=first.pipeline, b=second.pipeline)
    if first.input != second.input:
        yield from _content("", "input", a.run_input(), b.run_input(), a.shown)
    if first.status != second.status:
        yield Difference(path="", what="status", a=first.status, b=second.status)
    if first.error != second.error:
        yield Difference(path="", what="error", a=_told(first.error, a), b=_told(second.error, b))


def _of_steps(a: TraceStep, b: TraceStep, of_a: Contents, of_b: Contents) -> Iterator[Difference]:
    for what in ("kind", "status", "attempts"):
        one, other = _plain_field(a, what), _plain_field(b, what)
        if one != other:
            yield Difference(path=a.path, what=what, a=one, b=other)
    if a.output != b.output:
        yield from _content(a.path, "output", decoded(a.output), decoded(b.output), of_a.shown)
    answers = [None if step.answer is None else step.answer.text for step in (a, b)]
    if answers[0] != answers[1]:
        yield from _content(a.path, "answer", decoded(answers[0]), decoded(answers[1]), of_a.shown)
    for what, one, other in (("error", a.error, b.error), ("feedback", a.feedback, b.feedback)):
        if one != other:
            yield Difference(path=a.path, what=what, a=_told(one, of_a, a), b=_told(other, of_b, b))
    if a.metadata != b.metadata:
        yield _of_metadata(a, b, of_a, of_b)


def _plain_field(step: TraceStep, name: str) -> Any:
    return {"kind": step.kind, "status": step.status, "attempts": step.attempts}[name]


def _content(path: str, what: str, a: Any, b: Any, shown: bool) -> Iterator[Difference]:
    if a == b and type(a) is type(b):  # the same value, written differently
        return
    yield Difference(path=path, what=what, a=a if shown else None, b=b if shown else None)


def _of_metadata(a: TraceStep, b: TraceStep, of_a: Contents, of_b: Contents) -> Difference:
    names = [name for name in {**a.metadata, **b.metadata} if a.metadata.get(name) != b.metadata.get(name)]
    one, other = of_a.metadata_of(a), of_b.metadata_of(b)
    return Difference(
        path=a.path,
        what="metadata",
        a={name: one[name] for name in names if name in one},
        b={name: other[name] for name in names if name in other},
    )


def _told(message: str | None, contents: Contents, *about: TraceStep) -> str | None:
    return None if message is None else contents.told(message, *about)


def _timing(a: TraceStep, b: TraceStep) -> Timing:
    return Timing(path=a.path, took_a=a.took_s, took_b=b.took_s, cost_a=a.usage.cost_usd, cost_b=b.usage.cost_usd)


# -- pipelines


def structure_differences(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> list[str]:
    """Return how two structures of pipelines differ, a line each.

    >>> step = {"name": "a", "kind": "step", "config": {}, "children": {}}
    >>> structure_differences(step, step | {"config": {"retries": 2}})
    ['~ a: retries is 2, was not set']
    """
    if a is None or b is None:
        return ["~ the pipelines differ; of one of them the store does not know the structure"]
    try:
        return describe_differences(a, b, most=_MOST_DIFFERENCES)
    except (KeyError, TypeError, AttributeError):  # it only helps to understand, so one that is damaged is no error
        return ["~ the pipelines differ; what the store has kept of one of them is damaged"]


def slower(timings: Sequence[Timing], count: int) -> list[Timing]:
    """Return the steps whose time differs most, in seconds."""
    changed = [timing for timing in timings if timing.took_a != timing.took_b]
    return sorted(changed, key=lambda timing: -abs(timing.took_b - timing.took_a))[:count]
