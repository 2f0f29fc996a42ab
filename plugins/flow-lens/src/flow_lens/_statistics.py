"""What many stored runs say about their steps: how often, how long, how dear, how reliable."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from flow import RunRecord
from flow_lens._axis import axis_of
from flow_lens._paths import labels_of, natural, pattern
from flow_lens._trace import Trace, TraceStep


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share (0 to 1) of `values` lies; 0 for none.

    Between two values it is on the straight line from one to the other, as `statistics.quantiles` has it with
    ``method="inclusive"``.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5), percentile([7.0], 0.95)
    (2.5, 7.0)
    """
    if not values:
        return 0.0
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    if below + 1 >= len(ordered):
        return ordered[-1]
    between = ordered[below] + (ordered[below + 1] - ordered[below]) * (place - below)
    return min(between, ordered[below + 1])  # not a rounding error beyond it


@attrs.frozen(kw_only=True)
class StepStatistics:
    """What was observed of one step. Times are seconds, costs US dollars; both include what was inside the step.

    :ivar step: the path without places, items and iterations: ``map/*/embed``.
    :ivar count: how often it was executed, in `runs` runs.
    :ivar retried: how many of these needed more than one attempt.
    """

    step: str
    kind: str
    runs: int
    count: int
    failures: int
    attempts: int
    retried: int
    p50_s: float
    p95_s: float
    longest_s: float
    total_s: float
    cost_usd: float
    input_tokens: int
    output_tokens: int

    @property
    def failure_rate(self) -> float:
        """The share of the executions that failed."""
        return self.failures / self.count if self.count else 0.0

    @property
    def tokens(self) -> int:
        """Tokens in and out."""
        return self.input_tokens + self.output_tokens


@attrs.frozen(kw_only=True)
class RunStatistics:
    """What was observed of the runs with one status. Times are those in which something was executed."""

    status: str
    count: int
    p50_s: float
    p95_s: float
    cost_usd: float
    tokens: int


@attrs.frozen(kw_only=True)
class Statistics:
    """What was observed of runs: by status, and of their steps in the order of the pipelines."""

    runs: tuple[RunStatistics, ...]
    steps: tuple[StepStatistics, ...]

    @property
    def count(self) -> int:
        """How many runs were looked at."""
        return sum(item.count for item in self.runs)


class Observations:
    """Takes traces one after the other, so that no more than one has to be in memory."""

    def __init__(self) -> None:
        self._runs: defaultdict[str, list[tuple[RunRecord, float]]] = defaultdict(list)
        self._steps: dict[tuple[str, str], _Seen] = {}
        self._labels: dict[str, frozenset[str]] = {}

    def add(self, trace: Trace) -> None:
        """Take one run."""
        run = trace.run
        self._runs[run.status].append((run, axis_of(trace).length))
        labels = self._labels.get(run.fingerprint)
        if labels is None:
            labels = self._labels[run.fingerprint] = labels_of(trace.structure or {})
        for step in trace.walk():
            if step.is_step and step.status != "open":
                key = (run.pipeline, pattern(step.path, labels))
                seen = self._steps.get(key)
                if seen is None:
                    seen = self._steps[key] = _Seen(first=step.path)
                seen.add(step, run.run_id)

    def result(self) -> Statistics:
        """Return what was observed so far."""
        several = len({pipeline for pipeline, _ in self._steps}) > 1
        ordered = sorted(self._steps.items(), key=lambda item: (item[0][0], natural(item[1].first)))
        return Statistics(
            runs=tuple(_of_runs(status, self._runs[status]) for status in sorted(self._runs)),
            steps=tuple(seen.result(f"{pipeline}: {step}" if several else step) for (pipeline, step), seen in ordered),
        )


@attrs.define
class _Seen:
    first: str
    kind: str = ""
    runs: int = 0
    failures: int = 0
    attempts: int = 0
    retried: int = 0
    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    times: list[float] = attrs.field(factory=list)
    _last_run: str = ""

    def add(self, step: TraceStep, run_id: str) -> None:
        self.kind = step.kind
        self.runs += run_id != self._last_run
        self._last_run = run_id
        self.failures += step.failed
        self.attempts += step.tries
        self.retried += step.tries > 1
        self.cost_usd += step.usage.cost_usd
        self.input_tokens += step.usage.input_tokens
        self.output_tokens += step.usage.output_tokens
        self.times.append(step.took_s)

    def result(self, name: str) -> StepStatistics:
        return StepStatistics(
            step=name,
            kind=self.kind,
            runs=self.runs,
            count=len(self.times),
            failures=self.failures,
            attempts=self.attempts,
            retried=self.retried,
            p50_s=percentile(self.times, 0.5),
            p95_s=percentile(self.times, 0.95),
            longest_s=max(self.times, default=0.0),
            total_s=math.fsum(self.times),
            cost_usd=self.cost_usd,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
        )


def _of_runs(status: str, runs: Sequence[tuple[RunRecord, float]]) -> RunStatistics:
    times = [length for _, length in runs]
    return RunStatistics(
        status=status,
        count=len(runs),
        p50_s=percentile(times, 0.5),
        p95_s=percentile(times, 0.95),
        cost_usd=math.fsum(run.usage.cost_usd for run, _ in runs),
        tokens=sum(run.usage.total_tokens for run, _ in runs),
    )


def statistics(traces: Iterable[Trace]) -> Statistics:
    """Return what runs say about their steps.

    >>> from flow import RunRecord
    >>> run = RunRecord(run_id="one", pipeline="p", fingerprint="f", status="failed")
    >>> statistics([Trace(run=run)]).runs[0].count
    1
    """
    observations = Observations()
    for trace in traces:
        observations.add(trace)
    return observations.result()


ORDERS: Mapping[str, Any] = {
    "path": None,
    "count": lambda step: -step.count,
    "p50": lambda step: -step.p50_s,
    "p95": lambda step: -step.p95_s,
    "total": lambda step: -step.total_s,
    "failures": lambda step: (-step.failures, -step.failure_rate),
    "rate": lambda step: (-step.failure_rate, -step.failures),
    "attempts": lambda step: -step.attempts,
    "cost": lambda step: -step.cost_usd,
    "tokens": lambda step: -step.tokens,
}
"""How the steps of `Statistics` can be ordered."""


def in_order(steps: Sequence[StepStatistics], order: str) -> Sequence[StepStatistics]:
    """Return steps in one of the `ORDERS`, those that are alike as they stand in the pipeline."""
    key = ORDERS[order]
    return steps if key is None else sorted(steps, key=key)
