"""The tree of a run is made from the flat journal: what ran inside what, what it cost, what is not valid any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_lens import Trace, build_trace
from flow_lens._building import busy
from hypothesis import given
from hypothesis import strategies as st

from flow import ConfigurationError, RunRecord, StateCorrupt, StepRecord, Usage

Make = Callable[..., StepRecord]
MakeTrace = Callable[..., Trace]


def shape(trace: Trace) -> list[tuple[str, str, int]]:
    """Paths, statuses and depths, in order."""
    found = []
    waiting = [(step, 0) for step in reversed(trace.steps)]
    while waiting:
        step, depth = waiting.pop()
        found.append((step.path, step.status, depth))
        waiting += [(child, depth + 1) for child in reversed(step.children)]
    return found


def test_steps_stand_inside_their_containers_in_the_order_of_the_pipeline(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(
        make_step("1:each/10/0:b", parent="1:each"),
        make_step("1:each/2/0:b", parent="1:each"),
        make_step("1:each", kind="map"),
        make_step("0:a"),
    )
    assert shape(trace) == [
        ("0:a", "completed", 0),
        ("1:each", "completed", 0),
        ("1:each/2/0:b", "completed", 1),
        ("1:each/10/0:b", "completed", 1),
    ]


def test_several_steps_of_one_item_are_a_group(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(
        make_step("0:loop/i1/0:a", at=0, took=1, cost=0.5, parent="0:loop"),
        make_step("0:loop/i1/1:b", at=1, took=2, cost=0.25, status="failed", parent="0:loop"),
    )
    group = trace.by_path["0:loop/i1"]
    assert (group.kind, group.status, group.took_s, group.usage.cost_usd) == ("group", "failed", 3.0, 0.75)
    assert [step.label for step in group.children] == ["0:a", "1:b"]
    assert group not in trace.executed


def test_a_container_without_record_is_open(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(make_step("0:sub/0:a", took=2, cost=0.5, parent="0:sub"), status="running")
    step = trace.step("0:sub")
    assert (step.status, step.name, step.took_s, step.usage.cost_usd) == ("open", "sub", 2.0, 0.5)


def test_usage_of_a_container_is_counted_once(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(
        make_step("0:ok/0:a", cost=0.5, parent="0:ok"),
        make_step("0:ok", cost=0.75),
        make_step("1:bad/0:a", cost=0.5, parent="1:bad"),
        make_step("1:bad", cost=0.25, status="failed"),
    )
    completed, failed = trace.step("0:ok"), trace.step("1:bad")
    assert (completed.usage.cost_usd, completed.own_usage.cost_usd) == (0.75, 0.25)  # the record holds all of it
    assert (failed.usage.cost_usd, failed.own_usage.cost_usd) == (0.75, 0.25)  # the record holds its own


def test_records_of_given_up_attempts_are_left_out(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(
        make_step("0:sub/0:a", parent="0:sub"),
        make_step("0:sub/1:b", parent="0:sub", status="failed"),
        make_step("0:sub/attempt 2", parent="0:sub", status="restarted"),
        make_step("0:sub/0:a", parent="0:sub", at=5),
        make_step("0:sub", attempts=2),
    )
    assert [path for path, *_ in shape(trace)] == ["0:sub", "0:sub/0:a"]
    assert trace.superseded == 2
    assert trace.step("0:sub").attempts == 2


def test_a_fallback_that_is_spared_stays(make_step: Make, trace_of: MakeTrace) -> None:
    restarted = make_step("0:sub/attempt 2", parent="0:sub", status="restarted", metadata=b'{"spared": "fallback"}')
    trace = trace_of(
        make_step("0:sub/0:a", parent="0:sub"),
        make_step("0:sub/fallback/0:c", parent="0:sub/fallback"),
        restarted,
    )
    assert "0:sub/fallback/0:c" in trace.by_path
    assert "0:sub/0:a" not in trace.by_path


def test_answers_belong_to_the_step_that_asked(make_step: Make, trace_of: MakeTrace) -> None:
    answer = make_step("1:ok/answer", at=50, parent="1:ok", kind="answer", status="answered", output=b"true")
    trace = trace_of(answer, make_step("1:ok", at=51), answer_of_nothing(make_step))
    step = trace.step("1:ok")
    assert step.answer is not None
    assert step.answer.text == b"true"
    assert step.children == ()
    assert trace.step("2:later").status == "open"  # answered, but not executed again yet


def answer_of_nothing(make_step: Make) -> StepRecord:
    return make_step("2:later/answer", parent="2:later", kind="answer", status="answered", output=b"1")


def test_a_step_of_an_earlier_execution_counts_with_the_time_in_which_something_happened(
    make_step: Make, trace_of: MakeTrace
) -> None:
    trace = trace_of(
        make_step("0:sub/0:a", at=0, took=2, parent="0:sub"),
        make_step("0:sub/1:b", at=1000, took=3, parent="0:sub"),
        make_step("0:sub", at=1000, took=3),  # as its last execution saw it
    )
    assert trace.step("0:sub").took_s == 5.0


def test_metadata_that_cannot_be_read_names_run_and_step(make_step: Make, trace_of: MakeTrace) -> None:
    with pytest.raises(StateCorrupt, match=r"run-1.*0:a"):
        trace_of(make_step("0:a", metadata=b"{"))


def test_a_step_is_found_by_path_or_by_name(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(make_step("0:fetch"), make_step("1:m/0/0:embed"), make_step("1:m/1/0:embed"))
    assert trace.step("fetch").path == "0:fetch"
    with pytest.raises(ConfigurationError, match=r"2 steps .* called 'embed'") as several:
        trace.step("embed")
    assert "1:m/0/0:embed" in str(several.value.hint)
    with pytest.raises(ConfigurationError, match="no step '0:fetsch'") as unknown:
        trace.step("0:fetsch")
    assert "0:fetch" in str(unknown.value.hint)


def test_a_run_without_steps_says_so_when_one_is_looked_for(trace_of: MakeTrace) -> None:
    with pytest.raises(ConfigurationError) as error:
        trace_of().step("0:a")
    assert error.value.hint == "No step of it has finished yet"


segments = st.sampled_from(["0:a", "1:b", "i1", "2", "fallback", "left", "x/"])
paths = st.lists(segments, min_size=1, max_size=5).map("/".join)


@given(st.lists(st.tuples(paths, paths, st.sampled_from(["completed", "failed", "restarted", "answered", "?"]))))
def test_any_records_make_a_tree_that_holds_each_valid_path_once(entries: list[tuple[str, str, str]]) -> None:
    records = [
        StepRecord(path=path, parent=parent, name="n", kind="k", status=status) for path, parent, status in entries
    ]
    trace = build_trace(RunRecord(run_id="r", pipeline="p", fingerprint="f"), records)
    found = [step.path for step in trace.walk()]
    assert len(found) == len(set(found))
    last = {record.path: record for record in records}
    if not any(record.status == "restarted" for record in records):
        expected = {path for path, record in last.items() if record.status != "answered"}
        assert expected <= set(found)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20))))
def test_busy_time_is_that_of_the_seconds_in_any_interval(intervals: list[tuple[int, int]]) -> None:
    spans = [(begin, begin + length) for begin, length in intervals]
    covered = {second for begin, end in spans for second in range(begin, end)}
    assert busy(spans) == len(covered)


def test_usage_adds_up_over_any_depth(make_step: Make, trace_of: MakeTrace) -> None:
    records = [make_step("/".join(f"{level}:s" for level in range(depth)), cost=0.0) for depth in range(1, 60)]
    records[-1] = make_step(records[-1].path, cost=1.0, usage=Usage(cost_usd=1.0))
    trace: Any = trace_of(*records, make_step("0:s", status="failed"))
    assert len(trace.executed) == 59
