"""Budgets: what is reserved is given back whatever happens, and parallel branches never overspend together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.tests.skipping import run_skipping
from flow import (
    BaseStep,
    CancelSignal,
    Estimate,
    Flow,
    Kernel,
    PauseSignal,
    Pipeline,
    Run,
    RunHandle,
    RunResult,
    RunStatus,
    Scope,
    Settings,
    Step,
    StepResult,
    StepRun,
    Usage,
    UsageLimitExceeded,
    UsageLimits,
    hookimpl,
)


@attrs.frozen(kw_only=True)
class Fork(BaseStep[Any, Any]):
    """Runs steps beside each other; one that ends the run stops the others at once."""

    kind = "fork"

    branches: Mapping[str, Any]

    def children(self) -> Mapping[str, Any]:
        return self.branches


class Halted(Exception):
    pass


class ForkPlugin:
    @hookimpl
    def flow_bind_step(self, step: Any, binder: Any) -> Any:
        if not isinstance(step, Fork):
            return None
        executes = {label: binder.bind(branch, label) for label, branch in step.branches.items()}

        async def fork(data: Any, scope: Scope) -> StepResult:
            results: dict[str, StepResult] = {}

            async def work(label: str) -> None:
                results[label] = await executes[label](data, scope.branch(""))
                if results[label].halts_run:
                    raise Halted

            try:
                async with asyncio.TaskGroup() as group:
                    for label in executes:
                        group.create_task(work(label))
            except* Halted:
                pass
            failed = sorted((r for r in results.values() if not r.success), key=lambda result: not result.halts_run)
            if failed:
                return StepResult.failed(step, failed[0].feedback or "", failed[0].error)
            return StepResult.ok(step, [results[label].output for label in executes])

        return fork


KERNEL = Kernel(Settings(), only=[], plugins=[ForkPlugin()])


def fork(*branches: Any, name: str = "fork", **settings: Any) -> Fork:
    return Fork(name=name, branches={f"b{index}": branch for index, branch in enumerate(branches)}, **settings)


def spends(cost_usd: float = 0.0, tokens: int = 0) -> Any:
    async def agent(value: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=cost_usd, input_tokens=tokens)
        return value

    return agent


def fork_flow(pipeline: Any, **options: Any) -> Flow[Any, Any]:
    return Flow(pipeline, **{"kernel": KERNEL, **options})


def dollars(limit: float) -> UsageLimits:
    return UsageLimits(total_cost_usd_limit=limit)


def promised(run: Run) -> Mapping[Any, Any]:
    return {} if run.reservations is None else run.reservations.open


# -- limits


@pytest.mark.parametrize(
    ("of_run", "of_step", "message"),
    [(1.0, 0.3, "Cost limit of $0.3 exceeded"), (0.3, 1.0, "Cost limit of $0.3 exceeded")],
    ids=["the step's", "the run's"],
)
def test_the_tighter_of_two_limits_wins(of_run: float, of_step: float, message: str) -> None:
    step = Step("a", spends(0.4), usage_limits=dollars(of_step))
    result = fork_flow(step, usage_limits=dollars(of_run)).run(1)
    assert (result.status, str(result.error)) == ("limit_exceeded", message)


def test_a_limit_of_zero_lets_steps_through_that_spend_nothing() -> None:
    pipeline = Step("free", spends()) >> Step("dear", spends(0.01)) >> Step("after", spends())
    result = fork_flow(pipeline, usage_limits=dollars(0)).run(7)
    assert (result.status, str(result.error)) == ("limit_exceeded", "Cost limit of $0 exceeded")
    assert [(item.name, item.output) for item in result.step_history] == [("free", 7), ("dear", 7)]


def test_a_breach_stops_the_other_branches_at_once_and_keeps_what_they_did() -> None:
    begun = asyncio.Event()

    async def waits(value: int, *, run: StepRun) -> None:
        run.usage.add(cost_usd=0.1)
        begun.set()
        await asyncio.Event().wait()

    async def breaks(value: int, *, run: StepRun) -> int:
        await begun.wait()
        run.usage.add(cost_usd=1.0)
        return value

    branches = fork(Step("waits", waits), Step("breaks", breaks))
    result = fork_flow(branches >> Step("after", spends()), usage_limits=dollars(1)).run(5)
    assert isinstance(result.error, UsageLimitExceeded)
    assert (result.error.usage, result.error.limits) == (Usage(cost_usd=1.1), dollars(1))
    assert (result.status, result.usage.cost_usd) == ("limit_exceeded", 1.1)
    assert {child.name: (child.success, child.output) for child in result.step_history[0].children} == {
        "waits": (False, None),
        "breaks": (False, 5),
    }


def test_a_static_share_of_the_limit_is_not_what_a_branch_may_spend() -> None:
    branches = fork(Step("dear", spends(0.6)), Step("cheap", spends(0.1)))
    assert fork_flow(branches, usage_limits=dollars(1)).run(1).success


@pytest.mark.parametrize("inside", ["fallback", "sub-workflow", "fork"])
def test_a_breach_at_any_place_ends_the_run_with_the_outer_history(inside: str) -> None:
    async def fails(value: int, *, run: StepRun) -> None:
        run.usage.add(cost_usd=0.1)
        raise ValueError("no")

    dear = Step("dear", spends(0.3))
    step: Any = {
        "fallback": Step("outer", fails, fallback=dear),
        "sub-workflow": Pipeline([dear]).as_step("outer"),
        "fork": fork(dear, name="outer"),
    }[inside]
    result = fork_flow(Step("first", spends(0.1)) >> step, usage_limits=dollars(0.35)).run(1)
    assert (result.status, [item.name for item in result.step_history]) == ("limit_exceeded", ["first", "outer"])
    assert result.usage.cost_usd == pytest.approx(0.5 if inside == "fallback" else 0.4)


def test_what_worker_threads_spend_is_counted_exactly() -> None:
    together = threading.Barrier(4)

    def agent(value: int, *, run: StepRun) -> int:
        together.wait(10)
        for _ in range(500):
            run.usage.add(input_tokens=1, requests=1)
        return value

    def spreads(value: Any, *, run: StepRun) -> Any:
        with ThreadPoolExecutor(4) as pool:
            for _ in range(400):
                pool.submit(run.usage.add, output_tokens=1)
        return value

    result = fork_flow(fork(*(Step(f"a{n}", agent) for n in range(4))) >> Step("b", spreads)).run(1)
    assert result.usage == Usage(input_tokens=2000, output_tokens=400, requests=2000)
    assert [item.usage.total_tokens for item in result.step_history] == [2000, 400]


# -- reservations


async def fails(value: Any) -> None:
    raise ValueError("no")


async def hangs(value: Any) -> None:
    await asyncio.sleep(3600)


async def breaks_a_promise(value: Any, *, run: StepRun) -> None:
    run.usage.add(cost_usd=0.25)
    raise ValueError("spent a part")


@pytest.mark.parametrize("agent", [fails, hangs, breaks_a_promise], ids=["failure", "timeout", "partly spent"])
def test_what_was_reserved_is_there_again_for_what_follows_a_failed_attempt(agent: Any) -> None:
    needed = 0.5 if agent is breaks_a_promise else 1.0
    instead = Step("instead", spends(needed), policies=[Estimate(cost_usd=needed)])
    step = Step("a", agent, timeout=5, retries=1, policies=[Estimate(cost_usd=needed)], fallback=instead)
    result, _ = run_skipping(fork_flow(step, usage_limits=dollars(1)).run_async(1))
    assert (result.status, result.usage.cost_usd) == ("completed", 1.0)
    beside = Step("beside", asyncio.sleep, policies=[Estimate(cost_usd=0.25)])  # has its promise all the time
    result, _ = run_skipping(fork_flow(fork(beside, step), usage_limits=dollars(1.25)).run_async(20))
    assert (result.status, result.usage.cost_usd) == ("completed", 1.0)


@pytest.mark.parametrize(
    ("signal", "status"),
    [(lambda: PauseSignal("go on?"), RunStatus.PAUSED), (lambda: CancelSignal("enough"), RunStatus.CANCELLED)],
    ids=["pause", "cancel"],
)
async def test_what_was_reserved_is_given_back_at_a_signal(signal: Callable[[], BaseException], status: str) -> None:
    waiting = asyncio.Event()

    async def asks(value: Any) -> None:
        await waiting.wait()
        raise signal()

    async def looks(value: Any) -> None:
        waiting.set()
        await asyncio.Event().wait()

    branches = fork(*(Step(agent.__name__, agent, policies=[Estimate(cost_usd=0.5)]) for agent in (asks, looks)))
    handle = fork_flow(branches, usage_limits=dollars(1)).start(1)
    await waiting.wait()
    assert len(promised(handle._run)) == 2
    assert (await handle).status is status
    assert promised(handle._run) == {}


async def test_what_was_reserved_is_given_back_when_the_run_is_cancelled() -> None:
    begun = asyncio.Event()

    async def waits(value: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    handle = fork_flow(Step("a", waits, policies=[Estimate(cost_usd=1)]), usage_limits=dollars(1)).start(1)
    await begun.wait()
    assert handle.cancel()
    assert (await handle).status is RunStatus.CANCELLED
    assert promised(handle._run) == {}


@pytest.mark.parametrize(("limit", "calls"), [(1.0, 10), (0.95, 9), (0.0, 0)])
def test_branches_that_start_together_reserve_no_more_than_there_is(limit: float, calls: int) -> None:
    spent: list[float] = []

    async def agent(value: int, *, run: StepRun) -> int:
        await asyncio.sleep(0)
        run.usage.add(cost_usd=0.1)
        spent.append(0.1)
        return value

    fits = fork(*(Step(f"a{n}", agent, policies=[Estimate(cost_usd=0.1)]) for n in range(calls)))
    assert fork_flow(fits, usage_limits=dollars(limit)).run(1).success
    assert len(spent) == calls
    more = fork(*(Step(f"a{n}", agent, policies=[Estimate(cost_usd=0.1)]) for n in range(calls + 1)))
    result = fork_flow(more, usage_limits=dollars(limit)).run(1)
    assert result.status == "limit_exceeded"
    assert result.usage.cost_usd <= limit + 1e-9


def test_a_refused_estimate_tells_what_was_spent_and_what_was_allowed() -> None:
    pipeline = Step("a", spends(0.3)) >> Step("b", spends(), policies=[Estimate(cost_usd=0.8)])
    error = fork_flow(pipeline, usage_limits=dollars(1)).run(1).error
    assert isinstance(error, UsageLimitExceeded)
    assert (error.usage.cost_usd, error.limits, error.path) == (0.3, dollars(1), "1:b")


async def test_what_was_spent_before_a_resume_leaves_that_much_less_to_reserve() -> None:
    works = False

    async def agent(value: int, *, run: StepRun) -> int:
        run.usage.add(cost_usd=0.3)
        if not works:
            raise ValueError("no")
        return value

    step = Step("a", agent, policies=[Estimate(cost_usd=0.3)])
    flow = fork_flow(Step("first", spends(0.1)) >> step, state="memory://", usage_limits=dollars(0.7))
    assert (await flow.run_async(1, run_id="fits")).status == "failed"
    assert (await flow.run_async(1, run_id="does_not")).status == "failed"
    assert (await flow.resume_async("does_not", usage_limits=dollars(0.6))).status == "limit_exceeded"
    works = True
    result = await flow.resume_async("fits")
    assert result.status == "completed"
    assert result.usage.cost_usd == pytest.approx(0.7)


# -- a machine that decides which of the waiting agents does what next


@attrs.define(eq=False)
class Waiting:
    """A call of an agent: what it may still spend of its estimate, and how it is told to go on."""

    left: int
    step_run: StepRun
    told: asyncio.Future[str]


@attrs.frozen
class Leaf:
    tokens: int
    retries: int
    fallback: bool
    limit: int | None


@attrs.frozen
class Tree:
    """Branches or a sequence, with an estimate for all of it or with those of the leaves alone."""

    beside: bool
    inside: tuple[Any, ...]
    estimated: bool
    retries: int


leaves = st.builds(Leaf, st.integers(1, 5), st.integers(0, 2), st.booleans(), st.one_of(st.none(), st.integers(0, 12)))
trees: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inside: st.builds(
        Tree, st.booleans(), st.lists(inside, min_size=1, max_size=3).map(tuple), st.booleans(), st.integers(0, 1)
    ),
    max_leaves=7,
)


def most_of(item: Any) -> int:
    """Return the most that one attempt of a step can spend."""
    if isinstance(item, Leaf):
        return item.tokens * (item.retries + 1 + item.fallback)
    return sum(most_of(inner) * (1 if isinstance(inner, Leaf) else inner.retries + 1) for inner in item.inside)


class BudgetMachine(RuleBasedStateMachine):
    """Estimates are upper bounds here: an agent never spends more than its step has declared."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.waiting: list[Waiting] = []
        self.limit: int | None = None
        self.spent = 0
        self.result: RunResult[Any] | None = None

    @initialize(tree=trees, limit=st.one_of(st.none(), st.integers(0, 25)))
    def start(self, tree: Any, limit: int | None) -> None:
        self.limit, self.spent, self.result = limit, 0, None
        self.numbers = iter(range(10_000))
        limits = None if limit is None else UsageLimits(total_tokens_limit=limit)
        flow = fork_flow(self.build(tree), usage_limits=limits)

        async def begin() -> RunHandle[Any]:
            return flow.start(1)

        self.handle = self.loop.run_until_complete(begin())
        self.run_ = self.handle._run
        self.settle()

    def build(self, item: Any) -> Any:
        name = f"s{next(self.numbers)}"
        if isinstance(item, Leaf):
            policies = [Estimate(tokens=item.tokens)]
            agent = self.agent(item.tokens)
            fallback = Step(f"{name}f", agent, policies=policies) if item.fallback else None
            limits = None if item.limit is None else UsageLimits(total_tokens_limit=item.limit)
            return Step(name, agent, policies=policies, retries=item.retries, fallback=fallback, usage_limits=limits)
        inside = [self.build(inner) for inner in item.inside]
        policies = [Estimate(tokens=most_of(item))] if item.estimated else []
        if item.beside:
            return fork(*inside, name=name, policies=policies, retries=item.retries)
        return Pipeline(inside).as_step(name).evolve(policies=tuple(policies), retries=item.retries)

    def agent(self, tokens: int) -> Any:
        async def agent(value: int, *, run: StepRun) -> int:
            call = Waiting(tokens, run, asyncio.get_running_loop().create_future())
            self.waiting.append(call)
            try:
                if await call.told == "fail":
                    raise ValueError("told to fail")
            finally:
                self.waiting.remove(call)
            return value

        return agent

    def settle(self) -> None:
        """Let the loop run until every agent waits, or the run has ended."""

        async def turns() -> None:
            for _ in range(60):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        if self.result is None and self.handle.done():
            self.result = self.loop.run_until_complete(self.handle)

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 20), tokens=st.integers(0, 5))
    def spend(self, which: int, tokens: int) -> None:
        call = self.waiting[which % len(self.waiting)]
        amount = min(tokens, call.left)
        call.left -= amount
        self.spent += amount
        call.step_run.usage.add(input_tokens=amount)

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 20), how=st.sampled_from(["return", "return", "fail"]))
    def go_on(self, which: int, how: str) -> None:
        self.waiting[which % len(self.waiting)].told.set_result(how)
        self.settle()

    @precondition(lambda self: self.result is None and self.waiting)
    @rule(sure=st.integers(0, 5))
    def cancel(self, sure: int) -> None:
        if sure == 5:
            assert self.handle.cancel()
            assert not self.handle.cancel()
            self.settle()
            assert self.result is not None
            assert self.result.status is RunStatus.CANCELLED

    @precondition(lambda self: self.result is not None)
    @rule(tree=trees, limit=st.integers(1, 40))
    def start_another(self, tree: Any, limit: int) -> None:
        self.start(tree, limit)

    @invariant()
    def books_balance(self) -> None:
        if self.result is None:
            assert self.run_.usage.total_tokens == self.spent
        else:
            assert self.result.total_tokens == self.spent
            assert sum(item.token_counts for item in self.result.step_history) == self.spent

    @invariant()
    def nobody_overspends(self) -> None:
        if self.limit is not None:
            outermost = [scope for scope in promised(self.run_) if not _is_inside(scope, promised(self.run_))]
            reserved = sum(promised(self.run_)[scope].tokens for scope in outermost)
            assert self.spent + reserved <= self.limit, "more is spent and reserved than there is"
            total = self.run_.reservations and self.run_.reservations._totals.get(self.run_.root)
            assert reserved == (total.tokens if total else 0)

    @invariant()
    def nothing_stays_reserved(self) -> None:
        if self.result is not None:
            assert promised(self.run_) == {}
            assert self.run_.reservations is None or not self.run_.reservations._totals
            assert self.waiting == []

    def teardown(self) -> None:
        try:
            if self.result is None:
                self.handle.cancel()
                self.settle()
            assert promised(self.run_) == {}
            assert asyncio.all_tasks(self.loop) == set()
        finally:
            self.loop.close()


def _is_inside(scope: Scope, known: Mapping[Scope, Any]) -> bool:
    around = scope.parent
    while around is not None:
        if around in known:
            return True
        around = around.parent
    return False


TestBudgets = BudgetMachine.TestCase
TestBudgets.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
