"""What a person sees on a terminal: a tree that grows, and what stays when the run is over."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flow_console import ConsoleTracer

from flow import EventKind, Flow, PauseSignal, Pending, Step, StepRun, StreamChunk, Usage


def test_running_steps_turn_and_finished_ones_have_their_time(shown: Any) -> None:
    run = shown().begin()
    run.step("0:fetch", 0.12).start("1:answer").start("1:answer/0:draft")
    run.now += 1.2
    assert run.frame() == [
        "⠸ triage                                                                   1.3 s",
        "├─ ✓ fetch                                                                120 ms",
        "└─ ⠸ answer                                                                1.2 s",
        "   └─ ⠸ draft                                                              1.2 s",
    ]
    run.end()


def test_rows_say_attempts_chunks_tokens_and_cost(shown: Any) -> None:
    run = shown().begin().start("0:call").event(EventKind.RETRY, "0:call", attempt=2, error=ValueError())
    run.start("1:chat")
    for number in range(3):
        run.event(EventKind.CHUNK, "1:chat", chunk=StreamChunk("x", "1:chat", number))
    run.step("2:spend", 1.0, usage=Usage(0.0123, 1200, 34))
    assert run.frame() == [
        "⠋ triage                                            1,234 tokens  $0.0123  1.0 s",
        "├─ ⠋ call  2 attempts                                                      1.0 s",
        "├─ ⠋ chat  3 chunks · 2.0/s · 3 characters                                 1.0 s",
        "└─ ✓ spend                                          1,234 tokens  $0.0123  1.0 s",
    ]
    run.end()


def test_children_of_a_failed_attempt_are_gone(shown: Any) -> None:
    run = shown().begin().start("0:outer").step("0:outer/0:first", 0.1)
    run.event(EventKind.RETRY, "0:outer", attempt=2, error=ValueError())
    run.start("0:outer/0:first")
    assert [line[:12] for line in run.frame()] == ["⠙ triage    ", "└─ ⠙ outer  ", "   └─ ⠙ firs"]
    run.end()


def test_the_tree_stays_when_the_run_is_over(shown: Any) -> None:
    run = shown().begin().start("0:fetch")
    run.finish("0:fetch", 0.12, usage=Usage(0.5, 10, 5)).end()
    assert run.terminal.screen == [
        "✓ triage                                              15 tokens  $0.5000  120 ms",
        "└─ ✓ fetch                                            15 tokens  $0.5000  120 ms",
        "✓ completed in 120 ms · 1 step · 15 tokens · $0.5000",
        "  run  1a1fc8f3625acecce0faab57bdf",
    ]


def test_a_failure_stays_with_its_reason(shown: Any) -> None:
    run = shown().begin().start("0:outer").start("0:outer/0:call")
    failure = {"success": False, "feedback": "Agent failed with ValueError: no", "error": ValueError("no")}
    run.finish("0:outer/0:call", 0.1, **failure).finish("0:outer", 0.2, **failure)
    run.end("failed", error=ValueError("no"), failed_path="0:outer/0:call")
    assert run.terminal.screen == [
        "✗ triage                                                                  300 ms",
        "└─ ✗ outer                                                                200 ms",
        "   └─ ✗ call  ValueError: no                                              100 ms",
        "✗ failed after 300 ms · 2 steps",
        "  at   0:outer/0:call",
        "  why  Agent failed with ValueError: no",
        "  run  1a1fc8f3625acecce0faab57bdf",
    ]


def test_a_pause_shows_the_step_that_waits(shown: Any) -> None:
    run = shown().begin().start("0:review").pause("0:review", PauseSignal("Which?", path="0:review"))
    run.end("paused", pending=[Pending(path="0:review", message="Which?")])
    assert run.terminal.screen[:2] == [
        "‖ triage                                                                 <0.1 ms",
        "└─ ‖ review  waits for an answer",
    ]
    assert "  asks    Which?" in run.terminal.screen


def test_markup_and_control_characters_in_names_are_letters(shown: Any) -> None:
    run = shown().begin().step("0:[red]x[bold]\n\x1b]0;title\x07", 0.1).end()
    assert run.terminal.screen[1].startswith(r"└─ ✓ [red]x[bold]\n\x1b]0;title\x07  ")


def test_wide_characters_keep_the_columns_straight(shown: Any) -> None:
    run = shown().begin().step("0:審査する", 0.1)
    assert run.frame()[1] == "└─ ✓ 審査する                                                             100 ms"
    run.end()


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_no_line_is_wider_than_the_terminal(shown: Any, width: int) -> None:
    run = shown(columns=width).begin()
    run.step("0:" + "long name " * 20, 0.1, usage=Usage(1234.5, 10**7, 10**7)).step("1:審", 0.1).end()
    tree = run.terminal.screen[:3]
    assert len(tree) == 3
    assert tree[1].lstrip("│├└─ ")[0] == "✓"


def test_ten_thousand_items_need_no_more_room_than_a_few(shown: Any) -> None:
    run = shown().begin().step("0:first", 0.1).start("1:all")
    for item in range(10_000):
        path = f"1:all/{item}/0:embed"
        run.start(path)
        if item % 16 == 15:
            for done in range(item - 15, item + 1):
                run.finish(f"1:all/{done}/0:embed", 0.0)
                run.children.pop(f"1:all/{done}/0:embed")
        if item % 1_000 == 500:
            assert len(run.frame()) <= 23
    for item in range(3):
        run.start(f"1:all/{10_000 + item}/0:embed")
    frame = run.frame(10)
    assert "all  3 running · 10,000 done" in frame[2]
    assert (len(frame), frame[-1]) == (10, "   └─ … 9,997 more")
    run.finish("1:all", 1.0).end()
    assert run.terminal.scrolled == 0
    assert len(run.terminal.getvalue()) < 50_000


def test_failed_items_are_shown_before_others(shown: Any) -> None:
    run = shown().begin().start("0:all")
    for item in range(300):
        failing = {"success": False, "feedback": "no", "error": ValueError()} if item == 250 else {}
        run.step(f"0:all/{item}/0:embed", 0.001, **failing)
    assert any("250 › embed" in line for line in run.frame())
    run.finish("0:all", 0.3).end()
    assert any("250 › embed  no" in line for line in run.terminal.screen)


def test_a_tall_tree_is_made_to_fit(shown: Any) -> None:
    run = shown().begin()
    for outer in range(8):
        run.start(f"{outer}:outer{outer}")
        for inner in range(8):
            run.step(f"{outer}:outer{outer}/{inner}:inner{inner}", 0.01)
        if outer < 7:
            run.finish(f"{outer}:outer{outer}", 0.1)
    for height in (1, 2, 3, 5, 8, 13, 23):
        frame = run.frame(height)
        assert len(frame) <= height
        assert frame[0][2:8] == "triage"
    run.end()


def test_no_tree_is_drawn_more_often_than_ten_times_a_second(shown: Any) -> None:
    began = time.monotonic()
    run = shown().begin()
    for index in range(1_000):
        run.step(f"{index}:a", 0.0)
        run.children.clear()
    run.end()
    most = 10 * (time.monotonic() - began) + 3  # the first, its erasure, and the one that stays
    assert run.terminal.getvalue().count("triage") <= most


def test_several_runs_are_shown_together(shown: Any, story: Any) -> None:
    run = shown().begin().start("0:a")
    other = story(run.tracer, run_id="b" * 20, name="other").begin().start("0:b")
    assert [line[:8].rstrip() for line in run.frame()] == ["⠋ triage", "└─ ⠋ a", "⠋ other", "└─ ⠋ b"]
    run.finish("0:a", 0.1).end()
    other.finish("0:b", 0.1).end()
    assert [line[:11] for line in run.terminal.screen if line[0] in "✓2"] == [
        "✓ triage   ", "✓ completed", "✓ other    ", "✓ completed", "2 runs in 1",
    ]  # fmt: skip


def test_many_runs_are_a_line_each_that_says_where_they_are(shown: Any, story: Any) -> None:
    run = shown().begin().start("0:a").start("0:a/0:b")
    others = [story(run.tracer, run_id=f"run-{number:06}").begin() for number in range(30)]
    frame = run.frame(10)
    assert len(frame) == 10
    assert "b57bdf  a › b" in frame[0]
    assert frame[-1] == "… 22 more runs"
    for one in (run, *others):
        one.end()


def test_what_is_asked_for_is_printed_above_the_tree(shown: Any) -> None:
    run = shown(level="debug", log_outputs=True).begin().start("0:a").finish("0:a", 0.1, output="forty-two").end()
    assert run.terminal.screen[:3] == [
        "    0.00s  started   a  step",
        "    0.10s  done      a  100 ms",
        "    0.10s  output    a  'forty-two'",
    ]
    assert run.terminal.screen[3].startswith("✓ triage")


@pytest.mark.parametrize(("variable", "value"), [("TERM", "dumb"), ("TERM", "unknown"), ("CI", "true")])
def test_where_nothing_can_be_redrawn_there_are_lines(
    shown: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    run = shown().begin().step("0:a", 0.1).end()
    assert run.terminal.screen[0] == "    0.10s  done      a  100 ms"


@pytest.mark.parametrize("ask", ["variable", "option"])
def test_colours_can_be_refused(shown: Any, monkeypatch: pytest.MonkeyPatch, ask: str) -> None:
    if ask == "variable":
        monkeypatch.setenv("NO_COLOR", "1")
    run = shown(**({"colorized": False} if ask == "option" else {})).begin().step("0:a", 0.1).end()
    assert "\x1b[3" not in run.terminal.getvalue()
    assert run.terminal.screen[1].startswith("└─ ✓ a")


def test_a_terminal_without_unicode_gets_ascii(terminal: Any) -> None:
    class Old(terminal):  # type: ignore[misc]
        encoding = "ascii"

    shown = Old()
    Flow(Step("größe", str.upper), local_tracer=ConsoleTracer(stream=shown, width=80)).run("x")
    assert shown.screen[1].startswith(r"`- + gr\xf6\xdfe ")
    assert shown.getvalue().isascii()


async def test_the_spinner_turns_while_nothing_happens(terminal: Any) -> None:
    shown, go_on, frames = terminal(), asyncio.Event(), []
    tracer = ConsoleTracer(stream=shown, width=80)
    draw = tracer.frame

    def counting(height: int) -> Any:
        frames.append(height)
        if len(frames) == 3:
            go_on.set()
        return draw(height)

    tracer.frame = counting  # type: ignore[method-assign]

    async def wait(data: str) -> str:
        async with asyncio.timeout(10):
            await go_on.wait()
        return data

    assert (await Flow(Step("wait", wait), local_tracer=tracer).run_async("x")).success
    assert not shown.cursor_is_hidden


async def test_prints_of_the_program_go_above_the_tree(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "stderr", shown)

    async def talk(data: str, run: StepRun) -> str:
        await run.emit("")  # gives the tracer its turn
        await asyncio.sleep(0)
        print("printed by a step")
        return data

    await Flow(Step("talk", talk), local_tracer=ConsoleTracer(width=80)).run_async("x")
    assert shown.screen[0] == "printed by a step"
    assert shown.screen[1].startswith("✓ pipeline")
    assert sys.stdout is shown
    assert sys.stderr is shown


async def test_flows_on_one_terminal_share_it(terminal: Any) -> None:
    shown, both = terminal(), asyncio.Barrier(2)

    async def meet(data: str) -> str:
        await both.wait()
        return data

    flows = [Flow(Step(name, meet), local_tracer=ConsoleTracer(stream=shown, width=80)) for name in ("left", "right")]
    await asyncio.gather(*(flow.run_async("x") for flow in flows))
    assert sum("✓ left" in line for line in shown.screen) == 1
    assert sum("✓ right" in line for line in shown.screen) == 1
    assert shown.getvalue().count("\x1b[?25l") == shown.getvalue().count("\x1b[?25h")


def test_flows_in_several_threads_share_one_tracer(terminal: Any) -> None:
    shown, both = terminal(lines=60), threading.Barrier(4)

    def meet(data: str) -> str:
        both.wait(10)
        return data

    tracer = ConsoleTracer(stream=shown, width=80)
    flows = [Flow(Step(f"step{number}", meet) >> Step("b", str.upper), local_tracer=tracer) for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda flow: flow.run("x"), flows))
    assert all(result.success for result in results)
    assert [sum(f"step{number}" in line for line in shown.screen) for number in range(4)] == [1, 1, 1, 1]
    assert not shown.cursor_is_hidden


async def test_a_run_whose_end_was_lost_gives_the_terminal_back(shown: Any, story: Any) -> None:
    lost = shown()

    with lost.tracer.around_run(lost):
        lost.event(EventKind.RUN_STARTED).start("0:a")
    lost.now += 60
    assert lost.tracer.is_idle()
    story(lost.tracer, run_id="next").begin().end()
    assert not lost.terminal.cursor_is_hidden


async def test_closing_in_mid_run_gives_the_terminal_back(shown: Any) -> None:
    run = shown().begin().start("0:a")
    assert run.terminal.cursor_is_hidden
    await run.tracer.aclose()
    assert not run.terminal.cursor_is_hidden
