"""What retries, timeouts, breakers and limits cost a step while nothing fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flow_resilience import Bulkhead, CircuitBreaker, RateLimit

from flow import RecoveryStrategy
from tests.benchmarks._measure import Figure, Pair, Plan, Scenario, Work, alternate, compared, versus_bare
from tests.benchmarks.steps import CHAIN, bare_work, chain_of, flow_work, noop

PLENTY = 10**9  # calls a second: the limit is counted and never reached


def guarded() -> Work:
    """A chain of steps with all that this page is about."""
    policies = [RecoveryStrategy(name="any"), CircuitBreaker("benchmark"), RateLimit(PLENTY), Bulkhead(100)]
    return flow_work(chain_of(noop, retries=2, timeout=60, policies=policies))


async def measure_surplus(plan: Plan) -> Sequence[Figure]:
    """Compare steps with all layers with plain steps of flow: the difference is what the layers cost."""
    samples = await alternate(plan, {"all": guarded(), "plain": flow_work(chain_of(noop))})
    surplus = [full - plain for full, plain in zip(samples["all"], samples["plain"], strict=True)]
    name = "all layers, beyond a plain step (bare: that)"
    return [compared(name, surplus, samples["plain"], per="step", units=CHAIN, at_most=6.0)]


def with_policy(name: str, make: Callable[[], Any]) -> Scenario:
    """Measure a step with one policy beside a bare call."""

    @versus_bare(name, per="step", units=CHAIN)
    def scenario() -> Pair:
        return flow_work(chain_of(noop, policies=[make()])), bare_work(noop)

    return scenario


SCENARIOS = [
    Scenario("all layers", measure_surplus),
    with_policy("step with a recovery strategy", lambda: RecoveryStrategy(name="any")),
    with_policy("step with a circuit breaker", lambda: CircuitBreaker("benchmark")),
    with_policy("step with a rate limit", lambda: RateLimit(PLENTY)),
    with_policy("step with a bulkhead", lambda: Bulkhead(100)),
]
