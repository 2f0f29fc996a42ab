"""The live metrics: what there is, under which names and labels, and one set of them per registry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.metrics import MetricWrapperBase

from flow.errors import ConfigurationError
from flow_prometheus._labels import Labels, StepLabels
from flow_prometheus._options import Options

MetricT = TypeVar("MetricT", bound=MetricWrapperBase)

_RUN = ("pipeline",)
_STEP = ("pipeline", "step")
BREAKER_STATES = ("closed", "half_open", "open")


class Family(Generic[MetricT]):
    """One metric and its series by the values of their labels: a lookup costs a tenth of what ``labels`` costs."""

    __slots__ = ("_series", "metric")

    def __init__(self, metric: MetricT) -> None:
        self.metric = metric
        self._series: dict[tuple[str, ...], MetricT] = {}

    def of(self, *labels: str) -> MetricT:
        """Return the series with these labels, in the order in which the metric declares them."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self.metric.labels(*labels)
        return series


@attrs.frozen
class Executed:
    """What an executed step is counted with, looked up once: nothing else is counted as often."""

    completed: Callable[[], None]
    failed: Callable[[], None]
    took: Callable[[float], None]
    attempted: Callable[[], None]


class Metrics:
    """The metrics of all tracers that share a registry and a namespace; registered, and scraped, as one."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.pipelines = Labels(options.max_series, "pipelines")
        self.steps = StepLabels(options.max_series)
        self.limits = Labels(options.max_series, "rate limits and bulkheads")
        self.breakers = Labels(options.max_series, "circuit breakers")
        self.reasons = Labels(options.max_series, "reasons")
        self._all: list[MetricWrapperBase] = []
        self._executed: dict[tuple[str, str], Executed] = {}
        self._make_run_metrics()
        self._make_step_metrics()
        self._make_spending_metrics()
        self._make_policy_metrics()

    def executed(self, step: tuple[str, str]) -> Executed:
        """Return what counts an execution of the step with these labels."""
        known = self._executed.get(step)
        if known is None:
            known = self._executed[step] = Executed(
                completed=self.steps_ended.of(*step, "completed").inc,
                failed=lambda: self.steps_ended.of(*step, "failed").inc(),
                took=self.step_duration.of(*step).observe,
                attempted=self.attempts.of(*step).inc,
            )
        return known

    def _make_run_metrics(self) -> None:
        self.runs_started = self._counter("runs_started", "Executions of runs that began, resumed ones too", _RUN)
        self.runs_resumed = self._counter("runs_resumed", "Executions that went on with a stored run", _RUN)
        self.runs_finished = self._counter("runs_finished", "Executions of runs that ended", (*_RUN, "status"))
        self.runs_lost = self._counter(
            "runs_lost", "Executions that had to be given up, such as for a store that failed", (*_RUN, "reason")
        )
        self.runs_in_progress = self._gauge("runs_in_progress", "Runs that are being executed", _RUN, "livesum")
        self.run_duration = self._histogram(
            "run_duration",
            "Time from the start of an execution to its end",
            (*_RUN, "status"),
            self.options.run_buckets,
        )
        self.events_dropped = self._counter(
            "events_dropped", "Events that came too fast to be counted: the metrics lack them", _RUN
        )

    def _make_step_metrics(self) -> None:
        self.steps_ended = self._counter("steps", "Steps that ended, by what became of them", (*_STEP, "outcome"))
        self.step_duration = self._histogram(
            "step_duration", "Time of steps that were executed, attempts and waits included", _STEP,
            self.options.step_buckets,
        )  # fmt: skip
        self.attempts = self._counter("step_attempts", "Attempts of steps that were executed", _STEP)
        self.retries = self._counter("step_retries", "Attempts that followed a failed one", _STEP)
        self.fallbacks = self._counter("step_fallbacks", "Fallbacks that ran in the place of their step", _STEP)
        self.attempt_failures = self._counter(
            "step_attempt_failures", "Failed attempts of steps that may be retried", (*_STEP, "category")
        )
        self.failures = self._counter(
            "step_failures",
            "Steps that failed for good, each where it happened and not around it",
            (*_STEP, "category"),
        )
        self.cache = self._counter("step_cache", "Looks into the cache", (*_STEP, "outcome"))
        self.chunks = self._counter("step_chunks", "Pieces that were streamed", _STEP)
        self.pauses = self._counter("step_pauses", "Questions that paused a run", _STEP)

    def _make_spending_metrics(self) -> None:
        self.cost = self._counter("cost_usd", "Money that was spent, in US dollars", _STEP)
        self.tokens = self._counter("tokens", "Tokens that were used", (*_STEP, "direction"))
        self.requests = self._counter("requests", "Requests to models that were counted", _STEP)
        self.usage_warnings = self._counter(
            "usage_warnings", "Times that a share of a usage limit was reached", (*_RUN, "limit")
        )

    def _make_policy_metrics(self) -> None:
        named = (*_RUN, "policy", "limit")
        self.throttled = self._counter("throttled", "Calls that had to wait for a rate limit or a bulkhead", named)
        self.throttled_wait = self._counter("throttled_wait_seconds", "Waits that rate limits announced", named)
        self.breaker_state = self._gauge(
            "breaker_state", "1 for the state of a circuit breaker, known after its first change", ("breaker", "state"),
            "livemax",
        )  # fmt: skip
        self.breaker_changes = self._counter("breaker_changes", "Changes of circuit breakers", ("breaker", "to"))

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Family[Counter]:
        return self._family(Counter(name, text, labels, namespace=self.options.namespace, registry=None))

    def _gauge(self, name: str, text: str, labels: Sequence[str], among_processes: str) -> Family[Gauge]:
        gauge = Gauge(
            name, text, labels, namespace=self.options.namespace, registry=None,
            multiprocess_mode="livesum" if among_processes == "livesum" else "livemax",
        )  # fmt: skip
        return self._family(gauge)

    def _histogram(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> Family[Histogram]:
        histogram = Histogram(
            name, text, labels, namespace=self.options.namespace, unit="seconds", buckets=bounds, registry=None
        )
        return self._family(histogram)

    def _family(self, metric: MetricT) -> Family[MetricT]:
        self._all.append(metric)
        return Family(metric)

    # -- what a registry asks --

    def describe(self) -> Iterable[Metric]:
        """Yield the metrics without their series: the registry compares their names with those it has."""
        for metric in self._all:
            yield from metric.describe()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics as they stand."""
        for metric in self._all:
            yield from metric.collect()


