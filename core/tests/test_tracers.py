"""What the kernel does for tracers: around runs, steps and attempts, what they keep with a run, and their isolation."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from core.tests.conftest import Recorder
from flow import Event, EventKind, Execute, Flow, Run, Scope, StateError, Step, StepRun, Tracer, Wrap
from flow._builtin.memory_state import MemoryState
from flow._events import Observers


async def echo(data: Any) -> Any:
    return data


def failing(times: int) -> Any:
    async def agent(data: Any, *, run: StepRun) -> Any:
        if run.attempt <= times:
            raise ValueError("not yet")
        return data

    return agent


class Around(Tracer):
    """Writes down what it goes around."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.metadata: list[dict[str, str]] = []

    @contextlib.contextmanager
    def _around(self, run: Run) -> Iterator[None]:
        self.metadata.append(dict(run.metadata))
        run.metadata["trace"] = f"execution {len(self.metadata)}"
        self.seen.append(f"run {'stored' if run.stored else 'not stored'} {'resumed' if run.resumed else 'new'}")
        try:
            yield
        finally:
            self.seen.append("end")

    def around_run(self, run: Run) -> contextlib.AbstractContextManager[None]:
        return self._around(run)

    def wrap_step(self, step: Any, binder: Any) -> Wrap | None:
        return self._wrap("step")

    def wrap_attempt(self, step: Any, binder: Any) -> Wrap | None:
        return self._wrap("attempt")

    def _wrap(self, word: str) -> Wrap:
        def wrap(execute: Execute) -> Execute:
            async def traced(data: Any, scope: Scope) -> Any:
                self.seen.append(f"{word} {scope.path} {scope.attempt}")
                return await execute(data, scope)

            return traced

        return wrap


def test_attempts_are_gone_around_where_steps_may_be_retried() -> None:
    tracer = Around()
    Flow(Step("plain", echo) >> Step("flaky", failing(2), retries=2), tracers=[tracer]).run("x")
    assert tracer.seen == [
        "run not stored new", "step 0:plain 1", "step 1:flaky 1", "attempt 1:flaky 1", "attempt 1:flaky 2",
        "attempt 1:flaky 3", "end",
    ]  # fmt: skip


def test_an_attempt_that_times_out_is_seen_to_do_so() -> None:
    seen: list[str] = []

    class Watch(Tracer):
        def wrap_attempt(self, step: Any, binder: Any) -> Wrap | None:
            def wrap(execute: Execute) -> Execute:
                async def traced(data: Any, scope: Scope) -> Any:
                    try:
                        return await execute(data, scope)
                    except Exception as error:
                        seen.append(type(error).__name__)
                        raise

                return traced

            return wrap

    async def hangs(data: Any) -> None:
        await asyncio.Event().wait()

    Flow(Step("hangs", hangs, retries=1, timeout=0.01), tracers=[Watch()]).run("x")
    assert seen == ["StepTimeout", "StepTimeout"], "the timeout is inside the attempt"


async def test_what_a_tracer_notes_is_stored_with_the_run_at_once_and_after_a_resume() -> None:
    tracer, store = Around(), MemoryState()
    noted: list[str] = []

    async def looks(data: Any, *, run: StepRun) -> Any:
        record = await store.load_run(run.run_id)
        assert record is not None
        noted.append(record.metadata["trace"])
        if len(noted) == 1:
            raise ValueError("once")
        return data

    flow = Flow(Step("looks", looks), tracers=[tracer], state=store)
    await flow.run_async("x", run_id="r", metadata={"ticket": "A-1"})
    assert noted == ["execution 1"], "before the first step: a crash must not lose it"
    await flow.resume_async("r")
    record = await store.load_run("r")
    assert record is not None
    assert (record.metadata["ticket"], record.metadata["trace"]) == ("A-1", "execution 2")
    assert tracer.metadata[0] == {"ticket": "A-1"}
    assert tracer.metadata[1]["trace"] == "execution 1"
    assert [text for text in tracer.seen if text.startswith("run")] == ["run stored new", "run stored resumed"]


