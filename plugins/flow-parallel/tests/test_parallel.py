"""Parallel branches: what runs, in which order the results are, how failures are treated, what a router chooses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flow_parallel import Parallel, parallel
from flow_testkit import StubAgent

from flow import (
    BaseStep,
    ConfigurationError,
    Flow,
    Pipeline,
    StateBackend,
    Step,
    StepFailed,
    StepResult,
    StepRun,
    Usage,
    structure,
)

MakeFlow = Callable[..., Flow[Any, Any]]


async def increment(n: int) -> int:
    return n + 1


async def tenfold(n: int) -> int:
    return n * 10


async def broken(n: Any) -> Any:
    raise ValueError("broken")


def returning(*names: str) -> dict[str, BaseStep[Any, Any]]:
    """Branches that return their own name, as often as they are asked."""

    def agent(name: str) -> Callable[[Any], Any]:
        async def run(data: Any) -> str:
            return name

        return run

    return {name: Step(name, agent(name)) for name in names}


# -- outputs


async def test_every_branch_gets_the_input_and_the_output_is_a_mapping(flow: MakeFlow) -> None:
    step = parallel("fan", {"left": Step("inc", increment), "right": Step("inc", increment) >> Step("ten", tenfold)})
    result = await flow(step).run_async(1)
    assert result.output == {"left": 2, "right": 20}
    assert [found.path for found in result.walk()] == [
        "0:fan",
        "0:fan/left/0:inc",
        "0:fan/right/0:inc",
        "0:fan/right/1:ten",
    ]
    assert result.step_history[0].metadata == {"executed_branches": ["left", "right"], "failed_branches": []}


async def test_results_are_in_declared_order_whatever_finishes_first(flow: MakeFlow) -> None:
    finished: dict[str, asyncio.Event] = {name: asyncio.Event() for name in "abcd"}
    order: list[str] = []

    def after(name: str, earlier: str | None) -> Step[Any, Any]:
        async def agent(data: Any) -> str:
            if earlier is not None:
                await finished[earlier].wait()
            order.append(name)
            finished[name].set()
            return name

        return Step(name, agent)

    branches = {name: after(name, earlier) for name, earlier in zip("abcd", ["b", "c", "d", None], strict=True)}
    result = await flow(parallel("fan", branches)).run_async(0)
    assert order == ["d", "c", "b", "a"]
    assert list(result.output) == ["a", "b", "c", "d"]
    assert result.step_history[0].metadata["executed_branches"] == ["a", "b", "c", "d"]
    assert [child.name for child in result.step_history[0].children] == ["a", "b", "c", "d"]


async def test_an_empty_branch_passes_its_input_through(flow: MakeFlow) -> None:
    assert (await flow(parallel("fan", {"a": Pipeline(())})).run_async(3)).output == {"a": 3}


async def test_a_step_without_branches_fails_with_an_empty_output(flow: MakeFlow) -> None:
    result = await flow(parallel("fan", {})).run_async(1)
    assert (result.status, result.step_history[0].output) == ("failed", {})
    assert result.step_history[0].feedback == "a parallel step needs branches and has none"


@pytest.mark.parametrize("depth", [1, 5])
async def test_parallel_steps_nest_in_themselves(flow: MakeFlow, depth: int) -> None:
    step: BaseStep[Any, Any] = Step("inc", increment)
    expected: Any = 2
    for _ in range(depth):
        step, expected = parallel("fan", {"a": step, "b": step}), {"a": expected, "b": expected}
    result = await flow(step).run_async(1)
    assert result.output == expected
    paths = [found.path for found in result.walk()]
    assert len(paths) == len(set(paths)) == 2 ** (depth + 1) - 1


# -- concurrency


class Crowd:
    """Agents that count how many of them are at work at the same time."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.active = self.most = 0
        self.full = asyncio.Event()

    async def agent(self, data: Any) -> Any:
        self.active += 1
        self.most = max(self.most, self.active)
        if self.active == self.wanted:
            self.full.set()
        await self.full.wait()
        await asyncio.sleep(0)
        self.active -= 1
        return data


