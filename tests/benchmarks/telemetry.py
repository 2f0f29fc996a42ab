"""What tracing costs: spans by flow-otel beside spans written by hand, through a batch exporter that sends nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from flow_otel import OtelTracer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from tests.benchmarks._measure import Pair, Work, versus_bare
from tests.benchmarks.steps import CHAIN, bare_work, chain_of, flow_work, noop


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _batching(**settings: Any) -> TracerProvider:
    provider = TracerProvider(**settings)
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return provider


def traced_work(length: int = CHAIN, **settings: Any) -> Work:
    """The work of running a chain of steps once with a span each, and one around them; no metrics."""
    tracer = OtelTracer(tracer_provider=_batching(**settings), meter_provider=NoOpMeterProvider(), content=False)
    return flow_work(chain_of(noop, length), tracers=[tracer])


def by_hand(length: int = CHAIN, **settings: Any) -> Work:
    """The work of calling the same function as often, in spans that are written by hand."""
    tracer = _batching(**settings).get_tracer("by hand")

    async def work() -> Any:
        value = 1
        with tracer.start_as_current_span("run"):
            for _ in range(length):
                with tracer.start_as_current_span("step"):
                    value = await noop(value)
        return value

    return work


@versus_bare("chain of 100, otel batch (bare: spans by hand)", per="step", units=CHAIN, at_most=25.0, ratio_at_most=1.3)
def batched() -> Pair:
    return traced_work(), by_hand()


@versus_bare("chain of 100, otel, not sampled (bare: spans by hand)", per="step", units=CHAIN, ratio_at_most=1.5)
def not_sampled() -> Pair:
    return traced_work(sampler=ALWAYS_OFF), by_hand(sampler=ALWAYS_OFF)


@versus_bare("chain of 100 with retries, otel batch (bare: two spans by hand)", per="step", units=CHAIN)
def with_attempts() -> Pair:
    tracer = OtelTracer(tracer_provider=_batching(), meter_provider=NoOpMeterProvider(), content=False)
    return flow_work(chain_of(noop, retries=2), tracers=[tracer]), by_hand(2 * CHAIN)


@versus_bare("chain of 100, otel batch and metrics (bare: both by hand)", per="step", units=CHAIN, ratio_at_most=1.3)
def with_metrics() -> Pair:
    meters = MeterProvider([InMemoryMetricReader()])
    spans, durations = _batching().get_tracer("by hand"), meters.get_meter("by hand").create_histogram("duration", "s")

    async def bare() -> Any:
        value = 1
        with spans.start_as_current_span("run"):
            for index in range(CHAIN):
                started = time.perf_counter()
                with spans.start_as_current_span("step"):
                    value = await noop(value)
                    told = {"workflow": "pipeline", "step": f"s{index}"}
                    durations.record(time.perf_counter() - started, told)
        return value

    meters = MeterProvider([InMemoryMetricReader()])
    return flow_work(chain_of(noop), tracers=[OtelTracer(_batching(), meters, content=False)]), bare


@versus_bare("chain of 100, nothing switched on (bare: plain calls)", per="step", units=CHAIN, at_most=2.0)
def untraced() -> Pair:
    return flow_work(chain_of(noop)), bare_work(noop)


SCENARIOS = [batched, not_sampled, with_attempts, with_metrics, untraced]
