"""Settings: the nearest ``flow.toml`` or ``[tool.flow]`` table, overridden by ``FLOW_*`` variables."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs

from .errors import SettingsError

_TEXT, _NAMES, _FLAG = "a string", "a list of strings", "true or false"
_KEYS = {
    "state": _TEXT,
    "cache": _TEXT,
    "tracers": _NAMES,
    "plugins.block": _NAMES,
    "plugins.allow": _NAMES,
    "plugins.strict": _FLAG,
}
_VARIABLES = {f"FLOW_{key.replace('.', '_').upper()}": key for key in _KEYS}
_SWITCHES = {"1": True, "true": True, "yes": True, "on": True}
_SWITCHES |= {"0": False, "false": False, "no": False, "off": False, "": False}


class FlowWarning(UserWarning):
    """Something is not as it should be, but flow goes on."""


def did_you_mean(word: str, choices: Collection[str], cutoff: float = 0.7) -> str | None:
    """Return the question that names what `word` may have been meant for, or ``None``.

    >>> did_you_mean("stat", ["state", "cache"])
    'Did you mean state?'
    """
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return f"Did you mean {close[0]}?" if close else None


@attrs.frozen
class Settings:
    """What the user settled once for all runs.

    :param state: URL of the state store, such as ``"sqlite:///runs.db"``.
    :param cache: URL of the cache.
    :param tracers: names of the tracers that are switched on.
    :param block: plugins never to load: entry-point names, distributions or ``kind:name``.
    :param allow: the only plugins to load beside the kernel's own; ``None`` for all.
    :param strict: whether a plugin that fails while merely installed is an error instead of a warning.
    :param tables: the plugins' own tables, ``[otel]`` in ``flow.toml``, ``[tool.flow.otel]`` in ``pyproject.toml``.
    :param source: the file that was read.
    :param origins: where each setting that is not a default came from, for messages.

    >>> Settings(tables={"otel": {"content": True}}).for_plugin("otel")
    {'content': True}
    """

    state: str | None = None
    cache: str | None = None
    tracers: tuple[str, ...] = ()
    block: frozenset[str] = frozenset()
    allow: frozenset[str] | None = None
    strict: bool = False
    tables: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, hash=False)
    source: Path | None = None
    origins: Mapping[str, str] = attrs.field(factory=dict, eq=False, repr=False)

    @classmethod
    def load(cls, start: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the nearest settings file from directory `start` (the current one) upwards, then ``FLOW_*``.

        In one directory ``flow.toml`` goes before ``pyproject.toml``; a variable replaces the setting of the file.
        Raises `SettingsError` for what cannot be read or is not a setting.
        """
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        tables: dict[str, Mapping[str, Any]] = {}
        source, table = _nearest(Path.cwd() if start is None else start)
        for key, value in _flat(table, tables, source).items():
            values[key], origins[key] = _checked(key, value, str(source)), str(source)
        for variable, text in (os.environ if environ is None else environ).items():
            if variable in _VARIABLES:
                values[_VARIABLES[variable]], origins[_VARIABLES[variable]] = _parsed(variable, text), variable
            elif variable.startswith("FLOW_"):
                _warn_of_close_miss(variable)
        fields = {key.rpartition(".")[2]: value for key, value in values.items()}
        return cls(**fields, tables=tables, source=source, origins=origins)

    def for_plugin(self, name: str) -> Mapping[str, Any]:
        """Return the settings table of the plugin called `name`; empty when there is none."""
        return self.tables.get(name, {})


def _nearest(start: Path) -> tuple[Path | None, Mapping[str, Any]]:
    start = start.absolute()
    for directory in (start, *start.parents):
        path = directory / "flow.toml"
        if path.is_file():
            return path, read_toml(path)
        path = directory / "pyproject.toml"
        if path.is_file() and b"flow" in _content(path):  # parsing takes longer than looking for the word
            tool = read_toml(path).get("tool", {})
            if "flow" in tool:
                return path, _as_table("tool.flow", tool["flow"], path)
    return None, {}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; `SettingsError` names the file, the line and the column of what is wrong."""
    import tomllib  # here, because most commands find no settings file

    content = _content(path)
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text: byte {error.start} is {error.reason}") from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+), column (\d+)", str(error))
        end = len(content.splitlines()), len(content.splitlines()[-1]) + 1  # tomllib calls this "end of document"
        line, column = found.groups() if found else end
        message = str(error).rpartition(" (at ")[0]
        raise SettingsError(f"{path}:{line}:{column}: {message}", hint="See https://toml.io for the syntax") from error


def _as_table(key: str, value: object, path: Path | None) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    raise SettingsError(f"{path}: {key} must be a table, got {_shown(value)}")


def _flat(table: Mapping[str, Any], tables: dict[str, Mapping[str, Any]], path: Path | None) -> dict[str, Any]:
    """Return the settings of the kernel by dotted key, and put what belongs to plugins into `tables`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if key == "plugins":
            flat |= {f"plugins.{inner}": item for inner, item in _as_table(key, value, path).items()}
        elif isinstance(value, dict) and key not in _KEYS and not did_you_mean(key, ["plugins"], 0.85):
            tables[key] = value
        else:
            flat[key] = value
    for key in flat:
        if key not in _KEYS:
            hint = did_you_mean(key, [*_KEYS, "plugins"]) or f"The settings are {', '.join(_KEYS)}; plugins have tables"
            raise SettingsError(f"{path}: unknown setting {key}", hint=hint)
    return flat


def _checked(key: str, value: object, origin: str) -> Any:
    expected = _KEYS[key]
    if expected == _TEXT and isinstance(value, str):
        return value
    if expected == _FLAG and isinstance(value, bool):
        return value
    if expected == _NAMES and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value) if key == "tracers" else frozenset(value)
    hint = f'Write {key.rpartition(".")[2]} = ["{value}"]' if expected == _NAMES and isinstance(value, str) else None
    raise SettingsError(f"{origin}: {key} must be {expected}, got {_shown(value)}", hint=hint)


def _parsed(variable: str, text: str) -> Any:
    key = _VARIABLES[variable]
    if _KEYS[key] == _TEXT:
        return text or None
    if _KEYS[key] == _NAMES:
        names = [name.strip() for name in text.split(",") if name.strip()]
        return _checked(key, names, variable)
    try:
        return _SWITCHES[text.strip().lower()]
    except KeyError:
        raise SettingsError(f"{variable} must be 1 or 0, got {text!r}") from None


def _shown(value: object) -> str:
    names = {str: "the string", bool: "the boolean", int: "the integer", float: "the float"}
    if isinstance(value, list):
        odd = next((item for item in value if not isinstance(item, str)), None)
        return "a list" if odd is None else f"a list with {_shown(odd)}"
    return f"{names[type(value)]} {str(value)!r}" if type(value) in names else f"a {type(value).__name__}"


def _warn_of_close_miss(variable: str) -> None:
    if close := difflib.get_close_matches(variable, _VARIABLES, n=1, cutoff=0.85):
        warnings.warn(f"{variable} is not a setting of flow: did you mean {close[0]}?", FlowWarning, stacklevel=3)
