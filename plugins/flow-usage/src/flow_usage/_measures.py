"""The limits of `UsageLimits` one by one: what each counts, and how people write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from flow import Usage, UsageLimits

Measure: TypeAlias = Callable[[Usage], float]

MEASURES: Mapping[str, Measure] = {
    "total_cost_usd_limit": lambda usage: usage.cost_usd,
    "total_tokens_limit": lambda usage: usage.total_tokens,
    "input_tokens_limit": lambda usage: usage.input_tokens,
    "output_tokens_limit": lambda usage: usage.output_tokens,
    "requests_limit": lambda usage: usage.requests,
}

TOLERANCE = 1e-9
"""Sums of prices such as 0.1 are not exact in binary: what differs by less is equal."""

_NAMES = {
    "total_cost_usd_limit": "cost",
    "total_tokens_limit": "token",
    "input_tokens_limit": "input token",
    "output_tokens_limit": "output token",
    "requests_limit": "request",
}


def limits_set(limits: UsageLimits) -> Mapping[str, float]:
    """Return the limits that are set, by their names."""
    return limits.model_dump(exclude_none=True)


def name_of(limit: str) -> str:
    """Name what a limit counts: ``"cost"`` for ``"total_cost_usd_limit"``."""
    return _NAMES[limit]


def written(limit: str, amount: float) -> str:
    """Write an amount of what a limit counts: ``"$0.5"``, ``"150"``."""
    return f"${amount:.6g}" if limit == "total_cost_usd_limit" else f"{amount:.12g}"
