"""Options of the tracer and the settings table: what is accepted, and what is said about the rest."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from flow_console import ConsoleTracer, flow_open_tracer

from flow import ConfigurationError, Flow, Kernel, Settings, SettingsError, Step


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "debgu"}, "level must be 'info' or 'debug', got 'debgu'. Did you mean debug?"),
        ({"level": 3}, "level must be 'info' or 'debug', got 3. The levels are info and debug"),
        ({"log_inputs": "yes"}, "log_inputs must be true or false, got 'yes'"),
        ({"log_outputs": None}, "log_outputs must be true or false, got None"),
        ({"colorized": 1}, "colorized must be true or false, got 1"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ConsoleTracer(**options)
    assert str(caught.value) == message
    with pytest.raises(SettingsError) as refused:
        flow_open_tracer("console", options)
    assert str(refused.value) == f"the console table: {message}"


def test_an_unknown_setting_names_what_may_have_been_meant() -> None:
    with pytest.raises(SettingsError) as caught:
        flow_open_tracer("console", {"log_input": True})
    assert str(caught.value) == "the console table: unknown setting log_input. Did you mean log_inputs?"
    with pytest.raises(SettingsError) as caught:
        flow_open_tracer("console", {"zzz": True})
    assert str(caught.value).endswith("The settings are level, log_inputs, log_outputs, colorized")


def test_settings_reach_the_tracer(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = Kernel(Settings(tables={"console": {"level": "debug", "log_outputs": True}}))
    Flow(Step("upper", str.upper), tracers=["console"], kernel=kernel).run("hello")
    printed = capsys.readouterr().err
    assert "started   upper" in printed
    assert "output    upper  'HELLO'" in printed
    assert "'hello'" not in printed


def test_default_tracer_is_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    Flow(Step("upper", str.upper), local_tracer="default").run("hello")
    assert "completed pipeline" in capsys.readouterr().err


def test_other_names_are_left_to_others() -> None:
    assert flow_open_tracer("otel", {}) is None


def test_rich_is_imported_only_when_a_tracer_is_opened() -> None:
    program = (
        "import sys, flow_console; assert 'rich' not in sys.modules\n"
        "flow_console.flow_open_tracer('console', {}); assert 'rich' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import flow_console

    with pytest.raises(AttributeError, match="no attribute 'Consoletracer'"):
        flow_console.Consoletracer  # noqa: B018
    assert dir(flow_console) == flow_console.__all__
