"""How far maps, loops, streams and steps that count are: on a terminal as they go, in a pipe hardly at all."""

from __future__ import annotations

import importlib.util
import re
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from flow_console._gauge import draw_gauge, least
from flow_console._progress import Gauge, Progress
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow import EventKind, StreamChunk, Usage

FAILED = {"success": False, "feedback": "ValueError: no", "error": ValueError("no")}
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug
PICTURES = Path(__file__).parents[1] / "docs"


def row(run: Any, name: str) -> str:
    """The row of a step, without its place in the tree and its sign, and with gaps of one width."""
    (found,) = [line for line in run.frame() if re.match(rf"[│├└─ ]*. {name}(  |$)", line)]
    return re.sub(" {2,}", "  ", re.sub(r"^[│├└─ ]*. ", "", found))


def work_off(run: Any, items: range, *, every_s: float, path: str = "0:embed", **fields: Any) -> None:
    """Finish items one after another, one step each."""
    for item in items:
        run.start(f"{path}/{item}/0:one")
        run.finish(f"{path}/{item}/0:one", every_s, **fields)
        run.children.clear()


# -- maps --------------------------------------------------------------------------------------------------------------


def test_a_map_shows_its_bar_count_rate_and_the_time_that_is_left(shown: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, 1_000)
    work_off(run, range(250), every_s=0.1)
    assert row(run, "embed") == "embed  ━━━━━───────────────  250/1,000 · 10/s · 1m 15s left  25.0 s"
    run.end()


def test_before_anything_is_done_there_is_a_bar_and_no_promise(shown: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, 40)
    run.now += 3
    assert row(run, "embed") == "embed  ────────────────────  0/40  3.0 s"
    run.end()


def test_the_first_item_promises_nothing(shown: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, 100)
    work_off(run, range(1), every_s=9.0)
    assert "left" not in row(run, "embed")
    work_off(run, range(1, 40), every_s=0.5)
    assert "40/100 · 2.0/s · 30 s left" in row(run, "embed")
    run.end()


def test_items_are_counted_when_their_last_step_has_ended(shown: Any) -> None:
    run = shown().begin().start("0:all").progress("0:all", 0, 3)
    for item in range(3):
        run.step(f"0:all/{item}/0:read", 0.1)
    assert " 3/3" in row(run, "all")  # that there is a second step is not known yet
    run.start("0:all/0/1:write")
    assert " 0/3" in row(run, "all")
    run.finish("0:all/0/1:write", 0.1)
    assert " 1/3" in row(run, "all")
    run.step("0:all/1/1:write", 0.1).step("0:all/2/1:write", 0.1)
    assert "━━━━━━━━━━━━━━━━━━━━  3/3" in row(run, "all")
    run.end()


def test_steps_of_pipelines_inside_items_are_no_items(shown: Any) -> None:
    run = shown().begin().start("0:all").progress("0:all", 0, 4)
    run.start("0:all/0/0:sub").step("0:all/0/0:sub/0:a", 0.1).step("0:all/0/0:sub/1:b", 0.1)
    assert " 0/4" in row(run, "all")
    run.finish("0:all/0/0:sub", 0.2)
    assert " 1/4" in row(run, "all")
    run.end()


def test_steps_inside_a_step_that_counts_itself_are_no_items(shown: Any) -> None:
    run = shown().begin().start("0:outer").progress("0:outer", 0, 5)
    run.start("0:outer/0:sub").step("0:outer/0:sub/0:a", 0.1)
    assert " 0/5" in row(run, "outer")
    run.end()


def test_an_item_that_failed_on_the_way_has_ended_too(shown: Any) -> None:
    run = shown().begin().start("0:all").progress("0:all", 0, 10)
    for item in range(4):
        run.step(f"0:all/{item}/0:read", 0.5, **(FAILED if item == 2 else {}))
        if item != 2:
            run.step(f"0:all/{item}/1:write", 0.5)
    assert "━━━━━━━━────────────  4/10 · 1 failed · 1.1/s · 5 s left" in row(run, "all")
    run.end()


