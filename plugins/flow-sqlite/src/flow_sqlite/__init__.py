"""Durable state and cached results in SQLite files.

Nothing has to be imported: with the package installed, `Flow` understands ``sqlite:///`` URLs.

    >>> from flow import Flow, Step
    >>> flow = Flow(Step("upper", str.upper), state="sqlite:///runs.db")

The classes are for programs that open a store themselves, for example to list its runs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flow_sqlite._cache import SqliteCache
    from flow_sqlite._state import SqliteState

_MODULE_OF = {"SqliteCache": "_cache", "SqliteState": "_state"}

__all__ = ["SqliteCache", "SqliteState"]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'flow_sqlite' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flow_sqlite.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
