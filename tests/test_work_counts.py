"""How much work the kernel does: bounds on counts, which hold on every machine, where a time would not."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import pytest
from flow_otel import OtelTracer
from flow_prometheus import PrometheusTracer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from pydantic import ConfigDict

from flow import Event, Flow, Kernel, Pipeline, PipelineContext, RunResult, Step, StepResult, StreamChunk
from tests.benchmarks.fake_plugins import FakePlugins
from tests.benchmarks.streams import most_ahead

LENGTH = 100


class Shelf:
    """Something mutable that counts how often it is copied."""

    def __init__(self, name: str, copies: Counter[str]) -> None:
        self.name = name
        self.books: list[str] = []
        self.copies = copies

    def __deepcopy__(self, memo: dict[int, Any]) -> Shelf:
        self.copies[self.name] += 1
        made = Shelf(self.name, self.copies)
        made.books = list(self.books)
        return made


class Library(PipelineContext):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    topic: str = ""
    sources: Shelf
    archive: Shelf


async def noop(value: Any) -> Any:
    return value


async def typed(value: int) -> int:
    return value


async def failing_once(value: int, *, run: Any) -> int:
    if run.attempt == 1:
        raise ConnectionError("not yet")
    return value


async def reading(value: Any, *, context: Library) -> Any:
    assert context.topic == ""
    return value


async def writing(value: Any, *, context: Library) -> Any:
    context.topic = "history"
    context.sources.books.append("a book")
    return value


def in_thread(value: Any) -> str:
    return threading.current_thread().name


def flow_of(agent: Callable[..., Any], length: int = LENGTH, **options: Any) -> Flow[Any, Any]:
    """A flow of `length` equal steps that sees no plugin but the kernel's own, bound by a first run."""
    settings = {name: options.pop(name) for name in ("retries", "timeout") if name in options}
    steps = [Step(f"s{index}", agent, **settings) for index in range(length)]
    flow: Flow[Any, Any] = Flow(Pipeline(steps), kernel=Kernel(only=[]), **options)
    assert flow.run(1).success
    return flow


# -- tasks and threads


