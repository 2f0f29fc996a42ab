"""Settings: which file is read, what a variable does, and what each mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow._settings import FlowWarning, Settings
from flow.errors import SettingsError


def load(directory: Path, **environ: str) -> Settings:
    return Settings.load(directory, environ)


def test_without_file_and_variables_everything_has_its_default(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()


def test_flow_toml_is_read(tmp_path: Path) -> None:
    (tmp_path / "flow.toml").write_text(
        'state = "sqlite:///runs.db"\ntracers = ["otel"]\n'
        '[plugins]\nblock = ["a", "b"]\nallow = []\nstrict = true\n[otel]\ncontent = true\n'
    )
    settings = load(tmp_path)
    assert settings.state == "sqlite:///runs.db"
    assert settings.tracers == ("otel",)
    assert settings.block == {"a", "b"}
    assert settings.allow == frozenset()
    assert settings.strict
    assert settings.for_plugin("otel") == {"content": True}
    assert settings.for_plugin("other") == {}
    assert settings.source == tmp_path / "flow.toml"


def test_tool_flow_in_pyproject_is_read(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.flow]\ncache = "memory://"\n[tool.flow.plugins]\nblock = ["a"]\n')
    settings = load(tmp_path)
    assert settings.cache == "memory://"
    assert settings.block == {"a"}


def test_flow_toml_goes_before_pyproject(tmp_path: Path) -> None:
    (tmp_path / "flow.toml").write_text('state = "memory://"')
    (tmp_path / "pyproject.toml").write_text('[tool.flow]\nstate = "other://"')
    assert load(tmp_path).state == "memory://"


def test_nearest_file_upwards_is_read(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "flow.toml").write_text('state = "memory://"')
    (tmp_path / "a" / "pyproject.toml").write_text('[project]\nname = "not-about-flow"')
    assert load(inner).state == "memory://"


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("FLOW_STATE", "memory://", "state", "memory://"),
        ("FLOW_STATE", "", "state", None),
        ("FLOW_CACHE", "memory://", "cache", "memory://"),
        ("FLOW_TRACERS", "log, otel", "tracers", ("log", "otel")),
        ("FLOW_PLUGINS_BLOCK", "a,b,", "block", frozenset({"a", "b"})),
        ("FLOW_PLUGINS_ALLOW", "", "allow", frozenset()),
        ("FLOW_PLUGINS_STRICT", "1", "strict", True),
        ("FLOW_PLUGINS_STRICT", "off", "strict", False),
    ],
)
def test_variable_replaces_what_the_file_says(
    tmp_path: Path, variable: str, text: str, field: str, value: object
) -> None:
    (tmp_path / "flow.toml").write_text(
        'state = "x://"\ncache = "x://"\ntracers = ["x"]\n[plugins]\nblock = ["x"]\nallow = ["x"]\nstrict = false'
    )
    settings = load(tmp_path, **{variable: text})
    assert settings.__getattribute__(field) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("state = ", "flow.toml:1:9: "),
        ('a = 1\n[plugins\nblock = ["a"]', "flow.toml:2:9: "),
        ('stat = "x"', "unknown setting stat. Did you mean state?"),
        ('[plugin]\nblock = ["a"]', "unknown setting plugin. Did you mean plugins?"),
        ("[plugins]\nblok = []", "unknown setting plugins.blok. Did you mean plugins.block?"),
        ("colour = 1", "unknown setting colour. The settings are state, cache"),
        ("state = 1", "state must be a string, got the integer '1'"),
        ('[plugins]\nblock = "a"', "must be a list of strings, got the string 'a'. Write block = [\"a\"]"),
        ("[plugins]\nblock = [1]", "plugins.block must be a list of strings, got a list with the integer '1'"),
        ("[plugins]\nstrict = 1", "plugins.strict must be true or false, got the integer '1'"),
        ('plugins = "a"', "plugins must be a table, got the string 'a'"),
        ("[state]\nurl = 1", "state must be a string, got a dict"),
    ],
)
def test_mistake_in_a_file_is_named_with_its_place(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "flow.toml").write_text(content)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path)
    assert str(tmp_path / "flow.toml") in str(caught.value)
    assert message in str(caught.value)


def test_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "flow.toml").write_bytes(b'state = "\xff"')
    with pytest.raises(SettingsError, match="not UTF-8 text: byte 9"):
        load(tmp_path)


def test_switch_that_is_neither_on_nor_off_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FLOW_PLUGINS_STRICT must be 1 or 0, got 'maybe'"):
        load(tmp_path, FLOW_PLUGINS_STRICT="maybe")


def test_close_miss_of_a_variable_warns(tmp_path: Path) -> None:
    with pytest.warns(FlowWarning, match="FLOW_PLUGIN_BLOCK is not a setting of flow: did you mean FLOW_PLUGINS_BLOCK"):
        load(tmp_path, FLOW_PLUGIN_BLOCK="a")


def test_foreign_variable_is_ignored(tmp_path: Path) -> None:
    assert load(tmp_path, FLOW_WEATHER_STATION="x") == Settings()
