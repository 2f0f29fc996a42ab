"""The tracer: counts what the events of runs tell, and what the runs spend."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from prometheus_client import REGISTRY, CollectorRegistry

from flow import (
    BaseStep,
    Binder,
    Event,
    EventKind,
    FlowError,
    PauseSignal,
    Run,
    RunResult,
    Scope,
    StepResult,
    StreamChunk,
    Tracer,
    Usage,
)
from flow_prometheus._categories import Categories
from flow_prometheus._metrics import BREAKER_STATES, Metrics, metrics_in
from flow_prometheus._options import MAX_SERIES, RUN_BUCKETS, STEP_BUCKETS, Options
from flow_prometheus._server import Serving, served

logger = logging.getLogger("flow.prometheus")

_MOST_ENDED = 1000
"""Runs that have ended and whose last events are still to come; a run that never tells its end is forgotten."""


class PrometheusTracer(Tracer):
    """Counts what runs do, in metrics of a registry of ``prometheus_client``.

    Tracers that share a registry and a namespace share the metrics, whatever thread their flows run in.

    :param registry: where the metrics are; the default one of ``prometheus_client`` when ``None``.
    :param namespace: the first word of the names of all metrics.
    :param max_series: how many pipelines, and how many steps of all of them, have series of their own; what comes
        later is counted as ``other``, and a warning says so once.
    :param step_buckets: upper bounds of the histogram of step durations, in seconds.
    :param run_buckets: upper bounds of the histogram of run durations, in seconds.
    :param port: serve the registry at this TCP port from the first run on, until no tracer that does is open; 0 for
        any free one. One that is taken is a warning: of several workers on a machine the first one has it.
    :param host: the interface to serve at.

    Labels hold names of pipelines and steps, never inputs, outputs, ids or texts of errors. Raises
    `ConfigurationError` for a wrong option, and when the registry has such metrics with other options.

    >>> from flow import Flow, Step
    >>> registry = CollectorRegistry()
    >>> Flow(Step("parse", int), tracers=[PrometheusTracer(registry)]).run("twelve").success
    False
    >>> labels = {"pipeline": "pipeline", "step": "parse", "outcome": "failed"}
    >>> registry.get_sample_value("flow_steps_total", labels)
    1.0
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        namespace: str = "flow",
        max_series: int = MAX_SERIES,
        step_buckets: Sequence[float] = STEP_BUCKETS,
        run_buckets: Sequence[float] = RUN_BUCKETS,
        port: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._options = Options(
            namespace=namespace,
            max_series=max_series,
            step_buckets=step_buckets,
            run_buckets=run_buckets,
            port=port,
            host=host,
        )
        self._registry = REGISTRY if registry is None else registry
        self._metrics = metrics_in(self._registry, self._options)
        self._categories = Categories(max_series)
        self._serving: Serving | None = None
        self._tried_to_serve = False
        self._pipelines: dict[str, str] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._take: Mapping[str, Callable[[str, Event], None]] = {
            EventKind.RUN_STARTED: self._run_started,
            EventKind.RUN_RESUMED: self._run_resumed,
            EventKind.RUN_FINISHED: self._run_finished,
            EventKind.STEP_FINISHED: self._step_finished,
            EventKind.ATTEMPT_FAILED: self._attempt_failed,
            EventKind.RETRY: self._retry,
            EventKind.FALLBACK: self._fallback,
            EventKind.CACHE: self._cache,
            EventKind.CHUNK: self._chunk,
            EventKind.PAUSED: self._paused,
            EventKind.CANCELLED: self._cancelled,
            EventKind.THROTTLED: self._throttled,
            EventKind.USAGE_WARNING: self._usage_warning,
            EventKind.BREAKER: self._breaker,
            EventKind.DROPPED: self._dropped,
        }

    @classmethod
    def with_options(cls, options: Options) -> Self:
        """Make a tracer from checked options; its metrics are in the default registry."""
        return cls(
            namespace=options.namespace,
            max_series=options.max_series,
            step_buckets=options.step_buckets,
            run_buckets=options.run_buckets,
            port=options.port,
            host=options.host,
        )

    @property
    def url(self) -> str | None:
        """Where the metrics are served; ``None`` when they are not."""
        return None if self._serving is None else self._serving.url

    def wrap_step(self, step: BaseStep[Any, Any], binder: Binder) -> None:
        """Remember the step, to classify its errors; events are enough otherwise."""
        self._categories.learn(step, binder)

    @contextmanager
    def around_run(self, run: Run) -> Iterator[None]:
        """Count the run as one in progress, and what it spends when it spends it."""
        self._serve()
        if not self._listen_to_spending(run):
            yield  # another tracer with the same metrics counts this run
            return
        pipeline = self._metrics.pipelines.of(run.pipeline)
        self._pipelines[run.run_id] = pipeline
        self._ended.pop(run.run_id, None)
        in_progress = self._metrics.runs_in_progress.of(pipeline)
        in_progress.inc()
        try:
            yield
        except asyncio.CancelledError:
            raise  # its end is told by an event
        except BaseException as error:
            reason = error.code if isinstance(error, FlowError) else type(error).__name__
            self._metrics.runs_lost.of(pipeline, self._metrics.reasons.of(reason)).inc()
            raise
        finally:
            in_progress.dec()
            self._note_end(run.run_id)

    def on_event(self, event: Event) -> None:
        """Count what `event` tells."""
        take = self._take.get(event.kind)
        if take is None:
            return
        pipeline = self._pipelines.get(event.run_id)
        if pipeline is not None:
            take(pipeline, event)

    async def aclose(self) -> None:
        """Stop serving when no other tracer serves the registry there; the metrics stay in it."""
        serving, self._serving = self._serving, None
        self._tried_to_serve = False
        if serving is not None:
            await asyncio.to_thread(serving.leave)

    def _serve(self) -> None:
        if self._options.port is None or self._tried_to_serve:
            return
        self._tried_to_serve = True
        try:
            self._serving = served(self._registry, self._options.host, self._options.port)
        except OSError as error:
            logger.warning(
                "metrics are not served at port %d of %s: %s. Runs go on; of several workers on a machine one can have"
                " the port",
                self._options.port,
                self._options.host,
                error.strerror or error,
            )

    def _note_end(self, run_id: str) -> None:
        self._ended[run_id] = None
        while len(self._ended) > _MOST_ENDED:
            forgotten, _ = self._ended.popitem(last=False)
            self._pipelines.pop(forgotten, None)

    # -- runs --

    def _run_started(self, pipeline: str, event: Event) -> None:
        self._metrics.runs_started.of(pipeline).inc()

    def _run_resumed(self, pipeline: str, event: Event) -> None:
        self._metrics.runs_resumed.of(pipeline).inc()

    def _run_finished(self, pipeline: str, event: Event) -> None:
        if isinstance(event.result, RunResult):
            status = event.result.status.value
            self._metrics.runs_finished.of(pipeline, status).inc()
            self._metrics.run_duration.of(pipeline, status).observe(event.result.latency_s)

    def _dropped(self, pipeline: str, event: Event) -> None:
        self._metrics.events_dropped.of(pipeline).inc(event.payload.dropped)

    # -- steps --

    def _step_finished(self, pipeline: str, event: Event) -> None:
        result = event.result
        if not isinstance(result, StepResult):
            return
        metrics = self._metrics
        step = metrics.steps.of(pipeline, event.path)
        if result.replayed:
            metrics.steps_ended.of(*step, "replayed").inc()
        elif result.cached:
            metrics.steps_ended.of(*step, "cached").inc()
        else:
            executed = metrics.executed(step)
            (executed.completed if result.success else executed.failed)()
            executed.took(result.latency_s)
            executed.attempted()
            if not result.success and not _came_from_inside(result):
                metrics.failures.of(*step, self._categories.of(result.error, event.step)).inc()

    def _attempt_failed(self, pipeline: str, event: Event) -> None:
        step = self._metrics.steps.of(pipeline, event.path)
        self._metrics.attempt_failures.of(*step, self._categories.of(event.error, event.step)).inc()

    def _retry(self, pipeline: str, event: Event) -> None:
        step = self._metrics.steps.of(pipeline, event.path)
        self._metrics.retries.of(*step).inc()
        self._metrics.attempts.of(*step).inc()

    def _fallback(self, pipeline: str, event: Event) -> None:
        self._metrics.fallbacks.of(*self._metrics.steps.of(pipeline, event.path)).inc()

    def _cache(self, pipeline: str, event: Event) -> None:
        outcome = self._metrics.reasons.of(event.payload.outcome)
        self._metrics.cache.of(*self._metrics.steps.of(pipeline, event.path), outcome).inc()

    def _chunk(self, pipeline: str, event: Event) -> None:
        restarts = isinstance(event.chunk, StreamChunk) and event.chunk.meta and event.chunk.meta.get("restart")
        if not restarts:
            self._metrics.chunks.of(*self._metrics.steps.of(pipeline, event.path)).inc()

    def _paused(self, pipeline: str, event: Event) -> None:
        step = self._metrics.steps.of(pipeline, event.path)
        self._interrupted(step, "paused")
        if isinstance(event.error, PauseSignal) and event.error.path in ("", event.path):  # not the steps around it
            self._metrics.pauses.of(*step).inc()

    def _cancelled(self, pipeline: str, event: Event) -> None:
        self._interrupted(self._metrics.steps.of(pipeline, event.path), "cancelled")

    def _interrupted(self, step: tuple[str, str], outcome: str) -> None:
        self._metrics.steps_ended.of(*step, outcome).inc()
        self._metrics.attempts.of(*step).inc()

    # -- policies --

    def _throttled(self, pipeline: str, event: Event) -> None:
        waits = event.payload
        labels = pipeline, self._metrics.reasons.of(waits.policy), self._metrics.limits.of(waits.limit)
        self._metrics.throttled.of(*labels).inc()
        if waits.delay_s > 0:
            self._metrics.throttled_wait.of(*labels).inc(waits.delay_s)

    def _usage_warning(self, pipeline: str, event: Event) -> None:
        self._metrics.usage_warnings.of(pipeline, self._metrics.reasons.of(event.payload.limit)).inc()

    def _breaker(self, pipeline: str, event: Event) -> None:
        change = event.payload
        name, state = self._metrics.breakers.of(change.name), self._metrics.reasons.of(change.after)
        self._metrics.breaker_changes.of(name, state).inc()
        for known in BREAKER_STATES:
            self._metrics.breaker_state.of(name, known).set(known == state)

    # -- spending --

    def _listen_to_spending(self, run: Run) -> bool:
        """Begin to count what `run` spends; False when somebody counts it in these metrics already."""
        if run.spending is None:
            run.spending = {}
        if self._metrics in run.spending:
            return False
        run.spending[self._metrics] = _Spending(self._metrics, self._metrics.pipelines.of(run.pipeline))
        return True


class _Spending:
    """Counts what one run spends, called where it is spent: agents in threads and retries included, replays not."""

    __slots__ = ("_metrics", "_pipeline")

    def __init__(self, metrics: Metrics, pipeline: str) -> None:
        self._metrics = metrics
        self._pipeline = pipeline

    def __call__(self, scope: Scope, usage: Usage) -> None:
        step = self._metrics.steps.of(self._pipeline, scope.path)
        if usage.cost_usd > 0:
            self._metrics.cost.of(*step).inc(usage.cost_usd)
        if usage.input_tokens > 0:
            self._metrics.tokens.of(*step, "input").inc(usage.input_tokens)
        if usage.output_tokens > 0:
            self._metrics.tokens.of(*step, "output").inc(usage.output_tokens)
        if usage.requests > 0:
            self._metrics.requests.of(*step).inc(usage.requests)


def _came_from_inside(result: StepResult) -> bool:
    """Tell whether a step failed because one inside it did, which has been counted itself."""
    return any(child.error is result.error for child in result.children if not child.success)
