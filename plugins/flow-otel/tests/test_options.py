"""The settings table and the variables: what is accepted, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from flow_otel import OtelTracer, flow_open_tracer
from flow_otel._options import Options

from flow import ConfigurationError, SettingsError


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"endpont": "x"}, "unknown setting endpont", "Did you mean endpoint?"),
        ({"colour": 1}, "unknown setting colour", "The settings are content,"),
        ({"content": "yes"}, "content must be true or false, got 'yes'", ""),
        ({"protocol": "grcp"}, "protocol must be one of http/protobuf, grpc, got 'grcp'", "Did you mean grpc?"),
        ({"traces": "otpl"}, "traces must be one of otlp, console, none, got 'otpl'", "Did you mean otlp?"),
        ({"metrics": "otlp,file"}, "metrics must be one of otlp, console, none, got 'file'", "The choices are"),
        ({"headers": {"n": 1}}, "headers must be a table of texts", ""),
        ({"resource": []}, "resource must be a table of texts and numbers", ""),
        ({"sample": 2}, "sample must be a number from 0 to 1, got 2", ""),
        ({"flush_timeout": 0}, "flush_timeout must be a number above 0, got 0", ""),
        ({"endpoint": ""}, "endpoint must be a text", ""),
    ],
)
def test_what_is_wrong_in_the_settings_is_named(settings: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(SettingsError, match="the otel table") as caught:
        flow_open_tracer("otel", settings)
    assert message in caught.value.message
    assert (caught.value.hint or "").startswith(hint)


def test_other_tracers_are_left_to_others() -> None:
    assert flow_open_tracer("console", {}) is None


@pytest.mark.parametrize("options", [{"content": 1}, {"content_limit": 0}])
def test_wrong_arguments_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="content"):
        OtelTracer(**options)


def test_settings_go_before_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert Options().exporters("traces") == ("console",)
    assert Options().exporters("metrics") == ("otlp",)
    assert Options(traces="none").exporters("traces") == ()
    assert Options(traces="otlp, console").exporters("traces") == ("otlp", "console")
    assert Options().protocol_for("traces") == "grpc"
    assert Options(protocol="http/protobuf").protocol_for("traces") == "http/protobuf"


def test_a_variable_of_one_signal_goes_before_that_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf")
    assert Options().protocol_for("metrics") == "http/protobuf"
    assert Options().protocol_for("traces") == "grpc"


@pytest.mark.parametrize(
    ("variable", "value", "ask"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", lambda options: options.exporters("traces")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", lambda options: options.protocol_for("traces")),
    ],
)
def test_a_variable_that_cannot_be_followed_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, ask: Any
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"{variable} must be one of"):
        ask(Options())
