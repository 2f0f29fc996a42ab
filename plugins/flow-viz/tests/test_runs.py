"""Runs over pipelines: states, times, attempts, costs, and many executions of one step in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_viz import to_mermaid, to_svg, to_text

from flow import ConfigurationError, Flow, Pending, Step, StepResult, Usage

Make = Callable[..., Any]


def told(text: str) -> dict[str, str]:
    """What stands behind the sign of each step: its line without the tree."""
    lines = [line.lstrip("│├└─╌ ") for line in text.splitlines()]
    words = [line.split() for line in lines]
    return {(line[2] if line[1] in "⟳⁝" else line[1]).rstrip(":"): " ".join(line) for line in words if len(line) > 1}


def fails(data: str) -> str:
    raise ValueError("no")


def test_real_run_is_drawn_with_retries_and_its_fallback() -> None:
    pipeline = Step("fetch", fails, retries=2, fallback=Step("cached", str.upper)) >> Step("count", len)
    found = told(to_text(pipeline, run=Flow(pipeline).run("x")))
    assert found["fetch"].startswith("✓ fetch")
    assert found["fetch"].endswith("· 3 attempts · fell back")
    assert found["on"].startswith("✓ on failure: cached")
    assert found["count"].startswith("✓ count")


def test_regular_way_of_a_step_that_fell_back_was_not_taken() -> None:
    pipeline = Step("fetch", fails, fallback=Step("cached", str.upper)) >> Step("count", len)
    drawn = to_mermaid(pipeline, run=Flow(pipeline).run("x")).splitlines()
    arrows = [line.strip() for line in drawn if "-->" in line or "-.->" in line]
    assert arrows == ['n1 -.->|"on failure"| n2', "n1 --> n3", "n2 -.-> n3"]
    assert "  linkStyle 0,2 stroke:#1a7f37,stroke-width:2px" in drawn
    assert "  linkStyle 1 stroke:#afb8c1,stroke-dasharray:2 3" in drawn


def test_run_that_failed_leaves_the_rest_idle() -> None:
    sub = (Step("bad", fails) >> Step("never", str.strip)).as_step("sub")
    pipeline = Step("ok", str.strip) >> sub >> Step("last", len)
    text = to_text(pipeline, run=Flow(pipeline).run("x"), types=False)
    assert [line.split()[0] for line in text.splitlines() if line.startswith("✗")] == ["✗"]
    found = told(text)
    assert (found["ok"][0], found["sub"][0], found["bad"][0]) == ("✓", "✗", "✗")
    assert found["never"] == "· never"
    assert found["last"] == "· last"


@pytest.fixture
def looping(structure_of: Make, series_of: Make) -> dict[str, Any]:
    return series_of(
        structure_of("draft", "loop", {"body": series_of(structure_of("write"), structure_of("judge"))}, max_loops=9),
        structure_of("each", "map", {"body": series_of(structure_of("embed"))}),
        structure_of(
            "polish", "refine", {"generator": series_of(structure_of("g")), "critic": series_of(structure_of("c"))}
        ),
    )


def test_iterations_and_items_are_one_tally(looping: Any, record_of: Make) -> None:
    records = [
        *(record_of(f"0:draft/i{turn}/0:write", latency_s=turn / 100, cost=0.25) for turn in (1, 2, 3)),
        *(record_of(f"0:draft/i{turn}/1:judge") for turn in (1, 2, 3)),
        record_of("0:draft", kind="loop", attempts=3, metadata=b'{"iterations": 3}', latency_s=1.5),
        *(
            record_of(f"1:each/{item}/0:embed", "failed" if item == 4 else "completed", latency_s=0.03)
            for item in range(13)
        ),
    ]
    found = told(to_text(looping, run=records, width=100))
    assert found["draft"].startswith("✓ ⟳ draft loop at most 9 times 3 iterations · 1.5 s")
    assert found["write"] == "✓ write 3 done · p50 20 ms · $0.7500"
    assert found["embed"] == "✗ embed 12 done, 1 failed · p50 30 ms"
    assert found["each"] == "▸ ⁝ each map 13 items"


def test_bodies_without_a_label_of_their_own_are_found(looping: Any, record_of: Make) -> None:
    records = [record_of("2:polish/i1/0:g"), record_of("2:polish/i1/critic/0:c"), record_of("2:polish/i2/0:g")]
    found = told(to_text(looping, run=records))
    assert "2 done" in found["generator"]
    assert found["critic"] == "✓ critic: c 100 ms"


def test_chosen_branch_stands_out(structure_of: Make, series_of: Make, record_of: Make) -> None:
    branches = {"yes": series_of(structure_of("a")), "no": series_of(structure_of("b"), structure_of("c"))}
    pipeline = series_of(structure_of("pick", "branch", branches))
    svg = to_svg(pipeline, run=[record_of("0:pick/yes/0:a"), record_of("0:pick", kind="branch")])
    assert svg.count('class="box done"') == 1
    assert svg.count('class="box idle"') == 2
    assert 'class="way ran"' in svg
    assert 'class="way faint"' in svg


def test_label_that_is_a_number_is_a_branch_and_no_item(structure_of: Make, series_of: Make, record_of: Make) -> None:
    pipeline = series_of(
        structure_of("pick", "branch", {"1": series_of(structure_of("a")), "2": series_of(structure_of("b"))})
    )
    text = to_text(pipeline, run=[record_of("0:pick/2/0:b"), record_of("0:pick", kind="branch")])
    assert "✓ 2: b" in text
    assert "· 1: a" in text
    assert "item" not in text


def test_waiting_step_and_what_is_around_it_wait(structure_of: Make, series_of: Make, run_of: Make) -> None:
    pipeline = series_of(
        structure_of("all", "acme.group", {"body": series_of(structure_of("ask", "hitl"))}), structure_of("z")
    )
    run = run_of(status="paused", pending=[Pending(path="0:all/0:ask", message="?")])
    text = to_text(pipeline, run=run)
    assert text.splitlines()[:3] == ["‖ pipeline", "run r-1", "paused in 2 s"]
    assert "‖ all" in text
    assert "‖ ☺ ask" in text
    assert "· z" in text


def test_cached_and_replayed_steps_say_so(run_of: Make) -> None:
    history = [
        StepResult("a", "step", path="0:a", cached=True, latency_s=0.001),
        StepResult("b", "step", path="1:b", replayed=True, usage=Usage(cost_usd=2.0)),
    ]
    text = to_text(Step("a", str.strip) >> Step("b", len), run=run_of(*history))
    assert "≈ a" in text
    assert text.splitlines()[-1].split() == ["└─", "↺", "b", "$2.00"]


def test_earlier_attempts_of_a_container_are_forgotten(structure_of: Make, series_of: Make, record_of: Make) -> None:
    pipeline = series_of(structure_of("all", "acme.group", {"body": series_of(structure_of("a"), structure_of("b"))}))
    records = [
        record_of("0:all/0:a"),
        record_of("0:all/1:b", "failed"),
        record_of("0:all/attempt 2", "restarted").__class__(
            path="0:all/attempt 2", parent="0:all", name="all", kind="acme.group", status="restarted"
        ),
        record_of("0:all/0:a"),
    ]
    text = to_text(pipeline, run=records)
    assert "✓ a" in text
    assert "· b" in text


def test_answers_are_no_executions(structure_of: Make, series_of: Make, record_of: Make) -> None:
    text = to_text(series_of(structure_of("ask", "hitl")), run=[record_of("0:ask/answer", "answered")])
    assert text.splitlines() == ["pipeline", "└─ · ☺ ask hitl"]


def test_results_of_another_pipeline_are_counted_not_drawn(record_of: Make) -> None:
    text = to_text(Step("a", len), run=[record_of("0:a"), record_of("1:gone"), record_of("1:gone/x/0:deep")])
    assert text.splitlines()[1] == "2 results fit no step of this pipeline"


@pytest.mark.parametrize("run", [42, "r-1", [1, 2], {"a": 1}])
def test_other_things_are_no_runs(run: Any) -> None:
    with pytest.raises(ConfigurationError, match="RunResult or a sequence of StepRecords"):
        to_mermaid(Step("a", len), run=run)


def test_path_of_any_depth_is_placed(record_of: Make, structure_of: Make, series_of: Make) -> None:
    pipeline = series_of(structure_of("l", "loop", {"body": series_of(structure_of("a"))}))
    deep = "0:l" + "/i1" * 5_000 + "/0:a"
    assert "✓ a" in to_text(pipeline, run=[record_of(deep)])