def test_items_that_were_replayed_do_not_make_the_rate(shown: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, 1_000)
    work_off(run, range(600), every_s=0.1, replayed=True)
    assert row(run, "embed").split(" · ")[0].endswith(" 600/1,000")
    assert "/s" not in row(run, "embed")
    work_off(run, range(600, 606), every_s=1.0)
    assert "━━━━━━━━━━━━────────  606/1,000 · 1.0/s · 6m 34s left" in row(run, "embed")
    run.end()


def test_what_comes_in_bursts_is_not_slow_between_them(shown: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, 64)
    for burst in range(2):
        for item in range(16 * burst, 16 * burst + 16):
            run.start(f"0:embed/{item}/0:one")
        run.now += 10.0
        for item in range(16 * burst, 16 * burst + 16):
            run.finish(f"0:embed/{item}/0:one", 0.0)
    for silence in (0.0, 4.0, 5.9):
        run.now += silence
        assert "32/64 · 1.6/s · 20 s left" in row(run, "embed")
    run.now += 30.0
    assert "32/64 · 38/min · 50 s left" in row(run, "embed")
    run.end()


def test_steps_in_the_middle_of_items_are_no_progress(shown: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, 64)
    for burst in range(2):
        items = range(16 * burst, 16 * burst + 16)
        for position in (0, 1):
            for item in items:
                run.start(f"0:embed/{item}/{position}:step")
            run.now += 5.0
            for item in items:
                run.finish(f"0:embed/{item}/{position}:step", 0.0)
    run.now += 9.0
    assert "32/64 · 1.6/s · 20 s left" in row(run, "embed")
    run.end()


def test_a_slow_beginning_is_forgotten(shown: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, 100)
    work_off(run, range(1), every_s=60.0)
    work_off(run, range(1, 13), every_s=1.0)
    assert " 13/100 · 1.0/s · 1m 27s left" in row(run, "embed")
    run.end()


def test_a_rate_below_one_a_second_is_told_by_the_minute(shown: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, 20)
    work_off(run, range(5), every_s=30.0)
    assert "5/20 · 2.0/min · 7m 30s left" in row(run, "embed")
    run.end()


def test_without_a_total_there_are_count_and_rate(shown: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, None)
    work_off(run, range(30), every_s=0.25)
    assert row(run, "embed") == "embed  30 items · 4.0/s  7.5 s"
    run.end()


@pytest.mark.parametrize(("total", "count"), [(0, "0/0"), (1, "0/1")])
def test_the_smallest_totals(shown: Any, total: int, count: str) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, total)
    assert count in row(run, "embed")
    run.end()


def test_a_further_attempt_begins_anew(shown: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, 100)
    work_off(run, range(30), every_s=0.1)
    run.event(EventKind.CHUNK, "0:embed", chunk=StreamChunk("x", "0:embed"))
    run.event(EventKind.RETRY, "0:embed", attempt=2, error=ValueError())
    assert row(run, "embed").split("  ")[1].strip() == "2 attempts"
    run.progress("0:embed", 0, 100)
    work_off(run, range(10), every_s=0.1)
    assert " 10/100 · " in row(run, "embed")
    assert "2 attempts" in row(run, "embed")
    run.end()


def test_ten_thousand_items_are_drawn_ten_times_a_second(shown: Any) -> None:
    began = time.monotonic()
    run = shown().begin().start("0:embed").progress("0:embed", 0, 10_000)
    work_off(run, range(10_000), every_s=0.001)
    assert " 10,000/10,000 · 1,000/s " in row(run, "embed")
    run.end()
    frames = 10 * (time.monotonic() - began) + 3
    assert run.terminal.getvalue().count("triage") <= frames


def test_an_item_costs_the_same_however_many_there_are_and_little_more_with_a_total(told: Any) -> None:
    """Counted, not timed, and without a terminal: what is drawn depends on the clock."""
    plain, counting = told().begin().start("0:embed"), told().begin().start("0:embed").progress("0:embed", 0, 10_000)
    for run in (plain, counting):
        work_off(run, range(1_000), every_s=0.001)
    without = _calls(lambda: work_off(plain, range(1_000, 2_000), every_s=0.001))
    early = _calls(lambda: work_off(counting, range(1_000, 2_000), every_s=0.001))
    work_off(counting, range(2_000, 9_000), every_s=0.001)
    late = _calls(lambda: work_off(counting, range(9_000, 10_000), every_s=0.001))
    assert (early - without) / 1_000 < 10
    assert late < 1.05 * early


