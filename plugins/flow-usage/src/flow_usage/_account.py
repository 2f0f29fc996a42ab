"""The account behind a shared budget: what was spent, what running calls have reserved, who is still let through."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from flow import Estimate, Usage, UsageLimitExceeded

from ._clock import now
from ._measures import MEASURES, TOLERANCE, limits_set, name_of, written
from ._window import Window

if TYPE_CHECKING:
    from ._budget import SharedBudget

_FREE = Estimate()


class BudgetExhausted(UsageLimitExceeded):
    """A budget that runs share has no room for a call, which was not made; it ends the run.

    ``budget`` is its name, ``retry_after`` the seconds after which it has room for the call if nothing more is spent;
    ``None`` when that cannot be said: it does not refill, or running calls have reserved what is left.
    """

    code = "budget_exhausted"

    def __init__(
        self, message: str, *, budget: str, retry_after: float | None, usage: Usage, limits: object, path: str
    ):
        super().__init__(message, usage=usage, limits=limits, path=path)
        self.budget = budget
        self.retry_after = retry_after


@attrs.frozen(kw_only=True)
class BudgetState:
    """What a shared budget is doing: what was `spent` of it (within its window) and what running calls have `reserved`.

    ``retry_after`` is the seconds until it has room for a call of which nothing is known; 0 when it has some now,
    ``None`` when that cannot be said.
    """

    name: str
    spent: Usage
    reserved: Usage
    retry_after: float | None = 0.0

    @property
    def has_room(self) -> bool:
        """True when a call of which nothing is known would be let through."""
        return self.retry_after == 0.0


@attrs.define(eq=False)
class Promise:
    """What a running call may still spend of what was reserved for it; `covers` the calls inside it when declared."""

    cost_usd: float = 0.0
    tokens: int = 0
    covers: bool = False


class Account:
    """What the runs, event loops and threads of the process spend of one budget."""

    __slots__ = ("_calls", "_limits", "_lock", "_reserved", "_window", "settings")

    def __init__(self, settings: SharedBudget) -> None:
        self.settings = settings
        self._limits: Mapping[str, float] = limits_set(settings.limits)
        self._lock = threading.Lock()
        self._window = Window(settings.per)
        self._reserved = Promise()
        self._calls = 0

    def reserve(self, expected: Estimate | None, path: str) -> Promise:
        """Let a call through and set aside what it is expected to spend; raises `BudgetExhausted`.

        Of a call without an estimate nothing is known: it is let through while anything is left. One that is declared
        to cost nothing always is.
        """
        with self._lock:
            time = now()
            if expected != _FREE:
                full = self._full(self._window.total(time), expected)
                if full is not None:
                    raise self._refusal(full, expected, path, time)
            promise = Promise(expected.cost_usd, expected.tokens, covers=True) if expected else Promise()
            self._calls += 1
            self._reserved.cost_usd += promise.cost_usd
            self._reserved.tokens += promise.tokens
            return promise

    def release(self, promise: Promise) -> None:
        """Take back what is left of a promise: the call has ended."""
        with self._lock:
            self._calls -= 1
            self._take_back(promise, promise.cost_usd, promise.tokens)
            if not self._calls:
                self._reserved = Promise()  # not a rest of sums that are not exact

    def spend(self, usage: Usage, promise: Promise | None, time: float) -> None:
        """Count what was spent at `time`, first of what was reserved for it; called in whatever thread it happens."""
        with self._lock:
            self._window.add(usage, time)
            if promise is not None:
                kept = min(promise.cost_usd, usage.cost_usd), min(promise.tokens, usage.total_tokens)
                self._take_back(promise, *kept)

    def look(self) -> BudgetState:
        """Return what the budget is doing."""
        with self._lock:
            time = now()
            spent = self._window.total(time)
            full = self._full(spent, None) is not None
            return BudgetState(
                name=self.settings.name,
                spent=spent,
                reserved=Usage(cost_usd=self._reserved.cost_usd, input_tokens=self._reserved.tokens),
                retry_after=self._room_after(None, time) if full else 0.0,
            )

    # -- inside, with the lock held

    def _take_back(self, promise: Promise, cost_usd: float, tokens: int) -> None:
        promise.cost_usd -= cost_usd
        promise.tokens -= tokens
        self._reserved.cost_usd -= cost_usd
        self._reserved.tokens -= tokens

    def _full(self, spent: Usage, expected: Estimate | None) -> str | None:
        """Return the first limit that leaves no room for a call when `spent` counts."""
        for limit, allowed in self._limits.items():
            committed = MEASURES[limit](spent) + self._set_aside(self._reserved, limit)
            wanted = self._set_aside(expected, limit) if expected is not None else 0
            if committed + wanted - allowed > TOLERANCE or (not wanted and allowed - committed <= TOLERANCE):
                return limit
        return None

    @staticmethod
    def _set_aside(what: Promise | Estimate, limit: str) -> float:
        # An estimate of tokens does not say which tokens it means, so it says nothing about input and output.
        return {"total_cost_usd_limit": what.cost_usd, "total_tokens_limit": what.tokens}.get(limit, 0)

    def _room_after(self, expected: Estimate | None, time: float) -> float | None:
        return next((wait for wait, spent in self._window.later(time) if self._full(spent, expected) is None), None)

    def _refusal(self, limit: str, expected: Estimate | None, path: str, time: float) -> BudgetExhausted:
        spent, wait = self._window.total(time), self._room_after(expected, time)
        per = f" per {self.settings.per:g} s" if self.settings.per is not None else ""
        told = f"{written(limit, MEASURES[limit](spent))} spent"
        reserved = self._set_aside(self._reserved, limit)
        if reserved > TOLERANCE:
            told += f", {written(limit, reserved)} reserved by running calls"
        if expected is not None and (wanted := self._set_aside(expected, limit)):
            told += f", {written(limit, wanted)} needed"
        room = f"; room again in {wait:.3g} s" if wait is not None else ""
        what = f"{name_of(limit).capitalize()} limit of {written(limit, self._limits[limit])}{per}"
        return BudgetExhausted(
            f"{what} of budget {self.settings.name!r} reached: {told}{room}",
            budget=self.settings.name,
            retry_after=wait,
            usage=spent,
            limits=self.settings.limits,
            path=path,
        )
