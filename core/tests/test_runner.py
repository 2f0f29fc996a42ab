"""Running: results, failures, background runs, cancellation, deadlines, many runs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from flow import (
    CancelSignal,
    ConfigurationError,
    DeadlineExceeded,
    Flow,
    Kernel,
    Pipeline,
    RunFailed,
    RunResult,
    StateError,
    Step,
    StepFailed,
    StepRun,
)

Run = Callable[..., RunResult[Any]]


async def same(value: Any) -> Any:
    return value


async def forever(value: Any) -> Any:
    await asyncio.Event().wait()


class Gate:
    """An agent that says when it has begun and then waits until it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = False

    async def __call__(self, value: Any) -> Any:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return value


def raises(error: BaseException) -> Callable[[Any], Any]:
    async def agent(_: Any) -> Any:
        raise error

    return agent


def test_a_completed_run_tells_what_happened(run: Run) -> None:
    result = run(Step("upper", str.upper) >> Step("strip", str.strip), " a ")
    assert (result.success, result.status, result.output) == (True, "completed", "A")
    assert [(item.name, item.path, item.kind, item.success) for item in result.step_history] == [
        ("upper", "0:upper", "step", True),
        ("strip", "1:strip", "step", True),
    ]
    assert result.error is None
    assert result.pending == []
    assert all(item.latency_s > 0 for item in result.step_history)


def test_a_failing_step_ends_the_run_and_does_not_raise(run: Run) -> None:
    cause = ValueError("x")
    pipeline = Step("a", same) >> Step("b", raises(cause)) >> Step("c", same)
    result = run(pipeline, 1)
    assert (result.success, result.status) == (False, "failed")
    assert [item.name for item in result.step_history] == ["a", "b"]
    assert result.step_history[1].feedback == "Agent failed with ValueError: x"
    assert result.step_history[1].error is cause
    assert isinstance(result.error, StepFailed)
    assert (result.error.path, result.error.cause) == ("1:b", cause)


def test_the_output_of_a_failed_run_raises_with_path_and_cause(run: Run) -> None:
    cause = ValueError("x")
    result = run(Step("b", raises(cause)), 1)
    with pytest.raises(RunFailed, match="ended failed at 0:b: Agent failed with ValueError: x") as caught:
        result.output  # noqa: B018
    assert caught.value.__cause__ is result.error


def test_an_empty_pipeline_passes_its_input_through(run: Run) -> None:
    assert run(Pipeline([]), 5).output == 5


def test_results_are_found_by_path_and_by_name(run: Run) -> None:
    result = run((Step("a", same) >> Step("b", same)).as_step("sub"), 1)
    assert result.step("b") is result.step("0:sub/1:b")
    assert [item.path for item in result.walk()] == ["0:sub", "0:sub/0:a", "0:sub/1:b"]
    with pytest.raises(KeyError, match="0:sub/0:a"):
        result.step("missing")


def test_results_are_printable_as_plain_values(run: Run) -> None:
    import orjson

    data = orjson.loads(orjson.dumps(run(Step("a", raises(ValueError("x"))), 1).to_dict(), default=str))
    assert data["status"] == "failed"
    assert data["failed_path"] == "0:a"
    assert data["step_history"][0]["error"] == "ValueError: x"


def test_a_context_that_json_does_not_know_is_printable_too(run: Run) -> None:
    async def write(_: Any, *, context: Any) -> None:
        context.scratchpad["thing"] = object()

    assert "object object" in str(run(Step("a", write), 1).to_dict()["final_pipeline_context"]["scratchpad"]["thing"])


async def test_the_sync_facade_inside_a_loop_names_the_method_to_await() -> None:
    with pytest.raises(TypeError, match=r"await flow.run_async") as caught:
        Flow(Step("a", same)).run(1)
    assert isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize("run_id", ["../x", "a/b", "..", ".", "", "-a", "a\n", "a" * 129, "é", 5])
def test_run_ids_that_could_be_paths_are_refused(run_id: Any, run: Run) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a run id"):
        run(Step("a", same), 1, run_id=run_id)


