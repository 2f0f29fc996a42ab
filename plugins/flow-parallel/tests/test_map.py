"""Maps: where items come from, how lazily, in which order results are, how failures are told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import orjson
import pytest
from flow_parallel import MapOver, map_over, map_reduce
from flow_testkit import StubAgent

from flow import (
    BaseStep,
    ConfigurationError,
    Flow,
    Pipeline,
    PipelineContext,
    StateBackend,
    Step,
    StepFailed,
    StepResult,
    StepRun,
    Usage,
    structure,
)

MakeFlow = Callable[..., Flow[Any, Any]]


class Inventory(PipelineContext):
    parts: list[int] = []
    label: str = "text"


async def double(n: int) -> int:
    return n * 2


async def broken_at_two(n: int) -> int:
    if n == 2:
        raise ValueError("two")
    return n * 10


def numbers(limit: int) -> Iterator[int]:
    yield from range(limit)


async def numbers_async(limit: int) -> AsyncIterator[int]:
    for number in range(limit):
        yield number


class AsyncNumbers:
    """An async iterable that is no generator."""

    def __init__(self, limit: int) -> None:
        self.left = iter(range(limit))

    def __aiter__(self) -> AsyncNumbers:
        return self

    async def __anext__(self) -> int:
        try:
            return next(self.left)
        except StopIteration:
            raise StopAsyncIteration from None


class TaskCounter:
    """Counts the tasks that are created while it is entered."""

    def __enter__(self) -> TaskCounter:
        self.created = 0
        self.loop = asyncio.get_running_loop()
        self.loop.set_task_factory(self._make)
        return self

    def _make(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        self.created += 1
        return asyncio.Task(work, loop=loop, **options)

    def __exit__(self, *_: object) -> None:
        self.loop.set_task_factory(None)


# -- items


@pytest.mark.parametrize(
    "data",
    [
        lambda: [0, 1, 2],
        lambda: (0, 1, 2),
        lambda: range(3),
        lambda: iter([0, 1, 2]),
        lambda: numbers(3),
        lambda: numbers_async(3),
        lambda: AsyncNumbers(3),
        lambda: dict.fromkeys([0, 1, 2]).keys(),
    ],
    ids=["list", "tuple", "range", "iterator", "generator", "async generator", "async iterator", "keys"],
)
async def test_the_input_may_be_anything_that_gives_items(flow: MakeFlow, data: Callable[[], Any]) -> None:
    result = await flow(map_over("each", Step("double", double))).run_async(data())
    assert result.output == [0, 2, 4]
    assert [found.path for found in result.walk()] == ["0:each", *(f"0:each/{i}/0:double" for i in range(3))]
    assert result.step_history[0].metadata == {"failed_items": []}


@pytest.mark.parametrize(
    "items",
    [
        "parts",
        lambda data: range(data),
        lambda data, context: context.parts,
        lambda context, data: context.parts,
        lambda data: numbers(data),
        numbers,
        numbers_async,
    ],
)
async def test_items_may_come_from_the_context_or_a_function(flow: MakeFlow, items: Any) -> None:
    runner = flow(map_over("each", Step("double", double), items=items), context_model=Inventory)
    assert (await runner.run_async(3, initial_context={"parts": [0, 1, 2]})).output == [0, 2, 4]


async def test_the_function_that_gives_items_may_be_async(flow: MakeFlow) -> None:
    async def items(data: int, context: Any) -> list[int]:
        return list(range(data))

    assert (await flow(map_over("each", Step("double", double), items=items)).run_async(2)).output == [0, 2]


async def test_no_items_are_an_empty_success_and_the_same_step_works_on_others_afterwards(flow: MakeFlow) -> None:
    runner = flow(map_over("each", Step("double", double)))
    assert [(await runner.run_async(items)).output for items in ([], [4], [])] == [[], [8], []]


@pytest.mark.parametrize(
    ("data", "items", "complaint"),
    [
        ("text", None, "a map needs an iterable of items, got str"),
        (b"bytes", None, "a map needs an iterable of items, got bytes"),
        ({"a": 1}, None, "a map needs an iterable of items, got dict"),
        (3, None, "a map needs an iterable of items, got int"),
        (None, None, "a map needs an iterable of items, got NoneType"),
        (0, "label", "a map needs an iterable of items, got str"),
        (0, lambda data: 7, "a map needs an iterable of items, got int"),
        (0, "pieces", "the context has no field 'pieces'; it has: initial_prompt, scratchpad"),
    ],
)
async def test_what_gives_no_items_fails_the_step_saying_why(
    flow: MakeFlow, data: Any, items: Any, complaint: str
) -> None:
    runner = flow(map_over("each", Step("double", double), items=items), context_model=Inventory)
    result = await runner.run_async(data)
    assert result.status == "failed"
    assert complaint in (result.step_history[0].feedback or "")


async def test_a_raising_items_function_fails_the_step_and_is_named(flow: MakeFlow) -> None:
    def parts_of(data: Any) -> Any:
        return data["parts"]

    result = await flow(map_over("each", Step("double", double), items=parts_of)).run_async({})
    assert result.step_history[0].feedback == "items function 'parts_of' raised KeyError: 'parts'"


def failing_source(limit: int) -> Iterator[int]:
    yield from range(limit)
    raise OSError("connection lost")


async def failing_async_source(limit: int) -> AsyncIterator[int]:
    for number in range(limit):
        yield number
    raise OSError("connection lost")


@pytest.mark.parametrize("source", [failing_source, failing_async_source])
@pytest.mark.parametrize("on_failure", ["fail_fast", "collect"])
async def test_a_source_that_breaks_fails_the_step_saying_where(
    flow: MakeFlow, source: Callable[[int], Any], on_failure: Any
) -> None:
    result = await flow(map_over("each", Step("double", double), on_failure=on_failure)).run_async(source(3))
    assert result.status == "failed"
    assert result.step_history[0].feedback == "taking item 3 raised OSError: connection lost"
    assert isinstance(result.error, StepFailed)
    assert isinstance(result.error.cause, OSError)


@pytest.mark.parametrize("cause", ["end", "failure", "cancel"])
async def test_an_async_generator_is_closed_before_the_step_ends(flow: MakeFlow, cause: str) -> None:
    closed: list[bool] = []
    reached = asyncio.Event()

    async def source(data: Any) -> AsyncIterator[int]:
        try:
            for number in range(3):
                yield number
            if cause != "end":
                reached.set()
                await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def fail(n: int) -> int:
        await reached.wait()
        raise ValueError("broken")

    agent: Any = fail if cause == "failure" else double
    handle = flow(map_over("each", Step("it", agent), items=source)).start(0)
    if cause == "cancel":
        await reached.wait()
        handle.cancel()
    result = await handle
    assert (result.status, closed) == (
        {"end": "completed", "failure": "failed", "cancel": "cancelled"}[cause],
        [True],
    )


async def test_a_retry_refuses_to_go_on_with_a_consumed_iterator(flow: MakeFlow) -> None:
    agent = StubAgent([1, ValueError("second"), 3])
    step = map_over("each", Step("it", agent), retries=1, max_concurrency=1)
    result = await flow(step).run_async(iter("abc"))
    assert result.status == "failed"
    assert "which the first attempt has consumed" in (result.step_history[0].feedback or "")
    assert agent.call_count == 2


async def test_a_retry_takes_the_items_of_a_function_anew(flow: MakeFlow) -> None:
    agent = StubAgent([1, ValueError("second"), 3, 4])
    step = map_over("each", Step("it", agent), items=lambda data: iter(data), retries=1, max_concurrency=1)
    assert (await flow(step).run_async("ab")).output == [3, 4]


# -- laziness


@pytest.mark.parametrize("waits", [True, False])
async def test_a_source_without_end_makes_no_task_per_item_and_is_taken_as_far_as_needed(
    flow: MakeFlow, waits: bool
) -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    async def fail_in_the_end(n: int) -> int:
        if waits:
            await asyncio.sleep(0)
        if n == 1000:
            raise ValueError("enough")
        return n

    runner = flow(map_over("each", Step("it", fail_in_the_end), max_concurrency=4))
    with TaskCounter() as tasks:
        result = await runner.run_async(endless())
    assert (result.status, result.failed_path) == ("failed", "0:each/1000/0:it")
    assert tasks.created <= 4 + 2
    assert taken[-1] <= 1000 + 4 + 1


@pytest.mark.parametrize(
    "make", [numbers, numbers_async, AsyncNumbers], ids=["generator", "async generator", "iterator"]
)
async def test_items_are_taken_when_there_is_room_for_them(flow: MakeFlow, make: Callable[[int], Any]) -> None:
    active, ahead = 0, []
    source = make(200)

    async def counted() -> AsyncIterator[int]:
        async for number in _each(source):
            nonlocal active
            active += 1
            ahead.append(active)
            yield number

    async def work(n: int) -> int:
        nonlocal active
        await asyncio.sleep(0)
        active -= 1
        return n

    with TaskCounter() as tasks:
        result = await flow(map_over("each", Step("work", work), max_concurrency=5)).run_async(counted())
    assert result.output == list(range(200))
    assert max(ahead) <= 5 + 1
    assert tasks.created <= 5 + 2


async def _each(source: Any) -> AsyncIterator[int]:
    if isinstance(source, Iterator):
        for item in source:
            yield item
    else:
        async for item in source:
            yield item


async def test_few_items_make_few_tasks(flow: MakeFlow) -> None:
    runner = flow(map_over("each", Step("double", double), max_concurrency=1000))
    with TaskCounter() as tasks:
        await runner.run_async([1, 2, 3])
    assert tasks.created <= 3 + 2


@pytest.mark.parametrize(("settings", "most"), [({}, 16), ({"max_concurrency": 3}, 3)])
async def test_so_many_items_are_worked_on_at_once_and_no_more(
    flow: MakeFlow, settings: dict[str, Any], most: int
) -> None:
    active, seen, full = 0, [], asyncio.Event()

    async def work(n: int) -> int:
        nonlocal active
        active += 1
        seen.append(active)
        if active == most:
            full.set()
        await full.wait()
        active -= 1
        return n

    await flow(map_over("each", Step("work", work), **settings)).run_async(list(range(50)))
    assert max(seen) == most


@pytest.mark.parametrize("value", [0, -1, None, True, 1.5], ids=repr)
def test_a_bound_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_concurrency must be a whole number of at least 1"):
        map_over("each", Step("double", double), max_concurrency=value)


# -- order


async def test_outputs_are_in_the_order_of_the_items_whatever_finishes_first(flow: MakeFlow) -> None:
    events = [asyncio.Event() for _ in range(6)]
    events[5].set()
    order: list[int] = []

    async def backwards(n: int) -> int:
        await events[n].wait()
        order.append(n)
        if n:
            events[n - 1].set()
        return n

    result = await flow(map_over("each", Step("it", backwards))).run_async(range(6))
    assert (order, result.output) == ([5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5])
    assert [child.output for child in result.step_history[0].children] == [0, 1, 2, 3, 4, 5]


async def test_runs_at_the_same_time_keep_their_items_apart(flow: MakeFlow) -> None:
    async def slow_double(n: int) -> int:
        await asyncio.sleep(0)
        return n * 2

    inputs = [list(range(start, start + 20)) for start in range(0, 200, 20)]
    results = await flow(map_over("each", Step("it", slow_double), max_concurrency=3)).run_many(inputs)
    assert [result.output for result in results] == [[n * 2 for n in items] for items in inputs]


async def test_maps_nest_in_maps(flow: MakeFlow) -> None:
    step = map_over("rows", map_over("cells", Step("double", double)) >> Step("sum", sum))
    assert (await flow(step).run_async([[1, 2], [], [3]])).output == [6, 0, 6]


# -- failures


async def test_a_failing_item_fails_the_step_naming_its_index(flow: MakeFlow) -> None:
    result = await flow(map_over("each", Step("it", broken_at_two), max_concurrency=1)).run_async([1, 2, 3])
    own = result.step_history[0]
    assert (result.status, result.failed_path) == ("failed", "0:each/1/0:it")
    assert own.feedback == "item 1 failed at '0:each/1/0:it': Agent failed with ValueError: two"
    assert own.metadata == {"failed_items": [1]}
    assert [child.path for child in own.children] == ["0:each/0/0:it", "0:each/1/0:it"]


async def test_a_failing_item_cancels_the_rest_at_once_and_keeps_what_they_spent(flow: MakeFlow) -> None:
    last_started, ended = asyncio.Event(), []

    async def work(n: int, *, run: StepRun) -> int:
        run.usage.add(cost_usd=0.25)
        if n == 1:
            await last_started.wait()
            raise ValueError("one")
        if n == 2:
            last_started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(n)
        return n

    step = map_over("each", Step("it", work), max_concurrency=3)
    result = await flow(step).run_async(range(100))
    assert (result.status, sorted(ended), result.usage) == ("failed", [0, 2], Usage(cost_usd=0.75))


async def test_collect_tells_failed_items_by_index_and_keeps_their_results_in_place(flow: MakeFlow) -> None:
    result = await flow(map_over("each", Step("it", broken_at_two), on_failure="collect")).run_async([1, 2, 3, 2])
    assert result.step_history[0].metadata == {"failed_items": [1, 3]}
    assert [output for output in result.output if not isinstance(output, StepResult)] == [10, 30]
    slot = result.output[1]
    assert (slot.success, slot.name, slot.path, slot.feedback) == (
        False,
        "1",
        "0:each/1/0:it",
        "Agent failed with ValueError: two",
    )
    assert isinstance(slot.error, ValueError)


async def test_collect_fails_when_all_items_failed(flow: MakeFlow) -> None:
    result = await flow(map_over("each", Step("it", broken_at_two), on_failure="collect")).run_async([2] * 30)
    own = result.step_history[0]
    assert (result.status, own.metadata) == ("failed", {"failed_items": list(range(30))})
    assert own.feedback is not None
    assert own.feedback.endswith(
        "(failed items: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, …)"
    )


async def test_a_fallback_stands_in_for_an_item(flow: MakeFlow) -> None:
    body = Step("it", broken_at_two, fallback=Step("instead", StubAgent(["instead"])))
    assert (await flow(map_over("each", body)).run_async([1, 2, 3])).output == [10, "instead", 30]


# -- journal


async def test_decisions_are_in_the_journal(flow: MakeFlow, store: StateBackend) -> None:
    step = map_over("each", Step("it", broken_at_two), on_failure="collect")
    await flow(step, state=store).run_async([1, 2], run_id="r")
    records = {record.path: record for record in await store.load_steps("r")}
    assert orjson.loads(records["0:each"].metadata or b"") == {"failed_items": [1]}
    assert {path: record.status for path, record in records.items() if record.parent == "0:each"} == {
        "0:each/0/0:it": "completed",
        "0:each/1/0:it": "failed",
    }


async def test_items_are_resumed_one_by_one(flow: MakeFlow) -> None:
    calls: list[int] = []

    async def flaky(n: int) -> int:
        calls.append(n)
        if n == 2 and calls.count(2) == 1:
            raise ValueError("once")
        return n * 10

    runner = flow(map_over("each", Step("it", flaky), max_concurrency=1), state="memory://")
    assert (await runner.run_async([0, 1, 2, 3], run_id="r")).failed_path == "0:each/2/0:it"
    result = await runner.resume_async("r")
    assert (result.output, calls) == ([0, 10, 20, 30], [0, 1, 2, 2, 3])
    assert [child.replayed for child in result.step_history[0].children] == [True, True, False, False]


async def test_steps_inside_an_item_are_resumed_one_by_one(flow: MakeFlow) -> None:
    first, second = StubAgent([1, 2]), StubAgent([10, ValueError("once"), 20])
    body = Step("first", first) >> Step("second", second)
    runner = flow(map_over("each", body, max_concurrency=1), state="memory://")
    assert (await runner.run_async(["a", "b"], run_id="r")).failed_path == "0:each/1/1:second"
    assert (await runner.resume_async("r")).output == [10, 20]
    assert (first.call_count, second.call_count) == (2, 3)


async def test_nested_maps_are_resumed_item_by_item(flow: MakeFlow) -> None:
    agent = StubAgent([1, 2, 3, ValueError("once"), 4])
    inner = map_over("cells", Step("it", agent), max_concurrency=1)
    runner = flow(map_over("rows", inner, max_concurrency=1), state="memory://")
    assert (await runner.run_async([["a", "b"], ["c", "d"]], run_id="r")).failed_path == "0:rows/1/0:cells/1/0:it"
    result = await runner.resume_async("r")
    assert (result.output, agent.inputs) == ([[1, 2], [3, 4]], ["a", "b", "c", "d", "d"])


async def test_failed_places_come_back_from_the_journal(flow: MakeFlow) -> None:
    later = StubAgent([ValueError("once"), "done"])
    step = map_over("each", Step("it", broken_at_two), on_failure="collect") >> Step("later", later)
    runner = flow(step, state="memory://")
    await runner.run_async([1, 2], run_id="r")
    assert (await runner.resume_async("r")).output == "done"
    good, bad = later.inputs[1]
    assert (good, bad.success, bad.feedback) == (10, False, "Agent failed with ValueError: two")


async def test_typed_outputs_come_back_from_the_journal_as_what_they_were(flow: MakeFlow) -> None:
    async def make(n: int) -> Inventory:
        if n == 2:
            raise ValueError("two")
        return Inventory(parts=[n])

    later = StubAgent([ValueError("once"), "done"])
    step = map_over("each", Step("make", make), on_failure="collect") >> Step("later", later)
    runner = flow(step, state="memory://")
    await runner.run_async([1, 2], run_id="r")
    assert (await runner.resume_async("r")).output == "done"
    assert [inputs[0] for inputs in later.inputs] == [Inventory(parts=[1])] * 2


@pytest.mark.parametrize("on_failure", ["fail_fast", "collect"])
async def test_outputs_may_be_checked_against_the_types_of_the_body(flow: MakeFlow, on_failure: Any) -> None:
    step = map_over("each", Step("it", broken_at_two), on_failure=on_failure, validate="both")
    assert (await flow(step).run_async([1, 3])).output == [10, 30]
    if on_failure == "collect":
        assert isinstance((await flow(step).run_async([1, 2])).output[1], StepResult)


# -- structure


def test_its_child_is_the_body() -> None:
    step = map_over("each", Step("double", double))
    assert list(step.children()) == ["body"]
    assert list(structure(step)["children"]) == ["body"]


@pytest.mark.parametrize(
    "change",
    [{"body": Step("double", broken_at_two)}, {"items": "parts"}, {"max_concurrency": 3}, {"reduce": max}],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_tells_changes(change: dict[str, Any]) -> None:
    step: BaseStep[Any, Any] = map_over("each", Step("double", double))
    assert Pipeline((step.evolve(**change),)).fingerprint != Pipeline((step,)).fingerprint


def test_validation_looks_into_the_body() -> None:
    report = Pipeline((map_over("each", Step("no agent")),)).validate_graph()
    assert [finding.path for finding in report.findings] == ["0:each/body/0:no agent"]


def longest(so_far: str, output: int) -> str:
    return so_far


def test_types_are_those_of_the_body_or_of_the_reducer() -> None:
    assert map_over("each", Step("double", double)).declared_types() == (Any, list[int])
    assert map_over("each", Step("any", StubAgent([]))).declared_types() == (Any, Any)
    assert map_reduce("each", Step("d", double), reduce=longest, initial="").declared_types() == (Any, str)


@pytest.mark.parametrize("on_failure", ["fail_fast", "collect"])
def test_the_outputs_fit_a_step_that_takes_a_list(on_failure: Any) -> None:
    async def total(outputs: list[int]) -> int:
        return sum(outputs)

    async def text(outputs: str) -> str:
        return outputs

    step = map_over("each", Step("double", double), on_failure=on_failure)
    assert (step >> Step("total", total)).validate_graph().findings == ()
    assert [finding.rule_id for finding in (step >> Step("text", text)).validate_graph().findings] == ["FLOW-T1"]


def test_they_are_methods_of_step_when_installed() -> None:
    assert isinstance(Step.map_over("each", Step("double", double)), MapOver)
    assert isinstance(Step.map_reduce("sum", Step("double", double), reduce=max, initial=0), MapOver)
