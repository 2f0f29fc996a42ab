"""Governance of what runs spend, as policies of flow.

`SharedBudget` is a budget for all runs of a process, `WarnAt` tells before a limit is reached, and `Price` turns tokens
into money where agents report tokens only. Limits of single runs and steps are part of flow itself: `UsageLimits`.
"""

from __future__ import annotations

from ._account import BudgetExhausted, BudgetState
from ._budget import SharedBudget
from ._guard import flow_wrap_step
from ._price import Price
from ._warnings import UsageWarning, WarnAt

__all__ = [
    "BudgetExhausted",
    "BudgetState",
    "Price",
    "SharedBudget",
    "UsageWarning",
    "WarnAt",
    "flow_wrap_step",
]