async def tasks_made_by(work: Callable[[], Awaitable[Any]]) -> int:
    """Return how many tasks `work` makes."""
    loop, made = asyncio.get_running_loop(), 0

    def make(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        nonlocal made
        made += 1
        return asyncio.Task(work, loop=loop, **options)

    before = loop.get_task_factory()
    loop.set_task_factory(make)
    try:
        await work()
    finally:
        loop.set_task_factory(before)
    return made


@pytest.mark.parametrize(
    "settings", [{}, {"retries": 2}, {"timeout": 60}, {"deadline": 60}, {"state": "memory://"}], ids=str
)
def test_run_of_async_steps_makes_no_task(settings: dict[str, Any]) -> None:
    flow = flow_of(noop, **settings)
    assert asyncio.run(tasks_made_by(lambda: flow.run_async(1))) == 0


def test_run_in_the_background_makes_one_task() -> None:
    flow = flow_of(noop)

    async def work() -> None:
        await flow.start(1)

    assert asyncio.run(tasks_made_by(work)) == 1


def test_stream_makes_one_task_however_many_chunks_there_are() -> None:
    async def write(count: int) -> Any:
        for _ in range(count):
            yield "token"

    flow = flow_of(write, 1)

    async def read() -> None:
        assert sum([isinstance(item, StreamChunk) async for item in flow.stream_async(500)]) == 500

    assert asyncio.run(tasks_made_by(read)) == 1


def test_listener_has_one_task_per_run_however_many_steps_there_are() -> None:
    seen: list[Event] = []
    flow = flow_of(noop, hooks=[seen.append])
    assert asyncio.run(tasks_made_by(lambda: flow.run_async(1))) == 1


def test_run_many_makes_as_many_tasks_as_may_run_at_once() -> None:
    flow = flow_of(noop, 1)
    assert asyncio.run(tasks_made_by(lambda: flow.run_many(range(500), concurrency=20))) == 20


def test_only_sync_steps_leave_the_thread_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        begun.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    assert flow_of(noop).run(1).success
    assert begun == []
    names = [step.output for step in flow_of(in_thread, 3).run(1).step_history]
    assert [name for name in names if not name.startswith("flow-step")] == []


# -- hooks and events


def frames_of(work: Callable[[], Awaitable[Any]], count: Callable[[str], bool]) -> Counter[str]:
    """Return the Python functions that `work` calls or resumes, in files that `count` accepts, by name."""
    calls: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and count(frame.f_code.co_filename):
            calls[frame.f_code.co_name] += 1

    async def profiled() -> None:
        gc.disable()  # other people's callbacks on a collection are no work of ours
        sys.setprofile(profile)
        try:
            await work()
        finally:
            sys.setprofile(None)
            gc.enable()

    asyncio.run(profiled())
    return calls


def test_run_calls_no_hook() -> None:
    flow = flow_of(typed, retries=2, timeout=60, state="memory://")
    assert frames_of(lambda: flow.run_async(1), lambda file: "pluggy" in Path(file).parts) == {}


def test_run_calls_two_hooks_for_each_failed_attempt() -> None:
    flow = flow_of(failing_once, 5, retries=1)
    calls = frames_of(lambda: flow.run_async(1), lambda file: "pluggy" in Path(file).parts)
    assert calls["__call__"] == 2 * 5


@pytest.mark.parametrize(("listeners", "expected"), [(0, 0), (1, 2 + 2 * LENGTH), (3, 2 + 2 * LENGTH)])
def test_event_is_built_once_and_only_when_somebody_listens(
    monkeypatch: pytest.MonkeyPatch, listeners: int, expected: int
) -> None:
    flow = flow_of(noop, hooks=[lambda event: None] * listeners)
    built: list[Event] = []

    def build(**fields: Any) -> Event:
        built.append(Event(**fields))
        return built[-1]

    monkeypatch.setattr("flow._run.Event", build)
    assert flow.run(1).success
    assert len(built) == expected


def test_spans_of_a_chain_are_one_per_step_and_need_no_event_and_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    flow = flow_of(noop, tracers=[OtelTracer(provider, NoOpMeterProvider(), content=False)])
    exporter.clear()  # `flow_of` has run it once
    monkeypatch.setattr("flow._run.Event", None)  # nothing can be made of it
    assert asyncio.run(tasks_made_by(lambda: flow.run_async(1))) == 0
    spans = len(exporter.get_finished_spans())
    assert spans == 1 + LENGTH


def test_metrics_are_counted_off_the_path_in_one_task_per_run() -> None:
    flow = flow_of(noop, tracers=[PrometheusTracer(CollectorRegistry())])
    assert asyncio.run(tasks_made_by(lambda: flow.run_async(1))) == 1


# -- calls, copies and objects per step


def calls_of_chain(agent: Callable[..., Any], length: int, **settings: Any) -> int:
    flow = flow_of(agent, length, **settings)
    return sum(frames_of(lambda: flow.run_async(1), lambda _: True).values())


def calls_per_step(agent: Callable[..., Any], **settings: Any) -> float:
    """Return how many Python functions a further step calls or resumes, the agent itself included."""
    return (calls_of_chain(agent, LENGTH, **settings) - calls_of_chain(agent, 1, **settings)) / (LENGTH - 1)


@pytest.mark.parametrize(
    ("agent", "settings", "most"),
    [
        # The agent, the step's own coroutine, the one around all layers; a scope, a result, its recording and listing.
        pytest.param(noop, {}, 7, id="plain"),
        pytest.param(typed, {}, 9, id="typed"),
        pytest.param(noop, {"retries": 2}, 8, id="retries"),
    ],
)
def test_step_calls_few_functions(agent: Callable[..., Any], settings: dict[str, Any], most: int) -> None:
    assert calls_per_step(agent, **settings) <= most


def test_work_grows_with_the_number_of_steps_and_no_faster() -> None:
    short, long, longer = (calls_of_chain(noop, length) for length in (10, 100, 1000))
    assert (longer - long) / 900 <= (long - short) / 90 * 1.01  # the event loop itself may add a call or two to a run


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        pytest.param(noop, {}, id="a step that does not ask for the context"),
        pytest.param(reading, {}, id="a step that reads text"),
        pytest.param(writing, {"sources": 10}, id="a step that changes one field"),
    ],
)
async def test_step_copies_only_what_it_touches(agent: Callable[..., Any], expected: dict[str, int]) -> None:
    copies: Counter[str] = Counter()
    context = {name: Shelf(name, copies) for name in ("sources", "archive")}
    pipeline: Pipeline[Any, Any] = Pipeline([Step(f"s{index}", agent) for index in range(10)])
    flow = Flow(pipeline, context_model=Library)
    result = await flow.run_async(1, initial_context=context)
    assert copies == expected
    assert len(result.final_pipeline_context.sources.books) == sum(expected.values())


