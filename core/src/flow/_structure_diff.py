"""How two pipelines differ, in words: what a refused resume shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any


def describe_differences(old: Mapping[str, Any], new: Mapping[str, Any], most: int = 12) -> list[str]:
    """Return one line per difference between two structures, ``-`` for what the old one had, ``+`` for the new.

    :param old: what `flow.structure` says of a pipeline, or a store has kept of it.
    :param most: of further differences only the number is told.

    >>> step = {"name": "a", "kind": "step", "config": {}, "children": {}}
    >>> describe_differences(step, step | {"config": {"retries": 2}})
    ['~ a: retries is 2, was not set']
    """
    lines = list(_differences(old, new, ""))
    if len(lines) > most:
        lines[most:] = [f"and {len(lines) - most} further differences"]
    return lines


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    place = path or new["name"]
    if old["kind"] != new["kind"]:
        yield f"~ {place}: is a {new['kind']}, was a {old['kind']}"
    yield from _changed_fields(old, new, place)
    before, after = _by_name(old["children"]), _by_name(new["children"])
    matcher = SequenceMatcher(a=list(before), b=list(after), autojunk=False)
    same = {before[name] for block in matcher.get_matching_blocks() for name in list(before)[block.a :][: block.size]}
    for name, label in before.items():
        here = f"{path}/{label}" if path else label
        if name not in after:
            yield f"- {here} ({old['children'][label]['kind']}) is gone"
        elif label not in same:
            yield f"~ {here} has moved to {after[name]}"
    for name, label in after.items():
        here = f"{path}/{label}" if path else label
        if name not in before:
            yield f"+ {here} ({new['children'][label]['kind']}) is new"
        else:
            yield from _differences(old["children"][before[name]], new["children"][label], here)


def _changed_fields(old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[str]:
    for title in ("types", "config"):
        before, after = old.get(title, {}), new.get(title, {})
        for field in sorted(before.keys() | after.keys()):
            if before.get(field) != after.get(field):
                yield f"~ {place}: {field} is {_shown(after, field)}, was {_shown(before, field)}"


def _shown(values: Mapping[str, Any], field: str) -> str:
    if field not in values:
        return "not set"
    text = values[field] if isinstance(values[field], str) else repr(values[field])
    return text if len(text) <= 60 else f"{text[:57]}..."


def _by_name(children: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels by what they call the step, without the place that a label such as ``2:check`` begins with."""
    found: dict[str, str] = {}
    for label in children:
        place, _, name = label.partition(":")
        key = name if name and place.isdigit() else label
        found[f"{key}#{sum(known.partition('#')[0] == key for known in found)}"] = label
    return found
