"""Wording that reports and messages share."""

from __future__ import annotations

from collections.abc import Sequence

_NAMED = 3


def some(things: Sequence[str]) -> str:
    """Name the first few things and count the rest.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(things[:_NAMED])
    return shown if len(things) <= _NAMED else f"{shown} and {len(things) - _NAMED} more"
