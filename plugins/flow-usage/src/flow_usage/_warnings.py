"""Warnings before a limit is reached."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from flow import Event, EventKind, Execute, Run, Scope, StepResult, Usage

from ._checks import shares, sync_callable_or_none
from ._listening import listener
from ._measures import MEASURES, TOLERANCE, limits_set, name_of, written

logger = logging.getLogger("flow")


@attrs.frozen(kw_only=True)
class UsageWarning:
    """What was `spent` has reached the share `threshold` of what is `allowed`.

    ``limit`` names a field of `UsageLimits`, ``path`` the step whose limit it is; it is empty for one of the run.
    """

    run_id: str
    path: str
    limit: str
    threshold: float
    spent: float
    allowed: float

    def __str__(self) -> str:
        where = f"step {self.path!r} of run {self.run_id}" if self.path else f"run {self.run_id}"
        spent, allowed = written(self.limit, self.spent), written(self.limit, self.allowed)
        share = f"{self.threshold * 100:.6g} %"
        return f"{where} has spent {spent} of its {name_of(self.limit)} limit of {allowed}: {share} are reached"


@attrs.frozen(init=False)
class WarnAt:
    """Tells when a run has spent a share of what it may spend: a policy of a `Flow`, or of steps with `usage_limits`.

    For each limit there is one warning per threshold and run (of a step: per execution of the step), at the moment when
    the share is reached: an event ``usage.warning``, a line in the log ``flow``, and a call of `callback` with a
    `UsageWarning`. What a callback raises is logged and disturbs nothing else. A resumed run does not repeat warnings.

    >>> WarnAt(0.8, 0.5).thresholds
    (0.5, 0.8)
    """

    thresholds: tuple[float, ...] = attrs.field(validator=shares)
    callback: Callable[[UsageWarning], Any] | None = attrs.field(default=None, validator=sync_callable_or_none)

    def __init__(self, *thresholds: float, callback: Callable[[UsageWarning], Any] | None = None) -> None:
        object.__setattr__(self, "thresholds", _rising(thresholds))
        object.__setattr__(self, "callback", callback)
        attrs.validate(self)

    @contextmanager
    def around_run(self, run: Run) -> Iterator[None]:
        """Watch the limits of `run`."""
        watch = _watch_of(self, run)
        watch.begin(run.root)
        try:
            yield
        finally:
            watch.end(run.root)


def _rising(thresholds: tuple[Any, ...]) -> tuple[Any, ...]:
    numbers = all(isinstance(threshold, (int, float)) for threshold in thresholds)
    return tuple(sorted(set(thresholds))) if numbers else thresholds  # what is no number is refused by the validator


def watching(execute: Execute, policy: WarnAt) -> Execute:
    """Watch the limits of a step while `execute` runs."""

    async def watched(data: Any, scope: Scope) -> StepResult:
        watch = _watch_of(policy, scope.run)
        watch.begin(scope)
        try:
            return await execute(data, scope)
        finally:
            watch.end(scope)

    return watched


class _Watch:
    """Listens to what a run spends, for one policy: the warnings still to come, by the scope with the limit."""

    __slots__ = ("_due", "_lock", "_loop", "_policy")

    def __init__(self, policy: WarnAt) -> None:
        self._policy = policy
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._due: dict[Scope, list[tuple[str, float, float]]] = {}

    def begin(self, scope: Scope) -> None:
        """Watch the limits of `scope`; of what it has spent already, nobody needs to be told again."""
        limits = limits_set(scope.limits) if scope.limits is not None else {}
        due = [(name, allowed, share) for name, allowed in limits.items() for share in self._policy.thresholds]
        self._due[scope] = [item for item in due if not _is_reached(scope, *item)]

    def end(self, scope: Scope) -> None:
        """Watch no longer."""
        self._due.pop(scope, None)

    def __call__(self, scope: Scope, usage: Usage) -> None:
        """Look at the limits around `scope`; comes from whatever thread has spent."""
        place: Scope | None = scope
        while place is not None:
            if self._due.get(place):
                for limit, allowed, share in self._reached(place):
                    warning = UsageWarning(
                        run_id=scope.run.run_id,
                        path=place.path,
                        limit=limit,
                        threshold=share,
                        spent=MEASURES[limit](place.usage),
                        allowed=allowed,
                    )
                    self._tell(scope.run, place, warning)
            place = place.parent

    def _reached(self, place: Scope) -> list[tuple[str, float, float]]:
        with self._lock:
            due = self._due.get(place, [])
            reached = [item for item in due if _is_reached(place, *item)]
            due[:] = [item for item in due if item not in reached]
            return reached

    def _tell(self, run: Run, place: Scope, warning: UsageWarning) -> None:
        if self._is_in_loop():
            _tell(run, self._policy, warning)
        else:  # queues of listeners belong to the loop; a thread that was left behind by its run tells nobody
            self._loop.call_soon_threadsafe(self._tell_later, run, place, warning)

    def _tell_later(self, run: Run, place: Scope, warning: UsageWarning) -> None:
        if place in self._due:
            _tell(run, self._policy, warning)

    def _is_in_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False


def _is_reached(scope: Scope, limit: str, allowed: float, share: float) -> bool:
    spent = MEASURES[limit](scope.usage)
    return spent > 0 and spent - share * allowed > -TOLERANCE


def _tell(run: Run, policy: WarnAt, warning: UsageWarning) -> None:
    logger.warning("%s", warning)
    if run.observers is not None:
        detail = attrs.asdict(warning, filter=lambda field, _: field.name not in ("run_id", "path"))
        event = Event(
            kind=EventKind.USAGE_WARNING,
            run_id=run.run_id,
            trace_id=run.trace_id,
            at=time.time(),
            path=warning.path,
            detail=detail,
        )
        run.observers.post(event)
    if policy.callback is not None:
        try:
            policy.callback(warning)
        except Exception:
            logger.exception("the callback of WarnAt raised on: %s", warning)


def _watch_of(policy: WarnAt, run: Run) -> _Watch:
    return listener(run, policy, lambda: _Watch(policy))