def _calls(work: Any) -> int:
    """How many Python functions are called meanwhile."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


# -- loops -------------------------------------------------------------------------------------------------------------


def test_a_loop_shows_its_iteration_and_its_bound_but_promises_nothing(shown: Any) -> None:
    run = shown().begin().start("0:improve").progress("0:improve", 0, 10, "iteration")
    for turn in (1, 2):
        run.step(f"0:improve/i{turn}/0:draft", 2.0).step(f"0:improve/i{turn}/1:judge", 1.0)
    run.start("0:improve/i3/0:draft")
    assert row(run, "improve") == "improve  iteration 3 of at most 10  6.0 s"
    run.finish("0:improve/i3/0:draft", 1.0).finish("0:improve", 7.0, attempts=3, metadata={"iterations": 3})
    assert row(run, "improve") == "improve  3 iterations  7.0 s"
    run.end()


def test_a_loop_that_has_not_begun_its_first_iteration(shown: Any) -> None:
    run = shown().begin().start("0:improve").progress("0:improve", 0, 10, "iteration")
    assert "at most 10 iterations" in row(run, "improve")
    run.end()


def test_a_loop_that_is_seen_late_has_the_number_of_its_iteration(shown: Any) -> None:
    run = shown().begin().start("0:improve").progress("0:improve", 0, 10, "iteration").start("0:improve/i7/0:draft")
    assert "iteration 7 of at most 10" in row(run, "improve")
    run.end()


def test_a_loop_of_thousands_keeps_counting_when_iterations_are_forgotten(shown: Any) -> None:
    run = shown().begin().start("0:poll").progress("0:poll", 0, 5_000, "iteration")
    for turn in range(1, 2_001):
        run.step(f"0:poll/i{turn}/0:ask", 0.01)
        run.children.clear()
    assert "iteration 2,000 of at most 5,000" in row(run, "poll")
    run.end()


def test_a_map_inside_a_loop_counts_for_itself(shown: Any) -> None:
    run = shown().begin().start("0:loop").progress("0:loop", 0, 5, "iteration")
    for turn in (1, 2):
        path = f"0:loop/i{turn}/0:embed"
        run.start(path).progress(path, 0, 8)
        work_off(run, range(3), every_s=0.1, path=path)
    assert "iteration 2 of at most 5" in row(run, "loop")
    assert " 3/8" in row(run, "i2 › embed")
    run.end()


# -- streams -----------------------------------------------------------------------------------------------------------


def stream(run: Any, chunks: int, every_s: float, data: Any = "words ") -> None:
    for number in range(chunks):
        run.now += every_s
        run.event(EventKind.CHUNK, "0:chat", chunk=StreamChunk(data, "0:chat", number))


def test_a_stream_shows_chunks_rate_and_characters_as_it_arrives(shown: Any) -> None:
    run = shown().begin().start("0:chat")
    run.now += 5.0  # the model thinks; that does not make the stream slow
    stream(run, 1, 0.0)
    assert row(run, "chat") == "chat  1 chunk · 6 characters  5.0 s"
    stream(run, 40, 0.05)
    assert row(run, "chat") == "chat  41 chunks · 20/s · 246 characters  7.0 s"
    run.finish("0:chat", 0.0, output="words")
    assert "characters" not in row(run, "chat")
    assert "41 chunks" in row(run, "chat")
    run.end()


def test_a_stream_that_is_restarted_counts_from_there(shown: Any) -> None:
    run = shown().begin().start("0:chat")
    stream(run, 40, 0.05)
    run.event(EventKind.CHUNK, "0:chat", chunk=StreamChunk("", "0:chat", 0, meta={"restart": True}))
    assert "chunk" not in row(run, "chat")
    stream(run, 2, 0.0)
    assert "2 chunks · 12 characters" in row(run, "chat")
    run.end()


def test_chunks_that_are_no_text_have_no_characters(shown: Any) -> None:
    run = shown().begin().start("0:chat")
    stream(run, 3, 0.5, data={"partial": [1, 2]})
    assert "3 chunks · 2.0/s  " in row(run, "chat")
    run.end()


# -- steps that count --------------------------------------------------------------------------------------------------


def test_what_a_step_reports_is_shown_in_its_unit(shown: Any) -> None:
    run = shown().begin().start("0:scan")
    for page in range(31):
        run.progress("0:scan", page, 120, "page")
        run.now += 0.5
    assert row(run, "scan") == "scan  ━━━━━───────────────  30/120 pages · 2.0/s · 45 s left  15.5 s"
    run.end()


def test_a_step_that_reports_and_streams_shows_both(shown: Any) -> None:
    run = shown().begin().start("0:chat").progress("0:chat", 1, 3, "answer")
    stream(run, 2, 0.1)
    assert "━━━━━━╾─────────────  1/3 answers  2 chunks" in row(run, "chat")
    run.end()


def test_what_a_step_began_with_is_not_what_it_has_done_since(shown: Any) -> None:
    run = shown().begin().start("0:copy").progress("0:copy", 5_000, 6_000, "file")
    for done in range(5_001, 5_011):
        run.now += 1.0
        run.progress("0:copy", done, 6_000, "file")
    assert "5,010/6,000 files · 1.0/s · 16m 30s left" in row(run, "copy")
    run.end()


def test_a_step_that_counts_anew_without_saying_so_has_the_rate_since_then(shown: Any) -> None:
    run = shown().begin().start("0:copy")
    for first in (1_000, 1):
        for done in range(first, first + 11):
            run.now += 1.0
            run.progress("0:copy", done, 2_000, "file")
    assert " 11/2,000 files · 1.0/s · " in row(run, "copy")
    run.end()


def test_a_total_may_grow_and_be_passed(shown: Any) -> None:
    run = shown().begin().start("0:crawl").progress("0:crawl", 5, 10, "page").progress("0:crawl", 6, 40, "page")
    assert " 6/40 pages" in row(run, "crawl")
    run.progress("0:crawl", 41, 40, "page")
    assert "━━━━━━━━━━━━━━━━━━━━  41/40 pages  " in row(run, "crawl")
    run.end()


def test_a_step_that_stops_says_how_far_it_got(shown: Any) -> None:
    run = shown().begin().start("0:scan").progress("0:scan", 37, 120, "page")
    run.finish("0:scan", 1.0, **FAILED)
    assert row(run, "scan") == "scan  37/120 pages  ValueError: no  1.0 s"
    run.end("failed")


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("MiB", "3/9 MiB  "),
        ("%", "3/9 %  "),
        ("", "3/9  "),
        ("query", "3/9 queries  "),
        ("pages", "3/9 pages  "),
        ("\x1b[31mred\n", r"3/9 \x1b[31mred\n  "),
        ("u" * 500, f"3/9 {'u' * 19}…  "),
    ],
)
def test_units_of_all_kinds_are_letters_on_one_line(shown: Any, unit: str, text: str) -> None:
    run = shown().begin().start("0:scan").progress("0:scan", 3, 9, unit)
    assert text in row(run, "scan")
    run.end()


# -- room --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (100, "└─ ⠋ transcribe  ━━━━────────────   30/120 pages · 2.0/s · 45 s left    150 tokens  $0.0030   15.0 s"),
        (90, "└─ ⠋ transcribe  ━────   30/120 pages · 2.0/s · 45 s left     150 tokens  $0.0030   15.0 s"),
        (80, "└─ ⠋ transcribe  ━━──────   30/120 pages · 2.0/s · 45 s left    $0.0030   15.0 s"),
        (70, "└─ ⠋ transcribe  ━────   30/120 pages · 2.0/s · 45 s left       15.0 s"),
        (60, "└─ ⠋ transcribe   30/120 · 2.0/s · 45 s left          15.0 s"),
        (52, "└─ ⠋ transcribe   30/120 · 45 s left          15.0 s"),
        (36, "└─ ⠋ transcribe   30/120      15.0 s"),
        (30, "└─ ⠋ transcribe   30/120"),
    ],
)
def test_what_gives_way_first(shown: Any, columns: int, line: str) -> None:
    run = shown(columns=columns).begin()
    run.start("0:transcribe").step("0:transcribe/0:x", 0.0, usage=Usage(0.003, 100, 50))
    for page in range(31):
        run.now += 0.5 if page else 0.0
        run.progress("0:transcribe", page, 120, "page")
    drawn = run.frame()[1]
    assert drawn == line
    assert len(drawn) <= columns
    run.end()


@pytest.mark.parametrize("columns", [24, 40, 60, 80, 120])
@pytest.mark.parametrize("name", ["審査する" * 10, "a long name " * 8, "x"])
def test_no_row_is_wider_than_the_terminal_and_the_count_outlives_the_name(
    shown: Any, columns: int, name: str, terminal: Any
) -> None:
    run = shown(columns=columns).begin().start(f"0:{name}").progress(f"0:{name}", 0, 100)
    work_off(run, range(42), every_s=0.5, path=f"0:{name}")
    screen = terminal(columns)
    screen.write("\n".join(run.frame()))
    assert len(screen.screen) == len(run.frame())  # nothing was wrapped
    if columns > 24:
        assert "42/100" in run.frame()[1]
    run.end()


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = draw_gauge(Gauge(30, "page", 120, failed=1, rate=2.0, left_s=45.0), 80, ascii_only=True)
    assert text.plain == "#####---------------   30/120 pages - 1 failed - 2.0/s - 45 s left"


GAUGES = st.builds(
    Gauge,
    done=st.integers(0, 10**7),
    unit=st.sampled_from(["item", "page", "iteration", "MiB", ""]),
    total=st.none() | st.integers(0, 10**7),
    failed=st.integers(0, 10**6),
    rate=st.none() | st.floats(1e-6, 1e7),
    left_s=st.none() | st.floats(0, 1e8),
    extra=st.sampled_from(["", "12 replayed"]),
)


@UNHURRIED
@given(GAUGES, st.integers(0, 120), st.booleans())
def test_a_gauge_fits_wherever_its_count_does(gauge: Gauge, room: int, ascii_only: bool) -> None:
    text = draw_gauge(gauge, room, ascii_only)
    assert text.cell_len <= max(room, least(gauge))
    assert f"{gauge.done:,}" in text.plain or (gauge.unit == "iteration" and not gauge.done)
    assert text.plain.isascii() or not ascii_only


# -- counting, whatever the order --------------------------------------------------------------------------------------


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, list[int], dict[int, int]]:
    """Steps per item, whose turn it is, and at which step some items fail."""
    steps, items = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    turns = draw(st.permutations([item for item in range(items) for _ in range(steps)]))
    failing = draw(st.dictionaries(st.integers(0, items - 1), st.integers(0, steps - 1)))
    return steps, turns, failing


@UNHURRIED
@given(schedules(), st.sets(st.integers(0, 11)))
def test_items_that_interleave_are_counted_exactly(
    schedule: tuple[int, list[int], dict[int, int]], replayed: set[int]
) -> None:
    steps, turns, failing = schedule
    progress = Progress("item", 0.0)
    progress.report(0, 12, 0.0)
    position: dict[int, int] = {}
    ended: set[int] = set()
    longest = 0
    for at, item in enumerate(turns):
        step = position.setdefault(item, 0)
        if item in ended:
            continue
        progress.start(f"{step}:step")
        fails = failing.get(item) == step
        progress.finish(f"{step}:step", float(at), failed=fails, replayed=item in replayed)
        longest = max(longest, step)
        position[item] = step + 1
        if fails or step == steps - 1:
            ended.add(item)
        if longest == steps - 1:  # by now it is known how many steps an item has
            gauge = progress.gauge(float(at))
            assert gauge.done == len(ended)
            assert gauge.failed == sum(failing.get(item, steps) < position[item] for item in ended)
            assert gauge.extra == (f"{len(ended & replayed)} replayed" if ended & replayed else "")


@UNHURRIED
@given(st.lists(st.tuples(st.floats(0, 60), st.integers(1, 50)), min_size=1, max_size=80))
def test_a_rate_is_never_beyond_what_was_seen(arrivals: list[tuple[float, int]]) -> None:
    progress, at, done = Progress("page", 0.0), 0.0, 0
    for wait, number in arrivals:
        at, done = at + wait, done + number
        progress.report(done, 10**9, at)
        gauge = progress.gauge(at)
        assert gauge.rate is None or 0 < gauge.rate <= done / 0.5
        assert gauge.left_s is None or gauge.left_s > 0


@UNHURRIED
@given(st.floats(0.6, 300), st.integers(1, 64), st.integers(6, 40))
def test_steady_bursts_give_their_rate(period: float, width: int, bursts: int) -> None:
    progress = Progress("page", 0.0)
    for burst in range(1, bursts + 1):
        progress.report(burst * width, None, burst * period)
    rate = progress.gauge(bursts * period + 0.9 * period).rate
    assert rate == pytest.approx(width / period, rel=0.01)


# -- several runs, pipes, pictures -------------------------------------------------------------------------------------


def test_a_run_that_has_one_line_says_how_far_it_is(shown: Any, story: Any) -> None:
    run = shown().begin().start("0:embed").progress("0:embed", 0, 100)
    run.step("0:embed/0/0:one", 0.1).start("0:embed/1/0:one")
    others = [story(run.tracer, run_id=f"run-{number:06}").begin() for number in range(30)]
    assert "b57bdf  embed 1/100 items › 1 › one" in run.frame(10)[0]
    for one in (run, *others):
        one.end()


@pytest.mark.parametrize("unit", ["page", "iteration"])
def test_a_pipe_is_told_nothing_of_progress(told: Any, unit: str) -> None:
    run = told(level="debug", log_outputs=True).begin().start("0:scan")
    before = run.text
    for done in range(1_000):
        run.progress("0:scan", done, 1_000, unit)
    stream(run, 100, 0.01)
    assert run.text == before


def test_milestones_in_a_pipe_say_how_far_the_map_is(told: Any) -> None:
    run = told().begin().start("0:embed").progress("0:embed", 0, 1_000)
    work_off(run, range(1_000), every_s=0.001)
    assert [line.split("  ")[-1] for line in run.lines if "so far" in line] == [
        "… 100 more steps so far, 112/1,000 items",
        "… 200 more steps so far, 212/1,000 items",
        "… 400 more steps so far, 412/1,000 items",
        "… 800 more steps so far, 812/1,000 items",
    ]


def test_milestones_in_a_pipe_say_how_far_the_loop_is(told: Any) -> None:
    run = told().begin().start("0:poll").progress("0:poll", 0, 500, "iteration")
    for turn in range(1, 151):
        run.step(f"0:poll/i{turn}/0:ask", 0.01)
        run.children.clear()
    (milestone,) = [line for line in run.lines if "so far" in line]
    assert milestone.endswith("… 100 more steps so far, iteration 112 of at most 500")


@pytest.mark.parametrize("detail", [None, {}, {"done": None, "total": None, "unit": "page"}])
def test_a_report_that_says_nothing_shows_nothing_wrong(shown: Any, detail: Any) -> None:
    run = shown().begin().start("0:scan").event(EventKind.PROGRESS, "0:scan", detail=detail)
    assert "⠋ scan  0" in run.frame()[1]
    run.finish("0:scan", 0.1).end()


def test_progress_of_a_step_whose_start_was_lost(shown: Any) -> None:
    run = shown().begin().progress("0:scan", 3, 9, "page").finish("0:scan", 0.1).end()
    assert run.terminal.screen[1].startswith("└─ ✓ scan")


def test_the_picture_of_the_readme_is_what_is_drawn() -> None:
    source = PICTURES / "draw_progress.py"
    spec = importlib.util.spec_from_file_location("draw_progress", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn, kept = (re.findall(r"<text [^>]*>(.*?)</text>", text) for text in (module.drawn(), _kept()))
    assert drawn == kept, f"draw it anew: python {source}"


def _kept() -> str:
    return (PICTURES / "progress.svg").read_text(encoding="utf-8")
