"""Exporters: to a collector by OTLP over HTTP or gRPC, and to standard error."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from flow.errors import ConfigurationError
from flow.privacy import mask
from flow_otel._delivery import Delivery, guarded
from flow_otel._options import Options

_DEFAULT_ENDPOINT: Final = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}


def span_processors(options: Options, deliveries: list[Delivery]) -> list[SpanProcessor]:
    """Return a processor for each exporter of spans that is switched on; adds what is known of their ways."""
    return [_span_processor(name, options, deliveries) for name in options.exporters("traces")]


def metric_readers(options: Options, deliveries: list[Delivery]) -> list[MetricReader]:
    """Return a reader for each exporter of metrics that is switched on; adds what is known of their ways."""
    return [_metric_reader(name, options, deliveries) for name in options.exporters("metrics")]


def _span_processor(name: str, options: Options, deliveries: list[Delivery]) -> SpanProcessor:
    if name == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr))
    exporter: SpanExporter = _otlp("traces", options)
    deliveries.append(Delivery("spans", _collector("traces", options)))
    return BatchSpanProcessor(guarded(exporter, deliveries[-1], SpanExportResult.FAILURE))


def _metric_reader(name: str, options: Options, deliveries: list[Delivery]) -> MetricReader:
    if name == "console":
        return PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stderr))
    exporter: MetricExporter = _otlp("metrics", options)
    deliveries.append(Delivery("metrics", _collector("metrics", options)))
    return PeriodicExportingMetricReader(guarded(exporter, deliveries[-1], MetricExportResult.FAILURE))


def _otlp(signal: str, options: Options) -> Any:
    """Make an exporter; what `options` leave open it reads from the variables itself."""
    protocol = options.protocol_for(signal)
    settled: dict[str, Any] = {}
    if options.headers:
        settled["headers"] = dict(options.headers)
    if options.endpoint is not None:
        settled["endpoint"] = _endpoint(options.endpoint, protocol, signal)
    exporter = _grpc_exporter(signal) if protocol == "grpc" else _http_exporter(signal)
    return exporter(**settled)


def _endpoint(base: str, protocol: str, signal: str) -> str:
    return base if protocol == "grpc" else f"{base.rstrip('/')}/v1/{signal}"


def _http_exporter(signal: str) -> Any:
    if signal == "traces":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter


def _grpc_exporter(signal: str) -> Any:
    try:
        if signal == "traces":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    except ImportError as error:
        raise ConfigurationError(
            f"the OTLP protocol grpc needs a package that is not installed: {error}",
            hint="pip install 'flow-otel[grpc]', or choose the protocol http/protobuf",
        ) from error
    return OTLPMetricExporter


def _collector(signal: str, options: Options) -> str:
    """Name the collector, as it is found in the end."""
    variables = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    named = options.endpoint or next((os.environ[name] for name in variables if os.environ.get(name)), None)
    return mask(named or _DEFAULT_ENDPOINT[options.protocol_for(signal)])
