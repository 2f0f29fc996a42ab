"""Questions inside every kind of container: nothing is executed or asked twice, no answer goes astray."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flow_branch import branch_on
from flow_hitl import approval, human_in_the_loop
from flow_loop import Refinement, loop_until, refine_until
from flow_parallel import map_over, map_reduce, parallel

from flow import AnswerInvalid, BaseStep, Flow, Kernel, Pipeline, PipelineContext, RunResult, RunStatus, Settings, Step
from flow import StateBackend as Store

Body = BaseStep[Any, Any] | Pipeline[Any, Any]


class Work:
    """Steps that are counted, by name."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def step(self, name: str, returns: Callable[[Any], Any] = lambda data: data, fails: int = 0) -> Step[Any, Any]:
        """Make a step; its first `fails` calls fail."""

        async def agent(data: Any) -> Any:
            self.calls[name] += 1
            if self.calls[name] <= fails:
                raise ValueError(f"{name} is not ready")
            return returns(data)

        return Step(name, agent)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def store() -> Store:
    return Kernel(Settings()).open_state("memory://")


@pytest.fixture
def runner(store: Store) -> Callable[..., Flow[Any, Any]]:
    """Make a flow on the store of this test: another one for the same pipeline stands for another process."""
    kernel = Kernel(Settings())
    return lambda pipeline, **options: Flow(pipeline, kernel=kernel, state=store, **options)


def ask(name: str = "ask", **settings: Any) -> BaseStep[Any, Any]:
    return human_in_the_loop(name, "{{ data }}?", **settings)


def waiting(result: RunResult[Any]) -> dict[str, str]:
    assert result.status is RunStatus.PAUSED, f"{result.status}: {result.error}"
    return {item.path: item.message for item in result.pending}


def answered(result: RunResult[Any]) -> list[tuple[str, Any]]:
    """The interactions in the context, in the order of the paths."""
    history = result.final_pipeline_context.hitl_history
    return sorted((item["path"], item["answer"]) for item in history)


# -- loops


async def test_each_iteration_of_a_loop_asks_once(runner: Any, work: Work) -> None:
    class Counting(PipelineContext):
        counter: int = 0

    async def count(data: Any, *, context: Counting) -> int:
        work.calls["count"] += 1
        context.counter += 1
        return context.counter

    loop = loop_until("loop", Step("count", count) >> ask(), lambda answer: answer == "enough", max_loops=5)
    pipeline = loop >> work.step("after", str.upper)
    paths = [f"0:loop/i{iteration}/1:ask" for iteration in (1, 2, 3)]

    result = await runner(pipeline, context_model=Counting).run_async("go", run_id="r")
    for path, message, answer in zip(paths, ["1?", "2?", "3?"], ["more", "more", "enough"], strict=True):
        assert waiting(result) == {path: message}
        result = await runner(pipeline, context_model=Counting).resume_async("r", answer)

    assert (result.output, work.calls) == ("ENOUGH", {"count": 3, "after": 1})
    assert [step.name for step in result.step_history] == ["loop", "after"]
    assert result.step("loop").metadata == {"iterations": 3, "exit_reason": "condition"}
    assert result.final_pipeline_context.counter == 3
    assert answered(result) == list(zip(paths, ["more", "more", "enough"], strict=True))


async def test_a_person_may_be_the_critic_of_a_refinement(runner: Any, work: Work) -> None:
    drafts = itertools.count(1)
    writer = work.step("write", lambda data: f"draft {next(drafts)}")
    pipeline = refine_until("refine", writer, ask("review", input_schema=Refinement), max_refinements=3)
    result = await runner(pipeline).run_async("rivers", run_id="r")
    assert waiting(result) == {"0:refine/i1/critic/0:review": "draft 1?"}
    result = await runner(pipeline).resume_async("r", {"is_complete": False, "feedback": "longer"})
    assert waiting(result) == {"0:refine/i2/critic/0:review": "draft 2?"}
    result = await runner(pipeline).resume_async("r", Refinement(is_complete=True))
    assert (result.output, work.calls["write"]) == ("draft 2", 2)


async def test_a_loop_asks_until_it_is_approved(runner: Any, work: Work) -> None:
    drafts = itertools.count(1)
    body = work.step("draft", lambda data: f"draft {next(drafts)}") >> approval(
        "accept", "Publish {{ data }}?", on_reject=work.step("reject", lambda draft: None)
    )
    pipeline = loop_until("until", body, lambda draft: draft is not None, max_loops=9) >> work.step("publish")
    result = await runner(pipeline).run_async("go", run_id="r")
    for answer in ("no", "no", "yes"):
        result = await runner(pipeline).resume_async("r", answer)
    assert (result.output, work.calls) == ("draft 3", {"draft": 3, "reject": 2, "publish": 1})
    assert [answer for _, answer in answered(result)] == [False, False, True]


