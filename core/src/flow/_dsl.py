"""Constructors and renderers that plugins offer under a name: ``Step.loop_until``, ``pipeline.to_mermaid()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._discovery import PluginKind, provider_of
from ._kernel import default_kernel
from ._settings import did_you_mean
from .errors import PluginError


def find_constructor(owner: str, name: str) -> Callable[..., Any]:
    """Return the step constructor called `name`; `AttributeError` says which package has it."""
    plugins = default_kernel().plugins
    if plugins.find(PluginKind.DSL, name) is None:
        hint = provider_of(PluginKind.DSL, name)
        if hint is None:
            meant = did_you_mean(
                name, {item.name for item in plugins.catalogue.contributions if item.kind is PluginKind.DSL}
            )
            raise AttributeError(
                f"type object {owner!r} has no attribute {name!r}, and no installed plugin offers {owner}.{name}"
                + (f". {meant}" if meant else "")
            )
        raise AttributeError(f"{owner}.{name} comes from {hint}: pip install {hint}")
    try:
        return plugins.load(PluginKind.DSL, name)  # type: ignore[no-any-return]
    except PluginError as error:
        raise AttributeError(f"{owner}.{name} cannot be loaded: {error}") from error


def find_renderer(format: str) -> Callable[..., Any]:
    """Return the renderer of a format; `PluginError` says which package has it."""
    return default_kernel().plugins.load(PluginKind.RENDERERS, format)  # type: ignore[no-any-return]
