"""What is written where there is no terminal: a pipe, a file, the log of a build."""

from __future__ import annotations

from typing import Any

import pytest
from flow_console import ConsoleTracer

from flow import CancelSignal, EventKind, PauseSignal, Pending, StepFailed, StreamChunk, Usage


def test_a_run_is_a_line_for_each_step_and_a_summary(told: Any) -> None:
    run = told().begin()
    run.step("0:fetch", 0.12)
    run.start("1:answer").step("1:answer/0:draft", 1.5, usage=Usage(0.0123, 1200, 34, 1), attempts=2)
    run.finish("1:answer", 1.5, usage=Usage(0.0123, 1200, 34, 1)).end()
    assert run.lines == [
        "    0.12s  done      fetch  120 ms",
        "    1.62s  done        draft  1.5 s, 2 attempts, 1,234 tokens, $0.0123",
        "    3.12s  done      answer  1.5 s, 1,234 tokens, $0.0123",
        "    3.12s  completed triage  in 3.1 s, 3 steps, 1 retry, 1,234 tokens, $0.0123",
        "           run       1a1fc8f3625acecce0faab57bdf",
    ]


def test_branches_and_iterations_are_named_before_the_step(told: Any) -> None:
    run = told().begin().start("0:fan")
    run.step("0:fan/left/0:score", 0.5).start("0:fan/right/0:loop").step("0:fan/right/0:loop/i1/0:try", 0.5)
    assert [line[10:] for line in run.lines] == [" done        left/score  500 ms", " done          i1/try  500 ms"]


def test_retry_fallback_and_failure_say_why(told: Any) -> None:
    run = told().begin().start("0:call")
    run.event(EventKind.ATTEMPT_FAILED, "0:call", attempt=1, error=ConnectionError("refused"))
    run.event(EventKind.RETRY, "0:call", attempt=2, delay_s=0.5, error=ConnectionError("refused"))
    run.event(EventKind.FALLBACK, "0:call", error=ConnectionError("refused"))
    run.start("0:call/fallback").finish(
        "0:call/fallback",
        0.2,
        name="cheap",
        success=False,
        feedback="Agent failed with ValueError: no",
        error=ValueError(),
    )
    assert run.lines == [
        "    0.00s  retry     call  attempt 2 in 500 ms after ConnectionError",
        "    0.00s  fallback  call  after ConnectionError",
        "    0.20s  failed      cheap  200 ms: ValueError: no",
    ]


def test_a_failed_run_says_where_and_why_and_what_to_do(told: Any) -> None:
    error = StepFailed("no route to host", hint="Is the VPN on?")
    run = told().begin().start("0:outer")
    run.start("0:outer/0:call").finish("0:outer/0:call", 0.2, success=False, feedback=str(error), error=error)
    run.finish("0:outer", 0.2, success=False, feedback="step failed", error=error)
    run.end("failed", error=error, failed_path="0:outer/0:call")
    assert run.lines[1:] == [
        "    0.40s  failed    outer  200 ms",
        "    0.40s  failed    triage  after 400 ms, 2 steps",
        "           at        0:outer/0:call",
        "           why       no route to host",
        "           hint      Is the VPN on?",
        "           run       1a1fc8f3625acecce0faab57bdf",
    ]


def test_a_pause_says_what_is_asked_and_how_to_answer(told: Any) -> None:
    signal = PauseSignal("Which one?", path="1:outer/0:review")
    run = told()
    run.stored = True
    run.begin().step("0:fetch", 0.1).start("1:outer").start("1:outer/0:review")
    run.pause("1:outer/0:review", signal).pause("1:outer", signal)
    run.end("paused", pending=[Pending(path="1:outer/0:review", message="Which one?")])
    assert run.lines[1:] == [
        "    0.10s  paused      review  waits for an answer",
        "    0.10s  paused    triage  after 100 ms, 1 step",
        "           at        1:outer/0:review",
        "           asks      Which one?",
        "           resume    flow resume 1a1fc8f3625acecce0faab57bdf --answer TEXT",
        '           or        await flow.resume_async("1a1fc8f3625acecce0faab57bdf", answer)',
        "           run       1a1fc8f3625acecce0faab57bdf",
    ]


