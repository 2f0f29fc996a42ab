"""What is known of a run while it runs: what its steps spend and stream, and how it is going to end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import attrs

from flow import Run, RunStatus, Scope, StreamChunk, Usage, UsageLimitExceeded
from flow.errors import CancelSignal, DeadlineExceeded, InterruptSignal, PauseSignal

_MOST_FAILURES = 1_000


@attrs.define(eq=False)
class Note:
    """What one step has spent and streamed so far, itself and not by steps inside it."""

    usage: Usage = attrs.field(factory=Usage)
    chunks: int = 0
    characters: int = 0
    octets: int = 0
    first_chunk: float | None = None
    """When the first one came, by ``time.perf_counter``."""

    def count(self, chunk: StreamChunk) -> None:
        """Add a chunk; one that says that what was streamed is void begins the count anew."""
        if chunk.meta is not None and chunk.meta.get("restart"):
            self.chunks = self.characters = self.octets = 0
            return
        if self.first_chunk is None:
            self.first_chunk = time.perf_counter()
        self.chunks += 1
        if isinstance(chunk.data, bytes):
            self.octets += len(chunk.data)
        else:
            self.characters += len(chunk)


@attrs.define(eq=False)
class RunState:
    """What steps of a run tell each other and the span of the run."""

    notes: dict[str, Note] = attrs.field(factory=dict)
    """By the path of the step; empty in a run that neither spends nor streams, which is quickly asked."""
    input: Any = None
    """What went into the first step; only kept to be shown, or to be withheld from messages."""
    failures: dict[int, tuple[BaseException, str]] = attrs.field(factory=dict)
    """Failures that a span tells of already, and their messages: the spans around it do not repeat them."""
    fallbacks: dict[str, Any] = attrs.field(factory=dict)
    """The spans that a fallback would be told to, by the path of the fallback."""
    failed_at: dict[str, float] = attrs.field(factory=dict)
    """When the last attempt of a step failed, by its path and ``time.perf_counter``."""
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def note(self, path: str) -> Note:
        """Return what is noted of a step."""
        found = self.notes.get(path)
        if found is None:
            found = self.notes[path] = Note()
        return found

    def spent(self, scope: Scope, usage: Usage) -> None:
        """Note what was spent in `scope`; worker threads call this too."""
        step: Scope | None = scope
        while step is not None and not step.is_step:
            step = step.parent
        if step is not None:
            with self._lock:
                note = self.note(step.path)
                note.usage = note.usage + usage

    def streamed(self, chunk: StreamChunk) -> None:
        """Count a chunk for the step that it comes from."""
        self.note(chunk.stream_id).count(chunk)

    def remember(self, error: BaseException, message: str) -> None:
        """Keep that a span tells of `error`."""
        if len(self.failures) >= _MOST_FAILURES:
            self.failures.clear()
        self.failures[id(error)] = (error, message)

    def told(self, error: BaseException) -> str | None:
        """Return the message of `error` when a span tells of it, or of what caused it."""
        for cause in causes(error):
            if id(cause) in self.failures:
                return self.failures[id(cause)][1]
        return None


@attrs.frozen
class Outcome:
    """How a run ended, and why."""

    status: RunStatus
    error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """True for what people would call a failure; waiting and being stopped are none."""
        return self.status in (RunStatus.FAILED, RunStatus.LIMIT_EXCEEDED, RunStatus.DEADLINE_EXCEEDED)


def outcome_of(run: Run, raised: BaseException | None) -> Outcome:
    """Say how a run ended, or what kept it from being run."""
    if run.result is None:
        return Outcome(status_of(raised), raised)
    path = run.result.failed_path  # the error of the run says which step failed; that of the step says why
    failed = next((step for step in run.result.walk() if step.path == path), None) if path is not None else None
    return Outcome(run.result.status, run.result.error if failed is None else failed.error)


def status_of(reason: BaseException | None) -> RunStatus:
    """Return what becomes of a run, or a step, that ends with an exception or a signal."""
    found = list(leaves(reason)) if reason is not None else []
    for kind, status in _STATUS_OF.items():
        if any(isinstance(error, kind) for error in found):
            return status
    return RunStatus.FAILED


_STATUS_OF: dict[type[BaseException], RunStatus] = {
    UsageLimitExceeded: RunStatus.LIMIT_EXCEEDED,
    DeadlineExceeded: RunStatus.DEADLINE_EXCEEDED,
    InterruptSignal: RunStatus.INTERRUPTED,
    CancelSignal: RunStatus.CANCELLED,
    asyncio.CancelledError: RunStatus.CANCELLED,
    PauseSignal: RunStatus.PAUSED,
}


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, or what is inside it when it is a group."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what caused it, as far as chains go that are no circles."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__
