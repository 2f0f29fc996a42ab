"""A run while it runs: what the whole run shares, and the scope of one step in it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ._books import is_below
from ._context import changes, commit, isolate
from ._events import Event, EventKind
from ._merge import MergePolicy, merge_branches
from ._results import StepResult
from ._stream import StreamChunk
from ._usage import NO_USAGE, Usage
from .errors import CancelSignal, DeadlineExceeded, UsageLimitExceeded

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ._events import Observers
    from ._journal import Journal
    from ._reservations import Reservations
    from ._results import Pending, RunResult
    from ._stream import Channel
    from ._usage import UsageLimits

_ledger = threading.Lock()


class Run:
    """What all steps of one run share: ids, deadline, limits, usage, listeners, journal, stream."""

    __slots__ = (
        "_ended", "_task", "_task_cancelling", "answers", "context", "deadline", "deadline_at",
        "interrupted_at", "interruption", "journal", "kept_metadata", "metadata", "observers", "own_limits",
        "pipeline", "questions", "reservations", "resources", "result", "resumed", "retries_left", "root",
        "run_id", "spending", "stored", "stream", "streaming", "trace_id",
    )  # fmt: skip

    def __init__(self, run_id: str, trace_id: str, *, pipeline: str, context: BaseModel | None, resources: Any) -> None:
        self.run_id = run_id
        self.trace_id = trace_id
        self.pipeline = pipeline
        self.context = context
        self.resources = resources
        self.observers: Observers | None = None
        self.journal: Journal | None = None
        self.stream: Channel | None = None
        self.resumed = False
        """True when an earlier execution of the run is in its journal."""
        self.answers: dict[str, Any] = {}
        """Accepted answers by the path of the step that asked."""
        self.own_limits: UsageLimits | None = None
        """Limits of this run alone, which are kept with it."""
        self.metadata: dict[str, str] = {}
        """Texts that are kept with the stored run; tracers may add to them."""
        self.kept_metadata: Mapping[str, str] | None = None
        """Those that the store has already."""
        self.stored = False
        """True when the run is kept in a store."""
        self.questions: dict[str, Pending] = {}
        """What the run asked when it was paused last, by path: a step that asks again keeps the first deadline."""
        self.deadline: float | None = None
        """Loop time of the deadline."""
        self.deadline_at: float | None = None
        """Epoch seconds of the deadline."""
        self.interruption: BaseException | None = None
        """Why the run must stop; set by `interrupt`."""
        self.interrupted_at: float | None = None
        """Epoch seconds of that."""
        self._task: asyncio.Task[Any] | None = None
        self._task_cancelling = 0
        self._ended = False
        self.retries_left = 100
        """Retries that steps inside a step that is being retried may still make: nesting does not multiply them."""
        self.spending: dict[object, Callable[[Scope, Usage], None]] | None = None
        """Called with the scope that spends and what it spends, on the thread that does; by whoever listens."""
        self.streaming: dict[object, Callable[[StreamChunk], None]] | None = None
        """Called with each chunk that a step streams, also when nobody reads the stream; by whoever listens."""
        self.result: RunResult[Any] | None = None
        """How the run has ended, as soon as it has."""
        self.reservations: Reservations | None = None
        """What steps that declare an `Estimate` and are running now may still spend; made by the first of them."""
        self.root = Scope(self, "", None)
        self.root._context = context

    @property
    def usage(self) -> Usage:
        """What the run has spent so far."""
        return self.root.usage

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the deadline, at least 0; ``None`` without one."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - asyncio.get_running_loop().time())

    def forget_questions(self, path: str, spared: str | None = None) -> None:
        """Forget what steps below `path` have asked and were told: they begin anew, and may ask again.

        :param spared: a path at and below which nothing is forgotten.
        """
        for known in (self.questions, self.answers):
            for asked in [asked for asked in known if asked.startswith(f"{path}/") and not is_below(asked, spared)]:
                del known[asked]

    def attach(self, task: asyncio.Task[Any]) -> None:
        """Remember the task that executes the run, so that `interrupt` can stop it."""
        self._task = task
        self._task_cancelling = task.cancelling()

    def interrupt(self, reason: BaseException) -> bool:
        """Stop the run for `reason`: the task that executes it is cancelled. False when it is stopping already."""
        if self.interruption is not None or self._ended:
            return False
        self.interruption, self.interrupted_at = reason, time.time()
        if self.observers is not None:
            kind = EventKind.RUN_DEADLINE if isinstance(reason, DeadlineExceeded) else EventKind.RUN_CANCELLING
            self.observers.post(self._event(kind, error=reason))
        if self._task is not None:
            self._task.cancel()
        return True

    def cancel(self, reason: str = "cancelled") -> bool:
        """Cancel the run; False when it is stopping already."""
        return self.interrupt(CancelSignal(reason))

    def dissolve(self) -> None:
        """Take the finished run apart: a run and its root scope refer to each other, and are freed at once this way.

        Left to the garbage collector, they make each of many steps 11 to 17 % dearer.
        """
        self.root.run = None  # type: ignore[assignment]  # nothing runs in it any more

    def overdue(self) -> bool:
        """Stop the run when its deadline has passed: its timer cannot fire while steps never wait for anything."""
        if self.deadline is None or asyncio.get_running_loop().time() < self.deadline:
            return False
        self.interrupt(DeadlineExceeded(f"run {self.run_id} has passed its deadline"))
        return True

    def detach(self) -> None:
        """Take back the cancellation that `interrupt` sent, as `asyncio.timeout` does, and forget the task.

        Raises `asyncio.CancelledError` when somebody else has cancelled the task, too.
        """
        task, self._task = self._task, None
        if task is None or self.interruption is None:
            return
        if task.cancelling() > self._task_cancelling:
            task.uncancel()
        if task.cancelling() > self._task_cancelling:
            raise asyncio.CancelledError

    def end(self) -> None:
        """Note that all steps have ended: what is left is to say so, and cannot be interrupted."""
        self._ended = True

    async def publish(self, kind: EventKind, path: str = "", **fields: Any) -> None:
        """Tell the listeners; call it only when ``observers`` is not ``None``."""
        if self.observers is not None:
            await self.observers.publish(self._event(kind, path=path, **fields))

    def _event(self, kind: EventKind, **fields: Any) -> Event:
        return Event(kind=kind, run_id=self.run_id, trace_id=self.trace_id, at=time.time(), **fields)


class Scope:
    """Where a step runs: its path, the context it sees, what ran inside it, what it spent.

    Every bound step gets a scope of its own; a step type makes further ones for its branches and iterations with
    `child` and `branch`, and hands them to the executes it bound.
    """

    __slots__ = (
        "_chunks",
        "_context",
        "_isolates",
        "_items",
        "_is_step",
        "_spent",
        "attempt",
        "feedback",
        "limits",
        "parent",
        "path",
        "run",
    )

    def __init__(self, run: Run, path: str, parent: Scope | None, is_step: bool = False) -> None:
        self.run = run
        self.path = path
        self.parent = parent
        self.attempt = 1
        self.feedback: str | None = None
        self.limits: UsageLimits | None = None
        """The most that may be spent here and below."""
        self._is_step = is_step
        self._isolates = is_step
        self._context: Any = None
        self._items: list[StepResult | Scope] | None = None
        self._spent: Usage | None = None
        self._chunks = 0

    @property
    def is_step(self) -> bool:
        """True for the scope of a step, False for one made by `child` or `branch`."""
        return self._is_step

    # -- context --

    @property
    def context(self) -> Any:
        """The context as this scope sees it. A step's view is made when it is first asked for."""
        if self._context is None and self.parent is not None:
            context = self.parent.context
            self._context = isolate(context) if self._isolates and context is not None else context
        return self._context

    @property
    def touched(self) -> bool:
        """True when something asked for the context here, so that there may be changes to merge."""
        return self._context is not None

    @property
    def enclosing_context(self) -> Any:
        """The context that the changes of this scope are committed to."""
        return None if self.parent is None else self.parent.context

    def changes(self) -> dict[str, Any]:
        """Return the context fields that this scope has changed and not yet committed."""
        return changes(self._context) if self._isolates and self._context is not None else {}

    def commit(self, changed: Mapping[str, Any]) -> None:
        """Write changed context fields to the enclosing scope's context."""
        if changed and self.parent is not None:
            commit(self.parent.context, dict(changed))

    def reset(self, attempt: int, feedback: str | None) -> None:
        """Forget what a failed attempt did to the context and ran inside; what it spent stays spent."""
        self.attempt = attempt
        self.feedback = feedback
        self._items = None
        if self._isolates:
            self._context = None

    # -- structure --

    def child(self, segment: str, context: Any = None) -> Scope:
        """Return a scope below this one for a branch or an iteration; it shares the context unless one is given."""
        # Not by way of `branch` and `record`: two calls are a tenth of what an iteration of a loop may cost.
        scope = Scope(self.run, f"{self.path}/{segment}" if self.path and segment else self.path or segment, self)
        scope._context = context
        if self._items is None:
            self._items = [scope]
        else:
            self._items.append(scope)
        return scope

    def branch(self, segment: str) -> Scope:
        """Return a scope below this one with an isolated view of the context, for work that runs beside others."""
        scope = self.child(segment)
        scope._isolates = True
        return scope

    def merge(self, branches: Mapping[str, Scope], policy: MergePolicy = "error") -> None:
        """Merge what `branches` wrote to their contexts, in the given order; raises `ContextConflict`."""
        views = {name: scope._context for name, scope in branches.items() if scope._context is not None}
        if views:
            merge_branches(self.context, views, policy)

    @property
    def history(self) -> tuple[StepResult, ...]:
        """The results of the steps that ran inside this scope, branches in the order in which they were made."""
        return tuple(_flatten(self._items)) if self._items else ()

    def record(self, result: StepResult) -> None:
        """Add the result of a step that ran in this scope."""
        if self._items is None:
            self._items = [result]
        else:
            self._items.append(result)

    # -- usage --

    @property
    def usage(self) -> Usage:
        """What was spent here and below."""
        return self._spent or NO_USAGE

    def carry(self, usage: Usage) -> None:
        """Begin with what earlier executions of the run have spent here, which what encloses this has carried too."""
        if usage:
            self._spent = usage

    def spend(self, usage: Usage) -> None:
        """Add `usage` here and in every enclosing scope up to the run: counted when it happens, and exactly once."""
        with _ledger:  # agents that run in worker threads spend too
            scope: Scope | None = self
            while scope is not None:
                scope._spent = usage if scope._spent is None else scope._spent + usage
                scope = scope.parent
        listening = self.run.spending
        if listening is not None:
            for listen in list(listening.values()):
                listen(self, usage)

    def breach(self) -> UsageLimitExceeded | None:
        """Return the error for the first limit that is exceeded from here up to the run."""
        scope: Scope | None = self
        while scope is not None:
            if scope.limits is not None:
                message = scope.limits.breach(scope.usage)
                if message is not None:
                    return UsageLimitExceeded(message, usage=scope.usage, limits=scope.limits, path=self.path)
            scope = scope.parent
        return None

    # -- streaming --

    async def emit(self, data: Any, *, done: bool = False, meta: Mapping[str, Any] | None = None) -> None:
        """Send a chunk to the run's stream and to the listeners; waits while the reader is behind."""
        run = self.run
        if run.stream is None and run.observers is None and run.streaming is None:
            return
        chunk = StreamChunk(data, self.path, self._chunks, done, meta)
        self._chunks += 1
        if run.streaming is not None:
            for listen in list(run.streaming.values()):
                listen(chunk)
        if run.stream is not None:
            await run.stream.put(chunk)
        if run.observers is not None:
            await run.publish(EventKind.CHUNK, self.path, chunk=chunk)

    # -- progress --

    async def progress(self, done: int | None = None, total: int | None = None, *, unit: str = "item") -> None:
        """Tell the listeners how far this step is: `done` of `total` units, either of which may be unknown.

        Step types call it with what they know at the start. Raises `ValueError` for negative numbers.
        """
        if (done is not None and done < 0) or (total is not None and total < 0):
            raise ValueError(f"progress counts from 0, got {done} of {total}")
        if self.run.observers is not None:
            detail = {"done": done, "total": total, "unit": unit}
            await self.run.publish(EventKind.PROGRESS, self.path, detail=detail)

    async def restart_stream(self) -> None:
        """Tell the reader that what was streamed so far is void; silent when nothing was."""
        if self._chunks:
            self._chunks = 0
            await self.emit("", meta={"restart": True})


