"""A thousand runs at once among errors, timeouts, cancels, budgets, breakers and limits, on a simulated clock."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flow_resilience import Bulkhead, CircuitBreaker, CircuitState, GracefulDegradation, RateLimit
from flow_resilience._limits import bulkheads, waiting_calls
from flow_testkit import FakeClock

from flow import (
    Event,
    EventKind,
    Flow,
    RecoveryAction,
    RecoveryStrategy,
    RunResult,
    RunStatus,
    Step,
    StepRun,
    UsageLimits,
)
from flow.errors import FlowError

RUNS = 1000
ENDINGS = {
    RunStatus.COMPLETED,
    RunStatus.FAILED,
    RunStatus.CANCELLED,
    RunStatus.LIMIT_EXCEEDED,
    RunStatus.DEADLINE_EXCEEDED,
}
ERRORS = (ConnectionError, TimeoutError, ValueError, TypeError, KeyError, PermissionError)


class Chaos:
    """Agents that fail in every way, and keep a ledger of what they spent."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.spent: dict[str, int] = defaultdict(int)

    async def work(self, data: int, *, run: StepRun) -> int:
        for _ in range(self.random.randint(1, 3)):
            tokens = self.random.randint(1, 9)
            run.usage.add(input_tokens=tokens)
            self.spent[run.run_id] += tokens
            await asyncio.sleep(self.random.choice((0.0, 0.1, 1.0)))
        fate = self.random.random()
        if fate < 0.25:
            raise self.random.choice(ERRORS)("chaos")
        if fate < 0.30:
            await asyncio.sleep(100)
        return data + 1

    async def instead(self, data: int, *, run: StepRun) -> int:
        run.usage.add(input_tokens=1)
        self.spent[run.run_id] += 1
        if self.random.random() < 0.2:
            raise ConnectionError("chaos")
        return data + 1

    def pipeline(self, shared: list[Any]) -> Any:
        strategy = RecoveryStrategy(
            name="patient",
            error_types={ConnectionError},
            max_retries=2,
            retry_delay_seconds=0.5,
            fallback_actions=[RecoveryAction.CIRCUIT_BREAK, RecoveryAction.FALLBACK],
        )
        steps: list[Any] = [
            Step("plain", self.work, retries=2, timeout=5.0),
            Step("strategy", self.work, policies=[strategy, *shared], fallback=Step("instead", self.instead)),
            Step("limited", self.work, retries=1, timeout=5.0, policies=shared, fallback=Step("instead", self.instead)),
        ]
        inner = (steps[0] >> steps[1]).as_step("inner").evolve(retries=1)
        return inner >> steps[2] >> steps[0].evolve(name="last")


def open_descriptors() -> int:
    """How many descriptors this process has open; always 0 where the system does not say."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.mark.parametrize("seed", range(3))
def test_every_run_ends_in_a_typed_outcome_and_leaves_nothing(seed: int, flow: Callable[..., Flow[Any, Any]]) -> None:
    chaos, clock = Chaos(seed), FakeClock()
    slots = Bulkhead(40)
    shared = [CircuitBreaker("chaos", failures=20, window=5, open_for=2), RateLimit(300, per=1.0), slots]
    changes: list[Event] = []
    runner = flow(
        chaos.pipeline(shared),
        hooks=[lambda event: changes.append(event) if event.kind is EventKind.BREAKER else None],
        policies=[GracefulDegradation(queue=(10, 100, 500), read_lag=lambda: 0.0, read_memory=lambda: 0.0)],
    )

    async def one(number: int) -> RunResult[Any]:
        await asyncio.sleep(chaos.random.uniform(0, 5))
        limits = UsageLimits(total_tokens_limit=chaos.random.randint(5, 60)) if number % 5 == 0 else None
        deadline = chaos.random.uniform(0.5, 60) if number % 7 == 0 else None
        handle = runner.start(number, run_id=f"run-{number}", usage_limits=limits, deadline=deadline)
        if number % 11 == 0:
            asyncio.get_running_loop().call_later(chaos.random.uniform(0, 20), handle.cancel)
        return await handle

    async def program() -> list[RunResult[Any]]:
        descriptors = open_descriptors()
        results = await asyncio.gather(*(one(number) for number in range(RUNS)))
        await asyncio.sleep(0)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        assert open_descriptors() == descriptors
        return results

    results = clock.run(program())

    endings = Counter(result.status for result in results)
    assert set(endings) == ENDINGS, endings  # each way to end has been taken, and no other
    for number, result in enumerate(results):
        assert result.run_id == f"run-{number}"
        assert result.total_tokens == chaos.spent[result.run_id]
        if result.success:
            assert result.output == number + 4
        elif result.status is not RunStatus.CANCELLED:
            assert isinstance(result.error, FlowError)
    assert (bulkheads.of(slots).inside, waiting_calls()) == (0, 0)
    states = [event.detail["to"] for event in changes if event.detail]
    assert {CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED} <= set(states)
