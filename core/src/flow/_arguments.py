"""Checks of what is passed to a `Flow`: wrong use is refused where it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._durable import Durability
from .errors import ConfigurationError, Escalated


def seconds(name: str, value: Any) -> float | None:
    """Check a number of seconds, or ``None``."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value != value):
        raise ConfigurationError(f"{name} is a number of seconds, got {value!r}")
    return value


def lease_seconds(value: Any) -> float:
    """Check for how long an execution claims a run."""
    given = seconds("lease", value)
    if given is None or not 0 < given < float("inf"):
        raise ConfigurationError(f"lease is a number of seconds above 0, got {value!r}")
    return given


def durability_of(value: Any) -> Durability:
    """Check when what a step returned is to be safe."""
    try:
        return Durability(value)
    except ValueError:
        known = ", ".join(repr(item.value) for item in Durability)
        raise ConfigurationError(f"durability is one of {known}, got {value!r}") from None


def positive(name: str, value: Any, *, least: int = 1) -> int:
    """Check a whole number that is not too small."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name} must be at least {least}, got {value!r}")
    return value


def texts(metadata: Mapping[Any, Any] | None) -> Mapping[str, str]:
    """Check what is to be kept beside a stored run."""
    if metadata is None:
        return {}
    for name, value in metadata.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigurationError(f"metadata holds texts only, got {name!r}: {value!r:.60}")
    return metadata


def shorter(left: float | None, right: float | None) -> float | None:
    """Return the smaller of two limits that may be absent."""
    return left if right is None else right if left is None else min(left, right)


def exceptions(name: str, value: Any) -> tuple[type[Exception], ...]:
    """Check an exception type, or several."""
    types = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    for item in types:
        if not (isinstance(item, type) and issubclass(item, Exception)):
            raise ConfigurationError(f"{name} holds exception types, got {item!r:.60}")
    return types


def may_retry(error: BaseException | None, types: tuple[type[Exception], ...]) -> bool:
    """Tell whether an error or one of its causes is of one of the types, and was not escalated."""
    if isinstance(error, Escalated):
        return False
    while error is not None:
        if isinstance(error, types):
            return True
        error = error.__cause__
    return False