def kept_by(work: Callable[[], Awaitable[Any]]) -> tuple[RunResult[Any], int, int]:
    """Return a run's result, how many objects that the garbage collector follows it keeps, and how many bytes."""

    async def measured() -> tuple[RunResult[Any], int, int]:
        gc.collect()
        tracemalloc.start()
        objects, size = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
        result = await work()
        gc.collect()
        objects, size = len(gc.get_objects()) - objects, tracemalloc.get_traced_memory()[0] - size
        tracemalloc.stop()
        return result, objects, size

    return asyncio.run(measured())


def test_run_keeps_one_object_and_few_bytes_per_step() -> None:
    flow = flow_of(noop, 1000)
    result, objects, size = kept_by(lambda: flow.run_async(1))
    assert len(result.step_history) == 1000
    assert objects <= 1000 + 50
    assert size / 1000 <= 400


def test_run_leaves_nothing_behind() -> None:
    flow = flow_of(noop)

    async def several() -> None:
        for _ in range(50):
            await flow.run_async(1)

    _, objects, _ = kept_by(several)
    assert objects < 50


@pytest.mark.parametrize("settings", [{}, {"retries": 2}, {"timeout": 60}, {"deadline": 60}], ids=str)
def test_run_leaves_no_work_for_the_garbage_collector(settings: dict[str, Any]) -> None:
    flow = flow_of(noop, 10, **settings)

    async def unreachable_after_runs() -> int:
        await flow.run_async(1)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await flow.run_async(1)
            return gc.collect()
        finally:
            gc.enable()

    assert asyncio.run(unreachable_after_runs()) == 0


def test_result_holds_neither_run_nor_scopes() -> None:
    result = flow_of(noop, 3).run(1)
    held = {type(value).__name__ for step in result.walk() for value in attrs.asdict(step, recurse=False).values()}
    assert held <= {"str", "bool", "int", "float", "tuple", "NoneType", "Usage", "dict"}
    assert all(isinstance(step, StepResult) for step in result.walk())


def test_writer_cannot_run_far_ahead_of_a_slow_reader() -> None:
    assert 1 <= asyncio.run(most_ahead(1000)) <= 128


# -- the command line


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("plugins", "list"), ("plugins", "list", "--all")], ids=" ".join
)
def test_command_imports_no_plugin(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    plugins = FakePlugins.install(tmp_path, 30)
    printed = plugins.flow(*arguments)
    assert plugins.imported == []
    if "list" in arguments:
        assert printed.stdout.count("flow-fake") == 30


def test_plugin_that_is_imported_leaves_a_mark(tmp_path: Path) -> None:
    plugins = FakePlugins.install(tmp_path, 2)
    subprocess.run([sys.executable, "-c", "import flow_fake0"], env=plugins.environment, check=True)
    assert plugins.imported == ["fake0"]
