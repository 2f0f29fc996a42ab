"""Prometheus metrics of flow: live ones of a running program, and those of a store of runs.

`PrometheusTracer` counts what the runs of this process do; `StoreCollector` tells what a store holds. Both put their
metrics into a registry of ``prometheus_client``.

    >>> from flow import Flow, Step
    >>> from flow_prometheus import PrometheusTracer
    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> flow = Flow(Step("upper", str.upper), tracers=[PrometheusTracer(registry)])
    >>> flow.run("hello").output
    'HELLO'
    >>> registry.get_sample_value("flow_runs_finished_total", {"pipeline": "pipeline", "status": "completed"})
    1.0

Importing this package does not import ``prometheus_client``: that happens when a tracer is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flow.hookspecs import hookimpl

if TYPE_CHECKING:
    from flow import Tracer
    from flow_prometheus._collector import StoreCollector
    from flow_prometheus._tracer import PrometheusTracer

__all__ = ["PrometheusTracer", "StoreCollector", "flow_open_tracer"]

_MODULE_OF = {"PrometheusTracer": "_tracer", "StoreCollector": "_collector"}


@hookimpl
def flow_open_tracer(name: str, settings: Mapping[str, Any]) -> Tracer | None:
    """Open the tracer called ``prometheus`` as its settings table says; `SettingsError` names a wrong key."""
    if name != "prometheus":
        return None
    from flow_prometheus._options import Options
    from flow_prometheus._tracer import PrometheusTracer

    return PrometheusTracer.with_options(Options.from_settings(settings))


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'flow_prometheus' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flow_prometheus.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
