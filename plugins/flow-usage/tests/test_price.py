"""Prices: tokens that come without a cost get one, so that limits of money hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_usage import Price, SharedBudget, WarnAt

from flow import ConfigurationError, Flow, Pipeline, Step, StepRun, UsageLimits

MakeFlow = Callable[..., Flow[Any, Any]]
PRICE = Price(input_per_million=2, output_per_million=10)


def reports(**usage: Any) -> Any:
    async def agent(data: Any, *, run: StepRun) -> Any:
        run.usage.add(**usage)
        return data

    return agent


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"input_tokens": 1000, "output_tokens": 100}, 0.003),
        ({"input_tokens": 1000, "cost_usd": 0.5}, 0.5),
        ({"requests": 1}, 0.0),
    ],
    ids=["tokens alone", "tokens with a cost", "no tokens"],
)
async def test_tokens_without_a_cost_are_priced(usage: dict[str, Any], cost: float, flow: MakeFlow) -> None:
    result = await flow(Step("ask", reports(**usage), policies=[PRICE])).run_async(1)
    assert result.total_cost_usd == pytest.approx(cost)
    assert result.total_tokens == usage.get("input_tokens", 0) + usage.get("output_tokens", 0)


async def test_limits_of_money_hold_for_agents_that_report_tokens_only(flow: MakeFlow) -> None:
    step = Step("ask", reports(input_tokens=1_000_000), policies=[PRICE], retries=3)
    result = await flow(step, usage_limits=UsageLimits(total_cost_usd_limit=1)).run_async(1)
    assert (result.status, str(result.error)) == ("limit_exceeded", "Cost limit of $1 exceeded")


async def test_budgets_and_warnings_see_the_price(flow: MakeFlow) -> None:
    told: list[Any] = []
    budget = SharedBudget("priced", UsageLimits(total_cost_usd_limit=10))
    runner = flow(
        Step("ask", reports(output_tokens=100_000), policies=[PRICE]),
        usage_limits=UsageLimits(total_cost_usd_limit=1.5),
        policies=[budget, WarnAt(0.5, callback=told.append)],
    )
    assert (await runner.run_async(1)).success
    assert budget.state.spent.cost_usd == 1.0
    assert [warning.spent for warning in told] == [1.0]


async def test_a_price_of_a_container_is_for_the_steps_inside_that_have_none(flow: MakeFlow) -> None:
    dear = Price(input_per_million=1000, output_per_million=0)
    inside = [Step("a", reports(input_tokens=1000)), Step("b", reports(input_tokens=1000), policies=[dear])]
    result = await flow(Pipeline(inside).as_step("sub").evolve(policies=(PRICE,))).run_async(1)
    assert [child.cost_usd for child in result.step_history[0].children] == [0.002, 1.0]


async def test_the_fallback_asks_another_model(flow: MakeFlow) -> None:
    async def fails(data: Any, *, run: StepRun) -> Any:
        run.usage.add(input_tokens=1000)
        raise ValueError("no")

    step = Step("ask", fails, policies=[PRICE], fallback=Step("local", reports(input_tokens=5000)))
    result = await flow(step).run_async(1)
    assert (result.success, result.total_cost_usd, result.total_tokens) == (True, 0.002, 6000)


async def test_what_a_resumed_run_has_spent_before_is_not_priced_again(flow: MakeFlow) -> None:
    async def agent(data: Any, *, run: StepRun) -> Any:
        run.usage.add(input_tokens=1000)
        if not works:
            raise ValueError("no")
        return data

    works = False
    runner = flow(Step("ask", agent, policies=[PRICE]), state="memory://")
    await runner.run_async(1, run_id="r")
    works = True
    result = await runner.resume_async("r")
    assert (result.total_cost_usd, result.total_tokens) == (0.004, 2000)


def test_a_price_is_one_of_a_step(flow: MakeFlow) -> None:
    with pytest.raises(ConfigurationError, match="Price is a policy of steps"):
        flow(Step("ask", reports()), policies=[PRICE]).run(1)


@pytest.mark.parametrize("price", [-1, "2", None, float("inf"), True])
def test_senseless_prices_are_refused(price: Any) -> None:
    with pytest.raises(ConfigurationError, match="Price: input_per_million must be"):
        Price(input_per_million=price, output_per_million=1)
