"""The runner: runs a pipeline with a context, resources, limits, state and tracers."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel

from ._bound import Bound, bind_flow
from ._context import PipelineContext, build_context
from ._durable import DurableRuns
from ._events import Event, Observers
from ._kernel import Kernel, default_kernel
from ._pipeline import Pipeline, require_pipeline
from ._protocols import CacheBackend, StateBackend, Tracer
from ._results import RunResult, RunStatus
from ._run import Run, new_id
from ._step import BaseStep
from ._stream import Channel, StreamChunk
from ._subflow import SubWorkflow
from ._usage import UsageLimits
from .errors import ConfigurationError, RunningLoopError, StateError

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)

T = TypeVar("T")

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class RunHandle(Generic[OutT]):
    """A run in the background: ``await handle`` for its result.

    :ivar run_id: the run's id.
    """

    def __init__(self, run: Run, task: asyncio.Task[RunResult[OutT]]) -> None:
        self.run_id = run.run_id
        self._run = run
        self._task = task

    def __await__(self) -> Generator[Any, None, RunResult[OutT]]:
        return self._task.__await__()

    def cancel(self) -> bool:
        """Cancel the run; False when it has ended or is being cancelled already."""
        return False if self._task.done() else self._run.cancel()

    def done(self) -> bool:
        """True when the run has ended."""
        return self._task.done()


class Flow(Generic[InT, OutT]):
    """Runs a pipeline. One flow may run many runs at the same time.

    :param pipeline: a step or a pipeline.
    :param context_model: the class of the context; `PipelineContext` when ``None``.
    :param resources: what agents get that name ``resources``; shared by reference, never stored.
    :param usage_limits: the most each run may spend.
    :param state: a state URL such as ``"sqlite:///runs.db"`` or a backend; runs are then journaled and can be resumed.
    :param cache: a cache URL or backend for steps with ``cache=``; process memory when nothing is given.
    :param local_tracer: ``"default"``, the name of a tracer, or a `Tracer`.
    :param tracers: names of tracers, or `Tracer` objects.
    :param hooks: functions that get every `Event`, sync or async.
    :param deadline: seconds each run may take.
    :param max_retries: with `retry_on_error`, how often a failed run is continued from its failed step.
    :param lease: seconds after which another process may take over a run whose process has died.
    :param kernel: the kernel that binds; the process-wide one when ``None``.

    Raises `ConfigurationError` when the arguments make no sense. ``async with Flow(...)`` closes what it opened.

    >>> from flow import Step
    >>> Flow(Step("upper", str.upper)).run("hello").output
    'HELLO'
    """

    def __init__(
        self,
        pipeline: Pipeline[InT, OutT] | BaseStep[InT, OutT],
        *,
        context_model: type[BaseModel] | None = None,
        resources: Any = None,
        usage_limits: UsageLimits | None = None,
        state: str | StateBackend | None = None,
        cache: str | CacheBackend | None = None,
        local_tracer: str | Tracer | None = None,
        tracers: Sequence[str | Tracer] = (),
        hooks: Sequence[Callable[[Event], Any]] = (),
        deadline: float | None = None,
        max_retries: int = 0,
        retry_on_error: bool = False,
        lease: float = 30.0,
        kernel: Kernel | None = None,
    ) -> None:
        self._options = {
            name: value for name, value in locals().items() if name not in ("self", "pipeline", "__class__")
        }
        self.pipeline: Pipeline[InT, OutT] = require_pipeline(pipeline)
        self.context_model: type[BaseModel] = context_model or PipelineContext
        self.resources = resources
        self.usage_limits = usage_limits
        self._state, self._cache = state, cache
        self._tracers = (*tracers, *([local_tracer] if local_tracer is not None else []))
        self._hooks = tuple(hooks)
        self._deadline = _seconds("deadline", deadline)
        self._run_retries = max_retries if retry_on_error else 0
        self._lease = lease
        self._kernel = kernel
        self._bound: Bound | None = None
        self._active: dict[str, Run] = {}

    # -- running --

    async def run_async(
        self,
        data: InT = None,  # type: ignore[assignment]
        *,
        run_id: str | None = None,
        trace_id: str | None = None,
        initial_context: Mapping[str, Any] | None = None,
        deadline: float | None = None,
    ) -> RunResult[OutT]:
        """Run the pipeline on `data` and return the result; a failing step never raises out of here.

        :param run_id: letters, digits, ``-`` and ``_``, at most 128; a fresh one when ``None``.
        :param initial_context: values for the context model.
        :param deadline: seconds this run may take, at most the flow's own.

        Raises `ConfigurationError` for wrong use, `StateError` when the run cannot be stored.
        """
        run = self._new_run(data, run_id, trace_id, initial_context, deadline)
        return await self._run(run, data)

    def run(self, data: InT = None, **options: Any) -> RunResult[OutT]:  # type: ignore[assignment]
        """Run the pipeline and wait: `run_async` for programs that are not async.

        Raises `RunningLoopError` inside a running event loop.
        """
        return run_sync(self.run_async(data, **options), "run", "run_async")

    def start(self, data: InT = None, **options: Any) -> RunHandle[OutT]:  # type: ignore[assignment]
        """Start a run in the background of the running loop and return its handle; takes the options of `run_async`."""
        run = self._new_run(data, **options)
        return RunHandle(run, self._begin(run, data))

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run of this flow; its status becomes ``cancelled``. False when there was nothing to cancel."""
        run = self._active.get(run_id)
        return run.cancel() if run is not None else False

    async def stream_async(
        self,
        data: InT = None,  # type: ignore[assignment]
        **options: Any,
    ) -> AsyncIterator[StreamChunk | RunResult[OutT]]:
        """Yield chunks as the steps make them, then the `RunResult`. Leaving the loop early cancels the run."""
        channel = Channel()
        run = self._new_run(data, **options)
        run.stream = channel
        task = self._begin(run, data)
        task.add_done_callback(lambda _: channel.close())
        try:
            async for chunk in channel.drain():
                yield chunk
            yield await task
        finally:
            channel.close()
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def run_many(
        self, inputs: Iterable[InT] | AsyncIterator[InT], *, concurrency: int = 50, **options: Any
    ) -> list[RunResult[OutT]]:
        """Run the pipeline on each input, `concurrency` at a time; results are in the order of the inputs.

        A failed run does not stop the others. Inputs are taken when a worker is free, so they may be a generator.
        """
        if concurrency < 1:
            raise ConfigurationError(f"concurrency must be at least 1, got {concurrency}")
        results: dict[int, RunResult[OutT]] = {}
        source = _numbered(inputs)
        taking = asyncio.Lock()

        async def worker() -> None:
            while True:
                async with taking:
                    item = await anext(source, None)
                if item is None:
                    return
                results[item[0]] = await self.run_async(item[1], **options)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(inputs)) if isinstance(inputs, Sequence) else concurrency):
                group.create_task(worker())
        return [results[index] for index in sorted(results)]

    async def resume_async(
        self, run_id: str, answer: Any = None, *, answers: Mapping[str, Any] | None = None, on_change: str = "refuse"
    ) -> RunResult[OutT]:
        """Continue a stored run at its first unfinished step: after a crash, a failure, or a pause with its answer.

        :param answer: the answer when one question waits; `answers` by path when several do.
        :param on_change: ``"continue"`` accepts a pipeline that differs from the one the run began with.

        Raises `RunNotFound`, `RunOwned`, `NotPaused`, `PipelineChanged` and other `StateError`.
        """
        return await self._resume(run_id, None, answer=answer, answers=answers, on_change=on_change)

    def as_step(self, name: str, *, inherit_context: bool = True) -> SubWorkflow[InT, OutT]:
        """Return this flow's pipeline, context model and limits as one step of another pipeline."""
        return SubWorkflow(
            name=name,
            pipeline=self.pipeline,
            inherit_context=inherit_context,
            context_model=self.context_model if self.context_model is not PipelineContext else None,
            usage_limits=self.usage_limits,
        )

    def evolve(self, **changes: Any) -> Flow[InT, OutT]:
        """Return a new flow of the same pipeline with some arguments of the constructor changed."""
        return Flow(self.pipeline, **{**self._options, **changes})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stores and tracers that this flow opened; those that were handed to it stay open."""
        bound, self._bound = self._bound, None
        for opened in bound.opened if bound else ():
            await opened.aclose()

    # -- inside --

    @property
    def kernel(self) -> Kernel:
        """The kernel that binds this flow's pipeline."""
        if self._kernel is None:
            self._kernel = default_kernel()
        return self._kernel

    def _bind(self) -> Bound:
        if self._bound is None:
            state = self._state
            if state is None and self.kernel.settings.state is None and self._run_retries:
                state = "memory://"  # what the failed run has finished is needed by its next attempt only
            self._bound = bind_flow(
                self.kernel,
                self.pipeline,
                state=state,
                cache=self._cache,
                tracers=self._tracers,
                hooks=self._hooks,
                durable=lambda store: DurableRuns(store, self.pipeline, self.context_model, self._lease),
            )
        return self._bound

    def _new_run(
        self,
        data: Any,
        run_id: str | None = None,
        trace_id: str | None = None,
        initial_context: Mapping[str, Any] | None = None,
        deadline: float | None = None,
    ) -> Run:
        values = dict(initial_context) if initial_context else {}
        context = build_context(self.context_model, values, data)
        run = self._make_run(new_id() if run_id is None else _checked_id(run_id), trace_id, context)
        limit = _shorter(self._deadline, _seconds("deadline", deadline))
        if limit is not None:
            run.deadline = asyncio.get_running_loop().time() + limit
            run.deadline_at = time.time() + limit
        return run

    def _make_run(self, run_id: str, trace_id: str | None, context: BaseModel) -> Run:
        if run_id in self._active:
            raise StateError(f"run {run_id!r} is running already", hint="Choose another run_id")
        run = Run(run_id, trace_id or run_id, pipeline=self.pipeline.name, context=context, resources=self.resources)
        run.root.limits = self.usage_limits
        self._active[run_id] = run
        return run

    def _begin(self, run: Run, data: Any) -> asyncio.Task[RunResult[OutT]]:
        task = asyncio.create_task(self._run(run, data), name=f"flow-run:{run.run_id}")
        task.add_done_callback(lambda _: self._forget(run))  # also when it was cancelled before its first turn
        return task

    def _forget(self, run: Run) -> None:
        run.dissolve()
        if self._active.get(run.run_id) is run:
            del self._active[run.run_id]

    async def _run(self, run: Run, data: Any) -> RunResult[OutT]:
        try:
            durable = self._bind().durable
            if durable is not None:
                run.journal = await durable.begin(run, data)
            result = await self._execute(run, data)
        finally:
            self._forget(run)
        for _ in range(self._run_retries):
            if result.status is not RunStatus.FAILED:
                break
            result = await self._resume(run.run_id, run.stream)
        return result

    async def _resume(self, run_id: str, stream: Channel | None, **how: Any) -> RunResult[OutT]:
        durable = self._bind().durable
        if durable is None:
            raise ConfigurationError(
                "this flow has no state store, so nothing can be resumed", hint="Flow(..., state=URL)"
            )
        stored = await durable.reopen(_checked_id(run_id), **how)
        run = self._make_run(stored.record.run_id, stored.record.trace_id, stored.context)
        run.journal, run.answers, run.stream = stored.journal, stored.answers, stream
        run.deadline_at = stored.record.deadline_at
        if run.deadline_at is not None:
            run.deadline = asyncio.get_running_loop().time() + run.deadline_at - time.time()
        try:
            return await self._execute(run, stored.data)
        finally:
            self._forget(run)

    async def _execute(self, run: Run, data: Any) -> RunResult[OutT]:
        bound = self._bind()
        if bound.listeners:
            run.observers = Observers(bound.listeners)
        try:
            return await bound.run(data, run)
        finally:
            if run.observers is not None:
                await run.observers.close()


def run_sync(work: Coroutine[Any, Any, T], name: str, instead: str) -> T:
    """Run a coroutine to its end on a loop of its own; inside a running loop, say which method to await."""
    if _in_loop():
        work.close()
        raise RunningLoopError(
            f"Flow.{name}() cannot be called inside a running event loop", hint=f"Write: await flow.{instead}(...)"
        )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work)


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@cache
def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]


def _checked_id(run_id: Any) -> str:
    if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
        raise ConfigurationError(
            f"{run_id!r:.140} cannot be a run id",
            hint="Use letters, digits, '-' and '_', at most 128, a letter or digit first",
        )
    return run_id


def _seconds(name: str, value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value != value):
        raise ConfigurationError(f"{name} is a number of seconds, got {value!r}")
    return value


def _shorter(left: float | None, right: float | None) -> float | None:
    return left if right is None else right if left is None else min(left, right)


async def _numbered(inputs: Iterable[T] | AsyncIterator[T]) -> AsyncIterator[tuple[int, T]]:
    index = 0
    if isinstance(inputs, AsyncIterator):
        async for item in inputs:
            yield index, item
            index += 1
        return
    for item in inputs:
        yield index, item
        index += 1
