"""Journaled runs: what is finished is not executed again."""

from __future__ import annotations

import datetime
import enum
import uuid
from decimal import Decimal
from typing import Any

import attrs
import pytest
from pydantic import BaseModel

from flow import (
    BaseStep,
    CancelSignal,
    ConfigurationError,
    Flow,
    Kernel,
    LeaseLost,
    NotPaused,
    PauseSignal,
    PipelineChanged,
    PipelineContext,
    RunFailed,
    RunNotFound,
    RunRecord,
    SerializationError,
    Settings,
    StateError,
    Step,
    StepResult,
    StepRun,
    UsageLimits,
    hookimpl,
)
from flow._builtin.memory_state import MemoryState
from flow._serialize import Codec


class Counter(PipelineContext):
    n: int = 0
    log: list[str] = []


class Job:
    """Steps that count their calls, of which one fails until it is mended."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = True

    def step(self, name: str, *, breaks: bool = False, cost: float = 0.0) -> Step[Any, Any]:
        async def agent(value: int, *, context: Counter, run: StepRun) -> int:
            self.calls.append(name)
            run.usage.add(cost_usd=cost)
            if breaks and self.broken:
                raise ValueError("broken")
            context.n += 1
            context.log.append(name)
            return value + 1

        return Step(name, agent)


def flow_of(pipeline: Any, **options: Any) -> Flow[Any, Any]:
    return Flow(pipeline, **{"state": "memory://", "context_model": Counter, **options})


async def test_a_failed_run_goes_on_at_the_failed_step() -> None:
    job = Job()
    flow = flow_of(job.step("a", cost=0.1) >> job.step("b", breaks=True, cost=0.1) >> job.step("c"))
    failed = await flow.run_async(0, run_id="r")
    assert (failed.status, failed.final_pipeline_context.n) == ("failed", 1)
    job.broken = False
    result = await flow.resume_async("r")
    assert (result.status, result.output, job.calls) == ("completed", 3, ["a", "b", "b", "c"])
    assert [item.replayed for item in result.step_history] == [True, False, False]
    assert result.final_pipeline_context.log == ["a", "b", "c"]
    assert result.total_cost_usd == pytest.approx(0.3)


async def test_nested_steps_are_resumed_one_by_one() -> None:
    job = Job()
    inner = (job.step("x") >> job.step("y", breaks=True)).as_step("inner")
    flow = flow_of(job.step("a") >> inner.evolve(retries=0) >> job.step("z"))
    await flow.run_async(0, run_id="r")
    job.broken = False
    result = await flow.resume_async("r")
    assert job.calls == ["a", "x", "y", "y", "z"]
    assert [item.path for item in result.walk()] == ["0:a", "1:inner", "1:inner/0:x", "1:inner/1:y", "2:z"]
    assert result.final_pipeline_context.log == ["a", "x", "y", "z"]


async def test_a_completed_run_is_replayed_whole() -> None:
    job = Job()
    job.broken = False
    flow = flow_of((job.step("a", cost=0.1) >> job.step("b", cost=0.1)).as_step("sub"))
    first = await flow.run_async(0, run_id="r")
    again = await flow.resume_async("r")
    assert (again.output, job.calls) == (first.output, ["a", "b"])
    assert again.total_cost_usd == pytest.approx(first.total_cost_usd)
    assert [item.path for item in again.walk()] == [item.path for item in first.walk()]
    assert all(item.replayed for item in again.walk())


async def test_what_failed_executions_spent_stays_in_the_books() -> None:
    job = Job()
    flow = flow_of(
        (job.step("a", cost=0.1) >> job.step("b", breaks=True, cost=0.1)).as_step("sub") >> job.step("c", cost=0.1)
    )
    for spent in (0.2, 0.3, 0.4):
        result = await (flow.run_async(0, run_id="r") if spent == 0.2 else flow.resume_async("r"))
        assert result.total_cost_usd == pytest.approx(spent)
    job.broken = False
    assert (await flow.resume_async("r")).total_cost_usd == pytest.approx(0.6)
    assert (await flow.resume_async("r")).total_cost_usd == pytest.approx(0.6)


async def test_a_budget_counts_what_was_spent_before() -> None:
    job = Job()
    limits = UsageLimits(total_cost_usd_limit=0.35)
    flow = flow_of(job.step("a", cost=0.2) >> job.step("b", breaks=True, cost=0.1), usage_limits=limits)
    assert (await flow.run_async(0, run_id="r")).status == "failed"
    assert (await flow.resume_async("r")).status == "limit_exceeded"


async def test_what_ran_in_an_earlier_attempt_is_not_replayed_in_a_later_one() -> None:
    outputs: list[Any] = [1, 2, ValueError("no"), 5, CancelSignal("crash"), 60, 70]
    seen: list[int] = []

    async def agent(value: int, *, run: StepRun) -> int:
        run.usage.add(cost_usd=0.1)
        seen.append(value)
        output = outputs.pop(0)
        if isinstance(output, BaseException):
            raise output
        return int(output)

    pipeline = Step("x", agent) >> Step("y", agent) >> Step("z", agent)
    flow = Flow(pipeline.as_step("sub").evolve(retries=1), state="memory://")
    crashed = await flow.run_async(0, run_id="r")
    assert (crashed.status, seen) == ("cancelled", [0, 1, 2, 0, 5])
    assert crashed.total_cost_usd == pytest.approx(0.5)
    resumed = await flow.resume_async("r")
    assert seen == [0, 1, 2, 0, 5, 5, 60]
    assert [item.output for item in resumed.step_history[0].children] == [5, 60, 70]
    assert resumed.total_cost_usd == pytest.approx(0.7)


async def test_run_level_retries_continue_from_the_failed_step() -> None:
    calls: list[str] = []

    async def first(value: int) -> int:
        calls.append("first")
        return value

    async def third_time(value: int) -> int:
        calls.append("second")
        if calls.count("second") < 3:
            raise ValueError("not yet")
        return value

    result = await Flow(Step("a", first) >> Step("b", third_time), max_retries=2, retry_on_error=True).run_async(1)
    assert (result.success, calls) == (True, ["first", "second", "second", "second"])


async def test_resuming_needs_a_store_and_a_known_run() -> None:
    job = Job()
    with pytest.raises(ConfigurationError, match="no state store"):
        await Flow(job.step("a")).resume_async("r")
    with pytest.raises(RunNotFound, match="no run has the id 'nope'"):
        await flow_of(job.step("a")).resume_async("nope")


async def test_a_run_id_is_used_once_in_a_store() -> None:
    job = Job()
    flow = flow_of(job.step("a"))
    await flow.run_async(0, run_id="r")
    with pytest.raises(StateError, match="run 'r' exists already"):
        await flow.run_async(0, run_id="r")


async def test_a_changed_pipeline_is_refused_unless_accepted() -> None:
    job = Job()
    store = MemoryState()
    await flow_of(job.step("a") >> job.step("b", breaks=True), state=store).run_async(0, run_id="r")
    job.broken = False
    changed = flow_of(job.step("a") >> job.step("b", breaks=True) >> job.step("c"), state=store)
    with pytest.raises(PipelineChanged, match="began with another pipeline"):
        await changed.resume_async("r")
    assert (await changed.resume_async("r", on_change="continue")).output == 3


# -- pauses --


@attrs.frozen(kw_only=True)
class Ask(BaseStep[Any, Any]):
    kind = "ask"


class AskPlugin:
    @hookimpl
    def flow_bind_step(self, step: Any, binder: Any) -> Any:
        if not isinstance(step, Ask):
            return None

        async def run(data: Any, scope: Any) -> StepResult:
            if scope.path in scope.run.answers:
                return StepResult.ok(step, scope.run.answers[scope.path])
            raise PauseSignal(f"label {data}?")

        return run


@pytest.fixture
def asking() -> Kernel:
    return Kernel(Settings(), only=[], plugins=[AskPlugin()])


def upper(text: str) -> str:
    return text.upper()


async def test_a_pause_is_no_failure_and_the_answer_goes_on(asking: Kernel) -> None:
    retried = Ask(name="ask", retries=3, fallback=Step("never", upper))
    flow = Flow(Step("a", upper) >> retried >> Step("b", upper), kernel=asking, state="memory://")
    paused = await flow.run_async("x", run_id="r")
    assert (paused.status, paused.success, [item.name for item in paused.step_history]) == ("paused", False, ["a"])
    assert [(item.path, item.message) for item in paused.pending] == [("1:ask", "label X?")]
    with pytest.raises(RunFailed, match="label X"):
        paused.output  # noqa: B018
    result = await flow.resume_async("r", "yes")
    assert (result.output, [item.name for item in result.step_history]) == ("YES", ["a", "ask", "b"])
    with pytest.raises(NotPaused, match="is completed and waits for no answer"):
        await flow.resume_async("r", "again")


async def test_a_pause_inside_a_sub_workflow_pauses_the_whole_run(asking: Kernel) -> None:
    sub = (Step("a", upper) >> Ask(name="ask")).as_step("sub")
    flow = Flow(sub.evolve(retries=2, timeout=60) >> Step("b", upper), kernel=asking, state="memory://")
    paused = await flow.run_async("x", run_id="r")
    assert paused.pending[0].path == "0:sub/1:ask"
    assert (await flow.resume_async("r", answers={"0:sub/1:ask": "fine"})).output == "FINE"


async def test_pauses_inside_a_task_group_pause_the_run() -> None:
    import asyncio

    async def ask(question: str) -> None:
        raise PauseSignal(question)

    async def both(_: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ask("one?"))
            group.create_task(ask("two?"))

    result = await Flow(Step("both", both, retries=3)).run_async(1)
    assert (result.status, sorted(item.message for item in result.pending)) == ("paused", ["one?", "two?"])


async def test_an_answer_for_something_else_is_refused(asking: Kernel) -> None:
    flow = Flow(Ask(name="ask"), kernel=asking, state="memory://")
    await flow.run_async("x", run_id="r")
    with pytest.raises(NotPaused, match="nothing waits at 7:other; questions wait at 0:ask"):
        await flow.resume_async("r", answers={"7:other": 1})


async def test_what_was_spent_before_a_pause_or_a_cancellation_stays_in_the_books(asking: Kernel) -> None:
    async def spends(value: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=0.1)
        raise PauseSignal("sure?")

    flow = Flow(Step("spends", spends), kernel=asking, state="memory://")
    assert (await flow.run_async(1, run_id="r")).total_cost_usd == pytest.approx(0.1)
    assert (await flow.resume_async("r")).total_cost_usd == pytest.approx(0.2)


# -- values --


class Colour(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    when: datetime.datetime


@attrs.frozen
class Plain:
    text: str


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (Any, {"a": [1, 2.5, None, True, "x"]}),
        (tuple[int, str], (1, "a")),
        (set[int], {1, 2}),
        (bytes, b"\x00\xff"),
        (Decimal, Decimal("1.10")),
        (uuid.UUID, uuid.UUID(int=5)),
        (Colour, Colour.RED),
        (datetime.datetime, datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)),
        (Point, Point(x=1, when=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))),
        (list[Point] | None, [Point(x=1, when=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))]),
        (dict[str, tuple[int, ...]], {"a": (1, 2)}),
    ],
)
def test_declared_values_come_back_as_they_were(declared: Any, value: Any) -> None:
    codec = Codec(declared)
    restored = codec.loads(codec.dumps(value, path="0:a"))
    assert restored == value
    assert type(restored) is type(value)


@pytest.mark.parametrize(
    "value", [object(), {1: "a"}, {"a": {1, 2}}, (1, 2), float("nan"), Plain("x"), Colour.RED, b"x"], ids=repr
)
def test_undeclared_values_that_json_would_change_are_refused_with_path_type_and_remedy(value: Any) -> None:
    with pytest.raises(SerializationError, match=r"step '3:a': a value of type .* cannot be stored") as caught:
        Codec(Any).dumps(value, path="3:a")
    assert caught.value.path == "3:a"
    assert "Annotate what the step returns" in str(caught.value)


def test_depth_is_bounded() -> None:
    value: list[Any] = []
    for _ in range(200):
        value = [value]
    with pytest.raises(SerializationError, match="nested deeper"):
        Codec(Any).dumps(value, path="0:a")


async def test_a_value_that_cannot_be_stored_fails_its_step_before_anything_else_runs() -> None:
    calls: list[Any] = []

    async def opaque(_: Any) -> Any:
        return object()

    result = await Flow(Step("a", opaque) >> Step("b", calls.append), state="memory://").run_async(1)
    assert isinstance(result.error, SerializationError)
    assert (result.error.path, calls) == ("0:a", [])


async def test_an_output_of_another_type_than_declared_is_stored_as_it_is() -> None:
    async def number(value: int) -> int:
        raise ValueError("no")

    async def text(value: int) -> str:
        return "5"

    flow = Flow(Step("a", number, fallback=Step("b", text)), state="memory://")
    assert (await flow.run_async(1, run_id="r")).output == "5"
    assert (await flow.resume_async("r")).output == "5"


async def test_an_input_that_the_first_step_converts_is_stored_as_it_came() -> None:
    async def day(point: Point) -> int:
        return point.x

    flow = Flow(Step("day", day), state="memory://")
    raw = {"x": 3, "when": "2026-01-02T00:00:00Z"}
    assert (await flow.run_async(raw, run_id="r")).output == 3  # type: ignore[arg-type]
    assert (await flow.resume_async("r")).output == 3
    wrong = await flow.run_async({"y": 1}, run_id="wrong")  # type: ignore[arg-type]
    assert (wrong.status, (await flow.resume_async("wrong")).status) == ("failed", "failed")


async def test_user_data_is_never_taken_for_an_envelope() -> None:
    async def evil(_: Any) -> dict[str, Any]:
        return {"__type__": "builtins.eval", "lc": 1}

    flow = Flow(Step("a", evil), state="memory://")
    await flow.run_async(1, run_id="r")
    assert (await flow.resume_async("r")).output == {"__type__": "builtins.eval", "lc": 1}


# -- the store is a decider: it is never swallowed --


class Failing(MemoryState):
    async def append_steps(self, run_id: str, epoch: int, records: Any, *, sync: bool = True) -> None:
        raise StateError("the disk is full")


async def test_when_a_result_cannot_be_recorded_no_further_step_runs() -> None:
    job = Job()
    flow = flow_of(job.step("a").evolve(retries=3, fallback=job.step("f")) >> job.step("b"), state=Failing())
    with pytest.raises(StateError, match="the disk is full"):
        await flow.run_async(0)
    assert job.calls == ["a"]


async def test_a_run_that_was_taken_over_cannot_write() -> None:
    store = MemoryState()

    async def stolen(value: int) -> int:
        await store.renew_run("r", 1, 0.0)  # as if this process had been stopped for long
        await store.claim_run("r", "somebody:1", 30)
        return value

    with pytest.raises(LeaseLost, match="taken over by somebody:1"):
        await Flow(Step("a", stolen), state=store).run_async(1, run_id="r")


async def test_records_hold_the_change_of_the_context_and_not_the_context() -> None:
    job = Job()
    store = MemoryState()
    await flow_of(job.step("a") >> job.step("b"), state=store).run_async(
        0, run_id="r", initial_context={"scratchpad": {"big": "x" * 10_000}}
    )
    steps = await store.load_steps("r")
    assert [(record.path, record.parent, record.status) for record in steps] == [
        ("0:a", "", "completed"),
        ("1:b", "", "completed"),
    ]
    assert steps[0].changes == b'{"set":{"n":1},"append":{"log":["a"]}}'
    run = await store.load_run("r")
    assert isinstance(run, RunRecord)
    assert (run.status, run.owner, run.input) == ("completed", None, b"0")
