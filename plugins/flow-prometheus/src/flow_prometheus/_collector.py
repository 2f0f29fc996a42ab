"""The metrics of a store of runs, read when somebody asks for them, but not more often than is good for the store."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext

import attrs
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from flow import StateBackend
from flow.privacy import mask
from flow_prometheus._labels import Labels
from flow_prometheus._options import MAX_SERIES, checked_count, checked_namespace, checked_seconds
from flow_prometheus._scan import PipelineTally, Reader, Snapshot

logger = logging.getLogger("flow.prometheus")

MAX_RUNS = 10_000
MIN_INTERVAL_S = 15.0
TIMEOUT_S = 8.0
_REST = 9
"""A reading that took long is followed by a rest of so many times as long: a tenth of the time is spent on reading."""
_STALE_AFTER = 3
"""Rests after which a snapshot is too old to be shown while the next reading does not end."""


@attrs.frozen
class _Reading:
    """What the last attempt to read the store came to, and until when it is good, on the collector's clock."""

    snapshot: Snapshot | None
    error: Exception | None
    fresh_until: float
    shown_until: float


class StoreCollector:
    """Tells what a store of runs holds: a collector for a registry of ``prometheus_client``.

    Registering it reads nothing. A scrape reads the store unless it was read a short time ago. A store that cannot be
    read, or not in time, gives ``flow_store_up 0`` and nothing else; the log says why.

    :param state: a URL such as ``"sqlite:///runs.db"``, opened for each reading; or a backend, which other event loops
        must be able to use, since it is read on one in a thread of its own.
    :param namespace: the first word of the names of all metrics.
    :param max_runs: how many runs are looked at in one reading; ``flow_store_truncated`` says of which status there
        are more. The newest count, and for the ages the oldest running and paused ones.
    :param min_interval: seconds between two readings; longer where a reading takes more than a tenth of it.
    :param timeout: seconds a scrape waits for a reading.
    :param max_series: how many pipelines have series of their own; further ones are counted as ``other``.
    :param clock: seconds that never go back, for tests.

    Raises `ConfigurationError` for a wrong option.

    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> registry.register(StoreCollector("sqlite:///nothing/here.db"))
    >>> registry.get_sample_value("flow_store_up")
    0.0
    """

    def __init__(
        self,
        state: str | StateBackend,
        *,
        namespace: str = "flow",
        max_runs: int = MAX_RUNS,
        min_interval: float = MIN_INTERVAL_S,
        timeout: float = TIMEOUT_S,
        max_series: int = MAX_SERIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._prefix = f"{checked_namespace(namespace)}_store"
        self._min_interval = checked_seconds("min_interval", min_interval)
        self._timeout = checked_seconds("timeout", timeout)
        labels = Labels(checked_count("max_series", max_series), "pipelines")
        self._reader = Reader(checked_count("max_runs", max_runs), labels)
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: _Reading | None = None
        self._under_way: threading.Event | None = None
        self._late: threading.Event | None = None

    @property
    def error(self) -> Exception | None:
        """Why the store could not be read the last time; ``None`` when it could, or was not yet."""
        return None if self._latest is None else self._latest.error

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values; reads nothing."""
        return list(self._families(None))

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the store, read now or a short time ago."""
        return list(self._families(self._snapshot() or _UNREAD))

    # -- reading --

    def _snapshot(self) -> Snapshot | None:
        with self._lock:
            if self._latest is not None and self._clock() < self._latest.fresh_until:
                return self._latest.snapshot
            if self._under_way is None:
                self._under_way = threading.Event()
                threading.Thread(
                    target=self._read, args=[self._under_way], name="flow-prometheus-store", daemon=True
                ).start()
            reading = self._under_way
        if not reading.wait(self._timeout) and self._late is not reading:
            self._late = reading
            logger.warning("%s is still being read after %g s", self._name(), self._timeout)
        with self._lock:
            latest = self._latest
        return latest.snapshot if latest is not None and self._clock() < latest.shown_until else None

    def _read(self, ended: threading.Event) -> None:
        """Read the store, in a thread of its own, and tell those who wait for it."""
        started, before = self._clock(), self.error
        snapshot = error = None
        try:
            snapshot = asyncio.run(self._snapshot_now())
        except Exception as raised:  # noqa: BLE001  whatever a backend raises: it is told as a metric and logged
            error = raised
        finally:
            now = self._clock()
            rest = max(self._min_interval, _REST * (now - started))
            shown_until = now + max(_STALE_AFTER * rest, self._timeout)
            with self._lock:
                self._latest = _Reading(snapshot, error, fresh_until=now + rest, shown_until=shown_until)
                self._under_way = None
            self._log(before, error)
            ended.set()

    async def _snapshot_now(self) -> Snapshot:
        async with self._opened() as backend:
            return await self._reader.read(backend)

    def _opened(self) -> AbstractAsyncContextManager[StateBackend]:
        if isinstance(self._state, str):
            from flow.cli import store_of

            return store_of(self._state).opened()
        return nullcontext(self._state)

    def _log(self, before: Exception | None, error: Exception | None) -> None:
        if error is not None and before is None:
            logger.warning("%s cannot be read: %s", self._name(), mask(" ".join(str(error).split())))
        elif error is None and before is not None:
            logger.warning("%s can be read again", self._name())

    def _name(self) -> str:
        if not isinstance(self._state, str):
            return "the store"
        from flow.cli import without_secrets

        return without_secrets(self._state)

    # -- metrics --

    def _families(self, snapshot: Snapshot | None) -> Iterator[Metric]:
        """Yield all metrics: with `snapshot`, or without any values when there is none."""
        up = self._gauge("up", "1 when the store could be read")
        if snapshot is not None:
            up.add_metric([], float(snapshot is not _UNREAD))
        yield up
        if snapshot is _UNREAD:
            return
        yield from self._about_the_reading(snapshot)
        yield from self._by_pipeline(snapshot)

    def _about_the_reading(self, snapshot: Snapshot | None) -> Iterator[Metric]:
        at = self._gauge("read_timestamp_seconds", "When the store was read")
        took = self._gauge("read_duration_seconds", "How long reading it took")
        examined = self._gauge("runs_examined", "How many runs were looked at")
        truncated = self._gauge("truncated", "1 when there are more runs than were looked at", "status")
        if snapshot is not None:
            at.add_metric([], snapshot.at)
            took.add_metric([], snapshot.took_s)
            examined.add_metric([], float(snapshot.examined))
            for status, there_are_more in snapshot.truncated.items():
                truncated.add_metric([status], float(there_are_more))
        yield from (at, took, examined, truncated)

    def _by_pipeline(self, snapshot: Snapshot | None) -> Iterator[Metric]:
        tallies = {} if snapshot is None else snapshot.pipelines
        runs = self._gauge("runs", "Stored runs by status", "pipeline", "status")
        age = self._gauge(
            "oldest_run_age_seconds", "How long the oldest run is running, or paused", "pipeline", "status"
        )
        tokens = self._gauge("tokens", "Tokens that the stored runs have used", "pipeline", "direction")
        for pipeline, tally in sorted(tallies.items()):
            for status, count in sorted(tally.runs.items()):
                runs.add_metric([pipeline, status], float(count))
            for status, since in sorted(tally.since.items()):
                age.add_metric([pipeline, status], max(0.0, time.time() - since))
            tokens.add_metric([pipeline, "input"], float(tally.input_tokens))
            tokens.add_metric([pipeline, "output"], float(tally.output_tokens))
        yield from (runs, age, tokens)
        for name, text, value in _OF_A_PIPELINE:
            gauge = self._gauge(name, text, "pipeline")
            for pipeline, tally in sorted(tallies.items()):
                number = value(tally)
                if number is not None:
                    gauge.add_metric([pipeline], float(number))
            yield gauge

    def _gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{self._prefix}_{name}", text, labels=labels)


_UNREAD = Snapshot(at=0.0, took_s=0.0, examined=0, truncated={}, pipelines={})
"""Stands for a store that could not be read."""

_OF_A_PIPELINE: tuple[tuple[str, str, Callable[[PipelineTally], float | None]], ...] = (
    ("runs_waiting", "Paused runs whose question somebody has to answer", lambda tally: tally.waiting),
    (
        "runs_overdue",
        "Paused runs whose time to answer is over and that nobody has gone on with",
        lambda tally: tally.overdue,
    ),
    ("runs_orphaned", "Running runs whose process is gone", lambda tally: tally.orphaned),
    ("cost_usd", "Money that the stored runs have spent, in US dollars", lambda tally: tally.cost_usd),
    ("requests", "Requests to models that the stored runs have made", lambda tally: tally.requests),
    (
        "last_success_timestamp_seconds",
        "When a run was completed last",
        lambda tally: tally.last_success,
    ),
)
