"""Budgets that runs share: counted once, refused before the call, given back, forgotten after their window."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from flow_testkit import FakeClock
from flow_usage import BudgetExhausted, BudgetState, SharedBudget

from flow import (
    ConfigurationError,
    ErrorCategory,
    Estimate,
    Flow,
    Pipeline,
    RunResult,
    RunStatus,
    StateBackend,
    Step,
    StepRun,
    Usage,
    UsageLimitExceeded,
    UsageLimits,
)

MakeFlow = Callable[..., Flow[Any, Any]]


def dollars(limit: float, **further: Any) -> UsageLimits:
    return UsageLimits(total_cost_usd_limit=limit, **further)


@attrs.define(eq=False)
class Agent:
    """Spends on each call, waits when it is told to, and counts its calls."""

    cost_usd: float = 0.0
    tokens: int = 0
    requests: int = 0
    error: BaseException | None = None
    gate: asyncio.Event | None = None
    calls: int = 0
    called: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def run(self, data: Any, *, run: StepRun) -> Any:
        self.calls += 1
        self.called.set()
        run.usage.add(cost_usd=self.cost_usd, input_tokens=self.tokens, requests=self.requests)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return data


def exhausted(result: RunResult[Any]) -> BudgetExhausted:
    assert result.status is RunStatus.LIMIT_EXCEEDED, f"{result.status}: {result.error}"
    assert isinstance(result.error, BudgetExhausted)
    return result.error


# -- counting and refusing


async def test_runs_and_flows_share_a_budget_by_its_name(flow: MakeFlow) -> None:
    agent = Agent(cost_usd=0.4)
    flows = [flow(Step(name, agent, policies=[SharedBudget("team", dollars(1))])) for name in "abcd"]
    results = [await each.run_async(1) for each in flows]
    assert [result.status for result in results] == ["completed"] * 3 + ["limit_exceeded"]
    assert agent.calls == 3
    assert SharedBudget.states()["team"].spent.cost_usd == pytest.approx(1.2)


async def test_a_refusal_names_the_budget_and_what_was_spent(flow: MakeFlow) -> None:
    budget = SharedBudget("team", dollars(1))
    step = Step("ask", Agent(cost_usd=1.0), policies=[budget], retries=3, fallback=Step("instead", Agent()))
    await flow(step).run_async(1)
    result = await flow(Step("before", Agent()) >> step).run_async(1)
    error = exhausted(result)
    assert isinstance(error, UsageLimitExceeded)
    assert (error.budget, error.retry_after, error.path, error.code) == ("team", None, "1:ask", "budget_exhausted")
    assert (error.usage, error.limits, error.category) == (Usage(cost_usd=1.0), dollars(1), ErrorCategory.USAGE)
    assert str(error) == "Cost limit of $1 of budget 'team' reached: $1 spent"
    assert [item.name for item in result.step_history] == ["before", "ask"]
    assert result.usage == Usage()


async def test_a_call_that_was_made_keeps_its_result_although_it_spent_more_than_there_was(flow: MakeFlow) -> None:
    result = await flow(Step("ask", Agent(cost_usd=3.0), policies=[SharedBudget("team", dollars(1))])).run_async("x")
    assert result.output == "x"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"total_cost_usd_limit": 0.5}, "Cost limit of $0.5 of"),
        ({"total_tokens_limit": 20}, "Token limit of 20 of"),
        ({"input_tokens_limit": 20}, "Input token limit of 20 of"),
        ({"requests_limit": 2}, "Request limit of 2 of"),
    ],
)
async def test_each_limit_counts(limits: dict[str, Any], message: str, flow: MakeFlow) -> None:
    agent = Agent(cost_usd=0.25, tokens=10, requests=1)
    runner = flow(Step("ask", agent, policies=[SharedBudget("team", UsageLimits(**limits))]))
    for _ in range(2):
        assert (await runner.run_async(1)).success
    assert str((await runner.run_async(1)).error).startswith(message)


async def test_failed_attempts_count(flow: MakeFlow) -> None:
    agent = Agent(cost_usd=0.25, error=ValueError("no"))
    result = await flow(Step("ask", agent, retries=9, policies=[SharedBudget("team", dollars(1))])).run_async(1)
    assert (exhausted(result).usage.cost_usd, agent.calls) == (1.0, 4)


async def test_a_budget_around_steps_that_carry_it_too_counts_once(flow: MakeFlow) -> None:
    budget = SharedBudget("team", dollars(1))
    step = Step("ask", Agent(cost_usd=0.25), policies=[budget])
    nested: Any = Pipeline([step, step.evolve(name="again")]).as_step("sub").evolve(policies=(budget,))
    assert (await flow(nested, policies=[budget]).run_async(1)).success
    assert budget.state.spent.cost_usd == 0.5


async def test_a_budget_of_a_flow_counts_all_its_steps_and_stops_all_its_runs(flow: MakeFlow) -> None:
    budget = SharedBudget("team", dollars(1))
    runner = flow(Step("a", Agent(cost_usd=0.5)) >> Step("b", Agent(cost_usd=0.5)), policies=[budget])
    assert (await runner.run_async(1)).success
    assert exhausted(await runner.run_async(1)).path == "0:a"
    assert (await flow(Step("other", Agent(cost_usd=0.5))).run_async(1)).success, "another flow is not concerned"


async def test_a_step_that_costs_nothing_is_always_let_through(flow: MakeFlow) -> None:
    budget = SharedBudget("team", dollars(1))
    free = Step("free", Agent(), policies=[Estimate()])
    assert (await flow(Step("ask", Agent(cost_usd=1.0)) >> free, policies=[budget]).run_async(1)).success


async def test_several_budgets_each_have_their_say(flow: MakeFlow) -> None:
    wide, narrow = SharedBudget("company", dollars(10)), SharedBudget("team", dollars(0.5))
    step = Step("ask", Agent(cost_usd=0.25), policies=[wide, narrow, Estimate(cost_usd=0.25)])
    results = [await flow(step).run_async(1) for _ in range(3)]
    assert exhausted(results[2]).budget == "team"
    assert (wide.state.reserved, narrow.state.reserved) == (Usage(), Usage())
    assert wide.state.spent.cost_usd == 0.5


async def test_what_worker_threads_spend_counts(flow: MakeFlow) -> None:
    budget = SharedBudget("team", UsageLimits(total_tokens_limit=10_000))
    together = threading.Barrier(4)

    def agent(data: int, *, run: StepRun) -> None:
        together.wait(10)
        for _ in range(500):
            run.usage.add(input_tokens=1)

    results = await flow(Step("ask", agent, policies=[budget])).run_many(range(4))
    assert all(result.success for result in results)
    assert budget.state.spent.total_tokens == 2000


def test_event_loops_share_a_budget(flow: MakeFlow) -> None:
    budget = SharedBudget("team", dollars(1))
    runner = flow(Step("ask", Agent(cost_usd=0.5), policies=[budget, Estimate(cost_usd=0.5)]))
    assert [runner.run(1).status for _ in range(3)] == ["completed", "completed", "limit_exceeded"]


async def test_replayed_steps_are_not_counted_again(flow: MakeFlow) -> None:
    budget = SharedBudget("team", dollars(1))
    first, second = Agent(cost_usd=0.25), Agent(cost_usd=0.25, error=ValueError("no"))
    inner: Any = Pipeline([Step("first", first), Step("second", second)]).as_step("sub")
    runner = flow(inner.evolve(policies=(budget,)), state="memory://", policies=[budget])
    assert (await runner.run_async(1, run_id="r")).status == "failed"
    second.error = None
    result = await runner.resume_async("r")
    assert (result.status, result.usage.cost_usd, first.calls) == (RunStatus.COMPLETED, 0.75, 1)
    assert budget.state.spent.cost_usd == 0.75


# -- reserving


async def test_runs_beside_each_other_do_not_overspend_together(flow: MakeFlow) -> None:
    budget = SharedBudget("team", dollars(1))
    agent = Agent(cost_usd=0.2)
    agent.gate = asyncio.Event()
    runner = flow(Step("ask", agent, policies=[budget, Estimate(cost_usd=0.2)]))
    handles = [runner.start(1) for _ in range(20)]
    refused = await asyncio.gather(*handles[5:])
    assert [exhausted(result).path for result in refused] == ["0:ask"] * 15
    assert "reached: $1 spent, $0.2 needed" in str(refused[0].error)
    agent.gate.set()
    assert all([(await handle).success for handle in handles[:5]])
    assert (agent.calls, budget.state.spent.cost_usd, budget.state.reserved) == (5, 1.0, Usage())


async def test_what_is_reserved_but_not_spent_is_told_and_given_back(flow: MakeFlow) -> None:
    budget = SharedBudget("team", dollars(1, total_tokens_limit=100))
    waits, cheap = Agent(cost_usd=0.25, gate=asyncio.Event()), Agent()
    expected = Estimate(cost_usd=0.75, tokens=60)
    first = flow(Step("ask", waits, policies=[budget, expected])).start(1)
    await waits.called.wait()
    refused = await flow(Step("ask", cheap, policies=[budget, expected])).run_async(1)
    error = exhausted(refused)
    assert "$0.25 spent, $0.5 reserved by running calls, $0.75 needed" in str(error)
    assert error.retry_after is None
    assert budget.state.reserved == Usage(cost_usd=0.5, input_tokens=60)
    assert waits.gate is not None
    waits.gate.set()
    await first
    assert budget.state == BudgetState(name="team", spent=Usage(cost_usd=0.25), reserved=Usage())
    assert (await flow(Step("ask", cheap, policies=[budget, expected])).run_async(1)).success


@pytest.mark.parametrize("end", ["failure", "timeout", "cancellation"])
def test_a_reservation_ends_with_its_attempt(end: str, flow: MakeFlow, clock: FakeClock) -> None:
    budget = SharedBudget("team", dollars(1))

    async def agent(data: Any) -> None:
        await asyncio.sleep(1)
        if end == "failure":
            raise ValueError("no")
        await asyncio.sleep(3600)

    async def program() -> RunResult[Any]:
        handle = flow(Step("ask", agent, timeout=10, policies=[budget, Estimate(cost_usd=1)])).start(1)
        await asyncio.sleep(5 if end == "cancellation" else 0)
        handle.cancel() if end == "cancellation" else None
        return await handle

    assert clock.run(program()).status == ("cancelled" if end == "cancellation" else "failed")
    assert budget.state == BudgetState(name="team", spent=Usage(), reserved=Usage())


async def test_steps_inside_one_that_has_reserved_need_nothing_of_their_own(flow: MakeFlow) -> None:
    budget = SharedBudget("team", dollars(1))
    step = Step("ask", Agent(cost_usd=0.5), policies=[budget, Estimate(cost_usd=0.5)])
    both: Any = (
        Pipeline([step, step.evolve(name="again")]).as_step("both").evolve(policies=(budget, Estimate(cost_usd=1.0)))
    )
    assert (await flow(both).run_async(1)).success
    assert budget.state.spent.cost_usd == 1.0


# -- windows


async def _run_at(runner: Flow[Any, Any], times: list[float]) -> list[RunResult[Any]]:
    loop, started, results = asyncio.get_running_loop(), asyncio.get_running_loop().time(), []
    for at in times:
        await asyncio.sleep(started + at - loop.time())
        results.append(await runner.run_async(1))
    return results


def test_what_was_spent_is_forgotten_after_the_window(flow: MakeFlow, clock: FakeClock) -> None:
    budget = SharedBudget("team", dollars(1), per=60)
    runner = flow(Step("ask", Agent(cost_usd=0.5), policies=[budget]))
    results = clock.run(_run_at(runner, [0, 30, 50, 60, 61, 90]))
    assert [result.success for result in results] == [True, True, False, True, False, True]
    assert exhausted(results[2]).retry_after == pytest.approx(10)
    assert exhausted(results[4]).retry_after == pytest.approx(29)
    assert str(results[2].error) == "Cost limit of $1 per 60 s of budget 'team' reached: $1 spent; room again in 10 s"


def test_the_time_to_wait_is_that_for_what_the_call_needs(flow: MakeFlow, clock: FakeClock) -> None:
    budget = SharedBudget("team", dollars(1), per=60)
    step = Step("ask", Agent(cost_usd=0.5), policies=[budget])
    large = step.evolve(policies=(budget, Estimate(cost_usd=1.0)))

    async def program() -> list[float | None]:
        await _run_at(flow(step), [0, 20])
        errors = [exhausted(await flow(item).run_async(1)) for item in (step, large)]
        return [error.retry_after for error in errors]

    assert clock.run(program()) == [pytest.approx(40), pytest.approx(60)]


def test_no_stretch_as_long_as_the_window_sees_more_than_the_limit(flow: MakeFlow, clock: FakeClock) -> None:
    budget = SharedBudget("team", UsageLimits(requests_limit=7), per=10)
    runner = flow(Step("ask", Agent(requests=1), policies=[budget]))
    times = [number * 0.37 for number in range(300)]
    results = clock.run(_run_at(runner, times))
    called = [at for at, result in zip(times, results, strict=True) if result.success]
    assert max(sum(start <= at < start + 10 for at in called) for start in called) == 7
    assert len(called) > 0.9 * 7 * times[-1] / 10


def test_the_state_is_readable_without_a_loop(flow: MakeFlow) -> None:
    budget = SharedBudget("team", dollars(1), per=3600)
    assert budget.state.has_room
    flow(Step("ask", Agent(cost_usd=1.0), policies=[budget])).run(1)
    state = budget.state
    assert not state.has_room
    assert state.retry_after == pytest.approx(3600, abs=60)
    assert SharedBudget.states().keys() == {"team"}


# -- settings


def test_one_name_with_different_settings_is_refused(flow: MakeFlow) -> None:
    step = Step("ask", Agent(), policies=[SharedBudget("team", dollars(1))])
    flow(step).run(1)
    with pytest.raises(ConfigurationError, match="'team' is used with different settings"):
        flow(step.evolve(policies=(SharedBudget("team", dollars(2)),))).run(1)
    with pytest.raises(ConfigurationError, match="'team' is used with different settings"):
        flow(step, policies=[SharedBudget("team", dollars(1), per=60)]).run(1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SharedBudget("", dollars(1)),
        lambda: SharedBudget(5, dollars(1)),  # type: ignore[arg-type]
        lambda: SharedBudget("team", UsageLimits()),
        lambda: SharedBudget("team", 5),  # type: ignore[arg-type]
        lambda: SharedBudget("team", dollars(1), per=0),
        lambda: SharedBudget("team", dollars(1), per=float("nan")),
        lambda: SharedBudget("team", dollars(1), per=True),
    ],
)
def test_senseless_settings_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError, match="SharedBudget: "):
        make()


async def test_a_store_keeps_the_status_of_a_refused_run(flow: MakeFlow, flow_kernel: Any) -> None:
    store: StateBackend = flow_kernel().open_state("memory://")
    budget = SharedBudget("team", dollars(0))
    result = await flow(Step("ask", Agent(), policies=[budget]), state=store).run_async(1, run_id="r")
    exhausted(result)
    record = await store.load_run("r")
    assert record is not None
    assert (record.status, "budget 'team'" in (record.error or "")) == ("limit_exceeded", True)
