"""Graceful degradation: what is optional is left out while the process is overloaded."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from flow import ConfigurationError, Event, EventKind, StepResult

from ._checks import above_zero
from ._levels import LevelMeter, LoadLevel, Reading, Thresholds, memory_in_use
from ._limits import waiting_calls

logger = logging.getLogger("flow")

DETAILED_TRACING = "detailed_tracing"
INPUT_OUTPUT_CAPTURE = "input_output_capture"
PROGRESS = "progress"

_DETAILS = frozenset({EventKind.ATTEMPT_FAILED, EventKind.RETRY, EventKind.FALLBACK, EventKind.THROTTLED})
_FEATURES = {
    DETAILED_TRACING: LoadLevel.MINOR,
    INPUT_OUTPUT_CAPTURE: LoadLevel.MODERATE,
    PROGRESS: LoadLevel.SEVERE,
}


def _numbers(value: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(value)


def _rising(policy: Any, attribute: attrs.Attribute[Any], value: tuple[float, ...]) -> None:
    if len(value) != 3 or not 0 < value[0] <= value[1] <= value[2]:
        raise ConfigurationError(
            f"GracefulDegradation: {attribute.name} holds three rising numbers, for minor, moderate and severe load; "
            f"got {value!r}"
        )


def _features(value: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> tuple[tuple[str, LoadLevel], ...]:
    levels = _FEATURES | {name: LoadLevel(level) for name, level in dict(value).items()}
    return tuple(sorted(levels.items()))


@attrs.frozen(kw_only=True)
class GracefulDegradation:
    """Leaves out what is optional while the process is overloaded: a policy of a `Flow`.

    Every `every` seconds, while runs are active, it reads how late the event loop is (`lag`, seconds), which share of
    its memory the process uses (`memory`) and how many calls wait for limits (`queue`). Each holds three thresholds:
    where minor, moderate and severe load begin. The worst counts, at once. It gets better by one level each time all
    readings have stayed below `relief` times the thresholds of the level for `recover_after` seconds.

    A feature is on below its level in `features`. Three of them act on the events that listeners and tracers get:
    ``detailed_tracing`` (from minor on, there are no events of single attempts and waits), ``input_output_capture``
    (from moderate on, events carry no input and output of their own, and there are none of streamed chunks) and
    ``progress`` (from severe on, there are none of chunks either way). Others are yours: ask `enabled`.

    :param read_lag, read_memory, read_queue: functions that are asked instead of measuring.

    >>> load = GracefulDegradation(features={"thumbnails": LoadLevel.MINOR})
    >>> load.enabled("thumbnails")
    True
    """

    lag: Sequence[float] = attrs.field(default=(0.1, 0.5, 2.0), converter=_numbers, validator=_rising)
    memory: Sequence[float] = attrs.field(default=(0.75, 0.85, 0.95), converter=_numbers, validator=_rising)
    queue: Sequence[float] = attrs.field(default=(100, 1_000, 10_000), converter=_numbers, validator=_rising)
    features: Any = attrs.field(default=(), converter=_features)
    every: float = attrs.field(default=0.5, validator=above_zero)
    recover_after: float = attrs.field(default=10.0, validator=above_zero)
    relief: float = attrs.field(default=0.8, validator=above_zero)
    read_lag: Callable[[], float] | None = None
    read_memory: Callable[[], float] = memory_in_use
    read_queue: Callable[[], float] = waiting_calls

    @property
    def level(self) -> LoadLevel:
        """The level of the most loaded event loop that runs flows with this policy; normal when none does."""
        return max((sampler.meter.level for sampler in _samplers_of(self).values()), default=LoadLevel.NORMAL)

    def enabled(self, feature: str) -> bool:
        """Tell whether a feature is on; one that is not registered always is."""
        off_at = dict(self.features).get(feature)
        return off_at is None or self.level < off_at

    @contextmanager
    def around_run(self, run: Any) -> Iterator[None]:
        """Sample while `run` is active."""
        samplers, loop = _samplers_of(self), asyncio.get_running_loop()
        sampler = samplers.get(loop)
        if sampler is None:
            sampler = samplers[loop] = _Sampler(self, loop)
        sampler.runs[run] = None
        try:
            yield
        finally:
            del sampler.runs[run]
            if not sampler.runs:
                sampler.stop()
                del samplers[loop]

    def filter_event(self, event: Event) -> Event | None:
        """Return `event` as the level lets it be, or ``None`` when it is left out."""
        level = self.level
        if level is LoadLevel.NORMAL:
            return event
        off_at = dict(self.features)
        if event.kind in _DETAILS and level >= off_at[DETAILED_TRACING]:
            return None
        if event.kind is EventKind.CHUNK and level >= min(off_at[PROGRESS], off_at[INPUT_OUTPUT_CAPTURE]):
            return None
        if event.kind is EventKind.PROGRESS and level >= off_at[PROGRESS]:
            return None
        return _without_content(event) if level >= off_at[INPUT_OUTPUT_CAPTURE] else event


def _without_content(event: Event) -> Event:
    result = event.result
    if event.data is None and not isinstance(result, StepResult):
        return event
    if isinstance(result, StepResult):
        result = attrs.evolve(result, output=None, branch_context=None)
    detail = {**(event.detail or {}), "left_out": INPUT_OUTPUT_CAPTURE}
    return attrs.evolve(event, data=None, result=result, detail=detail)


class _Sampler:
    """Takes readings on one loop while runs are active: a timer, which is gone with the last of them."""

    def __init__(self, policy: GracefulDegradation, loop: asyncio.AbstractEventLoop) -> None:
        self.runs: dict[Any, None] = {}
        thresholds = Thresholds(policy.lag, policy.memory, policy.queue)
        self.meter = LevelMeter(thresholds, policy.recover_after, policy.relief)
        self._policy = policy
        self._loop = loop
        self._due = loop.time() + policy.every
        self._timer = loop.call_at(self._due, self._sample)

    def stop(self) -> None:
        """Take no more readings."""
        self._timer.cancel()

    def _sample(self) -> None:
        policy, time_now = self._policy, self._loop.time()
        late = time_now - self._due if policy.read_lag is None else policy.read_lag()
        reading = Reading(lag_s=max(0.0, late), memory=policy.read_memory(), queue=policy.read_queue())
        before = self.meter.level
        level = self.meter.take(reading, time_now)
        if level is not before:
            self._tell(before, level, reading)
        self._due = time_now + policy.every
        self._timer = self._loop.call_at(self._due, self._sample)

    def _tell(self, before: LoadLevel, level: LoadLevel, reading: Reading) -> None:
        off = [name for name, off_at in self._policy.features if off_at <= level]
        logger.log(
            logging.WARNING if level > before else logging.INFO,
            "load is %s, was %s (loop %.3g s late, %.0f%% of memory, %g calls wait); off: %s",
            level.name.lower(),
            before.name.lower(),
            reading.lag_s,
            reading.memory * 100,
            reading.queue,
            ", ".join(off) or "nothing",
        )
        detail = {
            "from": before.name.lower(),
            "to": level.name.lower(),
            **attrs.asdict(reading),
            "off": off,
            "on": [name for name, off_at in self._policy.features if off_at > level],
        }
        for run in self.runs:
            if run.observers is not None:
                run.observers.post(
                    Event(kind=EventKind.LOAD, run_id=run.run_id, trace_id=run.trace_id, at=time.time(), detail=detail)
                )


_samplers: dict[int, dict[asyncio.AbstractEventLoop, _Sampler]] = {}


def _samplers_of(policy: GracefulDegradation) -> dict[asyncio.AbstractEventLoop, _Sampler]:
    """Return the samplers of one policy object, which is frozen and cannot hold them."""
    key = id(policy)
    if key not in _samplers:
        _samplers[key] = {}
        weakref.finalize(policy, _samplers.pop, key, None).atexit = False
    return _samplers[key]
