"""Draw flow pipelines and runs: Mermaid, DOT, SVG without any system binary, and text for the terminal.

    >>> from flow import Step
    >>> from flow_viz import to_text
    >>> print(to_text(Step("fetch", str.strip) >> Step("count", len, retries=2)))
    pipeline
    ├─ fetch  str →
    └─ count  2 retries

Every renderer takes a pipeline, a step, a flow or what `flow.structure` says of one; with ``run=`` it draws how a run
went. Importing this package imports no renderer: that happens when one is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flow_viz._dot import to_dot
    from flow_viz._mermaid import to_mermaid
    from flow_viz._svg import to_svg
    from flow_viz._text import to_text

__all__ = ["to_dot", "to_mermaid", "to_svg", "to_text"]

_MODULE_OF = {"to_dot": "_dot", "to_mermaid": "_mermaid", "to_svg": "_svg", "to_text": "_text"}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'flow_viz' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flow_viz.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
