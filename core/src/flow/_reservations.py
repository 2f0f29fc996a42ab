"""What the steps of a run that are running now may still spend, as they have declared before."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ._usage import Usage, UsageLimits
from .errors import UsageLimitExceeded

if TYPE_CHECKING:
    from ._run import Run, Scope


@attrs.define(eq=False)
class Total:
    """What is promised in one scope that has limits, by so many calls."""

    cost_usd: float = 0.0
    tokens: int = 0
    calls: int = 0


@attrs.define(eq=False)
class Promise:
    """What one call may still spend, and the totals that it is part of."""

    cost_usd: float
    tokens: int
    totals: list[Total]

    def take(self, cost_usd: float, tokens: int) -> None:
        """Take away what was spent, or what is given back, as far as it was promised."""
        cost_usd, tokens = min(cost_usd, self.cost_usd), min(tokens, self.tokens)
        self.cost_usd -= cost_usd
        self.tokens -= tokens
        for total in self.totals:
            total.cost_usd -= cost_usd
            total.tokens -= tokens


class Reservations:
    """The promises of one run. What a step has spent of its promise is not counted twice: it listens to the spending.

    Each promise is counted in the scopes around it that have limits, up to a step that has made one itself: what is
    inside that step is part of its promise. So the cost of a promise does not depend on how many others there are.
    """

    __slots__ = ("_lock", "_open", "_totals")

    def __init__(self) -> None:
        self._lock = threading.Lock()  # agents that run in worker threads spend too
        self._open: dict[Scope, Promise] = {}
        self._totals: dict[Scope, Total] = {}

    @property
    def open(self) -> Mapping[Scope, Promise]:
        """The promises of the steps that are running now."""
        return self._open

    def reserve(self, scope: Scope, expected: Usage) -> None:
        """Promise that the step in `scope` spends `expected`; raises `UsageLimitExceeded` when that is too much.

        Limits of the step itself and of all that encloses it count, each with what was promised inside it.
        """
        with self._lock:
            limited: list[Scope] = []
            enclosing: Scope | None = scope
            while enclosing is not None and enclosing not in self._open:
                if enclosing.limits is not None:
                    self._require_room(enclosing, expected, scope.path)
                    limited.append(enclosing)
                enclosing = enclosing.parent
            promise = Promise(expected.cost_usd, expected.total_tokens, [self._total_of(place) for place in limited])
            for total in promise.totals:
                total.cost_usd += promise.cost_usd
                total.tokens += promise.tokens
                total.calls += 1
            self._open[scope] = promise

    def release(self, scope: Scope) -> None:
        """Take the promise back: the attempt has ended, and what it spent is counted."""
        with self._lock:
            promise = self._open.pop(scope)
            promise.take(promise.cost_usd, promise.tokens)
            for total in promise.totals:
                total.calls -= 1
            place: Scope | None = scope
            while place is not None and promise.totals:
                total_here = self._totals.get(place)
                if total_here is not None and not total_here.calls:
                    del self._totals[place]  # with the rest of sums that are not exact
                place = place.parent

    def __call__(self, scope: Scope, usage: Usage) -> None:
        """Listen to what is spent, in whatever thread that happens."""
        with self._lock:
            place: Scope | None = scope
            while place is not None:
                promise = self._open.get(place)
                if promise is not None:
                    promise.take(usage.cost_usd, usage.total_tokens)
                place = place.parent

    # -- inside, with the lock held

    def _require_room(self, enclosing: Scope, expected: Usage, path: str) -> None:
        limits, spent, promised = enclosing.limits, enclosing.usage, self._totals.get(enclosing)
        assert limits is not None  # noqa: S101  the caller asked already
        cost_usd, tokens = spent.cost_usd + expected.cost_usd, spent.total_tokens + expected.total_tokens
        if promised is not None:
            cost_usd, tokens = cost_usd + promised.cost_usd, tokens + promised.tokens
        most_usd, most_tokens = limits.total_cost_usd_limit, limits.total_tokens_limit
        if (most_usd is None or cost_usd <= most_usd) and (most_tokens is None or tokens <= most_tokens):
            return
        # An estimate does not say which tokens it means, so it can breach these two limits only.
        both = UsageLimits(total_cost_usd_limit=most_usd, total_tokens_limit=most_tokens)
        message = both.breach(Usage(cost_usd=cost_usd, input_tokens=tokens))
        if message is not None:
            raise UsageLimitExceeded(message, usage=spent, limits=limits, path=path)

    def _total_of(self, scope: Scope) -> Total:
        if scope not in self._totals:
            self._totals[scope] = Total()
        return self._totals[scope]


def reservations_of(run: Run) -> Reservations:
    """Return the reservations of `run`, made when they are first asked for."""
    if run.reservations is None:
        run.reservations = Reservations()
        if run.spending is None:
            run.spending = {}
        run.spending[Reservations] = run.reservations
    return run.reservations