async def test_a_run_that_cannot_be_stored_is_seen_by_tracers() -> None:
    tracer, store = Around(), MemoryState()
    flow = Flow(Step("echo", echo), tracers=[tracer], state=store)
    await flow.run_async("x", run_id="r")
    with pytest.raises(StateError, match="exists already"):
        await flow.evolve().run_async("x", run_id="r")
    assert tracer.seen[-2:] == ["run stored new", "end"]


@pytest.mark.parametrize("where", ["call", "enter", "exit"])
def test_a_tracer_that_raises_around_a_run_is_left_out(where: str, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Tracer):
        def around_run(self, run: Run) -> contextlib.AbstractContextManager[None]:
            if where == "call":
                raise RuntimeError("broken tracer")
            return self._around()

        @contextlib.contextmanager
        def _around(self) -> Iterator[None]:
            if where == "enter":
                raise RuntimeError("broken tracer")
            yield
            raise RuntimeError("broken tracer")

    tracer = Around()
    result = Flow(Step("echo", echo), tracers=[Broken(), tracer]).run("x")
    assert result.output == "x"
    assert tracer.seen == ["run not stored new", "step 0:echo 1", "end"]
    assert [record.levelname for record in caplog.records if "broken tracer" in str(record.exc_info)] == ["ERROR"]


async def test_a_tracer_cannot_swallow_what_a_run_raises() -> None:
    class Swallows(Tracer):
        def around_run(self, run: Run) -> contextlib.AbstractContextManager[Any]:
            return contextlib.suppress(BaseException)

    async def waits(data: Any) -> None:
        await asyncio.Event().wait()

    flow = Flow(Step("waits", waits), tracers=[Swallows()])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await flow.run_async("x")


def test_a_tracer_without_on_event_makes_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(Observers, "__init__", lambda *a, **k: made.append(a))
    Flow(Step("echo", echo), tracers=[Around()]).run("x")
    assert made == []


# -- slow listeners


async def test_a_slow_listener_is_told_how_many_events_it_missed(caplog: pytest.LogCaptureFixture) -> None:
    recorder, gate = Recorder(), asyncio.Event()

    async def slow(event: Event) -> None:
        recorder(event)
        if event.kind is EventKind.STEP_STARTED and len(recorder.events) == 2:
            await gate.wait()

    async def floods(data: Any, *, run: StepRun) -> Any:
        for number in range(2000):
            await run.emit(number)
        gate.set()
        return data

    with caplog.at_level(logging.WARNING, "flow"):
        await Flow(Step("floods", floods), hooks=[slow]).run_async("x")
    missed = [event.payload.dropped for event in recorder.of(EventKind.DROPPED)]
    chunks = [event.chunk.data for event in recorder.of(EventKind.CHUNK)]
    assert sum(missed) + len(chunks) + recorder.kinds.count("step.finished") == 2001
    assert sum(missed) > 900
    assert recorder.kinds[-1] == "run.finished"
    gap = recorder.kinds.index("events.dropped")
    assert recorder.events[gap - 1].chunk.data == len(chunks[: gap - 2]) - 1, "told where they are missing"
    assert "was too slow" in caplog.text


# -- what a run tells whoever listens to it


async def test_chunks_and_the_result_are_there_for_a_tracer_although_nobody_reads_the_stream() -> None:
    told: list[Any] = []

    class Listens(Tracer):
        @contextlib.contextmanager
        def _around(self, run: Run) -> Iterator[None]:
            run.streaming = {self: lambda chunk: told.append((chunk.stream_id, chunk.data))}
            assert run.result is None
            yield
            told.append(run.result)

        def around_run(self, run: Run) -> contextlib.AbstractContextManager[None]:
            return self._around(run)

    async def words(data: str) -> Any:
        for word in data.split():
            yield word

    result = await Flow(Step("words", words), tracers=[Listens()]).run_async("to be")
    assert told == [("0:words", "to"), ("0:words", "be"), result]
    told.clear()
    async for _ in Flow(Step("words", words), tracers=[Listens()]).stream_async("to be"):
        pass
    assert told[:2] == [("0:words", "to"), ("0:words", "be")], "also when somebody reads it"
