"""The time axis holds when something was executed; the time between executions is cut out and told."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from flow_lens import Trace, axis_of, build_trace, critical_steps
from hypothesis import given
from hypothesis import strategies as st

from flow import RunRecord, StepRecord

START = 1_700_000_000.0
DAY = 86_400.0
Make = Callable[..., StepRecord]
MakeTrace = Callable[..., Trace]


def test_days_between_two_executions_are_cut_out(make_step: Make, trace_of: MakeTrace) -> None:
    answer = make_step("1:ok/answer", at=3 * DAY, parent="1:ok", kind="answer", status="answered")
    trace = trace_of(make_step("0:a", at=0, took=2), answer, make_step("1:ok", at=3 * DAY, took=1))
    axis = axis_of(trace)
    assert axis.length == pytest.approx(3.0)
    (cut,) = axis.cuts
    assert cut.seconds == pytest.approx(3 * DAY - 2)
    assert (cut.offset, cut.answered) == (pytest.approx(2.0), "1:ok")
    assert axis.offset(START + DAY) == pytest.approx(2.0)
    assert axis.offset(START + 3 * DAY + 0.5) == pytest.approx(2.5)


def test_short_rests_stay(make_step: Make, trace_of: MakeTrace) -> None:
    axis = axis_of(trace_of(make_step("0:a", at=0, took=10), make_step("1:b", at=10.9, took=10)))
    assert axis.cuts == ()
    assert axis.length == pytest.approx(20.9)


def test_a_container_over_two_executions_does_not_hide_the_rest_between_them(
    make_step: Make, trace_of: MakeTrace
) -> None:
    trace = trace_of(
        make_step("0:sub/0:a", at=0, took=1, parent="0:sub"),
        make_step("0:sub/1:b", at=DAY, took=1, parent="0:sub"),
        make_step("0:sub", at=DAY, took=1),
    )
    assert axis_of(trace).length == pytest.approx(2.0)
    assert len(axis_of(trace).cuts) == 1


def test_a_run_that_goes_on_reaches_until_now(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(make_step("0:a", at=0, took=1), status="running")
    assert axis_of(trace, START + 60).length == pytest.approx(60.0)


def test_a_run_without_steps_has_an_axis_without_length(trace_of: MakeTrace) -> None:
    assert axis_of(trace_of()).length == 0.0
    assert axis_of(trace_of()).offset(START + 5) == 0.0


times = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e5)), max_size=12)


def trace_at(spans: list[tuple[float, float]]) -> Trace:
    run = RunRecord(run_id="r", pipeline="p", fingerprint="f", created_at=START)
    records = [
        StepRecord(
            path=f"{index}:s",
            parent="",
            name="s",
            kind="step",
            status="completed",
            started_at=START + at,
            latency_s=took,
        )
        for index, (at, took) in enumerate(spans)
    ]
    return build_trace(run, records)


@given(times, st.lists(st.floats(-1e3, 2e6), min_size=2))
def test_the_axis_keeps_the_order_of_moments_and_its_bounds(
    spans: list[tuple[float, float]], moments: list[float]
) -> None:
    axis = axis_of(trace_at(spans))
    offsets = [axis.offset(START + moment) for moment in sorted(moments)]
    assert offsets == sorted(offsets)
    assert all(0.0 <= offset <= axis.length for offset in offsets)


@given(times)
def test_no_step_lies_where_the_axis_is_cut(spans: list[tuple[float, float]]) -> None:
    trace = trace_at(spans)
    axis = axis_of(trace)
    for step in trace.steps:
        length = axis.offset(step.ended_at) - axis.offset(step.started_at)
        assert length == pytest.approx(step.took_s, abs=1e-3)


def test_the_critical_path_is_what_the_end_waited_for(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(
        make_step("0:fan/fast/0:x", at=0, took=1, parent="0:fan"),
        make_step("0:fan/slow/0:y", at=0, took=4, parent="0:fan"),
        make_step("0:fan", at=0, took=4),
        make_step("1:end", at=4, took=1),
    )
    assert [step.path for step in critical_steps(trace)] == ["1:end", "0:fan/slow/0:y"]


@given(times)
def test_steps_of_the_critical_path_follow_each_other(spans: list[tuple[float, float]]) -> None:
    trace = trace_at(spans)
    chain = critical_steps(trace)[::-1]
    assert all(a.ended_at <= b.started_at + 1e-3 for a, b in pairwise(chain))
    if trace.steps:
        assert chain[-1].ended_at == max(step.ended_at for step in trace.steps)
