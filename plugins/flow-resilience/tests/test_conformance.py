"""The policies do what every policy must do."""

from __future__ import annotations

from typing import Any

from flow_resilience import Bulkhead, CircuitBreaker, Classification, RateLimit
from flow_testkit import PolicySuite


class TestCircuitBreaker(PolicySuite):
    def make_policy(self) -> Any:
        return CircuitBreaker("conformance", failures=3, rate=0.5, slow_call=60.0)


class TestRateLimit(PolicySuite):
    def make_policy(self) -> Any:
        return RateLimit(1000, per=0.5)


class TestBulkhead(PolicySuite):
    def make_policy(self) -> Any:
        return Bulkhead(2)


class TestNamedBulkhead(PolicySuite):
    def make_policy(self) -> Any:
        return Bulkhead(2, name="conformance")


class TestClassification(PolicySuite):
    wraps_steps = False

    def make_policy(self) -> Any:
        return Classification(types={KeyError: "network"}, patterns={"quota": "rate_limit"})
