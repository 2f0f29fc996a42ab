"""Chaos: many runs at once, with everything going wrong that can: the books balance, what works is not disturbed."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from flow_hitl import human_in_the_loop
from flow_loop import loop_until
from flow_parallel import map_over, parallel
from flow_resilience import Bulkhead, CircuitBreaker, RateLimit
from flow_testkit import FakeClock
from flow_usage import BudgetExhausted, SharedBudget, WarnAt

from flow import (
    CancelSignal,
    ControlSignal,
    Estimate,
    Flow,
    FlowError,
    Kernel,
    Pipeline,
    RecoveryStrategy,
    RunResult,
    RunStatus,
    Settings,
    Step,
    StepRun,
    Usage,
    UsageLimits,
)

SOAK = os.environ.get("FLOW_TEST_SOAK", "") not in ("", "0")
SEED = int(os.environ.get("FLOW_TEST_SEED", random.SystemRandom().randrange(2**32) if SOAK else 20_261))
RUNS = 5000 if SOAK else 1000
LIMITED_RUNS = 1000 if SOAK else 150
KERNEL = Kernel(Settings())
DESCRIPTORS = Path("/dev/fd")

pytestmark = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="counts the descriptors of this process")


@pytest.fixture(autouse=True)
def nothing_is_shared_with_other_tests(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    print(f"FLOW_TEST_SEED={SEED}")
    caplog.set_level(logging.ERROR, "flow")
    SharedBudget.forget()
    CircuitBreaker.forget()
    yield
    SharedBudget.forget()
    CircuitBreaker.forget()


def open_descriptors() -> int:
    return len(list(DESCRIPTORS.iterdir()))


def make(pipeline: Any, **options: Any) -> Flow[Any, Any]:
    return Flow(pipeline, **{"kernel": KERNEL, **options})


class Model:
    """What agents call: takes its time, spends, fails in many ways, and keeps books of its own.

    What it does in a run is decided by the seed and the run alone, so that others cannot change it.
    """

    def __init__(self) -> None:
        self.spent: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.running = 0
        self.numbers: dict[str, random.Random] = {}

    def numbers_of(self, run_id: str) -> random.Random:
        if run_id not in self.numbers:
            self.numbers[run_id] = random.Random(f"{SEED} {run_id}")
        return self.numbers[run_id]

    async def call(self, run: StepRun, trouble: float) -> None:
        numbers = self.numbers_of(run.run_id)
        self.running += 1
        try:
            self.spend(run, numbers)
            await asyncio.sleep(numbers.random() / 10)
            if numbers.random() < trouble:
                await self.go_wrong(numbers)
            self.spend(run, numbers)
        finally:
            self.running -= 1

    def spend(self, run: StepRun, numbers: random.Random) -> None:
        amount = {"input_tokens": numbers.randrange(50), "output_tokens": numbers.randrange(20), "requests": 1}
        run.usage.add(**amount, cost_usd=amount["input_tokens"] / 1024)  # exact in binary
        self.spent[run.run_id].update(amount)

    async def go_wrong(self, numbers: random.Random) -> None:
        kind = numbers.choice(["error"] * 4 + ["hang", "hang", "late", "cancel", "timeout"])
        if kind == "hang":
            await asyncio.Event().wait()
        if kind == "late":
            await asyncio.sleep(numbers.uniform(0.5, 3))
        if kind == "cancel":
            raise CancelSignal("a step gives up")
        if kind == "timeout":
            raise TimeoutError("of a client, not of the step")
        if kind == "error":
            raise numbers.choice([ConnectionError, ValueError, TypeError, OSError])("chaos")

    def books(self, run_id: str) -> Usage:
        spent = self.spent[run_id]
        return Usage(spent["input_tokens"] / 1024, spent["input_tokens"], spent["output_tokens"], spent["requests"])


def agent(model: Model, trouble: float, worth: int) -> Any:
    async def work(data: int, *, run: StepRun) -> int:
        await model.call(run, trouble)
        return data + worth

    return work


def everything(model: Model, trouble: float, name: str) -> Pipeline[Any, Any]:
    """A pipeline with all that a step can carry; what it makes of ``n`` is ``n + 134`` when it completes."""
    back_off = RecoveryStrategy(name="again", max_retries=2, retry_delay_seconds=0.05)
    breaker = CircuitBreaker(f"{name} service", failures=20, window=2.0, open_for=0.3)

    def step(name: str, worth: int, **settings: Any) -> Step[Any, Any]:
        return Step(name, agent(model, trouble, worth), timeout=1.0, **settings)

    fan = parallel(
        "fan", {label: step(label, 1, retries=1) for label in "abcd"}, join=lambda outputs: sum(outputs.values())
    )
    items = map_over("map", step("item", 2), items=lambda data, context: [data] * 5, max_concurrency=2)
    total = Step("total", _total)
    loop = loop_until("loop", step("body", 10, policies=[back_off]), _never, max_loops=3, on_exhausted="return")
    guarded = step(
        "guarded", 100, policies=[back_off, breaker, Bulkhead(40, name=name)], fallback=step("instead", 100, retries=1)
    )
    return fan >> step("rate", 0, policies=[RateLimit(500, per=0.1, name=name)]) >> items >> total >> loop >> guarded


async def _total(outputs: list[int]) -> int:
    return sum(outputs) // 5 // 4


async def _never(output: Any, context: Any) -> bool:
    return False


CALM_WORTH = 1 + 30 + 100


@attrs.define
class Outcome:
    """How a run ended for who awaited it."""

    run_id: str
    result: RunResult[Any] | None = None
    raised: str = ""
    cancelled_later: bool = False
    """It was cancelled when it had been paused already, which only its store knows."""


class Storm:
    """Starts runs of several flows at random times and disturbs them."""

    def __init__(self) -> None:
        self.numbers = random.Random(SEED)
        self.model = Model()
        self.outcomes: list[Outcome] = []
        tokens = UsageLimits(total_tokens_limit=600)
        self.budget = SharedBudget("the storm", UsageLimits(total_tokens_limit=10**9))
        shared: dict[str, Any] = {"state": KERNEL.open_state("memory://"), "policies": [self.budget, WarnAt(0.5, 0.9)]}
        wild, milder = everything(self.model, 0.08, "wild"), everything(self.model, 0.02, "milder")
        ask = human_in_the_loop("ask", "go on?", bool)
        self.calm = make(everything(self.model, 0.0, "calm"), **shared)
        self.wild = [
            make(wild, **shared),
            make(wild, usage_limits=tokens, **shared),
            make(milder, deadline=1.0, **shared),
            make(Pipeline([milder.as_step("sub"), ask]), deadline=4.0, **shared),
            make(wild, max_retries=1, retry_on_error=True, **shared),
        ]

    async def run(self, index: int) -> None:
        calm = index % 5 == 0
        outcome = Outcome(f"{'calm' if calm else 'wild'}-{index}")
        self.outcomes.append(outcome)
        flow = self.calm if calm else self.numbers.choice(self.wild)
        started, disturbance = self.numbers.random() * 2, self.numbers.random()
        await asyncio.sleep(started)
        if calm or disturbance > 0.2:
            outcome.result = await flow.run_async(index, run_id=outcome.run_id)
        elif disturbance < 0.1:
            handle = flow.start(index, run_id=outcome.run_id)
            await asyncio.sleep(disturbance * 10)
            paused = handle.done()
            outcome.cancelled_later = await flow.cancel(handle.run_id) and paused
            outcome.result = await handle
        else:
            await self.run_impatiently(flow, index, outcome, disturbance * 5 - 0.4)

    async def run_impatiently(self, flow: Flow[Any, Any], index: int, outcome: Outcome, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                outcome.result = await flow.run_async(index, run_id=outcome.run_id)
        except TimeoutError:
            outcome.raised = "timeout"


def test_chaos_leaves_the_books_and_the_others_alone() -> None:
    storm = Storm()
    threads = threading.active_count()

    async def program() -> None:
        descriptors = open_descriptors()
        async with asyncio.TaskGroup() as group:
            for index in range(RUNS):
                group.create_task(storm.run(index))
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert open_descriptors() <= descriptors
        await the_books_balance(storm)

    FakeClock().run(program())
    assert storm.model.running == 0
    assert threading.active_count() <= threads
    statuses = Counter(outcome.raised or str(outcome.result and outcome.result.status) for outcome in storm.outcomes)
    print(dict(statuses))
    assert sum(statuses.values()) == RUNS
    assert {"completed", "failed", "cancelled", "limit_exceeded", "deadline_exceeded", "paused", "timeout"} <= set(
        statuses
    )


async def the_books_balance(storm: Storm) -> None:
    store = storm.calm._bind().services.state
    assert store is not None
    spent = Usage()
    for outcome in storm.outcomes:
        books = storm.model.books(outcome.run_id)
        spent = spent + books
        record = await store.load_run(outcome.run_id)
        assert record is not None
        assert (record.usage, record.owner) == (books, None), outcome.run_id
        if outcome.result is None:
            assert (outcome.raised, record.status) == ("timeout", "cancelled")
            continue
        result = outcome.result
        status = "cancelled" if outcome.cancelled_later else result.status
        assert (result.usage, record.status) == (books, status), outcome.run_id
        assert sum((item.usage for item in result.step_history), Usage()) == books
        assert (result.error is None) == (result.status in (RunStatus.COMPLETED, RunStatus.PAUSED))
        assert isinstance(result.error, (FlowError, ControlSignal, type(None)))
        if outcome.run_id.startswith("calm"):
            index = int(outcome.run_id.partition("-")[2])
            assert result.output == index + CALM_WORTH
    assert storm.budget.state.spent == spent
    assert storm.budget.state.reserved == Usage()


# -- limits under load (R5)


@attrs.define
class Load:
    """Runs with limits of their own, under a budget for all of them; each step reserves the most that it can spend."""

    most: int
    spent: Counter[str] = attrs.field(factory=Counter)

    def step(self, name: str) -> Step[Any, Any]:
        async def work(data: Any, *, run: StepRun) -> Any:
            numbers = random.Random(f"{SEED} {run.run_id} {run.path}")
            left = numbers.randrange(self.most + 1)
            while left:
                await asyncio.sleep(numbers.random() / 50)
                amount = numbers.randint(1, left)
                left -= amount
                run.usage.add(input_tokens=amount)
                self.spent[run.run_id] += amount
            return data

        return Step(name, work, policies=[Estimate(tokens=self.most)])

    def pipeline(self) -> Pipeline[Any, Any]:
        fan = parallel("fan", {f"b{index}": self.step("work") for index in range(50)}, max_concurrency=50)
        pipeline: Any = fan
        for index in range(9):
            pipeline = pipeline >> self.step(f"s{index}")
        assert isinstance(pipeline, Pipeline)
        return pipeline


@pytest.mark.parametrize("scarce", ["for each run", "for all together"])
def test_runs_with_fifty_branches_never_overspend(scarce: str) -> None:
    numbers = random.Random(SEED)
    load = Load(most=20)
    enough = 59 * 20
    company = LIMITED_RUNS * (1000 if scarce == "for each run" else 400)
    budget = SharedBudget("company", UsageLimits(total_tokens_limit=company))
    limits = [numbers.randrange(300, enough) if scarce == "for each run" else enough for _ in range(LIMITED_RUNS)]
    flow = make(load.pipeline(), policies=[budget], state="memory://")

    async def one(limit: int) -> RunResult[Any]:
        await asyncio.sleep(numbers.random())
        return await flow.run_async("data", usage_limits=UsageLimits(total_tokens_limit=limit))

    async def program() -> list[RunResult[Any]]:
        results = await asyncio.gather(*(one(limit) for limit in limits))
        store = flow._bind().services.state
        assert store is not None
        records = [await store.load_run(result.run_id) for result in results]
        assert [record and record.usage for record in records] == [result.usage for result in results]
        return results

    results = FakeClock().run(program())
    assert Counter({result.run_id: result.total_tokens for result in results}) == load.spent
    assert [result for result, limit in zip(results, limits, strict=True) if result.total_tokens > limit] == []
    assert (budget.state.spent.total_tokens, budget.state.reserved) == (load.spent.total(), Usage())
    assert load.spent.total() <= company
    refused = Counter(isinstance(result.error, BudgetExhausted) for result in results if not result.success)
    assert refused[scarce == "for all together"] > 0
    assert refused[scarce == "for each run"] == 0
    if scarce == "for each run":
        assert sum(result.success for result in results) > 0


@pytest.mark.parametrize("scarce", ["budget", "limit of the run"])
def test_a_call_that_waits_for_its_turn_has_reserved_nothing(scarce: str) -> None:
    async def work(data: Any, *, run: StepRun) -> Any:
        await asyncio.sleep(1)
        run.usage.add(cost_usd=0.125)
        return data

    enough = UsageLimits(total_cost_usd_limit=0.75)
    budget = SharedBudget("one after the other", enough)
    one_by_one = [Bulkhead(1, name="one"), Estimate(cost_usd=0.5), *([budget] if scarce == "budget" else [])]
    fan = parallel("fan", {label: Step(label, work, policies=one_by_one) for label in "abc"})
    flow = make(fan, usage_limits=None if scarce == "budget" else enough)
    result = FakeClock().run(flow.run_async(1))
    assert result.status is RunStatus.COMPLETED, result.error
