"""Shared budgets as policies: their settings, and the registry of the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs

from flow import ConfigurationError, Run, UsageLimits

from ._account import Account, BudgetState
from ._checks import a_name, above_zero_or_none, some_limits
from ._meter import meter_of


@attrs.frozen
class SharedBudget:
    """A budget that all runs of the process share which name it: a policy of steps, or of a whole `Flow`.

    A call of a step that carries it is refused with `BudgetExhausted` while nothing is left, and the run ends
    ``limit_exceeded``. What a step declares with `Estimate` is reserved before its call, so that runs do not overspend
    together; a step with an empty ``Estimate()`` costs nothing and is always let through. As a policy of a flow it
    counts all that a run spends, and guards all steps that have none inside.

    :param per: seconds after which what was spent counts no more; ``None``: it counts as long as the process lives.

    >>> SharedBudget("research", UsageLimits(total_cost_usd_limit=5), per=3600).state.has_room
    True
    """

    name: str = attrs.field(validator=a_name)
    limits: UsageLimits = attrs.field(validator=some_limits)
    per: float | None = attrs.field(default=None, validator=above_zero_or_none)

    @property
    def state(self) -> BudgetState:
        """What the budget is doing now. Raises `ConfigurationError` when its name is used with other settings."""
        return account_of(self).look()

    @staticmethod
    def states() -> Mapping[str, BudgetState]:
        """Return what all budgets of this process are doing, by name."""
        with _lock:
            known = sorted(_accounts.items())
        return {name: account.look() for name, account in known}

    @staticmethod
    def forget() -> None:
        """Forget all budgets, for tests: steps that are bound later begin with new ones."""
        with _lock:
            _accounts.clear()

    @contextmanager
    def around_run(self, run: Run) -> Iterator[None]:
        """Count all that `run` spends."""
        meter_of(account_of(self), run).counts_all = True
        yield


def account_of(budget: SharedBudget) -> Account:
    """Return the account of `budget`; raises `ConfigurationError` when its name is used with other settings."""
    with _lock:
        account = _accounts.get(budget.name)
        if account is None:
            account = _accounts[budget.name] = Account(budget)
        elif account.settings != budget:
            raise ConfigurationError(
                f"SharedBudget {budget.name!r} is used with different settings: {account.settings!r} and {budget!r}",
                hint="Make it once and attach that object wherever it counts",
            )
        return account


_lock = threading.Lock()
_accounts: dict[str, Account] = {}
