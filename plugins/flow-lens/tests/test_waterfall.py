"""The drawing of a run fits its screen, its bars lie on the axis, and what matters is not folded away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_lens import Trace, axis_of, build_trace
from flow_lens._content import Contents
from flow_lens._drawing import Drawing
from flow_lens._rows import MOST, rows_of
from flow_lens._screen import Screen, width_of
from flow_lens._waterfall import Bar, Waterfall
from hypothesis import given, settings
from hypothesis import strategies as st

from flow import RunRecord, StepRecord, Usage
from flow.cli import columns

START = 1_700_000_000.0
Make = Callable[..., StepRecord]
MakeTrace = Callable[..., Trace]


def drawn(trace: Trace, width: int = 80, **options: Any) -> list[str]:
    screen = Screen(width=width, ascii=options.pop("ascii", False))
    return [screen.text(line) for line in Waterfall(trace, screen, Contents(trace), **options).lines()]


def test_bars_lie_where_the_time_was(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(make_step("0:a", at=0, took=1), make_step("1:b", at=1, took=3))
    _, first, second, *_ = drawn(trace)
    begin, end = first.index("█"), first.rindex("█") + 1
    assert second.index("█") == end
    assert (second.rindex("█") + 1 - end) == pytest.approx(3 * (end - begin), abs=2)


def test_steps_beside_the_critical_path_look_different(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(
        make_step("0:fan/a/0:x", at=0, took=1, parent="0:fan"),
        make_step("0:fan/b/0:y", at=0, took=4, parent="0:fan"),
        make_step("0:fan", at=0, took=4, kind="parallel"),
    )
    lines = drawn(trace)
    assert "▒" in next(line for line in lines if "a/0:x" in line)
    assert "█" in next(line for line in lines if "b/0:y" in line)
    assert any("0:fan/b/0:y 100%" in line for line in lines)
    assert "█ critical path, ▒ beside it" in lines


def test_time_between_executions_is_told(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(make_step("0:a", took=2), make_step("1:b", at=3 * 86_400.0, took=2))
    assert "2 d 23 h between two executions left out at 2.0 s" in drawn(trace)


def test_a_failure_stands_below_its_step_with_its_cause(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(make_step("0:a", status="failed", error="ValueError: bad; caused by OSError: disk"))
    assert "  ValueError: bad; caused by OSError: disk" in drawn(trace)


def test_what_failed_and_what_was_slow_is_not_folded(make_step: Make, trace_of: MakeTrace) -> None:
    items = [make_step(f"0:each/{number}/0:x", took=1 + (number == 70), parent="0:each") for number in range(100)]
    items[90] = make_step("0:each/90/0:x", took=0.1, status="failed", parent="0:each", error="ValueError: no")
    trace = trace_of(*items, make_step("0:each", took=3, kind="map"))
    rows = rows_of(trace)
    shown = [row.step.path for row in rows if row.step is not None]
    assert {"0:each/70/0:x", "0:each/90/0:x"} <= set(shown)
    assert len(rows) == 1 + MOST
    assert len(rows[-1].folded) == 100 - MOST + 1
    assert any("… 89 more: 89 completed" in line for line in drawn(trace))
    assert len(rows_of(trace, most=None)) == 101


def test_depth_says_how_many_steps_are_hidden(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(make_step("0:a/0:b/0:c"), make_step("0:a/0:b"), make_step("0:a"))
    (row,) = rows_of(trace, depth=1)
    assert row.hidden == 2
    assert "(+2 inside)" in drawn(trace, depth=1)[1]


def test_control_characters_of_stored_text_are_written_out(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(make_step("0:a\x1b[2J\x9b\u202e", status="failed", error="bad \x1b]0;title\x07"))
    text = "\n".join(drawn(trace))
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J" in text


def test_a_run_without_time_or_steps_can_be_drawn(make_step: Make, trace_of: MakeTrace) -> None:
    assert drawn(trace_of()) == []
    assert any("0:a" in line for line in drawn(trace_of(make_step("0:a", took=0.0))))


labels = st.sampled_from(["0:a", "1:bb", "2:ein langer Name für einen Schritt", "i1", "17", "left", "名前:検索する"])
paths = st.lists(labels, min_size=1, max_size=6).map("/".join)
records = st.lists(
    st.builds(
        StepRecord,
        path=paths,
        parent=st.just(""),
        name=st.text(max_size=8),
        kind=st.just("step"),
        status=st.sampled_from(["completed", "failed", "interrupted"]),
        started_at=st.floats(0, 1e5).map(lambda at: START + at),
        latency_s=st.floats(0, 1e4),
        attempts=st.integers(1, 12),
        usage=st.builds(Usage, cost_usd=st.floats(0, 5000), input_tokens=st.integers(0, 10**9)),
        error=st.one_of(st.none(), st.text(max_size=200)),
    ),
    max_size=30,
)
RUN = RunRecord(
    run_id="r" * 27, pipeline="p" * 60, fingerprint="f", status="failed", created_at=START, updated_at=START
)


@settings(deadline=None)
@given(records, st.integers(40, 200), st.booleans(), st.sampled_from([None, 1, 2]))
def test_no_line_is_wider_than_the_screen(
    journal: list[StepRecord], width: int, ascii_only: bool, depth: int | None
) -> None:
    trace = build_trace(RUN, journal)
    screen = Screen(width=width, ascii=ascii_only)
    lines = list(Drawing(screen, depth).lines(trace))
    assert [line for line in lines if width_of(line) > width] == []
    texts = [screen.text(line) for line in lines]
    assert all(columns(text) <= width for text in texts)
    assert all(text.isprintable() for text in texts)
    if ascii_only:
        assert all(text.isascii() for text in texts)


@given(records, st.integers(1, 150))
def test_every_bar_lies_on_the_axis_and_is_visible(journal: list[StepRecord], width: int) -> None:
    trace = build_trace(RUN, journal)
    axis = axis_of(trace)
    for step in trace.walk():
        bar = Bar.of(step.started_at, step.ended_at, axis, width)
        assert 0 <= bar.begin < bar.end <= width


@given(records)
def test_every_step_is_a_row_or_counted_in_one(journal: list[StepRecord]) -> None:
    trace = build_trace(RUN, journal)
    shown = sum(sum(1 for _ in step.walk()) for row in rows_of(trace) for step in row.folded)
    shown += sum(row.step is not None for row in rows_of(trace))
    assert shown == len(list(trace.walk()))
