"""Checks of what policies are made with: wrong use is refused where it is written."""

from __future__ import annotations

import math
from typing import Any

import attrs

from flow import ConfigurationError


def _refuse(policy: Any, attribute: attrs.Attribute[Any], what: str, value: Any) -> None:
    raise ConfigurationError(f"{type(policy).__name__}: {attribute.name} must be {what}, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def above_zero(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a number above 0."""
    if not _is_number(value) or value <= 0:
        _refuse(policy, attribute, "a number above 0", value)


def count(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        _refuse(policy, attribute, "a whole number of at least 1", value)


def count_or_none(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a whole number of at least 0, or ``None``."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        _refuse(policy, attribute, "a whole number of at least 0 or None", value)


def share_or_none(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a share of a whole, above 0 and at most 1, or ``None``."""
    if value is not None and (not _is_number(value) or not 0 < value <= 1):
        _refuse(policy, attribute, "a number above 0 and at most 1, or None", value)


def above_zero_or_none(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a number above 0, or ``None``."""
    if value is not None:
        above_zero(policy, attribute, value)


def a_name(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a name."""
    if not isinstance(value, str) or not value.strip():
        _refuse(policy, attribute, "a name", value)


def a_name_or_none(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a name, or ``None``."""
    if value is not None:
        a_name(policy, attribute, value)
