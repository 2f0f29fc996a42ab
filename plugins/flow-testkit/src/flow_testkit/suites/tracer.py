"""The suite for tracers."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from flow import BaseStep, Cache, CancelSignal, PauseSignal, Pipeline, RunResult, Step, Tracer
from flow_testkit.suites._probes import Probe, broken, echo
from flow_testkit.suites._suite import NoTasksLeft, Suite, awaited

SECRET = "s3cr3t-c0nt3nt"  # noqa: S105


async def _chunks(data: Any) -> AsyncIterator[str]:
    for word in ("one ", "two ", "three"):
        yield word


def _nested() -> Pipeline[Any, Any]:
    inner = (Step("first", echo) >> Step("second", echo)).as_step("inner")
    return Step("before", echo) >> (inner >> Step("after", echo)).as_step("outer")


def _of(agent: Any, **settings: Any) -> BaseStep[Any, Any]:
    return Step("probe", agent, **settings)


SHAPES: dict[str, Callable[[], BaseStep[Any, Any] | Pipeline[Any, Any]]] = {
    "empty": Pipeline,
    "plain": lambda: Step("first", echo) >> Step("second", echo),
    "failing": lambda: Step("first", echo) >> _of(Probe(error=broken)) >> Step("never", echo),
    "retried": lambda: _of(Probe(error=broken, times=1), retries=1),
    "fallen back": lambda: _of(Probe(error=broken), fallback=Step("instead", echo)),
    "timed out": lambda: _of(Probe(blocks=True), timeout=0.01),
    "paused": lambda: Step("first", echo) >> _of(Probe(error=lambda: PauseSignal("which?"))),
    "cancelled": lambda: _of(Probe(error=CancelSignal)),
    "streaming": lambda: _of(_chunks) >> Step("after", echo),
    "nested": _nested,
    "cached": lambda: _of(Probe(), cache=Cache()),
    "in a thread": lambda: Step("upper", str.upper),
}


class TracerSuite(Suite):
    """What every tracer must do. Subclass it and write `make_tracer`.

    ::

        class TestConsoleTracer(TracerSuite):
            def make_tracer(self):
                return "console"

    :cvar shows_content: inputs and outputs may be in what it prints and logs as `make_tracer` makes it.
    """

    shows_content: ClassVar[bool] = False

    def make_tracer(self) -> Tracer | str | Awaitable[Tracer]:
        """Return a new tracer, or its name."""
        self._not_written("make_tracer(self)", "return ConsoleTracer()")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Tracer]:
        """Open a tracer, close it in the end, and fail when the kernel disabled it because it raised."""
        made = self.make_tracer()
        tracer = self.kernel.open_tracer(made) if isinstance(made, str) else await awaited(made)
        try:
            yield tracer
        finally:
            await tracer.aclose()
        disabled = [record.getMessage() for record in self._logs.records if record.name == "flow" and record.exc_info]
        assert disabled == []

    @pytest.fixture(autouse=True)
    def _watched(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self._logs = caplog

    @pytest.mark.asyncio
    async def test_is_a_tracer(self) -> None:
        """Failing means: a flow refuses it: subclass `Tracer`."""
        async with self.opened() as tracer:
            assert isinstance(tracer, Tracer)

    @pytest.mark.parametrize("shape", sorted(SHAPES))
    @pytest.mark.asyncio
    async def test_changes_no_result(self, shape: str) -> None:
        """Failing means: watching a run changes how it ends, or leaves work behind."""
        untraced = await self.flow(SHAPES[shape]()).run_async("data")
        async with self.opened() as tracer:
            flow = self.flow(SHAPES[shape](), tracers=[tracer])
            async with NoTasksLeft():
                traced = await flow.run_async("data")
        assert _summary(traced) == _summary(untraced)

    @pytest.mark.parametrize("shape", sorted(SHAPES))
    @pytest.mark.asyncio
    async def test_changes_no_stream(self, shape: str) -> None:
        """Failing means: chunks are lost or late when somebody watches."""
        untraced = [item async for item in self.flow(SHAPES[shape]()).stream_async("data")]
        async with self.opened() as tracer:
            traced = [item async for item in self.flow(SHAPES[shape](), tracers=[tracer]).stream_async("data")]
        assert traced[:-1] == untraced[:-1]
        assert isinstance(traced[-1], RunResult)

    @pytest.mark.asyncio
    async def test_sees_a_replayed_run(self) -> None:
        """Failing means: resuming a run breaks the tracer."""
        pipeline = Step("first", echo) >> Step("second", Probe(error=broken, times=1))
        async with self.opened() as tracer:
            flow = self.flow(pipeline, state="memory://", tracers=[tracer])
            failed = await flow.run_async("data")
            assert (await flow.resume_async(failed.run_id)).success

    @pytest.mark.asyncio
    async def test_what_it_keeps_with_a_run_can_be_stored(self) -> None:
        """Failing means: it puts something else than texts into ``run.metadata``, or takes away what is there."""
        store = self.kernel.open_state("memory://")
        async with self.opened() as tracer:
            flow = self.flow(Step("first", Probe(error=broken, times=1)), state=store, tracers=[tracer])
            run = await flow.run_async("data", metadata={"ticket": "A-1"})
            await flow.resume_async(run.run_id)
        (record,) = await store.list_runs()
        assert record.metadata["ticket"] == "A-1"
        kinds = {type(value) for pair in record.metadata.items() for value in pair}
        assert kinds == {str}

    @pytest.mark.asyncio
    async def test_runs_at_the_same_time_do_not_meet(self) -> None:
        """Failing means: the tracer takes for granted that there is one run."""
        async with self.opened() as tracer:
            flow = self.flow(_nested() >> Step("flaky", Probe(error=broken, times=10)), tracers=[tracer])
            results = await flow.run_many([f"data-{number}" for number in range(20)])
        assert sum(result.success for result in results) == 10

    @pytest.mark.asyncio
    async def test_one_tracer_watches_several_flows(self) -> None:
        """Failing means: a tracer is bound to the pipeline it saw first."""
        async with self.opened() as tracer:
            for shape in ("plain", "nested", "plain"):
                assert (await self.flow(SHAPES[shape](), tracers=[tracer]).run_async("data")).success

    @pytest.mark.asyncio
    async def test_closing_twice_is_harmless(self) -> None:
        """Failing means: ``aclose`` raises when there is nothing left to flush, or before anything was seen."""
        async with self.opened() as tracer:
            await tracer.aclose()

    @pytest.mark.parametrize("shape", ["plain", "failing", "retried", "paused", "nested"])
    @pytest.mark.asyncio
    async def test_shows_no_content(
        self, shape: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Failing means: prompts and outputs leave the process although nobody asked for it."""
        if self.shows_content:
            pytest.skip("is asked to show content: shows_content is True")
        async with self.opened() as tracer:
            await self.flow(SHAPES[shape](), tracers=[tracer]).run_async(SECRET)
        printed = capsys.readouterr()
        for text in (printed.out, printed.err, *(record.getMessage() for record in caplog.records)):
            assert SECRET not in text


def _summary(result: RunResult[Any]) -> dict[str, Any]:
    """What a run did, without what differs from run to run."""
    return {
        "status": result.status,
        "output": result.output if result.success else None,
        "failed_path": result.failed_path,
        "usage": result.usage,
        "pending": [pending.path for pending in result.pending],
        "steps": [
            (step.path, step.success, step.output, step.attempts, sorted(step.metadata)) for step in result.walk()
        ],
    }
