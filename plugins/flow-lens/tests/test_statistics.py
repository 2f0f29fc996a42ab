"""Statistics count all executions of a step together; percentiles are those of the standard library."""

from __future__ import annotations

import statistics as standard
from collections.abc import Callable

import pytest
from flow_lens import Trace, build_trace, statistics
from flow_lens._statistics import ORDERS, in_order, percentile
from hypothesis import given
from hypothesis import strategies as st

from flow import RunRecord, StepRecord

Make = Callable[..., StepRecord]
MakeTrace = Callable[..., Trace]


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=60))
def test_percentiles_agree_with_inclusive_quantiles(values: list[float]) -> None:
    expected = standard.quantiles(values, n=100, method="inclusive")
    for rank in (5, 50, 95, 99):
        assert percentile(values, rank / 100) == pytest.approx(expected[rank - 1], rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_percentiles_lie_between_the_extremes(values: list[float], share: float) -> None:
    assert min(values) <= percentile(values, share) <= max(values)


def test_executions_of_one_step_count_together(make_step: Make, trace_of: MakeTrace) -> None:
    first = trace_of(
        make_step("0:each/0/0:x", took=1, cost=0.1, parent="0:each"),
        make_step("0:each/1/0:x", took=3, cost=0.2, status="failed", attempts=3, parent="0:each"),
        make_step("0:each", took=3, cost=0.0, status="failed"),
        status="failed",
    )
    second = trace_of(make_step("0:each/0/0:x", took=2, cost=0.3, parent="0:each"), run_id="run-2")
    found = statistics([first, second])
    each, inner = found.steps[0], next(step for step in found.steps if step.step == "each/*/x")
    assert (inner.runs, inner.count, inner.failures, inner.attempts, inner.retried) == (2, 3, 1, 5, 1)
    assert (inner.p50_s, inner.longest_s, inner.total_s) == (2.0, 3.0, 6.0)
    assert inner.failure_rate == pytest.approx(1 / 3)
    assert inner.cost_usd == pytest.approx(0.6)
    assert (each.step, each.count) == ("each", 1)  # the other one has not finished
    assert {item.status: item.count for item in found.runs} == {"completed": 1, "failed": 1}


def test_iterations_of_a_loop_are_no_retries(make_step: Make, trace_of: MakeTrace) -> None:
    loop = make_step("0:loop", kind="loop", attempts=5, metadata=b'{"iterations": 5}')
    (step,) = statistics([trace_of(loop)]).steps
    assert (step.attempts, step.retried) == (1, 0)


def test_steps_of_several_pipelines_are_told_apart(make_step: Make, make_run: Callable[..., RunRecord]) -> None:
    traces = [build_trace(make_run(pipeline=name), [make_step("0:a")]) for name in ("one", "two")]
    assert [step.step for step in statistics(traces).steps] == ["one: a", "two: a"]


def test_steps_stand_in_the_order_of_the_pipeline(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(*[make_step(f"{number}:s{number}") for number in (10, 2, 1)])
    assert [step.step for step in statistics([trace]).steps] == ["s1", "s2", "s10"]


@pytest.mark.parametrize("order", sorted(set(ORDERS) - {"path"}))
def test_every_order_puts_the_most_first(order: str, make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(
        make_step("0:small", took=1),
        make_step("1:big/0/0:x", took=9, cost=5.0, status="failed", attempts=4),
        make_step("1:big/1/0:x", took=9, cost=5.0, attempts=4),
    )
    extra = make_step("1:big/2/0:x", took=9, cost=1.0)
    more = trace_of(extra, make_step("1:big/3/0:x", usage=_tokens(100), took=9))
    steps = statistics([trace, more]).steps
    assert in_order(steps, order)[0].step == "big/*/x"
    assert in_order(steps, "path")[0].step == "small"


def _tokens(count: int) -> object:
    from flow import Usage

    return Usage(input_tokens=count)


def test_no_runs_give_no_statistics() -> None:
    assert statistics([]).count == 0
    assert percentile([], 0.5) == 0.0
