"""The runner: runs a pipeline with a context, resources, limits, state and tracers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel

from ._arguments import durability_of, exceptions, lease_seconds, may_retry, positive, seconds, shorter, texts
from ._blocking import run_sync
from ._bound import NO_STATE, Bound, bind_flow
from ._context import PipelineContext, build_context
from ._durable import Durability, DurableRuns, StoredRun, unchanged
from ._events import Event
from ._handle import RunHandle, streamed
from ._heartbeat import Tenure
from ._kernel import Kernel, default_kernel
from ._many import each
from ._pipeline import Pipeline, require_pipeline
from ._protocols import CacheBackend, RunRecord, StateBackend, Tracer
from ._replay import as_replayed
from ._results import RunResult, RunStatus
from ._run import Run
from ._run_ids import check_run_id, new_id
from ._step import BaseStep
from ._stream import Channel, StreamChunk
from ._subflow import SubWorkflow
from ._usage import UsageLimits
from .errors import (
    ConfigurationError,
    InterruptSignal,
    LeaseLost,
    RunNotFound,
    RunOwned,
    StateCorrupt,
    StateError,
)

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)

T = TypeVar("T")

logger = logging.getLogger("flow")


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
    :param max_retries: how often a failed run is continued from its failed step, with `retry_on_error` after any
        failure, with `retry_on` after those whose cause is one of these exceptions.
    :param retry_budget: how many retries a run may make inside steps that are being retried themselves.
    :param policies: policies of the whole flow, such as a `RecoveryStrategy` for all its steps.
    :param durability: when a step's result is safe: ``"full"``, before its successor starts, and against a loss of
        power; ``"normal"``, against the end of the process only; ``"exit"``, when the run ends or pauses; ``"off"``,
        runs are not stored although a setting names a store.
    :param lease: seconds after which another process may take over a run whose process hangs; one that is gone is
        noticed at once. It is renewed while the run goes on.
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
        retry_on: type[Exception] | Sequence[type[Exception]] = (),
        retry_budget: int = 100,
        policies: Sequence[Any] = (),
        durability: Literal["full", "normal", "exit", "off"] = "full",
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
        self._deadline = seconds("deadline", deadline)
        self._retry_on = exceptions("retry_on", retry_on) or ((Exception,) if retry_on_error else ())
        self._run_retries = max_retries if self._retry_on else 0
        self._retry_budget = positive("retry_budget", retry_budget, least=0)
        self._policies = tuple(policies)
        self._durability = durability_of(durability)
        self._lease = lease_seconds(lease)
        self._kernel = kernel
        self._bound: Bound | None = None
        self._active: dict[str, Run] = {}
        self._stopping = False

    # -- running --

    async def run_async(
        self,
        data: InT = None,  # type: ignore[assignment]
        *,
        run_id: str | None = None,
        trace_id: str | None = None,
        initial_context: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        usage_limits: UsageLimits | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> RunResult[OutT]:
        """Run the pipeline on `data` and return the result; a failing step never raises out of here.

        :param run_id: letters, digits, ``-`` and ``_``, at most 128; a fresh one when ``None``.
        :param initial_context: values for the context model.
        :param deadline: seconds this run may take, at most the flow's own.
        :param usage_limits: the most this run may spend; the tighter of these and the flow's own counts.
        :param metadata: texts to keep with the stored run, such as a tenant or a ticket number.

        Raises `ConfigurationError` for wrong use, `StateError` when the run cannot be stored.
        """
        run = self._new_run(data, run_id, trace_id, initial_context, deadline, usage_limits, metadata)
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
        """Cancel a run of this flow, or a stored one that nobody executes; its status becomes ``cancelled``.

        False when there was nothing to cancel. Raises `RunOwned` when another process executes the run.
        """
        run = self._active.get(check_run_id(run_id))
        if run is not None:
            return run.cancel()
        durable = self._bind().durable
        return False if durable is None else await durable.cancel(run_id)

    async def interrupt(self, run_id: str | None = None) -> bool:
        """Stop a run of this flow, or all of them, because the process must end; the status becomes ``interrupted``.

        Stored runs go on with `resume_async` or `recover_async`. False when there was nothing to stop.
        """
        self._stopping |= run_id is None  # what is being recovered opens no further runs
        runs = list(self._active.values()) if run_id is None else [run for run in [self._active.get(run_id)] if run]
        return bool([run for run in runs if run.interrupt(InterruptSignal())])

    async def stream_async(
        self,
        data: InT = None,  # type: ignore[assignment]
        **options: Any,
    ) -> AsyncIterator[StreamChunk | RunResult[OutT]]:
        """Yield chunks as the steps make them, then the `RunResult`. Leaving the loop early cancels the run."""
        channel = Channel()
        run = self._new_run(data, **options)
        run.stream = channel
        async with aclosing(streamed(channel, self._begin(run, data))) as items:
            async for item in items:
                yield item

    async def run_many(
        self, inputs: Iterable[InT] | AsyncIterator[InT], *, concurrency: int = 50, **options: Any
    ) -> list[RunResult[OutT]]:
        """Run the pipeline on each input, `concurrency` at a time; results are in the order of the inputs.

        A failed run does not stop the others. Inputs are taken when a worker is free, so they may be a generator.
        """
        workers = positive("concurrency", concurrency)
        return await each(inputs, lambda data: self.run_async(data, **options), workers)

    async def resume_async(
        self,
        run_id: str,
        answer: Any = None,
        *,
        answers: Mapping[str, Any] | None = None,
        on_change: Literal["refuse", "continue"] = "refuse",
        deadline: float | None = None,
        usage_limits: UsageLimits | None = None,
    ) -> RunResult[OutT]:
        """Continue a stored run at its first unfinished step: after a crash, a failure, or a pause with its answer.

        :param answer: the answer when one question waits; `answers` by path when several do.
        :param on_change: ``"continue"`` accepts a pipeline that differs from the one the run began with.
        :param deadline: seconds from now that the run may still take, instead of its first deadline.
        :param usage_limits: the most the run may spend, what it has spent already included, instead of its first own
            limits; the flow's own count too.

        Raises `RunNotFound`, `RunOwned`, `NotPaused`, `AnswerInvalid` (the run stays paused), `PipelineChanged`
        (with the differences) and other `StateError`.
        """
        stored = await self._reopen(run_id, answer=answer, answers=answers, on_change=on_change)
        return await self._resume(stored, deadline=seconds("deadline", deadline), limits=usage_limits)

    async def resume_stream_async(
        self,
        run_id: str,
        answer: Any = None,
        *,
        deadline: float | None = None,
        usage_limits: UsageLimits | None = None,
        **how: Any,
    ) -> AsyncIterator[StreamChunk | RunResult[OutT]]:
        """Continue a stored run and yield chunks as its steps make them, then the result; as `resume_async` does."""
        stored = await self._reopen(run_id, answer=answer, **how)
        channel, limit = Channel(), seconds("deadline", deadline)
        work = self._resume(stored, deadline=limit, limits=usage_limits, stream=channel)
        task = asyncio.create_task(work, name=f"flow-run:{run_id}")
        async with aclosing(streamed(channel, task)) as items:
            async for item in items:
                yield item

    def resume(self, run_id: str, answer: Any = None, **how: Any) -> RunResult[OutT]:
        """Continue a stored run and wait: `resume_async` for programs that are not async."""
        return run_sync(self.resume_async(run_id, answer, **how), "resume", "resume_async")

    async def replay_async(
        self, run_id: str, *, on_change: Literal["refuse", "continue"] = "refuse"
    ) -> RunResult[OutT]:
        """Play a stored run again from what it has recorded: outputs, failures, answers.

        Nothing is executed and nothing written. The result says how the run ended then. Where the recording ends, as
        it does after a crash, the result has the error `ReplayIncomplete`. Steps with steps inside that had not
        finished ask their conditions again.

        :param on_change: ``"continue"`` replays with a pipeline that differs from the recorded one.

        Raises `RunNotFound`, `PipelineChanged` and other `StateError`.
        """
        durable = self._require_store()
        if check_run_id(run_id) in self._active:
            raise RunOwned(f"run {run_id!r} is running in this flow", hint="Wait until it has ended")
        stored = await durable.replay(run_id, on_change=on_change)
        return as_replayed(await self._resume(stored), stored.record)

    def replay(self, run_id: str, **how: Any) -> RunResult[OutT]:
        """Play a stored run again and wait: `replay_async` for programs that are not async."""
        return run_sync(self.replay_async(run_id, **how), "replay", "replay_async")

    async def fork_async(
        self,
        run_id: str,
        at: str,
        *,
        run_id_new: str | None = None,
        on_change: Literal["refuse", "continue"] = "refuse",
        deadline: float | None = None,
        usage_limits: UsageLimits | None = None,
    ) -> RunResult[OutT]:
        """Begin a new stored run that replays another one up to the step at a path, and executes the rest.

        The run it comes from stays as it is. What was finished before that step is taken over, answers of people
        included, and what it has cost counts as spent. Of branches and items that ran beside the step, those are taken
        over that had begun before it ended.

        :param at: the path of the first step that is executed, such as ``"2:refine/i3/0:generate"``.
        :param run_id_new: the id of the new run; a fresh one when ``None``.
        :param on_change: ``"continue"`` accepts a pipeline that differs from the one of the run.
        :param deadline: seconds that the new run may take.
        :param usage_limits: the most that it may spend, what is taken over included; that of the run when ``None``.

        Raises `RunNotFound`, `ConfigurationError` when the run has no step at the path, `PipelineChanged` and other
        `StateError`.
        """
        durable = self._require_store()
        check_run_id(run_id)
        fresh = new_id() if run_id_new is None else check_run_id(run_id_new)
        limit = seconds("deadline", deadline)
        stored = await durable.fork(run_id, at, fresh, on_change=on_change)
        return await self._resume(stored, deadline=limit, limits=usage_limits)

    def fork(self, run_id: str, at: str, **how: Any) -> RunResult[OutT]:
        """Begin a fork and wait: `fork_async` for programs that are not async."""
        return run_sync(self.fork_async(run_id, at, **how), "fork", "fork_async")

    async def recover_async(
        self,
        *,
        max_recoveries: int = 5,
        concurrency: int = 8,
        on_change: Literal["refuse", "continue"] = "refuse",
    ) -> list[RunResult[OutT]]:
        """Resume the stored runs of this pipeline whose process died or was interrupted, and paused ones whose time
        to answer is over. Returns the results of what was resumed, the oldest run first.

        :param max_recoveries: a run that was resumed after a crash this often is parked with the status ``dead``.
        :param concurrency: how many run at the same time.
        :param on_change: ``"continue"`` resumes runs of a changed pipeline too, instead of leaving them with a warning.

        Runs that another process executes are left alone, those that cannot be resumed with a warning. Raises
        `StateError` when the store cannot be read.
        """
        durable = self._require_store()
        workers, most = positive("concurrency", concurrency), positive("max_recoveries", max_recoveries)
        self._stopping = False

        async def recover(run_id: str) -> RunResult[OutT] | None:
            if self._stopping or run_id in self._active:
                return None
            try:
                stored = await durable.reopen_orphan(run_id, on_change=on_change, max_recoveries=most)
            except (RunOwned, RunNotFound):  # it lives, or has gone since it was listed
                return None
            except StateError as error:  # one damaged or changed run must not keep the others from going on
                logger.warning("run %s is not recovered: %s", run_id, error)
                return None
            return None if stored is None else await self._resume(stored)

        results = await each(await durable.orphans(), recover, workers)
        return [result for result in results if result is not None]

    def recover(self, **how: Any) -> list[RunResult[OutT]]:
        """Resume what was orphaned and wait: `recover_async` for programs that are not async."""
        return run_sync(self.recover_async(**how), "recover", "recover_async")

    def as_step(self, name: str, *, inherit_context: bool = True) -> SubWorkflow[InT, OutT]:
        """Return this flow's pipeline, context model and limits as one step of another pipeline.

        State, deadline, tracers and policies are those of the flow that runs it.
        """
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
            state = self._state if self._durability is not Durability.OFF else NO_STATE
            if state is None and self.kernel.settings.state is None and self._run_retries:
                state = "memory://"  # what the failed run has finished is needed by its next attempt only
            self._bound = bind_flow(
                self.kernel,
                self.pipeline,
                state=state,
                cache=self._cache,
                tracers=self._tracers,
                hooks=self._hooks,
                policies=self._policies,
                durable=lambda store: DurableRuns(
                    store, self.pipeline, self.context_model, self._lease, self._durability
                ),
            )
        return self._bound

    def _new_run(
        self,
        data: Any,
        run_id: str | None = None,
        trace_id: str | None = None,
        initial_context: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        usage_limits: UsageLimits | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Run:
        values = dict(initial_context) if initial_context else {}
        context = build_context(self.context_model, values, data)
        run = self._make_run(new_id() if run_id is None else check_run_id(run_id), trace_id, context)
        run.metadata = dict(texts(metadata))
        self._limit(run, usage_limits)
        limit = shorter(self._deadline, seconds("deadline", deadline))
        if limit is not None:
            run.deadline = asyncio.get_running_loop().time() + limit
            run.deadline_at = time.time() + limit
        return run

    def _make_run(self, run_id: str, trace_id: str | None, context: BaseModel) -> Run:
        if run_id in self._active:
            raise StateError(f"run {run_id!r} is running already", hint="Choose another run_id")
        run = Run(run_id, trace_id or run_id, pipeline=self.pipeline.name, context=context, resources=self.resources)
        run.root.limits = self.usage_limits
        run.retries_left = self._retry_budget
        self._active[run_id] = run
        return run

    def _limit(self, run: Run, own: UsageLimits | None) -> None:
        if own is not None:
            run.own_limits = own
            run.root.limits = own.tightened_by(self.usage_limits)

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
            bound = self._bind()
            run.stored = bound.durable is not None
            if not bound.is_watched:
                result = await self._begin_and_execute(run, data)
            else:
                async with bound.watched(run):
                    result = await self._begin_and_execute(run, data)
        finally:
            self._forget(run)
        for _ in range(self._run_retries):
            if result.status is not RunStatus.FAILED or not may_retry(result.error, self._retry_on):
                break
            stored = await self._require_store().reopen(run.run_id)
            result = await self._resume(stored, stream=run.stream)
        return result

    async def _begin_and_execute(self, run: Run, data: Any) -> RunResult[OutT]:
        durable = self._bind().durable
        tenure = None if durable is None else await durable.begin(run, data)
        return await self._execute(run, data, tenure)

    async def _resume(
        self,
        stored: StoredRun,
        *,
        deadline: float | None = None,
        limits: UsageLimits | None = None,
        stream: Channel | None = None,
    ) -> RunResult[OutT]:
        try:
            run = self._make_run(stored.record.run_id, stored.record.trace_id, stored.context)
        except BaseException:
            if stored.tenure is not None:
                stored.tenure.end()
            raise
        run.journal, run.answers, run.questions = stored.journal, stored.answers, stored.questions
        run.stream, run.resumed, run.stored = stream, True, True
        run.kept_metadata, run.metadata = stored.record.metadata, dict(stored.record.metadata)
        run.root.carry(stored.journal.spent(""))
        self._limit(run, limits if limits is not None else stored.limits)
        run.deadline_at = stored.record.deadline_at if deadline is None else time.time() + deadline
        if stored.tenure is None:
            run.deadline_at = None  # it has been kept
        if run.deadline_at is not None:
            run.deadline = asyncio.get_running_loop().time() + run.deadline_at - time.time()
        try:
            bound = self._bind()
            if not bound.is_watched:
                return await self._execute(run, stored.data, stored.tenure, before=stored.record)
            async with bound.watched(run):
                return await self._execute(run, stored.data, stored.tenure, before=stored.record)
        finally:
            self._forget(run)

    async def _reopen(self, run_id: str, **how: Any) -> StoredRun:
        durable = self._require_store()
        if check_run_id(run_id) in self._active:
            raise RunOwned(f"run {run_id!r} is running in this flow", hint="Wait until it has ended")
        return await durable.reopen(run_id, **how)

    def _require_store(self) -> DurableRuns:
        durable = self._bind().durable
        if durable is None:
            raise ConfigurationError(
                "this flow has no state store, so nothing can be resumed", hint="Flow(..., state=URL)"
            )
        return durable

    async def _execute(
        self, run: Run, data: Any, tenure: Tenure | None, before: RunRecord | None = None
    ) -> RunResult[OutT]:
        bound = self._bind()
        if tenure is None:
            return await bound.run(data, run)
        tenure.begin(run)
        try:
            return await bound.run(data, run)
        except LeaseLost:
            raise
        except StateCorrupt:  # nothing of it can be replayed: it stays what it was
            await tenure.give_back(run.run_id, **({} if before is None else unchanged(before)))
            raise
        except BaseException:
            await tenure.give_back(run.run_id)
            raise
        finally:
            tenure.end()
