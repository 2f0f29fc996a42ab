"""What each metric counts, and what it leaves to others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from flow_prometheus import PrometheusTracer
from flow_testkit import StubAgent, gather_result, simulate_error
from prometheus_client import CollectorRegistry

from flow import (
    BaseStep,
    Cache,
    CancelSignal,
    ErrorCategory,
    Event,
    EventKind,
    Flow,
    Kernel,
    PauseSignal,
    Pipeline,
    Run,
    RunResult,
    Settings,
    Step,
    StepRun,
    StreamChunk,
    Usage,
    UsageLimits,
    hookimpl,
)

Total = Callable[..., float]


async def echo(data: Any) -> Any:
    return data


async def broken(data: Any) -> Any:
    raise ConnectionError("down")


@pytest.fixture
def tracer(registry: CollectorRegistry) -> PrometheusTracer:
    return PrometheusTracer(registry)


def flow_of(pipeline: Any, tracer: Any, **options: Any) -> Flow[Any, Any]:
    kernel = options.pop("kernel", None) or Kernel(Settings(), only=[])
    return Flow(pipeline, tracers=[tracer], kernel=kernel, **options)


async def run(pipeline: Any, tracer: Any, **options: Any) -> RunResult[Any]:
    return await flow_of(pipeline, tracer, **options).run_async("data")


def named(pipeline: Pipeline[Any, Any], name: str) -> Pipeline[Any, Any]:
    return pipeline.evolve(name=name)


async def test_runs_are_counted_by_pipeline_and_status(tracer: PrometheusTracer, total: Total) -> None:
    good, bad = named(Step("a", echo) >> Step("b", echo), "good"), named(Step("a", echo) >> Step("b", broken), "bad")
    for pipeline in (good, good, bad):
        await run(pipeline, tracer)
    assert total("flow_runs_started_total") == 3
    assert total("flow_runs_finished_total", pipeline="good", status="completed") == 2
    assert total("flow_runs_finished_total", pipeline="bad", status="failed") == 1
    assert total("flow_runs_finished_total") == 3
    assert total("flow_run_duration_seconds_count", pipeline="good", status="completed") == 2


async def test_run_is_in_progress_until_it_has_ended(tracer: PrometheusTracer, total: Total) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def wait(data: Any) -> Any:
        inside.set()
        await go_on.wait()
        return data

    task = asyncio.create_task(run(Step("wait", wait), tracer))
    await inside.wait()
    assert total("flow_runs_in_progress") == 1
    go_on.set()
    await task
    assert total("flow_runs_in_progress") == 0


@pytest.mark.parametrize(
    ("agent", "status"),
    [(PauseSignal("which?"), "paused"), (CancelSignal(), "cancelled"), (ValueError("no"), "failed")],
)
async def test_every_end_is_counted_once(
    agent: BaseException, status: str, tracer: PrometheusTracer, total: Total
) -> None:
    result = await run(Step("a", simulate_error(error=agent)), tracer)
    assert result.status == status
    assert total("flow_runs_finished_total", status=status) == total("flow_runs_finished_total") == 1
    assert total("flow_steps_total", outcome=status) == total("flow_steps_total") == 1
    assert total("flow_step_attempts_total") == 1
    assert total("flow_runs_in_progress") == 0


async def test_cancelled_task_is_a_cancelled_run(tracer: PrometheusTracer, total: Total) -> None:
    inside = asyncio.Event()

    async def wait(data: Any) -> Any:
        inside.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run(Step("wait", wait), tracer))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert total("flow_runs_finished_total", status="cancelled") == 1
    assert total("flow_runs_lost_total") == 0


async def test_run_that_cannot_be_stored_is_lost(tracer: PrometheusTracer, total: Total) -> None:
    flow = flow_of(Step("a", echo), tracer, state="memory://")
    await flow.run_async("data", run_id="taken")
    with pytest.raises(Exception, match="exists already"):
        await flow.run_async("data", run_id="taken")
    assert total("flow_runs_lost_total", reason="state") == 1
    assert total("flow_runs_in_progress") == 0


async def test_steps_have_the_names_on_their_path(tracer: PrometheusTracer, total: Total) -> None:
    inner = (Step("first", echo) >> Step("second", echo)).as_step("inner")
    await run(Step("before", echo) >> inner, tracer)
    for step in ("before", "inner", "inner/first", "inner/second"):
        assert total("flow_steps_total", step=step, outcome="completed") == 1
        assert total("flow_step_duration_seconds_count", step=step) == 1


async def test_retries_and_failed_attempts(tracer: PrometheusTracer, total: Total) -> None:
    flaky = simulate_error(error=ConnectionError("down"), times=2, result="up")
    result = await run(Step("flaky", flaky, retries=3), tracer)
    assert result.success
    assert total("flow_step_attempts_total", step="flaky") == result.step("flaky").attempts == 3
    assert total("flow_step_retries_total", step="flaky") == 2
    assert total("flow_step_attempt_failures_total", step="flaky", category="network") == 2
    assert total("flow_step_failures_total") == 0


async def test_fallback_is_a_step_of_its_own(tracer: PrometheusTracer, total: Total) -> None:
    await run(Step("call", broken, fallback=Step("cheap", echo)), tracer)
    assert total("flow_step_fallbacks_total", step="call") == 1
    assert total("flow_steps_total", step="call/fallback", outcome="completed") == 1
    assert total("flow_steps_total", step="call", outcome="completed") == 1
    assert total("flow_step_failures_total") == 0


async def test_failure_is_counted_where_it_happened(tracer: PrometheusTracer, total: Total) -> None:
    inner = (Step("fine", echo) >> Step("call", broken)).as_step("inner")
    result = await run(inner >> Step("after", echo), tracer)
    assert not result.success
    assert total("flow_step_failures_total", step="inner/call", category="network") == 1
    assert total("flow_step_failures_total") == 1
    assert total("flow_steps_total", step="inner", outcome="failed") == 1


@pytest.mark.parametrize(
    ("error", "category"),
    [(TimeoutError(), "timeout"), (ConnectionError(), "network"), (RuntimeError(), "unknown")],
)
async def test_failures_have_the_category_that_the_kernel_gives(
    error: Exception, category: str, tracer: PrometheusTracer, total: Total
) -> None:
    await run(Step("call", simulate_error(error=error)), tracer)
    assert total("flow_step_failures_total", step="call", category=category) == 1
    assert total("flow_step_failures_total") == 1


class _OwnCategories:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    @hookimpl
    def flow_classify_error(self, error: BaseException, step: BaseStep[Any, Any]) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "category"),
    [(ErrorCategory.RATE_LIMIT, "rate_limit"), ("my own words", "unknown"), (ValueError("broken"), "unknown")],
)
async def test_plugins_say_what_sort_of_failure_it_is(
    answer: Any, category: str, tracer: PrometheusTracer, total: Total
) -> None:
    kernel = Kernel(Settings(), only=[], plugins=[_OwnCategories(answer)])
    await run(Step("call", broken), tracer, kernel=kernel)
    assert total("flow_step_failures_total", category=category) == 1


async def test_cached_results_are_no_executions(tracer: PrometheusTracer, total: Total) -> None:
    agent = StubAgent(["once"], usage=Usage(0.25, 10, 5, 1))
    flow = flow_of(Step("ask", agent, cache=Cache()), tracer)
    assert [(await flow.run_async("same")).output for _ in range(3)] == ["once"] * 3
    assert total("flow_step_cache_total", step="ask", outcome="miss") == 1
    assert total("flow_step_cache_total", step="ask", outcome="hit") == 2
    assert total("flow_steps_total", step="ask", outcome="cached") == 2
    assert total("flow_step_attempts_total", step="ask") == total("flow_step_duration_seconds_count", step="ask") == 1
    assert total("flow_cost_usd_total") == 0.25


async def test_replayed_results_are_no_executions_and_cost_nothing_again(
    tracer: PrometheusTracer, total: Total
) -> None:
    spends = StubAgent(["text"], usage=Usage(0.25, 100, 20, 1))
    pipeline = Step("ask", spends) >> Step("publish", simulate_error(times=1))
    flow = flow_of(pipeline, tracer, state="memory://")
    failed = await flow.run_async("data")
    resumed = await flow.resume_async(failed.run_id)
    assert resumed.success
    assert resumed.usage == Usage(0.25, 100, 20, 1)
    assert total("flow_runs_resumed_total") == 1
    assert total("flow_runs_started_total") == total("flow_runs_finished_total") == 2
    assert total("flow_steps_total", step="ask", outcome="completed") == 1
    assert total("flow_steps_total", step="ask", outcome="replayed") == 1
    assert total("flow_cost_usd_total", step="ask") == 0.25
    assert total("flow_tokens_total", direction="input") == 100
    assert total("flow_tokens_total", direction="output") == 20
    assert total("flow_requests_total") == 1


async def test_run_that_is_retried_as_a_whole_is_counted_each_time(tracer: PrometheusTracer, total: Total) -> None:
    flow = flow_of(Step("flaky", simulate_error(times=1)), tracer, max_retries=1, retry_on_error=True)
    assert (await flow.run_async("data")).success
    assert total("flow_runs_finished_total", status="failed") == 1
    assert total("flow_runs_finished_total", status="completed") == 1
    assert total("flow_runs_in_progress") == 0


async def test_what_failed_attempts_spent_is_counted(tracer: PrometheusTracer, total: Total) -> None:
    async def spend(data: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=0.5, input_tokens=7)
        if run.attempt < 3:
            raise ConnectionError("down")
        return data

    result = await run(Step("ask", spend, retries=2), tracer)
    assert total("flow_cost_usd_total", step="ask") == result.usage.cost_usd == 1.5
    assert total("flow_tokens_total", step="ask", direction="input") == 21


async def test_limit_that_is_exceeded_ends_the_run(tracer: PrometheusTracer, total: Total) -> None:
    agent = StubAgent(["text"], usage=Usage(cost_usd=2.0))
    await run(Step("ask", agent), tracer, usage_limits=UsageLimits(total_cost_usd_limit=1.0))
    assert total("flow_runs_finished_total", status="limit_exceeded") == 1
    assert total("flow_step_failures_total", category="usage") == 1


async def test_chunks_are_counted_and_restarts_are_not(tracer: PrometheusTracer, total: Total) -> None:
    calls = 0

    async def stream(data: Any) -> AsyncIterator[str]:
        nonlocal calls
        calls += 1
        for word in ("one", "two", "three"):
            yield word
            if calls == 1 and word == "two":
                raise ConnectionError("down")

    result = await gather_result(flow_of(Step("say", stream, retries=1), tracer), "data")
    assert result.output == "onetwothree"
    assert total("flow_step_chunks_total", step="say") == 5


async def test_question_is_counted_at_the_step_that_asks(tracer: PrometheusTracer, total: Total) -> None:
    inner = (Step("before", echo) >> Step("review", simulate_error(error=PauseSignal("ok?")))).as_step("inner")
    await run(Step("first", echo) >> inner, tracer)
    assert total("flow_step_pauses_total", step="inner/review") == total("flow_step_pauses_total") == 1
    assert total("flow_steps_total", step="inner", outcome="paused") == 1


def _told(tracer: PrometheusTracer, *events: dict[str, Any]) -> None:
    told = Run("r1", "r1", pipeline="triage", context=None, resources=None)
    with tracer.around_run(told):
        for event in events:
            tracer.on_event(Event(run_id="r1", trace_id="r1", at=0.0, **event))


async def test_waits_for_limits(tracer: PrometheusTracer, total: Total) -> None:
    rate = {"policy": "rate_limit", "limit": "openai"}
    _told(
        tracer,
        {"kind": EventKind.THROTTLED, "path": "0:a", "delay_s": 1.5, "detail": rate},
        {"kind": EventKind.THROTTLED, "path": "0:a", "delay_s": 0.5, "detail": rate},
        {"kind": EventKind.THROTTLED, "path": "1:b", "detail": {"policy": "bulkhead", "limit": "db"}},
    )
    assert total("flow_throttled_total", policy="rate_limit", limit="openai", pipeline="triage") == 2
    assert total("flow_throttled_wait_seconds_total", limit="openai") == 2.0
    assert total("flow_throttled_total", policy="bulkhead", limit="db") == 1


async def test_breaker_shows_the_state_it_is_in(tracer: PrometheusTracer, total: Total) -> None:
    for before, after in (("closed", "open"), ("open", "half_open"), ("half_open", "open")):
        _told(tracer, {"kind": EventKind.BREAKER, "detail": {"name": "openai", "from": before, "to": after}})
        assert total("flow_breaker_state", breaker="openai", state=after) == 1
        assert total("flow_breaker_state", breaker="openai") == 1
    assert total("flow_breaker_changes_total", breaker="openai", to="open") == 2


async def test_usage_warnings_and_dropped_events(tracer: PrometheusTracer, total: Total) -> None:
    _told(
        tracer,
        {"kind": EventKind.USAGE_WARNING, "detail": {"limit": "total_cost_usd", "threshold": 0.8}},
        {"kind": EventKind.DROPPED, "detail": {"dropped": 12}},
        {"kind": EventKind.DROPPED, "detail": {"dropped": 30}},
    )
    assert total("flow_usage_warnings_total", limit="total_cost_usd") == 1
    assert total("flow_events_dropped_total", pipeline="triage") == 42


async def test_events_that_tell_nothing_new_change_nothing(tracer: PrometheusTracer, total: Total) -> None:
    _told(
        tracer,
        {"kind": EventKind.LOAD, "detail": {}},
        {"kind": EventKind.STEP_STARTED, "path": "0:a"},
        {"kind": EventKind.STEP_FINISHED, "path": "0:a"},
        {"kind": EventKind.RUN_FINISHED},
        {"kind": EventKind.CHUNK, "path": "0:a", "chunk": StreamChunk("", "0:a", meta={"restart": True})},
    )
    assert total("flow_steps_total") == total("flow_runs_finished_total") == total("flow_step_chunks_total") == 0


async def test_run_with_two_such_tracers_is_counted_once(
    tracer: PrometheusTracer, registry: CollectorRegistry, total: Total
) -> None:
    agent = StubAgent(["text"], usage=Usage(cost_usd=2.0))
    await Flow(Step("a", agent), tracers=[tracer, PrometheusTracer(registry)]).run_async("data")
    assert total("flow_runs_finished_total") == total("flow_steps_total") == 1
    assert total("flow_cost_usd_total") == 2.0
    assert total("flow_runs_in_progress") == 0


async def test_tracers_of_one_registry_share_the_metrics(registry: CollectorRegistry, total: Total) -> None:
    for _ in range(3):
        tracer = PrometheusTracer(registry)
        await run(Step("a", echo), tracer)
        await tracer.aclose()
    assert total("flow_runs_finished_total") == 3


async def test_namespaces_are_apart(registry: CollectorRegistry, total: Total) -> None:
    for namespace in ("flow", "nightly"):
        await run(Step("a", echo), PrometheusTracer(registry, namespace=namespace))
    assert total("flow_runs_finished_total") == total("nightly_runs_finished_total") == 1


async def test_memory_does_not_grow_with_the_runs(tracer: PrometheusTracer) -> None:
    await flow_of(Pipeline(()), tracer).run_many(range(1500), concurrency=20)
    assert len(tracer._pipelines) <= 1000
    assert len(tracer._ended) <= 1000


def test_flows_in_threads_lose_no_count(tracer: PrometheusTracer, total: Total) -> None:
    ready = threading.Barrier(4)

    def work() -> None:
        ready.wait()
        agent = StubAgent(["text"] * 50, usage=Usage(0.5, 2, 1, 1))
        results = asyncio.run(flow_of(Step("ask", agent) >> Step("b", echo), tracer).run_many(range(50)))
        assert all(result.success for result in results)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total("flow_runs_finished_total", status="completed") == 200
    assert total("flow_steps_total", outcome="completed") == 400
    assert total("flow_step_duration_seconds_count", step="ask") == 200
    assert total("flow_cost_usd_total") == 100.0
    assert total("flow_runs_in_progress") == 0
