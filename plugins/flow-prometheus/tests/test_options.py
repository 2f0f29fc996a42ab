"""Options of the tracer, the collector and the settings table: what is accepted, and what is said about the rest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import flow_prometheus
import pytest
from flow_prometheus import PrometheusTracer, StoreCollector, flow_open_tracer
from flow_prometheus._metrics import Metrics
from prometheus_client import REGISTRY, CollectorRegistry, Counter

from flow import ConfigurationError, Flow, Kernel, Settings, SettingsError, Step


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"namespace": "my-app"}, "namespace must be a word that begins a metric's name, got 'my-app'"),
        ({"namespace": ""}, "namespace must be a word that begins a metric's name, got ''"),
        ({"namespace": "7up"}, "namespace must be a word that begins a metric's name, got '7up'"),
        ({"max_series": 0}, "max_series must be a whole number of at least 1, got 0"),
        ({"max_series": True}, "max_series must be a whole number of at least 1, got True"),
        ({"step_buckets": []}, "step_buckets must be a list of rising numbers of seconds above 0, got []"),
        ({"step_buckets": [1, 1]}, "step_buckets must be a list of rising numbers of seconds above 0, got [1, 1]"),
        ({"run_buckets": "1 2"}, "run_buckets must be a list of rising numbers of seconds above 0, got '1 2'"),
        ({"run_buckets": [1, float("inf")]}, "run_buckets must be a list of rising numbers of seconds above 0"),
        ({"port": 65536}, "port must be a number from 0 (any free one) to 65535, got 65536"),
        ({"port": "9464"}, "port must be a number from 0 (any free one) to 65535, got '9464'"),
        ({"host": ""}, "host must be the name or address of an interface, got ''"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PrometheusTracer(CollectorRegistry(), **options)
    assert str(caught.value).startswith(message)
    with pytest.raises(SettingsError) as refused:
        flow_open_tracer("prometheus", options)
    assert str(refused.value).startswith(f"the prometheus table: {message}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_runs": 0}, "max_runs must be a whole number of at least 1, got 0"),
        ({"min_interval": -1}, "min_interval must be a number of seconds, 0 or more, got -1"),
        ({"timeout": float("nan")}, "timeout must be a number of seconds, 0 or more, got nan"),
        ({"namespace": "a b"}, "namespace must be a word that begins a metric's name, got 'a b'"),
    ],
)
def test_a_wrong_option_of_the_collector_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StoreCollector("sqlite:///runs.db", **options)
    assert str(caught.value).startswith(message)


def test_an_unknown_setting_names_what_may_have_been_meant() -> None:
    with pytest.raises(SettingsError) as caught:
        flow_open_tracer("prometheus", {"ports": 9464})
    assert str(caught.value) == "the prometheus table: unknown setting ports. Did you mean port?"
    with pytest.raises(SettingsError) as caught:
        flow_open_tracer("prometheus", {"zzz": 1})
    known = "namespace, max_series, step_buckets, run_buckets, port, host"
    assert str(caught.value).endswith(f"The settings are {known}")


@pytest.fixture
def bucketed() -> Iterator[str]:
    """A namespace of the default registry that is taken out of it afterwards."""
    yield "settings_test"
    for collector in list(REGISTRY._collector_to_names):
        if isinstance(collector, Metrics) and collector.options.namespace == "settings_test":
            REGISTRY.unregister(collector)


def test_settings_reach_the_tracer(bucketed: str) -> None:
    table = {"namespace": bucketed, "step_buckets": [1, 2]}
    kernel = Kernel(Settings(tables={"prometheus": table}), only=["prometheus"])
    Flow(Step("upper", str.upper), tracers=["prometheus"], kernel=kernel).run("hello")
    name = f"{bucketed}_step_duration_seconds_bucket"
    found = [s.labels["le"] for m in REGISTRY.collect() for s in m.samples if s.name == name]
    assert found == ["1.0", "2.0", "+Inf"]


def test_tracers_of_one_registry_have_the_same_options() -> None:
    registry = CollectorRegistry()
    PrometheusTracer(registry)
    with pytest.raises(ConfigurationError, match=r"in this registry already, with max_series=500, .*\. Give all"):
        PrometheusTracer(registry, max_series=7)
    PrometheusTracer(registry, max_series=7, namespace="other")


def test_names_that_are_taken_are_told_and_nothing_is_left_behind() -> None:
    registry = CollectorRegistry()
    Counter("flow_steps", "somebody else's", registry=registry)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"names begin with flow_ already.*Choose another namespace"):
            PrometheusTracer(registry)
    assert registry.get_sample_value("flow_steps_total") == 0
    PrometheusTracer(registry, namespace="workflows")


def test_other_names_are_left_to_others() -> None:
    assert flow_open_tracer("otel", {}) is None


def test_the_client_is_imported_only_when_a_tracer_is_opened() -> None:
    program = (
        "import sys, flow_prometheus, flow_prometheus._command; assert 'prometheus_client' not in sys.modules\n"
        "flow_prometheus.flow_open_tracer('prometheus', {}); assert 'prometheus_client' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'PrometheusTracr'"):
        flow_prometheus.PrometheusTracr  # noqa: B018
    assert dir(flow_prometheus) == flow_prometheus.__all__ == sorted(flow_prometheus.__all__)
