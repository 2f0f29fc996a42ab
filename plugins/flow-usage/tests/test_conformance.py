"""The policies do what every policy must do."""

from __future__ import annotations

from typing import Any

from flow_testkit import PolicySuite
from flow_usage import Price, SharedBudget, WarnAt

from flow import BaseStep, UsageLimits


class TestSharedBudget(PolicySuite):
    def make_policy(self) -> Any:
        return SharedBudget("conformance", UsageLimits(total_cost_usd_limit=1000, requests_limit=1000), per=60)


class TestPrice(PolicySuite):
    def make_policy(self) -> Any:
        return Price(input_per_million=1.25, output_per_million=10)


class TestWarnAt(PolicySuite):
    def make_policy(self) -> Any:
        return WarnAt(0.5, 0.8, callback=print)

    def with_policy(self, agent: Any, **settings: Any) -> BaseStep[Any, Any]:
        return super().with_policy(agent, usage_limits=UsageLimits(total_tokens_limit=1000), **settings)