async def test_two_runs_with_one_id_at_the_same_time_are_refused() -> None:
    gate = Gate()
    flow = Flow(Step("gate", gate))
    first = flow.start(1, run_id="twin")
    with pytest.raises(StateError, match="'twin' is running already"):
        await flow.run_async(1, run_id="twin")
    gate.go.set()
    assert (await first).success
    assert (await flow.run_async(2, run_id="twin")).output == 2


# -- background and cancellation --


async def test_a_background_run_is_awaited_for_its_result() -> None:
    handle = Flow(Step("a", same)).start(3)
    result = await handle
    assert (result.output, result.run_id, handle.done()) == (3, handle.run_id, True)


async def test_cancelling_a_run_stops_it_and_leaves_others_alone() -> None:
    gates = [Gate(), Gate()]
    flows = [Flow(Step("ok", same) >> Step("gate", gate)) for gate in gates]
    first, second = (flow.start(1) for flow in flows)
    await gates[0].begun.wait()
    assert first.cancel() is True
    assert first.cancel() is False
    result = await first
    assert (result.status, result.success) == ("cancelled", False)
    assert [(item.name, item.success) for item in result.step_history] == [("ok", True), ("gate", False)]
    assert gates[0].cancelled
    gates[1].go.set()
    assert (await second).success
    assert await flows[0].cancel(first.run_id) is False


async def test_cancel_by_id_is_idempotent() -> None:
    gate = Gate()
    flow = Flow(Step("gate", gate))
    handle = flow.start(1)
    await gate.begun.wait()
    assert await flow.cancel(handle.run_id) is True
    assert await flow.cancel(handle.run_id) is False
    assert (await handle).status == "cancelled"
    assert await flow.cancel("unknown") is False


async def test_a_run_that_is_cancelled_before_it_begins_runs_nothing() -> None:
    calls: list[Any] = []
    handle = Flow(Step("a", calls.append)).start(1)
    assert handle.cancel()
    assert (await handle).status == "cancelled"
    assert calls == []


async def test_a_background_task_that_never_began_is_forgotten() -> None:
    flow = Flow(Step("a", same))
    handle = flow.start(1, run_id="x")
    handle._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handle
    assert (await flow.run_async(2, run_id="x")).output == 2


async def test_a_step_may_cancel_its_own_run() -> None:
    async def stop(_: Any) -> None:
        raise CancelSignal("enough")

    result = await Flow(Step("stop", stop, retries=3, fallback=Step("f", same)) >> Step("next", same)).run_async(1)
    assert (result.status, [item.name for item in result.step_history]) == ("cancelled", ["stop"])


