"""Labels are few and hold names only."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flow_prometheus import PrometheusTracer
from flow_prometheus._labels import Labels, shown, step_path
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flow import Flow, Pipeline, Step


async def broken(data: Any) -> Any:
    raise ValueError(f"cannot parse {data}")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("0:fetch", "fetch"),
        ("2:refine/i3/0:generate", "refine/generate"),
        ("1:fan/left/0:score", "fan/left/score"),
        ("4:map/17/0:embed", "map/embed"),
        ("4:map/123456/0:sub/i12/3:embed", "map/sub/embed"),
        ("0:call/fallback", "call/fallback"),
        ("0:12:30", "12:30"),
        ("0:i3", "i3"),
        ("0:7", "7"),
        ("", "(run)"),
    ],
)
def test_path_is_told_without_numbers(path: str, names: str) -> None:
    assert step_path(path) == names


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("triage", "triage"),
        ("Ärger 例", "Ärger 例"),
        ("two\nlines\x1b[31m", "two\\nlines\\x1b[31m"),
        ("\ud800", "\\ud800"),
        ('"quoted\\', '"quoted\\'),
        ("uses sk-live-0123456789", "uses ****"),
        ("x" * 500, "x" * 117 + "..."),
    ],
)
def test_any_name_can_be_scraped(name: str, label: str, registry: CollectorRegistry) -> None:
    assert shown(name) == label
    Flow(Pipeline([Step(name, str)], name=name), tracers=[PrometheusTracer(registry)]).run("data")
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(registry).decode())}
    (sample,) = [s for s in families["flow_steps"].samples if s.name == "flow_steps_total"]
    assert sample.labels == {"pipeline": label, "step": label, "outcome": "completed"}


def test_further_pipelines_and_steps_are_other(
    registry: CollectorRegistry, total: Callable[..., float], caplog: pytest.LogCaptureFixture
) -> None:
    tracer = PrometheusTracer(registry, max_series=3)
    with caplog.at_level(logging.WARNING):
        for number in range(6):
            pipeline = Pipeline([Step("same", str), Step(f"own-{number}", str)], name=f"p{number}")
            assert Flow(pipeline, tracers=[tracer]).run("data").success
    assert total("flow_runs_finished_total", pipeline="p2") == 1
    assert total("flow_runs_finished_total", pipeline="p3") == 0
    assert total("flow_runs_finished_total", pipeline="other") == 3
    assert total("flow_steps_total", pipeline="p0", step="own-0") == 1
    assert total("flow_steps_total", pipeline="p1", step="other") == 1
    assert total("flow_steps_total", pipeline="other", step="other") == 6
    assert total("flow_steps_total") == 12
    warnings = [record.getMessage() for record in caplog.records if record.name == "flow.prometheus"]
    assert warnings == [
        "there are more than 3 steps: the metrics tell further ones as 'other'",
        "there are more than 3 pipelines: the metrics tell further ones as 'other'",
    ]


def test_number_of_series_is_bounded_whatever_comes(registry: CollectorRegistry) -> None:
    tracer = PrometheusTracer(registry, max_series=5)
    for number in range(40):
        Flow(Pipeline([Step(f"s{number}", str)], name=f"p{number}"), tracers=[tracer]).run("data")
    for metric in registry.collect():
        series = {tuple(sample.labels.values()) for sample in metric.samples if "le" not in sample.labels}
        assert len(series) <= 12, metric.name


def test_a_value_that_was_admitted_stays() -> None:
    labels = Labels(2, "things")
    assert [labels.of(value) for value in "abcabca"] == ["a", "b", "other", "a", "b", "other", "a"]


def test_no_content_and_no_id_is_in_the_exposition(registry: CollectorRegistry) -> None:
    secret = "s3cr3t-c0nt3nt"
    flow = Flow(
        Step("parse", broken, retries=1, fallback=Step("instead", broken)), tracers=[PrometheusTracer(registry)]
    )
    result = flow.run(secret, metadata={"customer": secret})
    text = generate_latest(registry).decode()
    assert "parse" in text
    assert secret not in text
    assert result.run_id not in text
