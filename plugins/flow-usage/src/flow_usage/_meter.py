"""What one run spends of one shared budget: each amount is counted once, however many steps carry the budget."""

from __future__ import annotations

import asyncio

from flow import Estimate, Run, Scope, Usage

from ._account import Account, Promise
from ._listening import listener


class Meter:
    """Listens to what a run spends, and counts what belongs to the budget.

    :ivar counts_all: the budget belongs to the whole flow, not to single steps.
    """

    __slots__ = ("_account", "_calls", "_clock", "counts_all")

    def __init__(self, account: Account) -> None:
        self._account = account
        self._clock = asyncio.get_running_loop().time
        self._calls: dict[Scope, Promise | None] = {}
        self.counts_all = False

    def enter(self, scope: Scope, expected: Estimate | None) -> None:
        """Let the call in `scope` through, or raise `BudgetExhausted`.

        What a step around it has reserved covers it.
        """
        self._calls[scope] = None if self._is_covered(scope) else self._account.reserve(expected, scope.path)

    def leave(self, scope: Scope) -> None:
        """Take back what the call has left of what was reserved for it."""
        promise = self._calls.pop(scope)
        if promise is not None:
            self._account.release(promise)

    def _is_covered(self, scope: Scope) -> bool:
        around = scope.parent
        while around is not None:
            promise = self._calls.get(around)
            if promise is not None and promise.covers:
                return True
            around = around.parent
        return False

    def __call__(self, scope: Scope, usage: Usage) -> None:
        """Count what was spent in `scope` if it belongs to the budget; comes from whatever thread spends it."""
        inside, promise = self.counts_all, None
        place: Scope | None = scope
        while place is not None and promise is None:
            if place in self._calls:
                inside, promise = True, self._calls[place]
            place = place.parent
        if inside:
            self._account.spend(usage, promise, self._clock())


def meter_of(account: Account, run: Run) -> Meter:
    """Return the one meter of `account` in `run`, made when it is first asked for."""
    return listener(run, account, lambda: Meter(account))