@pytest.mark.parametrize(
    ("settings", "expected"), [({"max_concurrency": 10}, 10), ({}, 8), ({"max_concurrency": 99}, 30)]
)
async def test_so_many_branches_run_at_once_and_no_more(
    flow: MakeFlow, settings: dict[str, Any], expected: int
) -> None:
    crowd = Crowd(expected)
    result = await flow(parallel("fan", {f"b{i}": Step("it", crowd.agent) for i in range(30)}, **settings)).run_async(0)
    assert (result.success, crowd.most) == (True, expected)


@pytest.mark.parametrize("value", [0, -1, None, True, 2.5], ids=repr)
def test_a_bound_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_concurrency must be a whole number of at least 1"):
        parallel("fan", {}, max_concurrency=value)


# -- failures


async def test_a_failing_branch_fails_the_step_naming_it(flow: MakeFlow) -> None:
    step = parallel("fan", {"good": Step("inc", increment), "bad": Step("inc", increment) >> Step("bad", broken)})
    result = await flow(step).run_async(1)
    own = result.step_history[0]
    assert (result.status, result.failed_path) == ("failed", "0:fan/bad/1:bad")
    assert own.feedback == "branch 'bad' failed at '0:fan/bad/1:bad': Agent failed with ValueError: broken"
    assert own.metadata["failed_branches"] == ["bad"]


async def test_a_failing_branch_cancels_the_rest_at_once_and_awaits_their_end(flow: MakeFlow) -> None:
    started, events = asyncio.Event(), []

    async def fail(data: Any) -> Any:
        await started.wait()
        raise ValueError("broken")

    async def linger(data: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=0.25)
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cancelled")
            await asyncio.sleep(0)
            events.append("ended")

    queued = StubAgent([1])
    branches = {"slow": Step("slow", linger), "bad": Step("bad", fail), "queued": Step("queued", queued)}
    before = asyncio.all_tasks()
    result = await flow(parallel("fan", branches, max_concurrency=2)).run_async(0)
    assert events == ["cancelled", "ended"]
    assert asyncio.all_tasks() == before
    assert queued.call_count == 0
    own = result.step_history[0]
    assert own.metadata == {"executed_branches": ["bad"], "failed_branches": ["bad"]}
    assert (own.usage, result.usage) == (Usage(cost_usd=0.25), Usage(cost_usd=0.25))
    assert {child.name: child.feedback for child in own.children} == {
        "slow": "cancelled",
        "bad": "Agent failed with ValueError: broken",
    }


async def test_collect_keeps_a_failed_branch_as_its_result(flow: MakeFlow) -> None:
    async def spend_and_fail(data: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=0.5)
        raise ValueError("broken")

    branches = {"bad": Step("bad", spend_and_fail), "good": Step("inc", increment)}
    result = await flow(parallel("fan", branches, on_failure="collect")).run_async(1)
    slot = result.output["bad"]
    assert isinstance(slot, StepResult)
    assert (slot.success, slot.name, slot.path, slot.feedback) == (
        False,
        "bad",
        "0:fan/bad/0:bad",
        "Agent failed with ValueError: broken",
    )
    assert result.output["good"] == 2
    assert result.usage == Usage(cost_usd=0.5)
    assert result.step_history[0].metadata == {"executed_branches": ["bad", "good"], "failed_branches": ["bad"]}


async def test_collect_fails_when_all_branches_failed(flow: MakeFlow) -> None:
    step = parallel("fan", {"a": Step("x", broken), "b": Step("y", broken)}, on_failure="collect")
    result = await flow(step).run_async(1)
    own = result.step_history[0]
    assert (result.status, own.metadata["failed_branches"]) == ("failed", ["a", "b"])
    assert "branch 'a' failed at '0:fan/a/0:x'" in (own.feedback or "")
    assert "branch 'b' failed at '0:fan/b/0:y'" in (own.feedback or "")


