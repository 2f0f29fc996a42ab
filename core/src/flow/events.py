"""What each kind of event tells, as a value of its own: ``event.payload``.

>>> from flow import Event, EventKind
>>> from flow.events import Retry
>>> event = Event(kind=EventKind.RETRY, run_id="r", trace_id="r", at=0.0, path="0:call", attempt=2, delay_s=1.5)
>>> match event.payload:
...     case Retry(attempt=attempt, delay_s=delay_s):
...         print(f"attempt {attempt} in {delay_s} s")
attempt 2 in 1.5 s
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ._events import Event, EventKind

if TYPE_CHECKING:
    from ._results import RunResult, StepResult
    from ._stream import StreamChunk

__all__ = [
    "PAYLOADS",
    "AttemptFailed",
    "BreakerChanged",
    "CacheLookup",
    "Cancelled",
    "Chunk",
    "Dropped",
    "Fallback",
    "LimitExceeded",
    "LoadChanged",
    "Paused",
    "Progress",
    "Retry",
    "RunCancelled",
    "RunCancelling",
    "RunDeadline",
    "RunFinished",
    "RunResumed",
    "RunStarted",
    "StepFinished",
    "StepStarted",
    "Throttled",
    "UsageWarning",
]


def _from(key: str, default: Any) -> Any:
    """Return a field that `Event.detail` has under another name, one that is no name in Python."""
    return attrs.field(default=default, metadata={"key": key})


@attrs.frozen(kw_only=True)
class RunStarted:
    """A run begins with `data`."""

    data: Any = None


@attrs.frozen(kw_only=True)
class RunResumed:
    """The run that has just started goes on with what an earlier execution has recorded."""


@attrs.frozen(kw_only=True)
class RunCancelling:
    """Somebody cancels or interrupts the run for `error`; what it does ends now."""

    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class RunCancelled:
    """A cancellation is over: every step has ended, `took_s` seconds after it began."""

    status: str = ""
    took_s: float = 0.0
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class RunDeadline:
    """The time of the run is over."""

    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class RunFinished:
    """A run has ended, in whatever way."""

    result: RunResult[Any] | None = None


@attrs.frozen(kw_only=True)
class StepStarted:
    """A step begins with `data`, also one that is replayed or taken from the cache."""

    data: Any = None


@attrs.frozen(kw_only=True)
class StepFinished:
    """A step has ended, successful or not."""

    result: StepResult | None = None


@attrs.frozen(kw_only=True)
class AttemptFailed:
    """An attempt failed, and something decides what follows; `category` is an `ErrorCategory`."""

    attempt: int = 1
    category: str = ""
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class Retry:
    """Attempt number `attempt` follows in `delay_s` seconds, because of `error`."""

    attempt: int = 1
    delay_s: float = 0.0
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class Fallback:
    """The fallback of a step runs instead, because of `error`."""

    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class CacheLookup:
    """A step with ``cache=`` looked for its result.

    ``outcome`` is ``hit``, ``shared`` (an equal computation that was under way), or ``miss``.
    """

    outcome: str = ""


@attrs.frozen(kw_only=True)
class Chunk:
    """A step streams a piece."""

    chunk: StreamChunk | None = None


@attrs.frozen(kw_only=True)
class Progress:
    """How far a step is: `done` of `total` units, either of which may be unknown."""

    done: int | None = None
    total: int | None = None
    unit: str = "item"


@attrs.frozen(kw_only=True)
class Paused:
    """A step waits for an answer; `error` is the signal with its question."""

    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class Cancelled:
    """A step was cancelled while it ran."""

    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class LimitExceeded:
    """What was spent exceeds a limit, which ends the run."""

    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class Throttled:
    """A step waits for a rate limit or a bulkhead; `delay_s` seconds when that is known."""

    limit: str = ""
    policy: str = ""
    delay_s: float = 0.0


@attrs.frozen(kw_only=True)
class UsageWarning:
    """What was spent has reached the share `threshold` of what is allowed."""

    limit: str = ""
    threshold: float = 0.0
    spent: float = 0.0
    allowed: float = 0.0


@attrs.frozen(kw_only=True)
class BreakerChanged:
    """A circuit breaker went from the state `before` to `after`."""

    name: str = ""
    before: str = _from("from", "")
    after: str = _from("to", "")
    reason: str = ""
    retry_after: float | None = None
    """Seconds until it lets a call through."""


@attrs.frozen(kw_only=True)
class LoadChanged:
    """Graceful degradation changed its level; `off` and `on` are the features it switches."""

    before: str = _from("from", "")
    after: str = _from("to", "")
    lag_s: float = 0.0
    memory: float = 0.0
    queue: int = 0
    off: Sequence[str] = ()
    on: Sequence[str] = ()


@attrs.frozen(kw_only=True)
class Dropped:
    """The listener was too slow: `dropped` events that came before this one were not handed to it."""

    dropped: int = 0


PAYLOADS: Mapping[EventKind, type[Any]] = {
    EventKind.RUN_STARTED: RunStarted,
    EventKind.RUN_RESUMED: RunResumed,
    EventKind.RUN_CANCELLING: RunCancelling,
    EventKind.RUN_CANCELLED: RunCancelled,
    EventKind.RUN_DEADLINE: RunDeadline,
    EventKind.RUN_FINISHED: RunFinished,
    EventKind.STEP_STARTED: StepStarted,
    EventKind.STEP_FINISHED: StepFinished,
    EventKind.ATTEMPT_FAILED: AttemptFailed,
    EventKind.RETRY: Retry,
    EventKind.FALLBACK: Fallback,
    EventKind.CACHE: CacheLookup,
    EventKind.CHUNK: Chunk,
    EventKind.PROGRESS: Progress,
    EventKind.PAUSED: Paused,
    EventKind.CANCELLED: Cancelled,
    EventKind.LIMIT: LimitExceeded,
    EventKind.THROTTLED: Throttled,
    EventKind.USAGE_WARNING: UsageWarning,
    EventKind.BREAKER: BreakerChanged,
    EventKind.LOAD: LoadChanged,
    EventKind.DROPPED: Dropped,
}
"""The class of the payload of each kind."""


def payload_of(event: Event) -> Any:
    """Return what is particular to the kind of `event`: taken from its fields, or from its ``detail``."""
    detail = event.detail or {}
    cls = PAYLOADS[event.kind]
    values = {}
    for field in attrs.fields(cls):
        key = field.metadata.get("key", field.name)
        if key in detail:
            values[field.name] = detail[key]
        elif key in _OF_EVERY_EVENT:
            values[field.name] = event.__getattribute__(key)
    return cls(**values)


_OF_EVERY_EVENT = frozenset(field.name for field in attrs.fields(Event))
