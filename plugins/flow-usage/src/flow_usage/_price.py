"""Prices: tokens that an agent reports without a cost are given one."""

from __future__ import annotations

from typing import Any

import attrs

from flow import Execute, Scope, StepResult, Usage

from ._checks import at_least_zero
from ._listening import listener

_MILLION = 1_000_000


@attrs.frozen(kw_only=True)
class Price:
    """What the model behind a step costs, in US dollars for a million tokens: a policy of steps.

    Tokens that the step's agent reports without a cost are counted with this price, at once; a cost that is reported
    together with tokens stays as it is. Of the step's fallback it says nothing: that asks another model.

    >>> Price(input_per_million=1.25, output_per_million=10).cost_of(Usage(input_tokens=2000, output_tokens=500))
    0.0075
    """

    input_per_million: float = attrs.field(validator=at_least_zero)
    output_per_million: float = attrs.field(validator=at_least_zero)

    def cost_of(self, usage: Usage) -> float:
        """Return what the tokens of `usage` cost."""
        tokens = usage.input_tokens * self.input_per_million + usage.output_tokens * self.output_per_million
        return tokens / _MILLION


class _Till:
    """Listens to what a run spends, and adds the cost of tokens that came without one."""

    __slots__ = ("prices",)

    def __init__(self) -> None:
        self.prices: dict[Scope, Price] = {}

    def __call__(self, scope: Scope, usage: Usage) -> None:
        if usage.cost_usd or not usage.total_tokens:
            return
        place: Scope | None = scope
        while place is not None:
            price = self.prices.get(place)
            if price is not None:
                scope.spend(Usage(cost_usd=price.cost_of(usage)))
                return
            place = place.parent


def pricing(execute: Execute, price: Price) -> Execute:
    """Price what is spent while `execute` runs."""

    async def priced(data: Any, scope: Scope) -> StepResult:
        till = listener(scope.run, _Till, _Till)
        till.prices[scope] = price
        try:
            return await execute(data, scope)
        finally:
            del till.prices[scope]

    return priced