_shared: WeakKeyDictionary[CollectorRegistry, dict[str, Metrics]] = WeakKeyDictionary()
_lock = threading.Lock()


def metrics_in(registry: CollectorRegistry, options: Options) -> Metrics:
    """Return the metrics of `registry` under the namespace of `options`, made when they are first asked for.

    Raises `ConfigurationError` when they are there with other options, or when something else has taken a name.
    """
    with _lock:
        known = _shared.setdefault(registry, {})
        metrics = known.get(options.namespace)
        if metrics is None:
            metrics = known[options.namespace] = _registered(registry, options)
    ours, theirs = _form(options), _form(metrics.options)
    if ours != theirs:
        raise ConfigurationError(
            f"the metrics of namespace {options.namespace!r} are in this registry already, with {theirs}",
            hint="Give all tracers of a registry the same options, or this one a namespace of its own",
        )
    return metrics


def _form(options: Options) -> str:
    buckets = ", ".join(f"{name}={list(bounds)}" for name, bounds in _buckets(options))
    return f"max_series={options.max_series}, {buckets}"


def _buckets(options: Options) -> Iterable[tuple[str, Sequence[float]]]:
    yield "step_buckets", options.step_buckets
    yield "run_buckets", options.run_buckets


def _registered(registry: CollectorRegistry, options: Options) -> Metrics:
    metrics = Metrics(options)
    try:
        registry.register(metrics)
    except ValueError as error:  # DuplicateTimeseries, which older versions of the client do not have
        raise ConfigurationError(
            f"the registry has metrics whose names begin with {options.namespace}_ already: {error}",
            hint='Choose another namespace: PrometheusTracer(namespace="workflows"), or namespace in [prometheus]',
        ) from error
    return metrics