async def test_a_step_that_cancels_its_run_by_id_does_not_cancel_the_caller() -> None:
    async def stop(value: int, *, run: StepRun) -> int:
        await flow.cancel(run.run_id)
        return value

    flow = Flow(Step("stop", stop) >> Step("next", same))
    result = await flow.run_async(1)
    assert result.status == "cancelled"
    assert [item.name for item in result.step_history] == ["stop"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_cancelling_the_awaiting_task_reaches_the_caller() -> None:
    gate = Gate()
    task = asyncio.create_task(Flow(Step("gate", gate)).run_async(1))
    await gate.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.cancelled


async def test_a_timeout_around_a_run_fires() -> None:
    flow = Flow(Step("forever", forever), state="memory://")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await flow.run_async(1, run_id="late")
    store = flow._bind().services.state
    assert store is not None
    record = await store.load_run("late")
    assert record is not None
    assert record.status == "cancelled"


async def test_no_task_is_left_after_cancellation() -> None:
    gate = Gate()
    pipeline = Step("gate", gate, retries=2, timeout=60).evolve(fallback=Step("f", same))
    handle = Flow(pipeline, hooks=[lambda event: None]).start(1)
    await gate.begun.wait()
    handle.cancel()
    await handle
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- deadlines --


async def test_a_deadline_ends_a_step_while_it_runs() -> None:
    result = await Flow(Step("ok", same) >> Step("forever", forever), deadline=0.02).run_async(1)
    assert (result.status, type(result.error)) == ("deadline_exceeded", DeadlineExceeded)
    assert [item.name for item in result.step_history] == ["ok", "forever"]


async def test_a_deadline_also_ends_steps_that_never_wait() -> None:
    def chain(step: Any) -> Any:
        return step >> step >> step >> step

    async def busy(value: int) -> int:
        return sum(range(2000)) and value

    pipeline = chain(chain(chain(chain(chain(chain(Step("busy", busy)))))))
    assert (await Flow(pipeline, deadline=0.005).run_async(1)).status == "deadline_exceeded"


async def test_the_tighter_deadline_holds() -> None:
    flow = Flow(Step("forever", forever), deadline=60)
    assert (await flow.run_async(1, deadline=0.01)).status == "deadline_exceeded"


@pytest.mark.parametrize("deadline", [0, -5])
async def test_a_deadline_in_the_past_runs_nothing(deadline: float) -> None:
    calls: list[Any] = []
    result = await Flow(Step("a", calls.append)).run_async(1, deadline=deadline)
    assert (result.status, calls) == ("deadline_exceeded", [])


async def test_a_step_sees_the_time_that_is_left() -> None:
    async def look(_: Any, *, run: StepRun) -> float | None:
        return run.remaining_s

    result = await Flow(Step("look", look)).run_async(1, deadline=60)
    assert 59 < result.output <= 60


@pytest.mark.parametrize("deadline", ["soon", True, float("nan")])
def test_a_deadline_that_is_no_number_is_refused(deadline: Any) -> None:
    with pytest.raises(ConfigurationError, match="deadline is a number of seconds"):
        Flow(Step("a", same), deadline=deadline)


# -- many runs --


async def test_many_runs_keep_the_order_and_survive_failures() -> None:
    async def odd(value: int) -> int:
        if value == 3:
            raise ValueError(value)
        return value * 2

    results = await Flow(Step("odd", odd)).run_many(range(6), concurrency=2)
    assert [item.success for item in results] == [True, True, True, False, True, True]
    assert results[5].output == 10


async def test_many_runs_are_bounded_and_take_their_inputs_lazily() -> None:
    running, most, taken = 0, 0, 0

    async def work(value: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return value

    def inputs() -> Any:
        nonlocal taken
        for index in range(20):
            taken += 1
            assert taken - index <= 4
            yield index

    results = await Flow(Step("work", work)).run_many(inputs(), concurrency=3)
    assert [item.output for item in results] == list(range(20))
    assert most <= 3


async def test_many_runs_take_an_async_iterator() -> None:
    async def inputs() -> Any:
        for index in range(3):
            yield index

    assert [item.output for item in await Flow(Step("a", same)).run_many(inputs())] == [0, 1, 2]


async def test_concurrency_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        await Flow(Step("a", same)).run_many([1], concurrency=0)


async def test_a_flow_keeps_nothing_of_a_finished_run() -> None:
    flow = Flow(Step("a", same) >> Step("b", same))
    await flow.run_many(range(10))
    assert flow._active == {}
    gc.collect()
    before = len(gc.get_objects())
    await flow.run_many(range(200))
    gc.collect()
    assert len(gc.get_objects()) - before < 50


# -- what a flow opens --


class Opened:
    """A tracer plugin that counts how often its tracer is closed."""

    def __init__(self) -> None:
        from flow import Tracer

        class Counting(Tracer):
            closed = 0

            async def aclose(self) -> None:
                Counting.closed += 1

        self.tracer = Counting()


async def test_a_flow_closes_what_it_opened_and_only_that(kernel: Kernel) -> None:
    mine = Opened().tracer
    async with Flow(Step("a", same), tracers=[mine], state="memory://", kernel=kernel) as flow:
        assert (await flow.run_async(1)).success
    assert mine.closed == 0


def test_evolve_makes_a_flow_with_other_arguments() -> None:
    flow = Flow(Step("a", forever), deadline=60)
    assert flow.evolve(deadline=0.01).run(1).status == "deadline_exceeded"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": "nowhere"}, "is not a state URL"),
        ({"state": "nowhere://"}, "nowhere"),
        ({"tracers": ["nowhere"]}, "nowhere"),
        ({"tracers": [object()]}, "is not a Tracer"),
        ({"cache": "memory://?max_entries=none"}, "max_entries must be a whole number"),
        ({"cache": "memory://?size=1"}, "unknown option size"),
    ],
)
def test_backends_that_cannot_be_opened_are_errors(options: dict[str, Any], message: str, run: Run) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(Step("a", same), 1, **options)
