"""Watch flow runs in the terminal.

`ConsoleTracer` shows a live tree of the steps on a terminal and plain lines elsewhere; `run_tree` and `render_tree`
show a run that has finished.

    >>> from flow import Flow, Step
    >>> from flow_console import run_tree
    >>> result = Flow(Step("upper", str.upper)).run("hello")
    >>> run_tree(result).splitlines()[0].split()[:2]
    ['✓', 'pipeline']

Importing this package imports neither rich nor the display: that happens when a tracer is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flow.hookspecs import hookimpl

if TYPE_CHECKING:
    from flow import Tracer
    from flow_console._report import render_tree, run_tree
    from flow_console._tracer import ConsoleTracer

__all__ = ["ConsoleTracer", "flow_open_tracer", "render_tree", "run_tree"]

_MODULE_OF = {"ConsoleTracer": "_tracer", "render_tree": "_report", "run_tree": "_report"}


@hookimpl
def flow_open_tracer(name: str, settings: Mapping[str, Any]) -> Tracer | None:
    """Open the tracer called ``console`` as its settings table says; `SettingsError` names a wrong key."""
    if name != "console":
        return None
    from flow_console._options import Options
    from flow_console._tracer import ConsoleTracer

    return ConsoleTracer.with_options(Options.from_settings(settings))


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'flow_console' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flow_console.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
