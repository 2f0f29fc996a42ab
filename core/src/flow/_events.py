"""Events: what observers and tracers are told. Built only when somebody listens."""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from ._results import RunResult, StepResult

logger = logging.getLogger("flow")

EVENT_SCHEMA = 1
"""Version of the event fields; raised when a field changes its meaning or goes away."""


class EventKind(enum.StrEnum):
    """What happened."""

    RUN_STARTED = "run.started"
    RUN_RESUMED = "run.resumed"
    RUN_CANCELLING = "run.cancelling"
    RUN_CANCELLED = "run.cancelled"
    RUN_DEADLINE = "run.deadline"
    RUN_FINISHED = "run.finished"
    STEP_STARTED = "step.started"
    STEP_FINISHED = "step.finished"
    ATTEMPT_FAILED = "attempt.failed"
    RETRY = "step.retry"
    FALLBACK = "step.fallback"
    CACHE = "step.cache"
    CHUNK = "step.chunk"
    PROGRESS = "step.progress"
    PAUSED = "step.paused"
    CANCELLED = "step.cancelled"
    LIMIT = "step.limit"
    THROTTLED = "step.throttled"
    USAGE_WARNING = "usage.warning"
    BREAKER = "breaker"
    LOAD = "load"
    DROPPED = "events.dropped"


@attrs.frozen(kw_only=True)
class Event:
    """One thing that happened in a run.

    ``at`` is in epoch seconds. ``data`` is the input of a starting step or run, ``result`` what a finished one
    returned, ``error`` why an attempt failed, ``delay_s`` how long a retry waits, ``chunk`` a streamed piece. They are
    the live objects: an observer that writes them anywhere decides what content may leave the process. ``detail``
    holds plain values that only some kinds have, such as the states of a breaker. ``payload`` is all that belongs to
    the kind, as a value of `flow.events`.
    """

    kind: EventKind
    run_id: str
    trace_id: str
    at: float
    path: str = ""
    step: str = ""
    step_kind: str = ""
    attempt: int = 1
    data: Any = None
    result: StepResult | RunResult[Any] | None = None
    error: BaseException | None = None
    delay_s: float = 0.0
    chunk: Any = None
    detail: Mapping[str, Any] | None = None

    @property
    def payload(self) -> Any:
        """What is particular to this kind of event: a value of the class that `flow.events.PAYLOADS` names."""
        from .events import payload_of

        return payload_of(self)

    def to_dict(self, *, content: bool = False) -> dict[str, Any]:
        """Return the event as plain values for JSON, in the form that `event_schema` describes.

        :param content: inputs, outputs, chunks and the texts of errors and questions, which may repeat them, appear
            too; secrets are masked all the same.

        >>> event = Event(kind=EventKind.STEP_STARTED, run_id="r1", trace_id="r1", at=1.5, path="0:a", data="private")
        >>> event.to_dict()["payload"], event.to_dict(content=True)["payload"]
        ({}, {'data': 'private'})
        """
        from ._event_json import as_json_values

        return as_json_values(self, content=content)


Listener = Callable[[Event], Any]

EventFilter = Callable[[Event], Event | None]
"""Returns the event that listeners shall get in the place of one, or ``None`` when they shall get none."""


# A listener that keeps something per run must learn of its end, however slow it is: two events a run cost no memory.
_NEVER_DROPPED = frozenset({EventKind.RUN_STARTED, EventKind.RUN_FINISHED})


_TURNS = 8


@attrs.define
class _Gap:
    """Stands in a queue where events were dropped: the first of them, and how many there were."""

    first: Event
    count: int = 1

    def told(self) -> Event:
        """Return the event that tells the listener."""
        first = self.first
        return Event(
            kind=EventKind.DROPPED,
            run_id=first.run_id,
            trace_id=first.trace_id,
            at=first.at,
            detail={"dropped": self.count},
        )


class _Queue:
    """The events one listener has not seen yet, and the task that hands them over."""

    __slots__ = ("_handle", "_items", "_limit", "_task", "_wake", "dropped", "enabled", "name")

    def __init__(self, name: str, handle: Listener, limit: int) -> None:
        self.name = name
        self.dropped = 0
        self.enabled = True
        self._handle = handle
        self._items: deque[Event | _Gap | None] = deque()
        self._limit = limit
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._deliver(), name=f"flow-observer:{name}")

    @property
    def full(self) -> bool:
        return len(self._items) >= self._limit

    def put(self, event: Event | None) -> None:
        if self.full and event is not None and event.kind not in _NEVER_DROPPED:
            self._drop(event)
        elif self.enabled:
            self._items.append(event)
            self._wake.set()

    def _drop(self, event: Event) -> None:
        self.dropped += 1
        last = self._items[-1]
        if isinstance(last, _Gap):
            last.count += 1
        else:
            self._items.append(_Gap(event))

    async def _deliver(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._items:
                item = self._items.popleft()
                if item is None:
                    return
                event = item.told() if isinstance(item, _Gap) else item
                try:
                    outcome = self._handle(event)
                    if inspect.isawaitable(outcome):
                        await outcome
                except Exception:
                    self.enabled = False
                    logger.exception(
                        "observer %s raised on %s and is disabled for the rest of the run", self.name, event.kind
                    )
                    return

    async def close(self, patience_s: float) -> None:
        self.put(None)
        _, late = await asyncio.wait([self._task], timeout=patience_s)
        if late:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=patience_s)
            self.dropped += sum(isinstance(item, Event) for item in self._items)
        if self.dropped:
            logger.warning("observer %s was too slow: %d events were dropped", self.name, self.dropped)


class Observers:
    """Hands the events of one run to its listeners, each through a bounded queue of its own.

    A listener that raises is disabled, one that is slow loses events; neither disturbs the run.
    """

    def __init__(
        self,
        listeners: Sequence[tuple[str, Listener]],
        *,
        filters: Sequence[EventFilter] = (),
        limit: int = 1024,
        patience_s: float = 5.0,
    ) -> None:
        self._filters = filters
        self._queues = [_Queue(name, handle, limit) for name, handle in listeners]
        self._patience_s = patience_s

    async def publish(self, event: Event) -> None:
        """Hand `event` over; gives listeners some turns of the loop when a queue is full."""
        for _ in range(_TURNS):  # many steps may publish in one turn: only a listener that is stuck loses events
            if not any(queue.full for queue in self._queues):
                break
            await asyncio.sleep(0)
        self.post(event)

    def post(self, event: Event) -> None:
        """Hand `event` over at once, from code that cannot wait."""
        for keep in self._filters:
            kept = keep(event)
            if kept is None:
                return
            event = kept
        for queue in self._queues:
            queue.put(event)

    async def close(self) -> None:
        """Let the listeners finish, for a limited time."""
        for queue in self._queues:
            await queue.close(self._patience_s)
