"""Events: what observers are told, and that they disturb nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from core.tests.conftest import Recorder
from flow import Event, EventKind, Flow, Kernel, Settings, Step, StepResult, Tracer, hookimpl
from flow._events import Observers


async def same(value: Any) -> Any:
    return value


def fails_once() -> Any:
    async def agent(value: Any, *, run: Any) -> Any:
        if run.attempt == 1:
            raise ValueError("once")
        return value

    return agent


def test_a_run_is_told_from_beginning_to_end(recorder: Recorder) -> None:
    Flow(Step("a", same) >> Step("b", same), hooks=[recorder]).run(1)
    assert recorder.kinds == [
        "run.started", "step.started", "step.finished", "step.started", "step.finished", "run.finished",
    ]  # fmt: skip
    started, finished = recorder.events[1], recorder.events[2]
    assert (started.path, started.step, started.step_kind, started.data) == ("0:a", "a", "step", 1)
    assert isinstance(finished.result, StepResult)
    assert len({event.run_id for event in recorder.events}) == 1


def test_attempts_retries_and_fallbacks_are_told(recorder: Recorder) -> None:
    Flow(Step("a", fails_once(), retries=1), hooks=[recorder]).run(1)
    assert recorder.kinds[1:-1] == ["step.started", "attempt.failed", "step.retry", "step.finished"]
    assert recorder.of(EventKind.RETRY)[0].attempt == 2
    assert str(recorder.of(EventKind.ATTEMPT_FAILED)[0].error) == "once"


def test_a_fallback_is_told(recorder: Recorder) -> None:
    async def bad(_: Any) -> None:
        raise ValueError("no")

    Flow(Step("a", bad, fallback=Step("b", same)), hooks=[recorder]).run(1)
    assert [event.path for event in recorder.events if event.kind is EventKind.FALLBACK] == ["0:a"]
    assert [event.path for event in recorder.of(EventKind.STEP_STARTED)] == ["0:a", "0:a/fallback"]


async def test_async_hooks_are_awaited() -> None:
    seen: list[str] = []

    async def hook(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(event.kind.value)

    await Flow(Step("a", same), hooks=[hook]).run_async(1)
    assert seen == ["run.started", "step.started", "step.finished", "run.finished"]


def test_a_hook_that_raises_is_named_once_and_the_others_go_on(recorder: Recorder, caplog: Any) -> None:
    calls = 0

    def broken(event: Event) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("my own fault")

    with caplog.at_level(logging.ERROR, logger="flow"):
        result = Flow(Step("a", same), hooks=[broken, recorder]).run(1)
    assert result.success
    assert calls == 1
    assert len(recorder.events) == 4
    assert len(caplog.records) == 1
    assert "broken" in caplog.records[0].getMessage()
    assert "is disabled for the rest of the run" in caplog.records[0].getMessage()


async def test_a_slow_hook_loses_events_and_does_not_slow_the_steps(caplog: Any) -> None:
    release = asyncio.Event()

    async def stuck(event: Event) -> None:
        await release.wait()

    observers = Observers([("stuck", stuck)], limit=4, patience_s=0.01)
    event = Event(kind=EventKind.STEP_STARTED, run_id="r", trace_id="t", at=0.0)
    for _ in range(20):
        await observers.publish(event)
    with caplog.at_level(logging.WARNING, logger="flow"):
        await observers.close()
    assert "observer stuck was too slow: " in caplog.text
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_busy_run_gives_quick_hooks_their_turn(recorder: Recorder) -> None:
    pipeline = Step("s", same)
    for _ in range(1499):
        pipeline = pipeline >> Step("s", same)  # type: ignore[assignment]
    await Flow(pipeline, hooks=[recorder]).run_async(1)
    assert len(recorder.events) == 3002


def test_no_event_is_built_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("an event was built")

    monkeypatch.setattr("flow._run.Event", refuse)
    assert Flow(Step("a", fails_once(), retries=1)).run(1).success


def test_tracers_go_around_runs_and_steps_and_see_replays() -> None:
    log: list[str] = []

    class Nested(Tracer):
        def around_run(self, run: Any) -> Any:
            from contextlib import contextmanager

            @contextmanager
            def around() -> Any:
                log.append("run (")
                yield
                log.append(") run")

            return around()

        def wrap_step(self, step: Any, binder: Any) -> Any:
            def wrap(execute: Any) -> Any:
                async def traced(data: Any, scope: Any) -> Any:
                    log.append(f"{scope.path} (")
                    result = await execute(data, scope)
                    log.append(f") {scope.path}")
                    return result

                return traced

            return wrap

    assert Flow(Step("a", same).evolve(retries=1) >> Step("b", same), tracers=[Nested()]).run(1).success
    assert log == ["run (", "0:a (", ") 0:a", "1:b (", ") 1:b", ") run"]


def test_the_log_tracer_writes_names_and_numbers_and_no_content(caplog: Any) -> None:
    async def leak(secret: str) -> str:
        if secret == "canary-in":
            raise ValueError("canary-error")
        return secret

    with caplog.at_level(logging.DEBUG, logger="flow.trace"):
        Flow(Step("a", leak, retries=1), tracers=["log"]).run("canary-in")
    assert "step.finished" in caplog.text
    assert "0:a" in caplog.text
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text


def test_the_default_local_tracer_is_the_log_where_no_console_is_installed(kernel: Kernel, caplog: Any) -> None:
    with caplog.at_level(logging.INFO, logger="flow.trace"):
        Flow(Step("a", same), local_tracer="default", kernel=kernel).run(1)
    assert "run.finished" in caplog.text


def test_plugins_that_observe_are_listeners() -> None:
    class Observing:
        def __init__(self) -> None:
            self.kinds: list[str] = []

        @hookimpl
        def flow_observe(self, event: Event) -> None:
            self.kinds.append(event.kind.value)

    plugin = Observing()
    Flow(Step("a", same), kernel=Kernel(Settings(), only=[], plugins=[plugin])).run(1)
    assert plugin.kinds == ["run.started", "step.started", "step.finished", "run.finished"]
