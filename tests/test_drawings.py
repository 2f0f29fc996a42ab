"""Drawings of the step types of all packages, and of runs that are stored: each step is found where it was executed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from flow_branch import branch_on
from flow_hitl import approval, human_in_the_loop
from flow_loop import Refinement, loop_until, refine_until
from flow_parallel import map_over, map_reduce, parallel
from flow_testkit import FlowTester
from flow_viz import to_dot, to_mermaid, to_svg, to_text

from flow import Flow, Pipeline, Step, structure
from tests.pages import Page
from tests.workspace import ROOT

README = Page(ROOT / "plugins/flow-viz/README.md")


def more(n: int) -> int:
    return n + 1


def add(total: int, n: int) -> int:
    return total + n


def judge(n: int) -> Refinement:
    return Refinement(is_complete=n > 6, feedback="more")


def start(task: Mapping[str, Any]) -> int:
    return task["original_input"] + 4 + (task["feedback"] is not None)


def everything() -> Pipeline[Any, Any]:
    sub = (Step("one", more) >> Step("two", more)).as_step("both")
    return (
        Step("first", more)
        >> loop_until("grow", Step("step up", more), lambda n, context: n > 4, max_loops=9)
        >> branch_on("which", lambda n, context: "even" if n % 2 else "odd", {"odd": Step("a", more), "even": sub})
        >> parallel("fan", {"left": Step("l", more), "right": Step("r", more)})
        >> Step("numbers", lambda outputs: sorted(outputs.values()))
        >> map_over("each", Step("item", more), max_concurrency=2)
        >> map_reduce("total", Step("double", more), reduce=add, initial=0)
        >> refine_until("polish", Step("make", lambda task: 7), Step("judge", judge))
    )


def drawn(pipeline: Pipeline[Any, Any], **options: Any) -> list[str]:
    return [" ".join(line.strip("│├└─╌ ").split()) for line in to_text(pipeline, width=110, **options).splitlines()]


def test_every_kind_of_step_says_what_it_is() -> None:
    asking = human_in_the_loop("which one", "Which?") >> approval("sure", "Sure?", on_reject=Step("undo", more))
    assert drawn(everything() >> asking, types=False)[1:] == [
        "first",
        "⟳ grow loop at most 9 times",
        "step up",
        "◇ which branch",
        "odd: a",
        "even: both sub-workflow",
        "one",
        "two",
        "∥ fan parallel",
        "left: l",
        "right: r",
        "numbers",
        "⁝ each map 2 at once",
        "item",
        "⁝ total map",
        "double",
        "⟳ polish refine",
        "generator: make",
        "critic: judge",
        "☺ which one hitl asks: Which?",
        "☺ sure approval asks: Sure?",
        "on_reject: undo",
    ]


def test_every_result_of_a_run_is_placed() -> None:
    pipeline = everything()
    result = Flow(pipeline).run(1)
    assert result.success, result.error
    lines = drawn(pipeline, run=result, types=False)
    assert not [line for line in lines if "fit no step" in line]
    found = {re.sub(r"^. (. )?(\w+: )?", "", line).split("  ")[0]: line for line in lines[3:]}
    assert [line for line in found.values() if line.startswith("·")] == ["· odd: a"]
    text = "\n".join(lines)
    assert re.search(r"✓ ⟳ grow loop at most 9 times 3 iterations", text)
    assert re.search(r"✓ step up 3 done · p50", text)
    assert re.search(r"✓ ⁝ each map 2 at once 2 items", text)
    assert re.search(r"✓ item 2 done · p50", text)
    assert re.search(r"✓ double 2 done", text)
    assert re.search(r"✓ ⟳ polish refine 1 iteration", text)


async def test_records_and_results_of_a_run_are_drawn_alike() -> None:
    # The same run, once as what it returned and once as what its journal holds; times are measured apart.
    pipeline = Pipeline(everything().steps[:5])
    store = Flow(pipeline).kernel.open_state("memory://")
    result = await Flow(pipeline, state=store).run_async(1)
    records = await store.load_steps(result.run_id)
    texts = [re.sub(r" *[\d.]+ m?s", " T", to_text(pipeline, run=run)) for run in (result, records)]
    told = [[line for line in text.splitlines() if line[0] in "├└│"] for text in texts]
    assert len(told[0]) == 12
    assert told[0] == told[1]


@pytest.mark.parametrize("render", [to_mermaid, to_dot, to_svg, to_text])
def test_stored_structure_is_drawn_like_the_pipeline(render: Any) -> None:
    pipeline = everything()
    assert render(json.loads(json.dumps(structure(pipeline)))) == render(pipeline)


def test_stored_run_is_drawn_from_its_store_alone(flow_tester: FlowTester) -> None:
    app = flow_tester.write(
        "app.py",
        """
        from flow import Step
        from flow_hitl import approval

        pipeline = Step("strip", str.strip) >> approval("ask", "Go on?") >> Step("count", len)
        """,
    )
    flow_tester.run("run", "app.py", "--input", " x ", "--run-id", "q1", "--state", "sqlite:///runs.db")
    app.unlink()
    outcome = flow_tester.run("viz", "--run", "q1", "--state", "sqlite:///runs.db").assert_success()
    signs = [re.sub(r"[│├└─╌ ]", "", line)[0] for line in outcome.stdout.splitlines()[3:]]
    assert signs == ["✓", "‖", "·"]
    flow_tester.run("viz", "--run", "q1", "--state", "sqlite:///runs.db", "-o", "run.svg").assert_success()
    ElementTree.parse(flow_tester.path / "run.svg")
    nothing = flow_tester.run("viz", "--run", "zz", "--state", "sqlite:///runs.db")
    nothing.assert_failed(code=2, error="no run in sqlite:///runs.db").no_traceback()
    flow_tester.run("viz", "--run", "q1", "--state", "sqlite:///no.db").assert_failed(
        code=2, error="no.db does not exist"
    )


def test_picture_in_the_readme_is_that_of_its_pipeline(flow_tester: FlowTester) -> None:
    (app,) = [block for block in README.blocks if block.title == "app.py"]
    flow_tester.write("app.py", app.body)
    flow_tester.run("viz", "app.py", "-o", "answers.svg").assert_success()
    kept = Path(ROOT / "plugins/flow-viz/docs/answers.svg").read_text(encoding="utf-8")
    assert (flow_tester.path / "answers.svg").read_text(encoding="utf-8") == kept
