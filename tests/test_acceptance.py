"""The acceptance lines of the plan for streams, cancelling, deadlines, metadata, metrics, drawing, routing and errors.

Lines that need packages which do not exist yet are marked with them; such a mark fails as soon as the line is met.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from flow_testkit import FakeClock, RecordingObserver, StubAgent, assert_step_sequence, run_one, simulate_error

from flow import (
    Event,
    EventKind,
    Flow,
    FlowError,
    Pipeline,
    PipelineContext,
    RunResult,
    RunStatus,
    Step,
    StepRun,
    StepTimeout,
    StreamChunk,
    step,
)
from tests.benchmarks.streams import most_ahead
from tests.guide.running import needs

WORDS = ["to", "be", "or", "not", "to", "be"]


async def write(count: int) -> AsyncIterator[str]:
    for index in range(count):
        yield f"word{index} "


async def read(flow: Flow[Any, Any], data: Any) -> tuple[list[StreamChunk], RunResult[Any]]:
    """Read a stream to its end."""
    *chunks, result = [item async for item in flow.stream_async(data)]
    assert isinstance(result, RunResult), "the result comes last"
    return [chunk for chunk in chunks if isinstance(chunk, StreamChunk)], result


# -- phase 1: streaming


async def test_chunks_keep_their_order_and_are_numbered() -> None:
    chunks, result = await read(Flow(Step("write", write)), 200)
    assert [chunk.seq for chunk in chunks] == list(range(200))
    assert {chunk.stream_id for chunk in chunks} == {"0:write"}
    assert "".join(chunks) == result.output


async def test_last_chunk_can_say_that_it_is_the_last() -> None:
    async def speak(words: list[str], *, run: StepRun) -> int:
        for index, word in enumerate(words):
            await run.emit(word, done=index == len(words) - 1, meta={"index": index})
        return len(words)

    chunks, _ = await read(Flow(Step("speak", speak)), WORDS)
    assert [chunk.text for chunk in chunks] == WORDS
    assert [chunk.done for chunk in chunks] == [False] * 5 + [True]
    assert [chunk.meta for chunk in chunks] == [{"index": index} for index in range(6)]


async def test_writer_waits_for_a_slow_reader() -> None:
    assert 1 <= await most_ahead(1000) <= 128


async def test_reader_that_stops_reading_does_not_hold_up_other_runs() -> None:
    flow = Flow(Step("write", write))
    stuck = flow.stream_async(1000)
    assert str(await anext(stuck)) == "word0 "
    chunks, result = await read(flow, 1000)
    assert len(chunks) == 1000
    assert result.success
    await stuck.aclose()  # type: ignore[attr-defined]


# -- phase 2: cancellation of one run


async def endless(start: int) -> AsyncIterator[int]:
    while True:
        yield start
        start += 1


async def test_run_is_cancelled_in_the_middle_of_its_stream_and_others_are_not() -> None:
    flow = Flow(Step("count", endless) >> Step("never", StubAgent([])))
    other = Flow(Step("write", write)).start(500)
    before = asyncio.all_tasks()
    result: Any = None
    async for item in flow.stream_async(0, run_id="doomed"):
        result = item
        if isinstance(item, StreamChunk) and item.seq == 10:
            assert await flow.cancel("doomed") is True
            assert await flow.cancel("doomed") is False, "once is enough"
    assert result.status is RunStatus.CANCELLED
    assert asyncio.all_tasks() <= before, "no task is left over"
    assert (await other).success


async def test_cancelling_a_run_that_has_ended_or_never_was_does_nothing() -> None:
    flow = Flow(Step("write", write))
    await flow.run_async(1, run_id="done")
    assert await flow.cancel("done") is False
    assert await flow.cancel("unheard-of") is False


async def test_cancellation_is_told_to_observers(recording_observer: RecordingObserver) -> None:
    handle = Flow(Step("wait", asyncio.Event().wait), hooks=[recording_observer]).start()
    await asyncio.sleep(0)
    assert handle.cancel() is True
    assert (await handle).status is RunStatus.CANCELLED
    assert recording_observer.kinds[-3:] == [EventKind.CANCELLED, EventKind.RUN_CANCELLED, EventKind.RUN_FINISHED]


@needs("flow-graph")
async def test_trace_of_a_graph_is_cancelled_alone() -> None:
    from flow_graph import Graph, Message

    reached: list[str] = []
    graph = Graph("waiting").connect(asyncio.Event().wait, reached.append)
    async with graph.serve() as live:
        message = Message(payload="stuck")
        await live.emit(message)
        assert await live.cancel(message.trace_id) is True
        assert await live.cancel(message.trace_id) is False
    assert reached == []


# -- phase 3: deadlines and budgets


@pytest.mark.parametrize("nested", [False, True], ids=["plain", "inside a sub-workflow"])
def test_run_ends_at_its_deadline(fake_clock: FakeClock, recording_observer: RecordingObserver, nested: bool) -> None:
    late = StubAgent(["too late"])
    steps: Any = Step("sleep", lambda seconds: asyncio.sleep(seconds, seconds)) >> Step("late", late)
    flow = Flow(steps.as_step("inner") if nested else steps, deadline=60, hooks=[recording_observer])
    result = fake_clock.run(flow.run_async(3600))
    assert result.status is RunStatus.DEADLINE_EXCEEDED
    assert isinstance(result.error, FlowError)
    assert result.error.code == "deadline"
    assert fake_clock.elapsed == 60
    assert late.call_count == 0
    assert recording_observer.events[-1].kind is EventKind.RUN_FINISHED
    assert recording_observer.events[-1].result is result


async def test_loop_ends_when_its_budget_of_iterations_is_used_up() -> None:
    from flow_loop import loop_until

    body = StubAgent(["again"] * 10)
    loop = loop_until(
        "loop",
        loop_body_pipeline=Pipeline.from_step(Step("body", body)),
        exit_condition_callable=lambda *_: False,
        max_loops=3,
    )
    assert not (await Flow(loop).run_async("go")).success
    assert body.call_count == 3


@needs("flow-graph")
async def test_graph_that_goes_in_circles_ends_when_its_hops_are_used_up() -> None:
    from flow_graph import Graph, Message

    hops: list[int] = []

    async def again(number: int) -> int:
        hops.append(number)
        return number + 1

    async with Graph("circle").connect(again, again).serve() as live:
        await live.emit(Message(payload=0, budget_hops=5))
        await live.fetch()
    assert len(hops) == 5


# -- phase 4: metadata


class Costs(PipelineContext):
    tenant: str = ""
    notes: list[str] = []


@step
async def note(data: str, *, context: Costs, run: StepRun) -> str:
    context.notes.append(f"{run.trace_id}:{context.tenant}")
    return data


async def test_context_and_trace_pass_through_sub_workflows() -> None:
    inner = note >> note
    pipeline = note >> inner.as_step("inner") >> inner.as_step("apart", inherit_context=True)
    flow = Flow(pipeline, context_model=Costs)
    result = await flow.run_async("x", trace_id="t1", initial_context={"tenant": "acme"})
    assert result.success
    assert result.trace_id == "t1"
    assert result.final_pipeline_context.notes == ["t1:acme"] * 5


async def test_context_passes_through_branches_and_is_merged() -> None:
    import operator
    from typing import Annotated

    from flow_parallel import parallel

    class Merged(PipelineContext):
        notes: Annotated[list[str], operator.add] = []

    async def write_note(data: str, *, context: Merged) -> str:
        context.notes.append(data)
        return data

    fan = parallel("fan", {name: Step(name, write_note) for name in ("left", "right")})
    result = await Flow(fan, context_model=Merged).run_async("x")
    assert result.final_pipeline_context.notes == ["x", "x"]


@needs("flow-graph")
async def test_meta_of_a_message_passes_through_fan_out_and_fan_in() -> None:
    from flow_graph import Graph, Message, join_k

    async def same(data: str) -> str:
        return data

    graph = Graph("fan").connect(same, [str.upper, str.lower]).connect([str.upper, str.lower], join_k("both", 2))
    async with graph.serve() as live:
        await live.emit(Message(payload="Word", meta={"lang": "en"}))
        assert (await live.fetch()).meta == {"lang": "en"}


# -- phase 5: metrics


async def test_events_tell_trace_step_time_and_latency() -> None:
    events: list[Event] = []
    pipeline = Step("first", StubAgent(["x"])) >> Step(
        "second", simulate_error(error=ConnectionError("down")), retries=1
    )
    await Flow(pipeline, hooks=[events.append]).run_async("go", trace_id="t1")
    assert {event.trace_id for event in events} == {"t1"}
    assert [event.at for event in events] == sorted(event.at for event in events)
    finished = [event for event in events if event.kind is EventKind.STEP_FINISHED]
    assert [event.step for event in finished] == ["first", "second"]
    assert all(event.result is not None and event.result.latency_s > 0 for event in finished)


async def test_sink_counts_events() -> None:
    counter: Counter[str] = Counter()
    flaky = simulate_error(error=ConnectionError("down"), times=2)
    pipeline = Step("fine", write) >> Step("flaky", flaky, retries=2)
    await Flow(pipeline, hooks=[lambda event: counter.update([event.kind.value])]).run_async(3)
    assert counter == {
        "run.started": 1,
        "run.finished": 1,
        "step.started": 2,
        "step.finished": 2,
        "step.chunk": 3,
        "attempt.failed": 2,
        "step.retry": 2,
    }


async def test_prometheus_counts_steps() -> None:
    assert (await Flow(Step("fine", write), tracers=["prometheus"]).run_async(3)).success


# -- phase 6: drawing


@pytest.mark.parametrize("draw", [Pipeline.to_mermaid, Pipeline.to_dot], ids=["mermaid", "dot"])
async def test_drawing_shows_every_step_once_and_in_order(draw: Callable[[Pipeline[Any, Any]], str]) -> None:
    inner = Step("inner", str.upper) >> Step("innermost", str.lower)
    drawn = draw(Step("first", str.strip) >> inner.as_step("sub") >> Step("last", str.title))
    assert [drawn.count(name) > 0 for name in ("first", "sub", "innermost", "last")] == [True] * 4
    assert drawn.index("first") < drawn.index("innermost") < drawn.index("last")


# -- phase 7: routing by policy


@pytest.mark.parametrize(
    ("policy", "taken"), [({"acme": "left"}, "left"), ({"acme": "right"}, "right")], ids=["left", "right"]
)
async def test_policy_chooses_the_route(policy: dict[str, str], taken: str) -> None:
    from flow_branch import route_by_policy

    branches = {name: Step(name, StubAgent([name])) for name in ("left", "right")}
    routed = route_by_policy("route", policy, branches, key=lambda data, context: data["tenant"])
    result = await Flow(routed).run_async({"tenant": "acme"})
    assert result.output == taken
    assert result.step_history[0].metadata["executed_branch_key"] == taken


# -- phase 8: traceable exceptions


async def raise_value_error(data: str) -> str:
    raise ValueError("bad data")


async def never(data: str) -> str:
    return str(await asyncio.Event().wait())


FAILURES = [
    pytest.param(Step("agent", raise_value_error), "step_failed", id="agent"),
    pytest.param(Step("slow", never, timeout=0.001), "step_timeout", id="timeout"),
    pytest.param(Step("typed", write), "validation_failed", id="input"),
]


@pytest.mark.parametrize(("failing", "code"), FAILURES)
async def test_error_names_run_trace_and_step_and_has_a_stable_code(failing: Step[Any, Any], code: str) -> None:
    pipeline = Step("before", StubAgent(["text"])) >> failing
    result = await Flow(pipeline).run_async("x", trace_id="t1")
    assert result.trace_id == "t1"
    assert result.failed_path == f"1:{failing.name}"
    assert isinstance(result.error, FlowError)
    assert (result.error.code, result.error.path) == (code, f"1:{failing.name}")
    with pytest.raises(FlowError, match=f"1:{failing.name}") as raised:
        _ = result.output
    assert raised.value.__cause__ is result.error


async def test_retries_that_are_used_up_end_in_the_last_error() -> None:
    agent = StubAgent([ConnectionError(f"attempt {number}") for number in (1, 2, 3)])
    result = await Flow(Step("call", agent, retries=2)).run_async("x")
    assert result.step_history[0].attempts == 3
    assert isinstance(result.error, FlowError)
    assert str(result.error.__cause__) == "attempt 3"


async def test_timeouts_that_are_retried_end_in_a_timeout() -> None:
    result = await Flow(Step("slow", never, timeout=0.001, retries=1)).run_async("x")
    assert result.step_history[0].attempts == 2
    assert isinstance(result.error, StepTimeout)


async def test_last_event_of_a_failed_run_carries_the_error(recording_observer: RecordingObserver) -> None:
    result = await Flow(Step("call", raise_value_error), hooks=[recording_observer]).run_async("x")
    assert recording_observer.events[-1].result is result
    assert not result.success


# -- phase 9: tests are short


def test_linear_flow() -> None:
    draft, review = StubAgent(["a draft"]), StubAgent(["approved"])
    result = run_one(Step("draft", draft) >> Step("review", review), "write")
    assert_step_sequence(result, ["draft", "review"])
    assert result.output == "approved"
    assert review.inputs == ["a draft"]


def test_flaky_step() -> None:
    flaky = simulate_error("search", times=2, result="found")
    result = run_one(Step("search", flaky, retries=2), "?")
    assert (result.output, flaky.attempts) == ("found", 3)


async def test_branching_flow() -> None:
    from flow_branch import branch_on

    sides = {name: Step(name, StubAgent([name])) for name in ("left", "right")}
    result = await Flow(branch_on("choose", lambda data, _: data, sides)).run_async("left")
    assert_step_sequence(result, ["choose", "left"], nested=True)


@pytest.mark.parametrize(
    "test", [test_linear_flow, test_flaky_step, test_branching_flow], ids=lambda test: test.__name__
)
def test_tests_of_flows_have_fewer_than_ten_lines(test: Callable[..., Any]) -> None:
    lines = inspect.getsource(inspect.unwrap(test)).splitlines()
    assert len([line for line in lines if line.strip() and not line.startswith(("def ", "async def ", "@"))]) < 10
