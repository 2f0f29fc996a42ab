"""Look into stored runs of flow: the values behind ``flow lens``.

    >>> from flow import RunRecord, StepRecord
    >>> from flow_lens import build_trace, statistics
    >>> run = RunRecord(run_id="one", pipeline="p", fingerprint="f", status="completed")
    >>> record = StepRecord(path="0:a", parent="", name="a", kind="step", status="completed", latency_s=0.5)
    >>> trace = build_trace(run, [record])
    >>> statistics([trace]).steps[0].p50_s
    0.5

A program reads runs with `load_trace`, compares them with `compare`, and follows one with `follow`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flow_lens._axis import Axis, Cut, axis_of
    from flow_lens._building import build_trace
    from flow_lens._compare import Comparison, Difference, Timing, compare
    from flow_lens._critical import critical_steps
    from flow_lens._following import follow
    from flow_lens._loading import load_trace
    from flow_lens._otlp import requests_of, spans_of
    from flow_lens._statistics import RunStatistics, Statistics, StepStatistics, statistics
    from flow_lens._trace import Answer, Trace, TraceStep

_HOMES = {
    "_axis": "Axis Cut axis_of",
    "_building": "build_trace",
    "_compare": "Comparison Difference Timing compare",
    "_critical": "critical_steps",
    "_following": "follow",
    "_loading": "load_trace",
    "_otlp": "requests_of spans_of",
    "_statistics": "RunStatistics Statistics StepStatistics statistics",
    "_trace": "Answer Trace TraceStep",
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Answer",
    "Axis",
    "Comparison",
    "Cut",
    "Difference",
    "RunStatistics",
    "Statistics",
    "StepStatistics",
    "Timing",
    "Trace",
    "TraceStep",
    "axis_of",
    "build_trace",
    "compare",
    "critical_steps",
    "follow",
    "load_trace",
    "requests_of",
    "spans_of",
    "statistics",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'flow_lens' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flow_lens.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
