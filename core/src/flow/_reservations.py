"""What the steps of a run that are running now may still spend, as they have declared before."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ._usage import NO_USAGE, Usage, UsageLimits
from .errors import UsageLimitExceeded

if TYPE_CHECKING:
    from ._run import Scope


class Reservations:
    """The promises of one run. What a step has spent of its promise is not counted twice."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[Scope, tuple[Usage, Usage]] = {}

    def reserve(self, scope: Scope, expected: Usage) -> None:
        """Promise that the step in `scope` spends `expected`; raises `UsageLimitExceeded` when that is too much.

        Limits of the step itself and of all that encloses it count, each with what was promised inside it.
        """
        enclosing: Scope | None = scope
        while enclosing is not None and enclosing not in self._open:  # from there on that promise covers this one
            if enclosing.limits is not None:
                message = _totals(enclosing.limits).breach(enclosing.usage + self._promised(enclosing) + expected)
                if message is not None:
                    raise UsageLimitExceeded(message, usage=enclosing.usage, limits=enclosing.limits, path=scope.path)
            enclosing = enclosing.parent
        self._open[scope] = (expected, scope.usage)

    def release(self, scope: Scope) -> None:
        """Take the promise back: the attempt has ended, and what it spent is counted."""
        self._open.pop(scope, None)

    def _promised(self, enclosing: Scope) -> Usage:
        total = NO_USAGE
        for scope, (expected, before) in self._open.items():
            if self._counts(scope, enclosing):
                total = total + _rest(expected, scope.usage - before)
        return total

    def _counts(self, scope: Scope, enclosing: Scope) -> bool:
        """Tell whether a promise was made inside `enclosing` and is not part of a promise of a step around it."""
        if scope is enclosing:
            return True
        parent = scope.parent
        while parent is not None:
            if parent is enclosing:
                return True
            if parent in self._open:
                return False
            parent = parent.parent
        return False


def _rest(expected: Usage, spent: Usage) -> Usage:
    return Usage(
        cost_usd=max(0.0, expected.cost_usd - spent.cost_usd),
        input_tokens=max(0, expected.input_tokens - spent.total_tokens),
    )


@lru_cache(maxsize=256)
def _totals(limits: UsageLimits) -> UsageLimits:
    """Return the limits that an estimate can breach: it does not say which tokens it means."""
    return UsageLimits(total_cost_usd_limit=limits.total_cost_usd_limit, total_tokens_limit=limits.total_tokens_limit)
