"""Usage: what a run has spent, and how much it may spend."""

from __future__ import annotations

import attrs
from pydantic import BaseModel, ConfigDict, Field

_COST_TOLERANCE = 1e-9  # sums of prices such as 0.1 are not exact in binary; exactly at the limit must pass


@attrs.frozen
class Usage:
    """Money, tokens and requests spent; adds up with ``+``.

    >>> (Usage(cost_usd=0.25, input_tokens=10) + Usage(output_tokens=5)).total_tokens
    15
    """

    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.cost_usd + other.cost_usd,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.requests + other.requests,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.cost_usd - other.cost_usd,
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.requests - other.requests,
        )

    def __bool__(self) -> bool:
        return bool(self.cost_usd or self.input_tokens or self.output_tokens or self.requests)


NO_USAGE = Usage()


class UsageLimits(BaseModel):
    """The most a run or a step may spend; ``None`` means no limit.

    Spending exactly the limit passes.

    >>> UsageLimits(total_cost_usd_limit=0.15).breach(Usage(cost_usd=0.2))
    'Cost limit of $0.15 exceeded'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    total_cost_usd_limit: float | None = Field(default=None, ge=0)
    total_tokens_limit: int | None = Field(default=None, ge=0)
    input_tokens_limit: int | None = Field(default=None, ge=0)
    output_tokens_limit: int | None = Field(default=None, ge=0)
    requests_limit: int | None = Field(default=None, ge=0)

    def tightened_by(self, other: UsageLimits | None) -> UsageLimits:
        """Return the limits of both, the smaller where both have one."""
        if other is None:
            return self
        ours, theirs = self.model_dump(exclude_none=True), other.model_dump(exclude_none=True)
        both = {name: min(value, theirs.get(name, value)) for name, value in ours.items()}
        return UsageLimits(**theirs | both)

    def breach(self, usage: Usage) -> str | None:
        """Say which limit `usage` exceeds, or return ``None``."""
        cost = self.total_cost_usd_limit
        if cost is not None and usage.cost_usd - cost > _COST_TOLERANCE:
            return f"Cost limit of ${cost:.12g} exceeded"
        for label, limit, spent in (
            ("Token", self.total_tokens_limit, usage.total_tokens),
            ("Input token", self.input_tokens_limit, usage.input_tokens),
            ("Output token", self.output_tokens_limit, usage.output_tokens),
            ("Request", self.requests_limit, usage.requests),
        ):
            if limit is not None and spent > limit:
                return f"{label} limit of {limit} exceeded"
        return None