async def test_collect_lets_the_others_finish(flow: MakeFlow) -> None:
    failed = asyncio.Event()

    async def fail(data: Any) -> Any:
        failed.set()
        raise ValueError("broken")

    async def wait(data: Any) -> str:
        await failed.wait()
        return "finished"

    step = parallel("fan", {"bad": Step("bad", fail), "good": Step("wait", wait)}, on_failure="collect")
    assert (await flow(step).run_async(0)).output["good"] == "finished"


def test_an_unknown_way_to_treat_failures_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on_failure is 'fail_fast' or 'collect', got 'ignore'"):
        parallel("fan", {}, on_failure="ignore")  # type: ignore[arg-type]


async def test_a_retried_step_runs_all_branches_again(flow: MakeFlow) -> None:
    flaky, other = StubAgent([ValueError("once"), 1]), StubAgent([2, 2])
    step = parallel("fan", {"flaky": Step("flaky", flaky), "other": Step("other", other)}, retries=1)
    result = await flow(step).run_async(0)
    assert (result.output, result.step_history[0].attempts) == ({"flaky": 1, "other": 2}, 2)
    assert len(result.step_history[0].children) == 2


# -- join


@pytest.mark.parametrize(
    "join",
    [
        lambda outputs: sum(outputs.values()),
        lambda outputs, context: sum(outputs.values()) + len(context.scratchpad),
        lambda ctx, outputs: sum(outputs.values()) + len(ctx.scratchpad),
    ],
)
async def test_join_makes_the_output(flow: MakeFlow, join: Callable[..., Any]) -> None:
    step = parallel("fan", {"a": Step("inc", increment), "b": Step("ten", tenfold)}, join=join)
    assert (await flow(step).run_async(1)).output == 12


async def test_join_gets_outputs_in_declared_order_and_may_be_async(flow: MakeFlow) -> None:
    async def join(outputs: dict[str, Any]) -> list[str]:
        return list(outputs)

    assert (await flow(parallel("fan", returning("z", "a"), join=join)).run_async(0)).output == ["z", "a"]


async def test_a_raising_join_fails_the_step_and_is_named(flow: MakeFlow) -> None:
    def best_of(outputs: dict[str, Any]) -> Any:
        return outputs["nobody"]

    result = await flow(parallel("fan", returning("a"), join=best_of)).run_async(0)
    own = result.step_history[0]
    assert own.feedback == "join function 'best_of' raised KeyError: 'nobody'"
    assert own.metadata == {"executed_branches": ["a"], "failed_branches": []}
    assert isinstance(result.error, StepFailed)
    assert isinstance(result.error.cause, KeyError)


# -- router


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (["c", "a"], ["a", "c"]),
        (["b", "b"], ["b"]),
        ("b", ["b"]),
        (("a",), ["a"]),
        ({"a", "b", "c"}, ["a", "b", "c"]),
        ([], []),
    ],
    ids=repr,
)
async def test_a_router_chooses_the_branches(flow: MakeFlow, chosen: Any, expected: list[str]) -> None:
    result = await flow(parallel("fan", returning("a", "b", "c"), router=StubAgent([chosen]))).run_async(0)
    own = result.step_history[0]
    assert result.output == {name: name for name in expected}
    assert own.metadata == {"selected_branches": expected, "executed_branches": expected, "failed_branches": []}
    assert own.children[0].path == "0:fan/router"
    assert [child.path for child in own.children[1:]] == [f"0:fan/{name}/0:{name}" for name in expected]


