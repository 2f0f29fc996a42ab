"""Routing policies: which branch a key takes, as configuration that can be replaced while runs are going on."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from flow import ConfigurationError, bind_callable


def label_of(key: Any) -> str:
    """Name a key in paths, metadata, messages and files: booleans and enumeration members by their value.

    >>> label_of(True), label_of(3), label_of("risky")
    ('true', '3', 'risky')
    """
    if isinstance(key, enum.Enum):
        key = key.value
    return str(key).lower() if isinstance(key, bool) else str(key)


class RoutingPolicy:
    """A table, or a function, from key to branch. One object may serve many pipelines.

    A table that was read from text has strings for keys; it finds other keys by what they are called: ``True`` as
    ``"true"``, ``3`` as ``"3"``, a member of an enumeration by its value.

    :param table: a mapping, which is looked at on every run, or a callable, sync or async.
    :param default: the branch for keys that the table does not have.

    >>> policy = RoutingPolicy({"acme": "fast"}, default="slow")
    >>> policy.lookup("acme"), policy.lookup("other")
    ('fast', 'slow')
    >>> policy.replace({"acme": "slow"})
    >>> policy.lookup("acme")
    'slow'
    """

    def __init__(self, table: Mapping[Any, Any] | Callable[[Any], Any], default: Any = None) -> None:
        self._default = default
        self.replace(table)

    def replace(self, table: Mapping[Any, Any] | Callable[[Any], Any]) -> None:
        """Use another table from now on; runs that are past the decision are not affected."""
        if isinstance(table, Mapping):
            self._source: tuple[Any, Any] = table, None
        elif callable(table):
            self._source = table, bind_callable(table, what="routing policy")
        else:
            raise ConfigurationError(f"a routing policy is a mapping or a callable, got {type(table).__name__}")

    def set_default(self, default: Any) -> None:
        """Use another default from now on."""
        self._default = default

    def lookup(self, key: Any) -> Any:
        """Return the branch for `key`, an awaitable of it, or ``None`` when there is none."""
        table, _ = self._source
        if not isinstance(table, Mapping):
            return table(key)
        found = _lookup(table, key)
        return self._default if found is None else found

    async def choose(self, key: Any) -> Any:
        """Return the branch for `key`, or the default: what steps ask while running.

        Raises `StepFailed` that names the policy's function when that raises.
        """
        table, ask = self._source
        chosen = _lookup(table, key) if ask is None else await ask(key, None)
        return self._default if chosen is None else chosen

    @property
    def default(self) -> Any:
        """The branch for keys without an entry."""
        return self._default

    @classmethod
    def from_json(cls, text: str | bytes, default: Any = None) -> RoutingPolicy:
        """Read the table from JSON text; raises `ConfigurationError` when it is not an object."""
        try:
            return cls(_mapping(orjson.loads(text)), default)
        except orjson.JSONDecodeError as error:
            raise ConfigurationError(f"the routing policy is not JSON: {error}") from error

    @classmethod
    def from_yaml(cls, text: str, default: Any = None) -> RoutingPolicy:
        """Read the table from YAML text, through the safe loader; needs ``pip install flow-branch[yaml]``."""
        try:
            from ruamel.yaml import YAML
            from ruamel.yaml.error import YAMLError
        except ImportError as error:
            raise ConfigurationError("YAML policies need ruamel.yaml", hint="pip install flow-branch[yaml]") from error
        try:
            return cls(_mapping(YAML(typ="safe", pure=True).load(text)), default)
        except YAMLError as error:
            raise ConfigurationError(f"the routing policy is not YAML: {error}") from error

    @classmethod
    def from_file(cls, path: str | Path, default: Any = None) -> RoutingPolicy:
        """Read the table from a ``.json``, ``.yaml`` or ``.yml`` file."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the routing policy {path} cannot be read: {error}") from error
        return cls.from_yaml(text, default) if path.suffix in (".yaml", ".yml") else cls.from_json(text, default)

    @classmethod
    def from_env(cls, variable: str, default: Any = None) -> RoutingPolicy:
        """Read the table from an environment variable that holds JSON."""
        if variable not in os.environ:
            raise ConfigurationError(
                f"the environment variable {variable} is not set", hint="It holds a routing policy as JSON"
            )
        return cls.from_json(os.environ[variable], default)


def _lookup(table: Mapping[Any, Any], key: Any) -> Any:
    return table[key] if key in table else table.get(label_of(key))


def _mapping(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"a routing policy is a mapping from key to branch, got {type(value).__name__}")
    return value