def test_a_pause_that_cannot_be_resumed_says_so(told: Any) -> None:
    run = told().begin().start("0:review").pause("0:review", PauseSignal("Which?", path="0:review"))
    run.end("paused", pending=[Pending(path="0:review", message="Which?")])
    assert run.lines[-2] == "           resume    not possible: the run has no state store, see Flow(..., state=URL)"


def test_a_failed_run_that_was_stored_can_be_resumed(told: Any) -> None:
    run = told()
    run.stored = True
    run.begin().end("failed", error=ValueError("no"))
    assert run.lines[-2] == "           resume    flow resume 1a1fc8f3625acecce0faab57bdf"


def test_a_cancelled_step_is_named_once(told: Any) -> None:
    run = told().begin().start("0:outer").start("0:outer/0:slow")
    for path in ("0:outer/0:slow", "0:outer"):
        run.event(EventKind.CANCELLED, path, error=CancelSignal("stopped by ada"))
    run.end("cancelled", error=CancelSignal("stopped by ada"))
    assert run.lines[0] == "    0.00s  cancelled   slow  stopped by ada"
    assert "           why       stopped by ada" in run.lines


@pytest.mark.parametrize(("field", "word"), [("cached", "cached"), ("replayed", "replayed")])
def test_a_result_that_was_not_computed_says_so(told: Any, field: str, word: str) -> None:
    run = told().begin().step("0:fetch", 0.001, **{field: True})
    assert run.lines == [f"    0.00s  {word:<9} fetch  1.0 ms"]


def test_iterations_of_a_loop_are_no_retries(told: Any) -> None:
    run = told().begin().start("0:improve")
    run.finish("0:improve", 0.5, attempts=3, metadata={"iterations": 3}).end()
    assert run.lines[:2] == [
        "    0.50s  done      improve  500 ms, 3 iterations",
        "    0.50s  completed triage  in 500 ms, 1 step",
    ]


def test_a_stream_counts_its_chunks_from_the_last_restart(told: Any) -> None:
    run = told().begin().start("0:chat")
    for chunk in ("a", "b", "restart", "c"):
        meta = {"restart": True} if chunk == "restart" else None
        run.event(EventKind.CHUNK, "0:chat", chunk=StreamChunk(chunk, "0:chat", meta=meta))
    run.finish("0:chat", 0.1)
    assert run.lines == ["    0.10s  done      chat  100 ms, 1 chunk"]


def test_debug_adds_starts_attempts_and_decisions_but_no_content(told: Any) -> None:
    run = told(level="debug").begin("the prompt of a customer").start("0:route", "the prompt of a customer")
    run.event(EventKind.ATTEMPT_FAILED, "0:route", attempt=1, error=ValueError("cannot use 'the prompt of a customer'"))
    metadata = {"executed_branch_key": "safe", "iterations": 2, "exit_reason": "condition", "note": "content"}
    run.finish("0:route", 0.1, metadata=metadata)
    assert run.lines == [
        "    0.00s  started   route  step",
        "    0.00s  attempt   route  attempt 1 failed: ValueError: cannot use '[withheld]'",
        "    0.10s  done      route  100 ms, executed_branch_key='safe', iterations=2, exit_reason='condition'",
    ]


def test_inputs_and_outputs_are_shown_short_and_masked_when_asked_for(told: Any) -> None:
    run = told(log_inputs=True, log_outputs=True).begin()
    run.start("0:login", {"user": "ada", "password": "hunter2"})
    run.finish("0:login", 0.1, output="Bearer abcdef0123456789" + "x" * 500)
    assert run.lines[0] == "    0.00s  input     login  {'user': 'ada', 'password': ****}"
    assert run.lines[2] == "    0.10s  output    login  'Bearer ****'"


def test_names_are_printed_as_they_are_but_on_one_line(told: Any) -> None:
    run = told().begin().step("0:[red]x\n\x1b[31my\u202ez", 0.1)
    assert run.lines == [r"    0.10s  done      [red]x\n\x1b[31my\u202ez  100 ms"]