async def test_nothing_chosen_is_an_empty_success_and_is_joined(flow: MakeFlow) -> None:
    result = await flow(parallel("fan", returning("a"), router=StubAgent([[]]), join=len)).run_async(0)
    assert (result.success, result.output) == (True, 0)


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        (["a", "x"], "the router chose 'x'; the branches are: 'a', 'b'"),
        ([["a"]], "the router chose ['a']; the branches are: 'a', 'b'"),
        (3, "the router returned int instead of names of branches"),
        (None, "the router returned NoneType instead of names of branches"),
    ],
)
async def test_a_wrong_choice_fails_the_step(flow: MakeFlow, chosen: Any, complaint: str) -> None:
    result = await flow(parallel("fan", returning("a", "b"), router=StubAgent([chosen]))).run_async(0)
    assert (result.status, result.step_history[0].feedback) == ("failed", complaint)


async def test_a_failing_router_fails_the_step(flow: MakeFlow) -> None:
    result = await flow(parallel("fan", returning("a"), router=broken)).run_async(0)
    assert result.failed_path == "0:fan/router"
    assert result.step_history[0].feedback == "the router failed: Agent failed with ValueError: broken"


@pytest.mark.parametrize("as_pipeline", [False, True])
async def test_a_router_may_be_a_step_or_a_pipeline(flow: MakeFlow, as_pipeline: bool) -> None:
    choose: Any = Step("choose", lambda n: ["big" if n > 5 else "small"])
    router = Step("inc", increment) >> choose if as_pipeline else choose
    runner = flow(parallel("fan", returning("big", "small"), router=router))
    assert list((await runner.run_async(5)).output) == ["big" if as_pipeline else "small"]


# -- names of branches


@pytest.mark.parametrize("label", ["", "a/b", 3, None], ids=repr)
def test_a_label_that_cannot_be_part_of_a_path_is_refused(label: Any) -> None:
    with pytest.raises(ConfigurationError, match="a branch is named by a text without '/'"):
        parallel("fan", {label: Step("a", increment)})


@pytest.mark.parametrize(
    ("label", "settings"), [("router", {"router": increment}), ("fallback", {"fallback": Step("b", increment)})]
)
def test_a_label_that_the_step_uses_itself_is_refused(label: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"called like the step's own {label}"):
        parallel("fan", {label: Step("a", increment)}, **settings)
    assert list(parallel("fan", {label: Step("a", increment)}).children()) == [label]


# -- journal


async def test_decisions_are_in_the_journal(flow: MakeFlow, store: StateBackend) -> None:
    step = parallel(
        "fan", returning("a", "b") | {"c": Step("bad", broken)}, router=StubAgent([["c", "a"]]), on_failure="collect"
    )
    await flow(step, state=store).run_async(0, run_id="r")
    records = {record.path: record for record in await store.load_steps("r")}
    assert orjson.loads(records["0:fan"].metadata or b"") == {
        "selected_branches": ["a", "c"],
        "executed_branches": ["a", "c"],
        "failed_branches": ["c"],
    }
    assert {path for path, record in records.items() if record.parent == "0:fan"} == {
        "0:fan/router",
        "0:fan/a/0:a",
        "0:fan/c/0:bad",
    }


async def test_finished_branches_are_not_run_again(flow: MakeFlow) -> None:
    done, flaky = StubAgent([1]), StubAgent([ValueError("once"), 2])
    waited = asyncio.Event()

    async def finish(data: Any) -> Any:
        output = await done.run(data)
        waited.set()
        return output

    async def fail(data: Any) -> Any:
        await waited.wait()
        await asyncio.sleep(0)
        return await flaky.run(data)

    runner = flow(parallel("fan", {"done": Step("done", finish), "flaky": Step("flaky", fail)}), state="memory://")
    assert (await runner.run_async(0, run_id="r")).failed_path == "0:fan/flaky/0:flaky"
    result = await runner.resume_async("r")
    assert (result.output, done.call_count) == ({"done": 1, "flaky": 2}, 1)
    assert [child.replayed for child in result.step_history[0].children] == [True, False]


