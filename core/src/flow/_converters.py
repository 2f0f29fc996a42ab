"""Converters of attrs fields: what a user passes as a list or a set is frozen.

They speak of ``Any``, because type checkers do not solve type variables of a converter for the field it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def as_tuple(items: Iterable[Any]) -> tuple[Any, ...]:
    """Freeze a sequence."""
    return tuple(items)


def as_frozenset(items: Iterable[Any]) -> frozenset[Any]:
    """Freeze a set, or any other collection whose order means nothing."""
    return frozenset(items)
