"""The tracer keeps the promises every tracer gives, sampled or not, silent and talkative, with metrics and without."""

from __future__ import annotations

from flow_otel import OtelTracer
from flow_testkit import TracerSuite
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from flow import Tracer


def printing() -> TracerProvider:
    """Return a provider that prints all spans, so that the suite sees what leaves the process."""
    import sys

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stdout)))
    return provider


class TestOtelTracer(TracerSuite):
    def make_tracer(self) -> Tracer:
        return OtelTracer(printing())


class TestOtelTracerWithMetrics(TracerSuite):
    def make_tracer(self) -> Tracer:
        return OtelTracer(printing(), MeterProvider([InMemoryMetricReader()]))


class TestOtelTracerThatSamplesNothing(TracerSuite):
    def make_tracer(self) -> Tracer:
        return OtelTracer(TracerProvider(sampler=ALWAYS_OFF))


class TestTalkativeOtelTracer(TracerSuite):
    shows_content = True

    def make_tracer(self) -> Tracer:
        return OtelTracer(printing(), content=True)