async def test_the_routers_choice_stands_after_a_resume(flow: MakeFlow) -> None:
    router, flaky = StubAgent([["b"], ["a"]]), StubAgent([ValueError("once"), 2])
    step = parallel("fan", returning("a") | {"b": Step("b", flaky)}, router=router)
    runner = flow(step, state="memory://")
    await runner.run_async(0, run_id="r")
    assert (await runner.resume_async("r")).output == {"b": 2}
    assert router.call_count == 1


async def test_a_failed_place_comes_back_from_the_journal(flow: MakeFlow) -> None:
    later = StubAgent([ValueError("once"), "done"])
    step = parallel("fan", {"bad": Step("bad", broken), "good": Step("inc", increment)}, on_failure="collect")
    runner = flow(step >> Step("later", later), state="memory://")
    await runner.run_async(1, run_id="r")
    assert (await runner.resume_async("r")).output == "done"
    before, after = (outputs["bad"] for outputs in later.inputs)
    assert [(slot.success, slot.name, slot.path, slot.feedback) for slot in (before, after)] == [
        (False, "bad", "0:fan/bad/0:bad", "Agent failed with ValueError: broken")
    ] * 2
    assert (before.replayed, after.replayed, later.inputs[1]["good"]) == (False, True, 2)


# -- structure


def test_children_are_the_branches_and_the_router_last() -> None:
    step = parallel("fan", returning("b", "a"), router=increment)
    assert list(step.children()) == ["b", "a", "router"]
    assert list(structure(step)["children"]) == ["b", "a", "router"]


@pytest.mark.parametrize(
    "change",
    [
        {"branches": {"a": Step("a", increment)}},
        {"branches": {"b": Step("a", increment), "a": Step("a", tenfold)}},
        {"max_concurrency": 3},
        {"on_failure": "collect"},
        {"merge": "last"},
        {"router": Step("router", increment)},
        {"join": len},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_tells_changes(change: dict[str, Any]) -> None:
    step = parallel("fan", {"a": Step("a", increment), "b": Step("a", increment)})
    assert Pipeline((step.evolve(**change),)).fingerprint != Pipeline((step,)).fingerprint


def test_validation_looks_into_branches_and_router() -> None:
    step = parallel("fan", {"a": Step("no agent")}, router=Step("also none"))
    assert [finding.path for finding in Pipeline((step,)).validate_graph().findings] == [
        "0:fan/a/0:no agent",
        "0:fan/router",
    ]


async def says(n: int) -> str:
    return str(n)


def count(outputs: dict[str, Any]) -> int:
    return len(outputs)


def test_types_are_those_of_the_branches_by_label() -> None:
    step = parallel("fan", {"n": Step("n", increment), "s p": Step("s", says)})
    takes, gives = step.declared_types()
    assert (takes, gives.__annotations__, gives.__total__) == (int, {"n": int, "s p": str}, True)
    assert not step.evolve(router=Step("router", says)).declared_types()[1].__total__
    assert step.evolve(join=count).declared_types() == (int, int)
    assert parallel("fan", {"a": Step("a", broken)}).declared_types() == (Any, Any)
    mixed = parallel("fan", {"n": Step("n", increment), "a": Step("a", len)})
    assert mixed.declared_types()[0] is Any


def test_the_outputs_fit_a_step_that_takes_a_mapping() -> None:
    async def total(outputs: dict[str, int]) -> int:
        return sum(outputs.values())

    async def text(outputs: str) -> str:
        return outputs

    step = parallel("fan", {"a": Step("a", increment), "b": Step("b", tenfold)})
    assert (step >> Step("total", total)).validate_graph().findings == ()
    assert [finding.rule_id for finding in (step >> Step("text", text)).validate_graph().findings] == ["FLOW-T1"]


def test_it_is_a_method_of_step_when_installed() -> None:
    assert isinstance(Step.parallel("fan", {"a": Step("a", increment)}), Parallel)
