"""The README lists every metric with its labels, and asks for none that does not exist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from flow_prometheus import StoreCollector
from flow_prometheus._metrics import Metrics
from flow_prometheus._options import Options
from prometheus_client import Metric
from prometheus_client.metrics_core import GaugeMetricFamily

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def listed() -> Mapping[str, set[str]]:
    """The metrics in the tables, with their labels."""
    rows = re.findall(r"^\| `(flow_\w+)` \| ([^|]*)\|", README, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def live() -> Mapping[str, set[str]]:
    families = [value for value in vars(Metrics(Options())).values() if type(value).__name__ == "Family"]
    return {shown_name(next(iter(f.metric.describe()))): set(f.metric._labelnames) for f in families}


def of_a_store() -> Mapping[str, set[str]]:
    described = StoreCollector("nosuch://").describe()
    return {m.name: set(m._labelnames) for m in described if isinstance(m, GaugeMetricFamily)}


def shown_name(metric: Metric) -> str:
    return metric.name + ("_total" if metric.type == "counter" else "")


def test_tables_list_all_metrics_with_their_labels() -> None:
    assert listed() == {**live(), **of_a_store()}


def test_questions_and_alerts_ask_for_metrics_that_exist() -> None:
    questions = README.partition("## Questions and alerts")[2]
    metrics = [*Metrics(Options()).describe(), *StoreCollector("nosuch://").describe()]
    known = {metric.name + suffix for metric in metrics for suffix in _SUFFIXES[metric.type]}
    asked = set(re.findall(r"\bflow_\w+", questions))
    assert len(asked) > 8
    assert asked <= known