def _flatten(items: list[StepResult | Scope]) -> Iterator[StepResult]:
    for item in items:
        if isinstance(item, StepResult):
            yield item
        elif item._items:
            yield from _flatten(item._items)


class UsageMeter:
    """Adds to the usage of the step that holds it."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def add(self, cost_usd: float = 0.0, input_tokens: int = 0, output_tokens: int = 0, requests: int = 0) -> None:
        """Count US dollars, tokens and requests; they stay counted when the attempt fails."""
        self._scope.spend(Usage(float(cost_usd), input_tokens, output_tokens, requests))


class StepRun:
    """What an agent gets that names a parameter ``run``.

    :ivar path: the step's address in the run, such as ``"2:refine/i3/0:generate"``.
    :ivar attempt: 1 for the first attempt.
    :ivar feedback: why the attempt before failed; ``None`` at first.
    :ivar usage: ``usage.add(cost_usd=..., input_tokens=..., output_tokens=..., requests=...)`` counts what was spent.
    """

    __slots__ = ("_scope", "attempt", "feedback", "path", "usage")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.path = scope.path
        self.attempt = scope.attempt
        self.feedback = scope.feedback
        self.usage = UsageMeter(scope)

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._scope.run.run_id

    @property
    def trace_id(self) -> str:
        """The id that ties this run to what happens elsewhere."""
        return self._scope.run.trace_id

    @property
    def idempotency_key(self) -> str:
        """A key that is the same for every attempt of this step in this run, also after a crash."""
        from ._structure import digest

        return digest(f"{self.run_id}\n{self.path}".encode())[:32]

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the run's deadline; ``None`` without one."""
        return self._scope.run.remaining_s

    async def emit(self, chunk: Any, *, done: bool = False, meta: Mapping[str, Any] | None = None) -> None:
        """Stream `chunk` to whoever reads the run's stream; waits while the reader is behind."""
        await self._scope.emit(chunk, done=done, meta=meta)

    async def progress(self, done: int | None = None, total: int | None = None, *, unit: str = "item") -> None:
        """Tell whoever watches how far this step is, such as ``await run.progress(3, 120, unit="page")``.

        Either number may be unknown. Raises `ValueError` for negative ones.
        """
        await self._scope.progress(done, total, unit=unit)
