"""A finished run as text or as a rich renderable."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flow_console import render_tree, run_tree
from rich.console import Console

from flow import Flow, Pipeline, RunResult, RunStatus, Step, StepResult, Usage, UsageLimits


def fails(data: str) -> str:
    raise ValueError("no\nsecond line\nthird line\nfourth line")


def spends(data: str, run: Any) -> str:
    run.usage.add(cost_usd=0.5, input_tokens=10)
    return data


def first_words(text: str) -> list[str]:
    return [" ".join(line.split()[:3]) for line in text.splitlines()]


def test_a_completed_run() -> None:
    pipeline = Step("fetch", str.upper) >> (Step("draft", str.strip) >> Step("check", str.strip)).as_step("answer")
    result = Flow(Pipeline(pipeline.steps, name="triage")).run("hello")
    text = run_tree(result)
    assert [line[:14].rstrip() for line in text.splitlines()[:5]] == [
        "✓ triage",
        "├─ ✓ fetch",
        "└─ ✓ answer",
        "   ├─ ✓ draft",
        "   └─ ✓ check",
    ]
    assert text.splitlines()[5].startswith("✓ completed in ")
    assert text.splitlines()[5].endswith(" · 4 steps")
    assert text.splitlines()[6] == f"  run  {result.run_id}"


def test_a_failed_run_shows_the_first_lines_of_the_feedback() -> None:
    result = Flow(Step("fetch", fails)).run("hello")
    assert run_tree(result).splitlines()[3:] == [
        "  at   0:fetch",
        "  why  Agent failed with ValueError: no",
        "       second line",
        "       third line …",
        f"  run  {result.run_id}",
    ]


def test_a_run_that_spent_too_much() -> None:
    text = run_tree(Flow(Step("fetch", spends), usage_limits=UsageLimits(total_cost_usd_limit=0.15)).run("hello"))
    assert "✗ limit exceeded after " in text
    assert "  why  Cost limit of $0.15 exceeded" in text


def test_a_retry_and_a_fallback_are_counted_once() -> None:
    calls = iter([ValueError("once"), None])

    def flaky(data: str) -> str:
        error = next(calls)
        if error:
            raise error
        return data

    pipeline = Step("first", fails, retries=1, fallback=Step("cheap", flaky, retries=1))
    text = run_tree(Flow(pipeline).run("hello"))
    assert " · 2 steps · 2 retries" in text
    assert "└─ ✓ first  4 attempts · fallback" in text


def test_long_text_is_folded_below_its_beginning() -> None:
    def fail(data: str) -> str:
        raise ValueError("word " * 40)

    lines = run_tree(Flow(Step("fetch", fail)).run(""), width=60).splitlines()
    assert max(map(len, lines)) <= 60
    words = [line for line in lines if line.rstrip().endswith("word")]
    assert [line[:11] for line in words] == ["  why  Agen", *["       word"] * 4]


def test_a_long_fan_out_is_collapsed_and_shows_what_failed() -> None:
    items = [
        StepResult("embed", "step", item != 5_000, path=f"0:all/{item}/0:embed", feedback="no")
        for item in range(10_000)
    ]
    lines = run_tree(made(StepResult("all", "map", children=tuple(items), path="0:all"))).splitlines()
    assert lines[1].startswith("└─ ✓ all  9,999 done · 1 failed")
    assert [line.split("›")[0].strip() for line in lines[2:15]] == [
        *(f"├─ ✓ {item}" for item in range(11)),
        "├─ ✗ 5000",
        "└─ … 9,988 more",
    ]


def test_a_long_loop_shows_its_latest_iterations() -> None:
    turns = [StepResult("try", "step", path=f"0:loop/i{turn}/0:try") for turn in range(1_000)]
    lines = run_tree(made(StepResult("loop", "loop", children=tuple(turns), path="0:loop"))).splitlines()
    assert lines[2] == "   ├─ … 988 more"
    assert "i999 › try" in lines[-3]


def test_results_without_paths_are_nested_as_they_are() -> None:
    inner = StepResult("inner", "step")
    lines = run_tree(made(StepResult("outer", "x", children=(inner, inner)), StepResult("a/b", "step"))).splitlines()
    assert [line[:14].rstrip() for line in lines[:5]] == [
        "✓ triage",
        "├─ ✓ outer",
        "│  ├─ ✓ inner",
        "│  └─ ✓ inner",
        "└─ ✓ a/b",
    ]


def test_an_empty_run() -> None:
    assert run_tree(made()).splitlines()[1:] == ["✓ completed in <0.1 ms · 0 steps", "  run  run-1"]


@pytest.mark.parametrize("width", [30, 80, 120])
def test_text_keeps_to_the_width_asked_for(width: int) -> None:
    text = run_tree(Flow(Step("name " * 40, spends)).run("hello"), width=width)
    assert max(len(line) for line in text.splitlines()) <= min(width, 100)


def test_text_is_plain_and_the_renderable_has_colours() -> None:
    result = Flow(Step("fetch", str.upper)).run("hello")
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system="standard")
    console.print(render_tree(result))
    assert "\x1b" not in run_tree(result)
    assert "\x1b[32m✓" in console.file.getvalue()  # type: ignore[attr-defined]


def made(*history: StepResult) -> RunResult[Any]:
    """A result as somebody might put it together."""
    return RunResult(
        run_id="run-1",
        trace_id="run-1",
        pipeline="triage",
        status=RunStatus.COMPLETED,
        step_history=list(history),
        usage=Usage(),
        final_pipeline_context=None,
    )