# -- branches side by side


def fan(work: Work, **settings: Any) -> Body:
    branches = {
        "left": work.step("l1") >> ask("left") >> work.step("l2"),
        "middle": work.step("m1") >> work.step("m2"),
        "right": work.step("r1") >> ask("right", input_schema=int) >> work.step("r2"),
    }
    return parallel("fan", branches, **settings) >> work.step("after")


LEFT, RIGHT = "0:fan/left/1:left", "0:fan/right/1:right"
ORDERS = {
    "all at once": [{LEFT: "a", RIGHT: 1}],
    "left first": [{LEFT: "a"}, {RIGHT: 1}],
    "right first": [{RIGHT: 1}, {LEFT: "a"}],
    "with idle resumes": [{}, {RIGHT: 1}, {}, {LEFT: "a"}],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("on_failure", ["fail_fast", "collect"])
@pytest.mark.parametrize("max_concurrency", [1, 8])
async def test_branches_that_ask_are_answered_in_any_order(
    runner: Any, work: Work, order: list[dict[str, Any]], on_failure: str, max_concurrency: int
) -> None:
    pipeline = fan(work, on_failure=on_failure, max_concurrency=max_concurrency)
    result = await runner(pipeline).run_async("go", run_id="r")
    assert waiting(result) == {LEFT: "go?", RIGHT: "go?"}
    assert work.calls == {"l1": 1, "m1": 1, "m2": 1, "r1": 1}
    open_questions = {LEFT, RIGHT}
    for answers in order:
        assert set(waiting(result)) == open_questions
        result = await runner(pipeline).resume_async("r", answers=answers)
        open_questions -= set(answers)
    assert result.output == {"left": "a", "middle": "go", "right": 1}
    assert set(work.calls.values()) == {1}, work.calls
    assert answered(result) == [(LEFT, "a"), (RIGHT, 1)]


async def test_one_wrong_answer_of_several_changes_nothing(runner: Any, work: Work) -> None:
    pipeline = fan(work)
    before = await runner(pipeline).run_async("go", run_id="r")
    with pytest.raises(AnswerInvalid, match=RIGHT):
        await runner(pipeline).resume_async("r", answers={LEFT: "a", RIGHT: "many"})
    after = await runner(pipeline).resume_async("r")
    assert waiting(after) == waiting(before)
    assert work.calls["l2"] == 0


async def test_a_branch_that_failed_beside_a_question_runs_again_and_the_question_is_asked(
    runner: Any, work: Work
) -> None:
    pipeline = parallel("fan", {"broken": work.step("broken", fails=1), "human": work.step("h1") >> ask()})
    failed = await runner(pipeline).run_async("go", run_id="r")
    assert failed.status is RunStatus.FAILED
    assert set(waiting(await runner(pipeline).resume_async("r"))) == {"0:fan/human/1:ask"}
    result = await runner(pipeline).resume_async("r", "yes")
    assert result.output == {"broken": "go", "human": "yes"}
    assert work.calls["broken"] == 2


async def test_answers_survive_a_failure_beside_them(runner: Any, work: Work) -> None:
    branches = {"human": ask() >> work.step("h1"), "broken": ask("b0") >> work.step("broken", fails=1)}
    pipeline = parallel("fan", branches, max_concurrency=1)
    await runner(pipeline).run_async("go", run_id="r")
    failed = await runner(pipeline).resume_async("r", answers={"0:fan/human/0:ask": "a", "0:fan/broken/0:b0": "b"})
    assert failed.failed_path == "0:fan/broken/1:broken"
    result = await runner(pipeline).resume_async("r")
    assert (result.output, work.calls) == ({"human": "a", "broken": "b"}, {"h1": 1, "broken": 2})
    assert answered(result) == [("0:fan/broken/0:b0", "b"), ("0:fan/human/0:ask", "a")]


# -- items of a map


@pytest.mark.parametrize("max_concurrency", [1, 2, 16])
@pytest.mark.parametrize("reduced", [False, True], ids=["map_over", "map_reduce"])
async def test_items_that_ask_are_answered_one_at_a_time_or_together(
    runner: Any, work: Work, max_concurrency: int, reduced: bool
) -> None:
    needs_human = branch_on("unsure", lambda item: item % 2 == 0, {True: ask(input_schema=int), False: Pipeline(())})
    body = work.step("before") >> needs_human >> work.step("after")
    pipeline: Body
    if reduced:
        pipeline = map_reduce(
            "each", body, reduce=lambda total, n: total + n, initial=0, max_concurrency=max_concurrency
        )
    else:
        pipeline = map_over("each", body, max_concurrency=max_concurrency)
    result = await runner(pipeline).run_async([0, 1, 2, 3, 4], run_id="r")
    paths = [f"0:each/{item}/1:unsure/true/0:ask" for item in (0, 2, 4)]
    assert waiting(result) == dict(zip(paths, ["0?", "2?", "4?"], strict=True))
    result = await runner(pipeline).resume_async("r", answers={paths[1]: 20})
    assert list(waiting(result)) == [paths[0], paths[2]]
    result = await runner(pipeline).resume_async("r", answers={paths[2]: 40, paths[0]: 10})
    assert result.output == (74 if reduced else [10, 1, 20, 3, 40])
    assert work.calls == {"before": 5, "after": 5}
    assert answered(result) == list(zip(paths, [10, 20, 40], strict=True))


# -- branches


async def test_what_comes_before_a_question_in_a_branch_runs_first(runner: Any, work: Work) -> None:
    body = work.step("first", str.upper) >> ask("one") >> ask("two")
    pipeline = branch_on("route", lambda data: "human", {"human": body, "machine": work.step("never")})
    result = await runner(pipeline).run_async("go", run_id="r")
    assert waiting(result) == {"0:route/human/1:one": "GO?"}
    result = await runner(pipeline).resume_async("r", "a")
    assert waiting(result) == {"0:route/human/2:two": "a?"}
    result = await runner(pipeline).resume_async("r", "b")
    assert (result.output, work.calls) == ("b", {"first": 1})


# -- everything in everything


def in_loop(body: Body) -> Body:
    return loop_until("loop", body, lambda output: True, max_loops=3)


def in_branch(body: Body) -> Body:
    return branch_on("branch", lambda data: "taken", {"taken": body})


def in_parallel(body: Body) -> Body:
    return parallel("parallel", {"one": body}, join=lambda outputs: outputs["one"])


def in_map(body: Body) -> Body:
    return map_over("map", body, items=lambda data: [data]) >> Step("only", lambda outputs: outputs[0])


def in_sub_workflow(body: Body) -> Body:
    return Pipeline.of(body).as_step("sub")


def in_flow(body: Body) -> Body:
    return Flow(Pipeline.of(body)).as_step("inner")


def in_retries(body: Body) -> Body:
    return Pipeline.of(body).as_step("retried").evolve(retries=2)


def in_collect(body: Body) -> Body:
    branches = {"one": body, "broken": Step("broken", int)}
    return parallel("collect", branches, on_failure="collect", join=lambda outputs: outputs["one"])


def in_fallback(body: Body) -> Body:
    return Step("broken", int, fallback=Pipeline.of(body).as_step("instead"))


CONTAINERS = [in_loop, in_branch, in_parallel, in_map, in_sub_workflow, in_flow, in_retries, in_collect, in_fallback]


@pytest.mark.parametrize("outer", CONTAINERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("inner", CONTAINERS, ids=lambda make: make.__name__)
async def test_a_question_two_containers_deep(runner: Any, work: Work, outer: Any, inner: Any) -> None:
    body = work.step("before") >> ask() >> approval("accept", "{{ data }}!") >> work.step("after")
    pipeline = Pipeline.of(outer(inner(body))) >> work.step("last")
    result = await runner(pipeline).run_async("go", run_id="r")
    ((path, message),) = waiting(result).items()
    assert (path.endswith("/1:ask"), message) == (True, "go?")
    result = await runner(pipeline).resume_async("r")
    assert waiting(result) == {path: "go?"}
    result = await runner(pipeline).resume_async("r", "answer")
    assert waiting(result) == {path.replace("/1:ask", "/2:accept"): "answer!"}
    result = await runner(pipeline).resume_async("r", "yes")
    assert (result.output, work.calls) == ("answer", {"before": 1, "after": 1, "last": 1}), f"{result.error}"
    assert answered(result) == [(path, "answer"), (path.replace("/1:ask", "/2:accept"), True)]


# -- between processes

APP = """
from flow import Flow, Step
from flow_hitl import approval, human_in_the_loop
from flow_parallel import parallel

branches = {"price": human_in_the_loop("price", "How much?", int), "go": approval("go", "Sell {{ data }}?")}
flow = Flow(Step("draft", str.upper) >> parallel("ask", branches), state="STATE")

if __name__ == "__main__":
    print(flow.run("a boat", run_id="r").status)
"""


def test_one_process_asks_and_others_answer(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP.replace("STATE", f"sqlite:///{tmp_path}/runs.db"), encoding="utf-8")
    answer = "import sys, app; result = app.flow.resume('r', answers={sys.argv[1]: sys.argv[2]})"
    answer += "; print(result.status, result.to_dict()['output'])"

    def process(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    assert process("app.py") == "paused\n"
    assert process("-c", answer, "1:ask/go/0:go", "yes") == "paused None\n"
    output = {"price": 900, "go": "A BOAT"}
    assert process("-c", answer, "1:ask/price/0:price", "900") == f"completed {output}\n"
