"""Checks of what policies are made with: wrong use is refused where it is written."""

from __future__ import annotations

import inspect
import math
from typing import Any

import attrs

from flow import ConfigurationError, UsageLimits

from ._measures import limits_set


def refuse(policy: Any, what: str) -> ConfigurationError:
    """Return the error for a policy that makes no sense."""
    return ConfigurationError(f"{type(policy).__name__}: {what}")


def is_number(value: Any) -> bool:
    """Tell whether `value` is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def a_name(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a name."""
    if not isinstance(value, str) or not value.strip():
        raise refuse(policy, f"{attribute.name} must be a name, got {value!r}")


def some_limits(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check limits of which at least one is set."""
    if not isinstance(value, UsageLimits) or not limits_set(value):
        raise refuse(policy, f"{attribute.name} must be UsageLimits that limit something, got {value!r}")


def above_zero_or_none(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a number above 0, or ``None``."""
    if value is not None and (not is_number(value) or value <= 0):
        raise refuse(policy, f"{attribute.name} must be a number above 0 or None, got {value!r}")


def at_least_zero(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a number of at least 0."""
    if not is_number(value) or value < 0:
        raise refuse(policy, f"{attribute.name} must be a number of at least 0, got {value!r}")


def shares(policy: Any, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
    """Check shares of a whole: at least one, each above 0 and at most 1."""
    if not value or not all(is_number(share) and 0 < share <= 1 for share in value):
        raise refuse(policy, f"{attribute.name} must be numbers above 0 and at most 1, such as 0.8; got {value!r}")


def sync_callable_or_none(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Check a function that need not be awaited, or ``None``."""
    if value is not None and (not callable(value) or inspect.iscoroutinefunction(value)):
        raise refuse(policy, f"{attribute.name} must be a function that is not async, got {value!r}")