def test_there_are_no_control_codes(told: Any) -> None:
    run = told().begin().start("0:a").finish("0:a", 0.1, success=False, feedback="no", error=ValueError()).end("failed")
    assert run.text.isprintable() or set(run.text) - set(filter(str.isprintable, run.text)) == {"\n"}


def test_colours_can_be_had_in_a_pipe(told: Any) -> None:
    assert "\x1b[32mdone" in told(colorized=True).begin().step("0:a", 0.1).text


def test_a_long_fan_out_is_counted_after_its_first_items(told: Any) -> None:
    run = told().begin().start("0:all")
    for item in range(10_000):
        path = f"0:all/{item}/0:embed"
        failing = {"success": False, "feedback": "no", "error": ValueError()} if item % 500 == 250 else {}
        run.step(path, 0.001, **failing)
        run.children.pop(path)
    run.finish("0:all", 10.0).end()
    assert len(run.lines) < 50
    assert sum(" failed " in line for line in run.lines) == 10
    assert [line.split()[1] for line in run.lines if "so far" in line] == ["…"] * 7
    assert "all  10.0 s, 9,988 steps not listed" in run.text


def test_a_loop_of_thousands_is_counted_too(told: Any) -> None:
    run = told().begin().start("0:loop")
    for turn in range(2_000):
        run.step(f"0:loop/i{turn}/0:gen", 0.001).step(f"0:loop/i{turn}/1:judge", 0.001)
        run.children.clear()
    assert len(run.lines) < 40


def test_what_is_inside_an_item_that_is_not_listed_is_not_listed(told: Any) -> None:
    run = told().begin().start("0:all")
    for item in range(100):
        run.start(f"0:all/{item}/0:sub")
        run.step(f"0:all/{item}/0:sub/0:a", 0.001).step(f"0:all/{item}/0:sub/1:b", 0.001)
        run.finish(f"0:all/{item}/0:sub", 0.002)
    assert len(run.lines) < 45


def test_a_pipeline_written_by_hand_is_listed_in_full(told: Any) -> None:
    run = told().begin()
    for index in range(60):
        run.step(f"{index}:step{index}", 0.001)
    assert len(run.lines) == 60


def test_lines_of_runs_that_overlap_name_their_run(told: Any, story: Any) -> None:
    run = told().begin()
    other = story(run.tracer, run_id="b" * 20, name="other").begin()
    run.step("0:a", 0.1)
    other.step("0:b", 0.2)
    assert run.lines == ["    0.10s  [b57bdf] done      a  100 ms", "    0.20s  [bbbbbb] done      b  200 ms"]


async def test_many_runs_are_summed_up(told: Any, story: Any) -> None:
    run = told().begin()
    others = [story(run.tracer, run_id=f"run-{number:06}").begin() for number in range(99)]
    for index, other in enumerate([run, *others]):
        other.step("0:a", 0.1)
        other.end("failed" if index % 10 == 9 else "completed", error=ValueError("no"))
    await run.tracer.aclose()
    assert len(run.lines) < 120
    assert run.lines[-1] == "100 runs in 100 ms: 90 completed, 10 failed"


async def test_runs_one_after_another_are_all_shown(told: Any, story: Any) -> None:
    run = told()
    for number in range(30):
        story(run.tracer, run_id=f"run-{number:06}").begin().step("0:a", 0.1).end()
    assert run.text.count("completed triage") == 30
    assert " runs " not in run.text


def test_a_step_whose_start_was_lost_is_shown_all_the_same(told: Any) -> None:
    run = told()
    run.finish("0:a", 0.1)
    assert run.lines[0] == "    0.00s  done      a  100 ms"


def test_default_stream_is_standard_error_of_the_moment(capsys: pytest.CaptureFixture[str], story: Any) -> None:
    story(ConsoleTracer()).begin().step("0:a", 0.1).end()
    printed = capsys.readouterr()
    assert "done      a" in printed.err
    assert printed.out == ""
