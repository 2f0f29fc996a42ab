"""From the kernel's description of a pipeline to what is drawn. Knows kinds by the table of hints only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow import BaseStep, ConfigurationError, Flow, Pipeline, structure
from flow_viz._hints import Hint, Shape, hint_for
from flow_viz._nodes import Layout, Node, Part, is_position
from flow_viz._settings_words import chooser_of, notes_of, tooltip_of
from flow_viz._wording import counted, visible

FALLBACK = "fallback"
_DEEPEST = 100  # levels of a description; Python's own limit is near ten times that


def read(source: Any) -> Node:
    """Return what is drawn of a flow, pipeline or step, or of a structure as `flow.structure` describes it.

    Raises `ConfigurationError` for anything else. A structure may come out of a store: it is checked, not trusted.
    """
    if isinstance(source, Flow):
        source = source.pipeline
    if isinstance(source, (BaseStep, Pipeline)):
        source = structure(source)
    if not isinstance(source, Mapping):
        raise ConfigurationError(
            f"only a flow, a pipeline, a step or a structure can be drawn, got {type(source).__name__}",
            hint="Draw what flow.structure(pipeline) returns, or the pipeline itself",
        )
    root = _node(source, "", 0)
    if not root.framed:
        return root
    label = f"0:{root.name}"  # a step alone is run, and drawn, as a pipeline of one
    part = Part(label, _node(source, label, 0))
    return Node(place="", name="pipeline", kind="pipeline", framed=False, layout=Layout.SERIES, parts=(part,))


def _node(data: Any, place: str, depth: int) -> Node:
    name, kind, config, children = _checked(data, place)
    bare = kind == "pipeline" and all(map(is_position, children))
    hint = hint_for(kind)
    common: dict[str, Any] = {
        "place": place,
        "name": name,
        "kind": kind,
        "framed": not bare,
        "hint": hint,
        "types": _types(data.get("types")),
        "chooser": chooser_of(config, hint),
        "tooltip": tooltip_of(name, kind, config),
    }
    notes = notes_of(config, hint)
    if children and depth >= _DEEPEST:
        hidden = _count(children)
        return Node(**common, notes=(*notes, f"{counted(hidden, 'step')} inside"), hidden=hidden)
    parts = tuple(Part(label, _node(child, _below(place, label), depth + 1)) for label, child in children.items())
    return Node(
        **common,
        notes=notes,
        parts=parts,
        layout=_layout(children, hint, bare),
        fallback=_fallback(config, children, place, depth),
    )


def _fallback(config: Mapping[str, Any], children: Mapping[str, Any], place: str, depth: int) -> Node | None:
    found = config.get(FALLBACK)
    if not isinstance(found, Mapping) or FALLBACK in children or depth >= _DEEPEST:
        return None
    return _node(found, _below(place, FALLBACK), depth + 1)


def _below(place: str, label: str) -> str:
    return f"{place}/{label}" if place else label


def _layout(children: Mapping[str, Any], hint: Hint, bare: bool) -> Layout:
    if bare:
        return Layout.SERIES
    if not children:
        return Layout.LEAF
    if hint.passes:
        return Layout.BRANCHES
    alone = len(children) == 1 and hint.shape is not Shape.CHOICE
    return Layout.SERIES if alone or hint.in_series or all(map(is_position, children)) else Layout.BRANCHES


def _checked(data: Any, place: str) -> tuple[str, str, Mapping[str, Any], Mapping[str, Any]]:
    if not isinstance(data, Mapping):
        raise _unreadable(place, f"a table is needed, got {type(data).__name__}")
    name, kind = data.get("name"), data.get("kind")
    if not isinstance(name, str) or not isinstance(kind, str):
        raise _unreadable(place, "name or kind is missing")
    config, children = data.get("config", {}), data.get("children", {})
    for what, value in (("config", config), ("children", children)):
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _unreadable(place, f"{what} is no table with names")
    return name, kind, config, children


def _unreadable(place: str, why: str) -> ConfigurationError:
    where = f" at {visible(place)!r}" if place else ""
    return ConfigurationError(
        f"this is no structure of a pipeline{where}: {why}", hint="Draw what flow.structure(pipeline) returns"
    )


def _types(types: Any) -> str:
    """Return the declared types as ``int → str``."""
    if not isinstance(types, Mapping):
        return ""
    taken, given = (str(types.get(side, "")) for side in ("input", "output"))
    return visible(f"{taken} → {given}") if taken or given else ""


def _count(children: Mapping[str, Any]) -> int:
    """Return how many steps there are below a level that is not read."""
    count, pending = 0, list(children.values())
    while pending:
        item = pending.pop()
        inside = item.get("children") if isinstance(item, Mapping) else None
        inside = inside if isinstance(inside, Mapping) else {}
        count += not (isinstance(item, Mapping) and item.get("kind") == "pipeline" and all(map(is_position, inside)))
        pending.extend(inside.values())
    return count
