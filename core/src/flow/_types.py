"""Declared types: what a step takes and returns, as far as annotations say."""

from __future__ import annotations

from typing import Any


def base_step_types(step: Any) -> tuple[Any, Any]:
    return Any, Any


def agent_types(agent: Any) -> tuple[Any, Any]:
    import inspect, typing
    f = agent if inspect.isroutine(agent) else getattr(agent, "run", None)
    try:
        hints = typing.get_type_hints(f)
        names = [n for n in inspect.signature(f).parameters]
    except (TypeError, ValueError, NameError):
        return Any, Any
    return (hints.get(names[0], Any) if names else Any), hints.get("return", Any)
