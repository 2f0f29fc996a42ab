"""What ends a fan-out from inside or outside: budgets, deadlines, cancellation, questions to humans."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from flow_parallel import map_over, map_reduce, parallel
from flow_testkit import FakeClock, StubAgent

from flow import (
    BaseStep,
    CancelSignal,
    Flow,
    PauseSignal,
    RunResult,
    Step,
    StepRun,
    StepTimeout,
    Usage,
    UsageLimitExceeded,
    UsageLimits,
)

MakeFlow = Callable[..., Flow[Any, Any]]
Fan = Callable[..., BaseStep[Any, Any]]


class Blocked:
    """An agent that spends, says that it has started, waits for ever, and notes how it ended."""

    def __init__(self, cost_usd: float = 0.0) -> None:
        self.cost_usd = cost_usd
        self.started = asyncio.Event()
        self.ended: list[str] = []

    async def agent(self, data: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=self.cost_usd)
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # ends a turn later: somebody has to wait for it
            self.ended.append("cancelled")
            raise


def after(event: asyncio.Event, agent: Callable[..., Any]) -> Callable[..., Any]:
    """An agent that waits for `event` first."""

    async def run(data: Any, *, run: StepRun) -> Any:
        await event.wait()
        return await agent(data, run)

    return run


async def spend_one(data: Any, run: StepRun) -> Any:
    run.usage.add(cost_usd=1.0)
    return data


async def fail(data: Any, run: StepRun) -> Any:
    raise ValueError("broken")


async def cancel(data: Any, run: StepRun) -> Any:
    raise CancelSignal("enough")


async def abort(data: Any, run: StepRun) -> Any:
    raise asyncio.CancelledError


def as_parallel(blocked: Callable[..., Any], other: Callable[..., Any], **settings: Any) -> BaseStep[Any, Any]:
    return parallel("fan", {"blocked": Step("blocked", blocked), "other": Step("other", other)}, **settings)


def as_map(blocked: Callable[..., Any], other: Callable[..., Any], **settings: Any) -> BaseStep[Any, Any]:
    async def either(n: int, *, run: StepRun) -> Any:
        return await (blocked if n == 0 else other)(n, run=run)

    return map_over("fan", Step("it", either), items=lambda data: [0, 1], **settings)


def as_fold(blocked: Callable[..., Any], other: Callable[..., Any], **settings: Any) -> BaseStep[Any, Any]:
    return as_map(blocked, other, **settings).evolve(reduce=lambda total, output: total, initial=0)


fans = pytest.mark.parametrize("fan", [as_parallel, as_map, as_fold], ids=["parallel", "map", "fold"])
policies = pytest.mark.parametrize("on_failure", ["fail_fast", "collect"])


async def ended(run: Any) -> RunResult[Any]:
    """Await a run that should end at once."""
    async with asyncio.timeout(10):
        return await run  # type: ignore[no-any-return]


# -- budgets


@fans
@policies
async def test_a_breach_in_one_branch_ends_the_others_and_keeps_what_they_spent(
    flow: MakeFlow, fan: Fan, on_failure: str
) -> None:
    blocked = Blocked(cost_usd=0.25)
    step = fan(blocked.agent, after(blocked.started, spend_one), on_failure=on_failure)
    before = asyncio.all_tasks()
    result = await ended(flow(step, usage_limits=UsageLimits(total_cost_usd_limit=1.0)).run_async(0))
    assert (result.status, blocked.ended) == ("limit_exceeded", ["cancelled"])
    assert asyncio.all_tasks() == before
    assert result.usage == result.step_history[0].usage == Usage(cost_usd=1.25)
    assert isinstance(result.error, UsageLimitExceeded)
    assert result.error.usage == Usage(cost_usd=1.25)
    assert str(result.error) == "Cost limit of $1 exceeded"
    assert [(child.success, child.usage.cost_usd) for child in result.step_history[0].children] == [
        (False, 0.25),
        (False, 1.0),
    ]


@pytest.mark.parametrize("costs", [(0.6, 0.1), (0.5, 0.5)], ids=repr)
async def test_branches_share_one_budget_and_not_a_part_each(flow: MakeFlow, costs: tuple[float, float]) -> None:
    def spending(cost: float) -> Step[Any, Any]:
        async def agent(data: Any, *, run: StepRun) -> Any:
            run.usage.add(cost_usd=cost)
            return data

        return Step("spend", agent)

    step = parallel("fan", {f"b{index}": spending(cost) for index, cost in enumerate(costs)})
    result = await flow(step, usage_limits=UsageLimits(total_cost_usd_limit=1.0)).run_async(0)
    assert (result.success, result.total_cost_usd) == (True, sum(costs))


async def test_a_limit_of_the_fan_out_itself_ends_it_promptly(flow: MakeFlow) -> None:
    blocked = Blocked(cost_usd=0.25)
    step = as_parallel(
        blocked.agent, after(blocked.started, spend_one), usage_limits=UsageLimits(total_cost_usd_limit=1.0)
    )
    result = await ended(flow(step).run_async(0))
    assert (result.status, blocked.ended, result.total_cost_usd) == ("limit_exceeded", ["cancelled"], 1.25)


async def test_a_breach_deep_inside_ends_what_runs_beside_the_outer_fan_out(flow: MakeFlow) -> None:
    blocked = Blocked(cost_usd=0.25)
    inner = map_over("inner", Step("spend", after(blocked.started, spend_one)), items=lambda data: [1, 2, 3])
    step = parallel("outer", {"blocked": Step("blocked", blocked.agent), "inner": inner}, on_failure="collect")
    result = await ended(flow(step, usage_limits=UsageLimits(total_cost_usd_limit=0.5)).run_async(0))
    assert (result.status, blocked.ended) == ("limit_exceeded", ["cancelled"])
    assert result.total_cost_usd == sum(found.usage.cost_usd for found in result.walk() if not found.children)


async def test_no_item_is_started_after_a_breach(flow: MakeFlow) -> None:
    started: list[int] = []

    async def spend(n: int, *, run: StepRun) -> int:
        started.append(n)
        run.usage.add(cost_usd=1.0)
        return n

    step = map_over("each", Step("spend", spend), max_concurrency=1, on_failure="collect")
    result = await flow(step, usage_limits=UsageLimits(total_cost_usd_limit=2.5)).run_async(list(range(100)))
    assert (result.status, started) == ("limit_exceeded", [0, 1, 2])
    assert result.step_history[0].metadata["failed_items"] == [2]


# -- cancellation and time


@fans
@pytest.mark.parametrize("by", ["handle", "flow", "deadline", "task", "step timeout"])
def test_what_ends_the_run_ends_all_branches_and_waits_for_them(
    flow: MakeFlow, fan: Fan, by: str, fake_clock: FakeClock
) -> None:
    async def run() -> None:
        blocked, other = Blocked(cost_usd=0.25), Blocked(cost_usd=0.5)
        step = fan(blocked.agent, other.agent, timeout=5 if by == "step timeout" else None)
        runner = flow(step, deadline=5 if by == "deadline" else None)
        before = asyncio.all_tasks()
        handle = runner.start(0)
        awaiting = asyncio.ensure_future(handle)
        await blocked.started.wait()
        await other.started.wait()
        if by == "handle":
            assert handle.cancel()
        elif by == "flow":
            assert await runner.cancel(handle.run_id)
        elif by == "task":
            awaiting.cancel()
        try:
            result = await awaiting
        except asyncio.CancelledError:
            assert by == "task"
        else:
            expected = {"deadline": "deadline_exceeded", "step timeout": "failed"}.get(by, "cancelled")
            assert (result.status, result.usage) == (expected, Usage(cost_usd=0.75))
            assert isinstance(result.error, StepTimeout) is (by == "step timeout")
        assert blocked.ended == other.ended == ["cancelled"]
        assert asyncio.all_tasks() == before

    fake_clock.run(run())


async def test_a_second_cancellation_does_not_leave_branches_behind(flow: MakeFlow) -> None:
    released, events = asyncio.Event(), []

    async def stubborn(data: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cleaning up")
            await released.wait()
            events.append("clean")

    task = asyncio.ensure_future(flow(parallel("fan", {"a": Step("a", stubborn)})).run_async(0))
    while not events:
        await asyncio.sleep(0)
        task.cancel()
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["cleaning up", "clean"]


@fans
@policies
async def test_a_cancel_from_inside_ends_the_others_and_the_run(flow: MakeFlow, fan: Fan, on_failure: str) -> None:
    blocked = Blocked()
    step = fan(blocked.agent, after(blocked.started, cancel), on_failure=on_failure, retries=2)
    result = await ended(flow(step).run_async(0))
    assert (result.status, str(result.error), blocked.ended) == ("cancelled", "enough", ["cancelled"])


@fans
@policies
async def test_a_cancellation_from_inside_an_agent_is_not_lost(flow: MakeFlow, fan: Fan, on_failure: str) -> None:
    blocked = Blocked()
    with pytest.raises(asyncio.CancelledError):
        await ended(flow(fan(blocked.agent, after(blocked.started, abort), on_failure=on_failure)).run_async(0))
    assert blocked.ended == ["cancelled"]


async def test_what_cancelled_branches_raise_is_no_complaint_of_the_loop(flow: MakeFlow) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    started = asyncio.Event()

    async def refuse(data: Any) -> Any:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise CancelSignal("while being cancelled")

    step = parallel("fan", {"refuse": Step("refuse", refuse), "bad": Step("bad", after(started, fail))})
    result = await ended(flow(step).run_async(0))
    gc.collect()
    assert (result.status, complaints) == ("failed", [])


# -- questions


async def test_a_pause_waits_for_the_others_to_finish(flow: MakeFlow, ask: Callable[[str], BaseStep[Any, Any]]) -> None:
    asked = asyncio.Event()
    finished: list[str] = []

    async def note_the_question(data: Any) -> Any:
        asked.set()
        return data

    async def slow(data: Any) -> Any:
        await asked.wait()
        await asyncio.sleep(0)
        finished.append("slow")
        return data

    branches = {"human": Step("note", note_the_question) >> ask("label"), "slow": Step("slow", slow)}
    result = await flow(parallel("fan", branches)).run_async(5)
    assert (result.status, finished) == ("paused", ["slow"])
    assert [(item.path, item.message) for item in result.pending] == [("0:fan/human/1:label", "label 5?")]
    assert [child.path for child in result.step_history[0].children] == ["0:fan/human/0:note", "0:fan/slow/0:slow"]


async def test_all_questions_are_pending_in_declared_order_and_may_be_answered_one_by_one(
    flow: MakeFlow, ask: Callable[[str], BaseStep[Any, Any]]
) -> None:
    agent = StubAgent([7])
    late = asyncio.Event()

    async def wait(data: Any) -> Any:
        await late.wait()
        return data

    async def release(data: Any) -> Any:
        late.set()
        return data

    branches = {
        "first": Step("wait", wait) >> ask("one"),
        "agent": Step("agent", agent) >> Step("release", release),
        "second": ask("two"),
    }
    runner = flow(parallel("fan", branches) >> Step("total", lambda outputs: sum(outputs.values())), state="memory://")
    result = await runner.run_async(0, run_id="r")
    assert [(item.path, item.message) for item in result.pending] == [
        ("0:fan/first/1:one", "one 0?"),
        ("0:fan/second/0:two", "two 0?"),
    ]
    result = await runner.resume_async("r", answers={"0:fan/second/0:two": 20})
    assert [item.path for item in result.pending] == ["0:fan/first/1:one"]
    result = await runner.resume_async("r", 100)
    assert (result.status, result.output, agent.call_count) == ("completed", 127, 1)


async def test_items_that_ask_are_all_pending_and_finished_items_are_not_run_again(
    flow: MakeFlow, ask: Callable[[str], BaseStep[Any, Any]]
) -> None:
    agent = StubAgent([10, 11, 12])
    runner = flow(map_over("each", Step("agent", agent) >> ask("ok")), state="memory://")
    result = await runner.run_async(["a", "b", "c"], run_id="r")
    assert [(item.path, item.message) for item in result.pending] == [
        (f"0:each/{index}/1:ok", f"ok {10 + index}?") for index in range(3)
    ]
    result = await runner.resume_async("r", answers={f"0:each/{index}/1:ok": index for index in range(3)})
    assert (result.output, agent.call_count) == ([0, 1, 2], 3)


@pytest.mark.parametrize("asking", [0, 3, 59])
async def test_a_fold_with_a_question_lets_all_items_finish_and_folds_after_the_answer(
    flow: MakeFlow, asking: int
) -> None:
    calls: list[int] = []
    answered: list[bool] = []

    async def agent(n: int) -> int:
        calls.append(n)
        if n == asking and not answered:
            answered.append(True)
            raise PauseSignal("how much?")
        return n

    step = map_reduce("sum", Step("it", agent), reduce=lambda a, b: [*a, b], initial=[], max_concurrency=2)
    runner = flow(step, state="memory://")
    result = await ended(runner.run_async(list(range(60)), run_id="r"))
    assert (result.status, sorted(calls)) == ("paused", list(range(60)))
    assert [item.path for item in result.pending] == [f"0:sum/{asking}/0:it"]
    result = await ended(runner.resume_async("r"))
    assert (result.output, len(calls)) == (list(range(60)), 61)


async def test_questions_in_nested_fan_outs_are_all_pending(
    flow: MakeFlow, ask: Callable[[str], BaseStep[Any, Any]]
) -> None:
    inner = map_over("inner", ask("which"), items=lambda data: [1, 2])
    result = await flow(parallel("fan", {"x": inner, "y": inner, "z": ask("z")})).run_async(0)
    assert [item.path for item in result.pending] == [
        "0:fan/x/0:inner/0/0:which",
        "0:fan/x/0:inner/1/0:which",
        "0:fan/y/0:inner/0/0:which",
        "0:fan/y/0:inner/1/0:which",
        "0:fan/z/0:z",
    ]


@pytest.mark.parametrize(
    "guard", [{"retries": 3}, {"fallback": Step("instead", StubAgent([0]))}, {"on_failure": "collect"}]
)
async def test_a_pause_is_no_failure_for_retries_fallback_or_collect(
    flow: MakeFlow, ask: Callable[[str], BaseStep[Any, Any]], guard: dict[str, Any]
) -> None:
    result = await flow(parallel("fan", {"a": ask("a"), "b": Step("b", StubAgent([1]))}, **guard)).run_async(0)
    assert (result.status, len(result.pending)) == ("paused", 1)


async def test_a_pause_passes_although_a_collected_branch_failed(
    flow: MakeFlow, ask: Callable[[str], BaseStep[Any, Any]]
) -> None:
    flaky = StubAgent([ValueError("once"), 5])
    step = parallel("fan", {"bad": Step("bad", flaky), "human": ask("label")}, on_failure="collect")
    runner = flow(step, state="memory://")
    assert (await runner.run_async(0, run_id="r")).status == "paused"
    assert (await runner.resume_async("r", 1)).output == {"bad": 5, "human": 1}


@pytest.mark.parametrize("order", [("human", "bad"), ("bad", "human")], ids=repr)
async def test_a_failure_that_ends_the_fan_out_wins_over_a_question(
    flow: MakeFlow, ask: Callable[[str], BaseStep[Any, Any]], order: tuple[str, str]
) -> None:
    steps: dict[str, BaseStep[Any, Any]] = {
        "human": ask("label"),
        "bad": Step("bad", StubAgent([ValueError("broken")])),
    }
    result = await flow(parallel("fan", {name: steps[name] for name in order}, max_concurrency=1)).run_async(0)
    assert (result.status, result.failed_path) == ("failed", "0:fan/bad/0:bad")


@policies
async def test_a_breach_wins_over_a_question(
    flow: MakeFlow, ask: Callable[[str], BaseStep[Any, Any]], on_failure: Any
) -> None:
    async def spend(data: Any, *, run: StepRun) -> None:
        run.usage.add(cost_usd=1.0)

    step = parallel("fan", {"human": ask("label"), "spend": Step("spend", spend)}, on_failure=on_failure)
    result = await flow(step, usage_limits=UsageLimits(total_cost_usd_limit=0.5)).run_async(0)
    assert result.status == "limit_exceeded"


async def test_what_was_spent_before_a_question_is_counted_once_after_the_answer(
    flow: MakeFlow, ask: Callable[[str], BaseStep[Any, Any]]
) -> None:
    async def spend(data: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=0.25)
        return data

    step = parallel("fan", {"human": Step("spend", spend) >> ask("label"), "other": Step("spend", spend)})
    runner = flow(step, state="memory://")
    paused = await runner.run_async(0, run_id="r")
    resumed = await runner.resume_async("r", 1)
    assert (paused.total_cost_usd, resumed.total_cost_usd) == (0.5, 0.5)
