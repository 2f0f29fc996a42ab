"""Loops: how often the body runs, on what, and how the loop ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flow_loop import Loop, loop_until
from flow_testkit import FakeClock, StubAgent

from flow import (
    BaseStep,
    CancelSignal,
    ConfigurationError,
    Flow,
    PauseSignal,
    Pipeline,
    PipelineContext,
    StateBackend,
    Step,
    StepFailed,
    StepRun,
    Usage,
    UsageLimits,
    structure,
)

MakeFlow = Callable[..., Flow[Any, Any]]


class Progress(PipelineContext):
    n: int = 0
    done: bool = False
    seen: list[int] = []
    nested: dict[str, Any] = {}


async def increment(n: int) -> int:
    return n + 1


async def double(n: int) -> int:
    return n * 2


def reaches(limit: int) -> Callable[[int, Any], bool]:
    return lambda output, context: output >= limit


def never(output: Any, context: Any) -> bool:
    return False


def always(output: Any, context: Any) -> bool:
    return True


def counting(limit: int, **settings: Any) -> Loop[Any, Any]:
    return loop_until("count", Step("inc", increment), reaches(limit), **settings)


# -- iterations


async def test_the_output_of_an_iteration_is_the_input_of_the_next(flow: MakeFlow) -> None:
    result = await flow(loop_until("grow", Step("inc", increment) >> Step("double", double), reaches(50))).run_async(1)
    own = result.step_history[0]
    assert result.output == 94  # 1 -> 4 -> 10 -> 22 -> 46 -> 94
    assert own.metadata == {"iterations": 5, "exit_reason": "condition"}
    assert [child.output for child in own.children if child.name == "double"] == [4, 10, 22, 46, 94]


async def test_every_step_of_every_iteration_has_a_path_of_its_own(flow: MakeFlow) -> None:
    body = Step("inc", increment) >> Step("again", increment)
    result = await flow(loop_until("grow", body, reaches(4))).run_async(0)
    assert [found.path for found in result.walk()] == [
        "0:grow",
        "0:grow/i1/0:inc",
        "0:grow/i1/1:again",
        "0:grow/i2/0:inc",
        "0:grow/i2/1:again",
    ]


async def test_the_body_runs_once_when_the_condition_holds_at_once(flow: MakeFlow) -> None:
    result = await flow(counting(0)).run_async(5)
    assert (result.output, result.step_history[0].metadata["iterations"]) == (6, 1)


async def test_an_empty_body_passes_its_input_through(flow: MakeFlow) -> None:
    assert (await flow(loop_until("loop", Pipeline(()), always)).run_async(5)).output == 5


@pytest.mark.parametrize(
    "condition",
    [
        lambda output, context: output >= 3 and context.n == 0,
        lambda context, output: output >= 3 and context.n == 0,
        lambda result, ctx: result >= 3 and ctx.n == 0,
        lambda output: output >= 3,
    ],
)
async def test_a_condition_gets_output_and_context_as_its_parameters_are_called(
    flow: MakeFlow, condition: Callable[..., Any]
) -> None:
    step = loop_until("count", Step("inc", increment), condition)
    assert (await flow(step, context_model=Progress).run_async(0)).output == 3


async def test_conditions_and_mappers_may_be_async(flow: MakeFlow) -> None:
    async def done(output: int, context: Any) -> bool:
        await asyncio.sleep(0)
        return output > 2

    async def first(data: str, context: Any) -> int:
        return int(data)

    async def following(output: int, context: Any, i: int) -> int:
        return output + i

    async def last(output: int, context: Any) -> str:
        return str(output)

    step = loop_until(
        "count",
        Step("inc", increment),
        done,
        initial_input_mapper=first,
        iteration_input_mapper=following,
        loop_output_mapper=last,
    )
    assert (await flow(step).run_async("0")).output == "3"  # 0 -> 1, 1 + 1 -> 3


async def test_mappers_stand_before_between_and_after_iterations(flow: MakeFlow) -> None:
    calls: list[Any] = []

    def between(output: int, context: Progress, i: int) -> int:
        calls.append((output, i))
        return output * 10

    step = loop_until(
        "count",
        Step("inc", increment),
        reaches(100),
        initial_input_mapper=lambda data, context: len(data) + context.n,
        iteration_input_mapper=between,
        loop_output_mapper=lambda output, context: {"result": output},
    )
    result = await flow(step, context_model=Progress).run_async("ab")
    assert result.output == {"result": 311}  # 2 -> 3, 30 -> 31, 310 -> 311
    assert calls == [(3, 1), (31, 2)]


# -- the bound


async def test_a_loop_ends_after_ten_iterations_unless_told_otherwise(flow: MakeFlow) -> None:
    result = await flow(loop_until("count", Step("inc", increment), never)).run_async(0)
    assert (result.status, result.step_history[0].metadata["iterations"]) == ("failed", 10)


async def test_an_exhausted_loop_fails_and_the_next_step_does_not_run(flow: MakeFlow) -> None:
    mapped: list[int] = []
    after = StubAgent([0])
    step = loop_until(
        "count",
        Step("inc", increment),
        never,
        max_loops=2,
        iteration_input_mapper=lambda o, c, i: mapped.append(i) or o,
    )
    result = await flow(step >> Step("after", after)).run_async(0)
    own = result.step_history[0]
    assert (result.status, result.failed_path, after.call_count, mapped) == ("failed", "0:count", 0, [1])
    assert own.feedback == "reached max_loops (2) without meeting the exit condition"
    assert own.metadata == {"iterations": 2, "exit_reason": "max_loops"}
    assert (own.attempts, own.output) == (2, 2)


async def test_an_exhausted_loop_may_return_its_last_output(flow: MakeFlow) -> None:
    step = loop_until(
        "count", Step("inc", increment), never, 3, on_exhausted="return", loop_output_mapper=lambda o, c: [o]
    )
    result = await flow(step).run_async(0)
    assert result.output == [3]
    assert result.step_history[0].metadata == {"iterations": 3, "exit_reason": "max_loops"}


@pytest.mark.parametrize("max_loops", [0, -1, None, True, 2.0, float("inf"), "5"], ids=repr)
def test_a_bound_that_is_none_is_refused(max_loops: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_loops must be a whole number of at least 1"):
        counting(3, max_loops=max_loops)


def test_an_unknown_way_to_end_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on_exhausted is 'fail' or 'return', got 'raise'"):
        counting(3, on_exhausted="raise")


# -- failures


async def broken(n: Any) -> Any:
    raise ValueError("broken")


@pytest.mark.parametrize(
    "body",
    [Step("bad", broken), Step("inc", increment) >> Step("bad", broken), Step("bad", broken) >> Step("inc", increment)],
    ids=["one step", "second of two", "first of two"],
)
async def test_a_failing_body_ends_the_loop_whatever_its_shape(
    flow: MakeFlow, body: BaseStep[Any, Any] | Pipeline[Any, Any]
) -> None:
    result = await flow(loop_until("loop", body, never)).run_async(0)
    own = result.step_history[0]
    assert result.status == "failed"
    assert own.metadata == {"iterations": 1, "exit_reason": "body_failed"}
    assert own.feedback == f"iteration 1 failed at {result.failed_path!r}: Agent failed with ValueError: broken"
    assert (result.failed_path or "").endswith(":bad")


async def test_a_body_that_fails_later_keeps_what_ran_before(flow: MakeFlow) -> None:
    agent = StubAgent([1, 2, ValueError("third")])
    result = await flow(loop_until("loop", Step("it", agent), never)).run_async(0)
    own = result.step_history[0]
    assert own.metadata == {"iterations": 3, "exit_reason": "body_failed"}
    assert [child.success for child in own.children] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "what", "iterations"),
    [
        ("exit_condition_callable", "exit condition", 1),
        ("initial_input_mapper", "initial input mapper", 0),
        ("iteration_input_mapper", "iteration input mapper", 1),
        ("loop_output_mapper", "loop output mapper", 3),
    ],
)
async def test_a_raising_callable_fails_the_step_and_is_named(
    flow: MakeFlow, name: str, what: str, iterations: int
) -> None:
    def my_function(*arguments: Any) -> Any:
        raise KeyError("score")

    given = {"exit_condition_callable": reaches(3), name: my_function}
    result = await flow(loop_until("loop", Step("inc", increment), **given)).run_async(0)  # type: ignore[arg-type]
    own = result.step_history[0]
    assert (result.status, result.failed_path) == ("failed", "0:loop")
    assert own.feedback == f"{what} 'my_function' raised KeyError: 'score'"
    assert isinstance(result.error, StepFailed)
    assert isinstance(result.error.cause, KeyError)
    assert own.metadata == {"iterations": iterations}
    assert len(own.children) == iterations


@pytest.mark.parametrize(
    "name", ["exit_condition_callable", "initial_input_mapper", "iteration_input_mapper", "loop_output_mapper"]
)
def test_what_is_not_callable_is_refused_when_bound(flow: MakeFlow, name: str) -> None:
    given: Any = {"exit_condition_callable": never, name: "nope"}
    with pytest.raises(ConfigurationError, match="must be callable, got 'nope'"):
        flow(loop_until("loop", Step("inc", increment), **given)).run(0)


async def test_a_loop_is_retried_from_its_first_iteration(flow: MakeFlow) -> None:
    agent = StubAgent([1, ValueError("no"), 5, 9])
    result = await flow(loop_until("loop", Step("it", agent), reaches(9), retries=1)).run_async(0)
    own = result.step_history[0]
    assert (result.output, own.attempts, own.metadata["iterations"]) == (9, 2, 2)
    assert agent.inputs == [0, 1, 0, 5]


# -- context


async def note(n: int, *, context: Progress) -> int:
    context.seen.append(context.n)
    context.n += 1
    context.nested.setdefault("a", {})["done"] = context.n >= 3
    context.done = context.n >= 3
    return n


async def test_each_iteration_starts_from_the_context_of_the_one_before(flow: MakeFlow) -> None:
    step = loop_until("loop", Step("note", note), lambda output, context: len(context.seen) == 4)
    result = await flow(step, context_model=Progress).run_async(0)
    assert result.final_pipeline_context.seen == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "condition",
    [lambda output, context: context.done, lambda output, context: context.nested["a"]["done"]],
    ids=["a field", "inside a field"],
)
async def test_the_condition_sees_what_the_iteration_just_finished_wrote(
    flow: MakeFlow, condition: Callable[..., Any]
) -> None:
    result = await flow(loop_until("loop", Step("note", note), condition), context_model=Progress).run_async(0)
    assert result.step_history[0].metadata["iterations"] == 3


async def test_what_a_loop_that_failed_wrote_is_dropped(flow: MakeFlow) -> None:
    result = await flow(loop_until("loop", Step("note", note), never, 3), context_model=Progress).run_async(0)
    assert (result.status, result.final_pipeline_context.seen) == ("failed", [])


async def test_an_iteration_that_is_retried_inside_leaves_one_trace(flow: MakeFlow) -> None:
    async def flaky(n: int, *, context: Progress, run: StepRun) -> int:
        context.n += 1
        if run.attempt == 1:
            raise ValueError("not yet")
        return n

    step = loop_until("loop", Step("flaky", flaky, retries=1), lambda output, context: context.n >= 3)
    result = await flow(step, context_model=Progress).run_async(0)
    assert (result.step_history[0].metadata["iterations"], result.final_pipeline_context.n) == (3, 3)


# -- usage, limits, signals


async def spend(n: int, *, run: StepRun) -> int:
    run.usage.add(cost_usd=0.125, output_tokens=2)
    return n + 1


async def test_usage_is_that_of_all_iterations(flow: MakeFlow) -> None:
    inner = loop_until("inner", Step("spend", spend), lambda output, context: output % 3 == 0)
    result = await flow(loop_until("outer", inner, reaches(6))).run_async(0)
    assert result.usage == Usage(cost_usd=0.75, output_tokens=12)
    assert [child.usage.output_tokens for child in result.step_history[0].children] == [6, 6]


@pytest.mark.parametrize("of", ["run", "loop", "sub-workflow"])
async def test_a_breached_limit_ends_the_loop_in_the_iteration_that_breaches_it(flow: MakeFlow, of: str) -> None:
    limits = UsageLimits(total_cost_usd_limit=0.3)
    step: BaseStep[Any, Any] = loop_until("loop", Step("spend", spend), never, 100)
    if of == "loop":
        step = step.evolve(usage_limits=limits)
    elif of == "sub-workflow":
        step = flow(step, usage_limits=limits).as_step("sub")
    result = await flow(step, usage_limits=limits if of == "run" else None).run_async(0)
    assert (result.status, result.total_cost_usd) == ("limit_exceeded", 0.375)
    own = result.step("loop")
    assert own.metadata == {"iterations": 3, "exit_reason": "body_failed"}
    assert [child.output for child in own.children] == [1, 2, 3]


def test_a_deadline_ends_the_loop(flow: MakeFlow, fake_clock: FakeClock) -> None:
    async def wait(n: int) -> int:
        if n == 2:
            await asyncio.Event().wait()
        return n + 1

    result = fake_clock.run(flow(loop_until("loop", Step("wait", wait), never), deadline=5).run_async(0))
    assert (result.status, fake_clock.elapsed) == ("deadline_exceeded", 5)
    assert [child.success for child in result.step_history[0].children] == [True, True, False]


async def test_a_cancelled_run_starts_no_further_iteration(flow: MakeFlow) -> None:
    reached = asyncio.Event()
    calls: list[int] = []

    async def wait(n: int) -> int:
        calls.append(n)
        if n == 1:
            reached.set()
            await asyncio.Event().wait()
        return n + 1

    handle = flow(loop_until("loop", Step("wait", wait), never)).start(0)
    await reached.wait()
    assert handle.cancel()
    assert (await handle).status == "cancelled"
    assert calls == [0, 1]


async def test_a_cancel_from_inside_is_no_failure(flow: MakeFlow) -> None:
    step = loop_until("loop", Step("it", StubAgent([1, CancelSignal("enough")])), never, retries=2)
    result = await flow(step).run_async(0)
    assert (result.status, str(result.error)) == ("cancelled", "enough")


# -- journal


async def test_decisions_are_in_the_journal(flow: MakeFlow, store: StateBackend) -> None:
    await flow(counting(2), state=store).run_async(0, run_id="r")
    records = {record.path: record for record in await store.load_steps("r")}
    assert orjson.loads(records["0:count"].metadata or b"") == {"iterations": 2, "exit_reason": "condition"}
    assert [path for path, record in records.items() if record.parent == "0:count"] == [
        "0:count/i1/0:inc",
        "0:count/i2/0:inc",
    ]


async def test_a_failed_loop_records_how_it_ended(flow: MakeFlow, store: StateBackend) -> None:
    await flow(loop_until("loop", Step("inc", increment), never, 2), state=store).run_async(0, run_id="r")
    record = next(record for record in await store.load_steps("r") if record.path == "0:loop")
    assert record.status == "failed"
    assert orjson.loads(record.metadata or b"") == {"iterations": 2, "exit_reason": "max_loops"}


async def test_a_loop_goes_on_in_the_iteration_that_failed(flow: MakeFlow) -> None:
    agent = StubAgent([1, 2, ValueError("third"), 3, 4])
    runner = flow(loop_until("loop", Step("it", agent), reaches(4)), state="memory://")
    assert (await runner.run_async(0, run_id="r")).failed_path == "0:loop/i3/0:it"
    result = await runner.resume_async("r")
    own = result.step_history[0]
    assert (result.output, own.metadata["iterations"]) == (4, 4)
    assert agent.inputs == [0, 1, 2, 2, 3]
    assert [child.replayed for child in own.children] == [True, True, False, False]


async def test_nested_loops_are_resumed_iteration_by_iteration(flow: MakeFlow) -> None:
    agent = StubAgent([1, 2, 3, ValueError("fourth"), 4])
    inner = loop_until("inner", Step("it", agent), lambda output, context: output % 2 == 0)
    runner = flow(loop_until("outer", inner, reaches(4)), state="memory://")
    assert (await runner.run_async(0, run_id="r")).failed_path == "0:outer/i2/0:inner/i2/0:it"
    result = await runner.resume_async("r")
    assert (result.output, agent.inputs) == (4, [0, 1, 2, 3, 3])
    assert [child.replayed for child in result.step_history[0].children] == [True, False]


async def test_the_context_of_finished_iterations_is_there_after_a_resume(flow: MakeFlow) -> None:
    broken = [True]

    async def fragile(n: int, *, context: Progress) -> int:
        context.seen.append(n)
        if n == 2 and broken:
            broken.clear()
            raise ValueError("crash")
        return n + 1

    runner = flow(loop_until("loop", Step("it", fragile), reaches(4)), state="memory://", context_model=Progress)
    assert (await runner.run_async(0, run_id="r")).final_pipeline_context.seen == []
    assert (await runner.resume_async("r")).final_pipeline_context.seen == [0, 1, 2, 3]


async def test_a_human_in_every_iteration_is_asked_once_per_iteration(flow: MakeFlow) -> None:
    agent = StubAgent([1, 2, 3])
    asked: list[int] = []

    async def ask(n: int) -> int:
        asked.append(n)
        if asked.count(n) == 1:
            raise PauseSignal(f"go on after {n}?")
        return n

    runner = flow(loop_until("loop", Step("agent", agent) >> Step("ask", ask), reaches(3)), state="memory://")
    result = await runner.run_async(0, run_id="r")
    for iteration in (1, 2, 3):
        assert result.status == "paused"
        assert [(item.path, item.message) for item in result.pending] == [
            (f"0:loop/i{iteration}/1:ask", f"go on after {iteration}?")
        ]
        result = await runner.resume_async("r")
    assert (result.output, agent.call_count, len(result.step_history)) == (3, 3, 1)


async def test_a_typed_output_is_restored_as_what_it_was(flow: MakeFlow) -> None:
    async def make(n: int) -> Progress:
        return Progress(n=n)

    later = StubAgent([ValueError("once"), "done"])
    runner = flow(loop_until("loop", Step("make", make), always) >> Step("later", later), state="memory://")
    await runner.run_async(3, run_id="r")
    assert (await runner.resume_async("r")).output == "done"
    assert later.inputs == [Progress(n=3)] * 2


# -- structure


def test_its_child_is_the_body() -> None:
    step = counting(3)
    assert list(step.children()) == ["body"]
    assert list(structure(step)["children"]["body"]["children"]) == ["0:inc"]


@pytest.mark.parametrize(
    "change",
    [{"body": Step("other", increment)}, {"max_loops": 11}, {"exit_condition": never}, {"on_exhausted": "return"}],
    ids=repr,
)
def test_the_fingerprint_tells_changes(change: dict[str, Any]) -> None:
    step = loop_until("loop", Step("inc", increment), always)
    assert Pipeline((step.evolve(**change),)).fingerprint != Pipeline((step,)).fingerprint


def test_validation_looks_into_the_body() -> None:
    report = Pipeline((loop_until("loop", Step("no agent"), always),)).validate_graph()
    assert [(finding.rule_id, finding.path) for finding in report.findings] == [("FLOW-A1", "0:loop/body/0:no agent")]


def as_text(output: int, context: Any) -> str:
    return str(output)


@pytest.mark.parametrize(
    ("mappers", "types"),
    [
        ({}, (int, int)),
        ({"initial_input_mapper": as_text}, (Any, int)),
        ({"loop_output_mapper": as_text}, (int, str)),
        ({"loop_output_mapper": lambda output, context: output}, (int, Any)),
    ],
)
def test_types_are_those_of_the_body_unless_mapped(mappers: dict[str, Any], types: tuple[Any, Any]) -> None:
    assert loop_until("loop", Step("inc", increment), always, **mappers).declared_types() == types


def test_it_is_a_method_of_step_when_installed() -> None:
    assert isinstance(Step.loop_until("loop", Step("inc", increment), always), Loop)
