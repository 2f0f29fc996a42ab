"""Paths of steps: their order, their places, and the pattern that executions of one step share."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

_NUMBER = re.compile(r"(\d{1,18})")
_PLACE = re.compile(r"(\d{1,18}):(.*)", re.DOTALL)
_ITEM = re.compile(r"\d{1,18}")
_ITERATION = re.compile(r"i\d{1,18}")


def natural(path: str) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Return the key that sorts paths as their steps stand in the pipeline: numbers by their value.

    >>> sorted(["1:b/i10/0:x", "1:b/i2/0:x", "0:a"], key=natural)
    ['0:a', '1:b/i2/0:x', '1:b/i10/0:x']
    """
    return tuple(
        tuple((0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in _NUMBER.split(segment) if piece)
        for segment in path.split("/")
    )


def pattern(path: str, labels: Collection[str] = ()) -> str:
    """Return `path` without places, items and iterations: what all executions of one step have in common.

    :param labels: names of branches that look like items or iterations and are none; they stay.

    >>> pattern("4:map/17/0:embed"), pattern("2:refine/i3/0:generate"), pattern("route/1/0:x", {"1"})
    ('map/*/embed', 'refine/i*/generate', 'route/1/x')
    """
    return "/".join(segment if segment in labels else _general(segment) for segment in path.split("/"))


def _general(segment: str) -> str:
    if _ITEM.fullmatch(segment):
        return "*"
    if _ITERATION.fullmatch(segment):
        return "i*"
    placed = _PLACE.fullmatch(segment)
    return placed[2] if placed else segment


def labels_of(structure: Mapping[str, Any]) -> frozenset[str]:
    """Return the labels of branches in the structure of a pipeline that `pattern` would take for items."""
    return frozenset(label for label in _labels(structure) if _ITEM.fullmatch(label) or _ITERATION.fullmatch(label))


def _labels(structure: Mapping[str, Any]) -> Iterator[str]:
    children = structure.get("children")
    if isinstance(children, Mapping):
        for label, child in children.items():
            yield str(label)
            if isinstance(child, Mapping):
                yield from _labels(child)


def place_of(path: str) -> tuple[str, int] | None:
    """Return what encloses the sequence a step stands in, and the place there; ``None`` outside of sequences.

    >>> place_of("2:refine/i3/1:score"), place_of("0:fetch"), place_of("1:call/fallback")
    (('2:refine/i3', 1), ('', 0), None)
    """
    outer, _, segment = path.rpartition("/")
    placed = _PLACE.fullmatch(segment)
    return (outer, int(placed[1])) if placed else None


def prefixes(path: str) -> Iterator[str]:
    """Yield the paths that enclose `path`, the nearest first.

    >>> list(prefixes("1:a/i2/0:b"))
    ['1:a/i2', '1:a']
    """
    outer = path.rpartition("/")[0]
    while outer:
        yield outer
        outer = outer.rpartition("/")[0]
