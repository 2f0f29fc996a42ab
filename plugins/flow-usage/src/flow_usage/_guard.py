"""The ``GUARD`` layer of this package: what stands around each attempt of a step that carries one of its policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flow import BaseStep, Binder, ConfigurationError, Estimate, Execute, Layer, Scope, StepResult, Wrapper, hookimpl

from ._account import Account
from ._budget import SharedBudget, account_of
from ._meter import meter_of
from ._price import Price, pricing
from ._warnings import WarnAt, watching


# First of its layer to be asked is innermost: whoever waits for a slot or a rate has reserved nothing meanwhile.
@hookimpl(tryfirst=True)
def flow_wrap_step(step: BaseStep[Any, Any], binder: Binder) -> Wrapper | None:
    """Guard the steps that carry a policy of this package, and those of flows that have a `SharedBudget`."""
    price = _price_of(step, binder)
    warn = binder.policy(step, WarnAt)
    accounts = _accounts(step, binder)
    if warn is not None and step.usage_limits is None:
        raise ConfigurationError(
            f"step {step.name!r} carries WarnAt and has no usage_limits",
            hint="WarnAt of a step is about the limits of that step; for those of the run: Flow(..., policies=[it])",
        )
    if price is None and warn is None and not accounts:
        return None
    expected = binder.policy(step, Estimate)

    def wrap(execute: Execute) -> Execute:
        if accounts:
            execute = _budgeted(execute, accounts, expected)
        if warn is not None:
            execute = watching(execute, warn)
        if price is not None:
            execute = pricing(execute, price)
        return execute

    return Wrapper(Layer.GUARD, wrap)


def _accounts(step: BaseStep[Any, Any], binder: Binder) -> list[Account]:
    budgets = binder.policies(step, SharedBudget)
    of_flow = [policy for policy in binder.services.policies if isinstance(policy, SharedBudget)]
    for budget in of_flow:
        account_of(budget)  # refuses different settings before anything runs
    if not step.children() or binder.policy(step, Estimate) is not None:
        budgets += of_flow
    return list(dict.fromkeys(account_of(budget) for budget in budgets))


def _price_of(step: BaseStep[Any, Any], binder: Binder) -> Price | None:
    if any(isinstance(policy, Price) for policy in binder.services.policies):
        raise ConfigurationError(
            "Price is a policy of steps, not of a flow: their models have different prices",
            hint="Attach it to each step that asks the model: Step(..., policies=[it])",
        )
    return binder.policy(step, Price)


def _budgeted(execute: Execute, accounts: Sequence[Account], expected: Estimate | None) -> Execute:
    async def budgeted(data: Any, scope: Scope) -> StepResult:
        entered = []
        try:
            for account in accounts:
                meter = meter_of(account, scope.run)
                meter.enter(scope, expected)
                entered.append(meter)
            return await execute(data, scope)
        finally:
            for meter in entered:
                meter.leave(scope)

    return budgeted
