"""OpenTelemetry for flow: spans for runs, steps and attempts, GenAI conventions, metrics, OTLP.

`OtelTracer` makes a span for each run, step and attempt and keeps it current while it lasts, so that spans which agents
make themselves nest inside. `AsTool` marks a step as the call of a tool. `init_telemetry` connects the program.

    >>> from flow import Flow, Step
    >>> from flow_otel import OtelTracer
    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    >>> exporter, provider = InMemorySpanExporter(), TracerProvider()
    >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
    >>> Flow(Step("upper", str.upper), tracers=[OtelTracer(tracer_provider=provider)]).run("hello").output
    'HELLO'
    >>> [span.name for span in exporter.get_finished_spans()]
    ['step upper', 'invoke_workflow pipeline']

Importing this package does not import OpenTelemetry: that happens when a tracer is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flow.hookspecs import hookimpl

if TYPE_CHECKING:
    from flow import Tracer
    from flow_otel._initialising import init_telemetry
    from flow_otel._tool import AsTool
    from flow_otel._tracer import OtelTracer

__all__ = ["AsTool", "OtelTracer", "flow_open_tracer", "init_telemetry"]

_MODULE_OF = {"AsTool": "_tool", "OtelTracer": "_tracer", "init_telemetry": "_initialising"}


@hookimpl
def flow_open_tracer(name: str, settings: Mapping[str, Any]) -> Tracer | None:
    """Open the tracer called ``otel`` as its settings table and the ``OTEL_*`` variables say.

    `SettingsError` names a wrong key or variable, `ConfigurationError` a package that is missing.
    """
    if name != "otel":
        return None
    from flow_otel._options import Options
    from flow_otel._tracer import OtelTracer

    return OtelTracer.with_options(Options.from_settings(settings))


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'flow_otel' has no attribute {name!r}")
    value = vars(importlib.import_module(f"flow_otel.{_MODULE_OF[name]}"))[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
