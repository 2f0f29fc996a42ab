"""Usage: never lost, never counted twice, and stopped at the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flow import (
    BaseStep,
    Estimate,
    Flow,
    Kernel,
    Pipeline,
    RunResult,
    Settings,
    Step,
    StepResult,
    StepRun,
    Usage,
    UsageLimitExceeded,
    UsageLimits,
    hookimpl,
)

Run = Callable[..., RunResult[Any]]


def costs(cost_usd: float = 0.0, tokens: int = 0, *, fails: int = 0) -> Any:
    async def agent(value: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=cost_usd, input_tokens=tokens, requests=1)
        if run.attempt <= fails:
            raise ValueError("no")
        return value + 1

    return agent


def test_usage_adds_up() -> None:
    total = Usage(0.5, 1, 2, 3) + Usage(0.25, 1, 1, 1)
    assert total == Usage(0.75, 2, 3, 4)
    assert total.total_tokens == 5
    assert not Usage()


def test_the_breaching_step_keeps_its_output_and_is_in_the_history(run: Run) -> None:
    pipeline = Step("a", costs(0.1)) >> Step("b", costs(0.1)) >> Step("c", costs(0.1))
    result = run(pipeline, 0, usage_limits=UsageLimits(total_cost_usd_limit=0.15))
    assert (result.status, str(result.error)) == ("limit_exceeded", "Cost limit of $0.15 exceeded")
    assert isinstance(result.error, UsageLimitExceeded)
    assert (result.error.path, result.error.usage.cost_usd) == ("1:b", 0.2)
    assert [(item.name, item.output) for item in result.step_history] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (UsageLimits(total_cost_usd_limit=1.0), "Cost limit of $1 exceeded"),
        (UsageLimits(total_cost_usd_limit=0), "Cost limit of $0 exceeded"),
        (UsageLimits(total_tokens_limit=150), "Token limit of 150 exceeded"),
        (UsageLimits(input_tokens_limit=9), "Input token limit of 9 exceeded"),
        (UsageLimits(requests_limit=0), "Request limit of 0 exceeded"),
    ],
)
def test_each_limit_is_enforced_alone_with_its_message(limits: UsageLimits, message: str, run: Run) -> None:
    result = run(Step("a", costs(2.0, 200)), 0, usage_limits=limits)
    assert str(result.error) == message


def test_exactly_at_the_limit_passes_although_floats_do_not_add_up(run: Run) -> None:
    pipeline = Step("a", costs(0.1)) >> Step("b", costs(0.1)) >> Step("c", costs(0.1))
    assert run(pipeline, 0, usage_limits=UsageLimits(total_cost_usd_limit=0.3)).success


@pytest.mark.parametrize("limits", [{"total_cost_usd_limit": -1}, {"tokens": 5}])
def test_senseless_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        UsageLimits(**limits)


def test_a_limit_of_a_step_holds_for_what_is_inside_it(run: Run) -> None:
    inner = (
        (Step("x", costs(0.1)) >> Step("y", costs(0.1)))
        .as_step("sub")
        .evolve(usage_limits=UsageLimits(total_cost_usd_limit=0.15))
    )
    result = run(inner >> Step("after", costs(0.1)), 0, usage_limits=UsageLimits(total_cost_usd_limit=10))
    assert result.status == "limit_exceeded"
    assert [item.name for item in result.step_history] == ["sub"]
    assert result.total_cost_usd == pytest.approx(0.2)


def test_a_limit_of_an_enclosing_step_stops_what_is_inside_at_once(run: Run) -> None:
    inner = Step("x", costs(0.1)) >> Step("y", costs(0.1)) >> Step("z", costs(0.1))
    sub = inner.as_step("sub").evolve(usage_limits=UsageLimits(total_cost_usd_limit=0.15))
    result = run(sub.evolve(retries=3), 0)
    assert (result.status, result.total_cost_usd) == ("limit_exceeded", pytest.approx(0.2))
    assert [child.name for child in result.step_history[0].children] == ["x", "y"]


def test_a_spent_budget_ends_retries_and_fallbacks(run: Run) -> None:
    limits = UsageLimits(total_cost_usd_limit=0.15)
    result = run(Step("a", costs(0.1, fails=9), retries=9, fallback=Step("f", costs(0.1))), 0, usage_limits=limits)
    assert (result.status, result.step_history[0].attempts) == ("limit_exceeded", 2)
    assert result.total_cost_usd == pytest.approx(0.2)


def test_an_estimate_that_does_not_fit_is_refused_before_it_is_spent(run: Run) -> None:
    step = Step("a", costs(0.1), policies=[Estimate(cost_usd=0.5)], retries=3, fallback=Step("f", costs(0.1)))
    result = run(step, 0, usage_limits=UsageLimits(total_cost_usd_limit=0.3))
    assert (result.status, result.total_cost_usd) == ("limit_exceeded", 0)


def test_an_estimate_is_given_back_when_the_step_fails(run: Run) -> None:
    step = Step("a", costs(0.1, fails=2), policies=[Estimate(cost_usd=0.2)], retries=2)
    assert run(step, 0, usage_limits=UsageLimits(total_cost_usd_limit=0.4)).success


def test_what_a_step_has_spent_of_its_estimate_is_not_counted_twice() -> None:
    """The first has spent its whole estimate and still runs when the second asks: both fit exactly."""
    spent, asked = asyncio.Event(), asyncio.Event()

    async def first(value: int, *, run: StepRun) -> int:
        run.usage.add(cost_usd=0.5)
        spent.set()
        await asked.wait()
        return value

    async def second(value: int, *, run: StepRun) -> int:
        asked.set()
        run.usage.add(cost_usd=0.5)
        return value

    estimate = [Estimate(cost_usd=0.5)]
    assert _side_by_side(Step("a", first, policies=estimate), Step("b", second, policies=estimate), spent) == [1, 1]


def test_an_estimate_counts_for_the_limits_that_enclose_it_and_no_others() -> None:
    """The limit of one branch does not mind what the other branch has promised."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def first(value: int) -> int:
        started.set()
        await go_on.wait()
        return value

    async def second(value: int) -> int:
        go_on.set()
        return value

    dear = Step("a", first, policies=[Estimate(cost_usd=0.9)])
    cheap = Step("b", second, policies=[Estimate(cost_usd=0.1)], usage_limits=UsageLimits(total_cost_usd_limit=0.2))
    assert _side_by_side(dear, cheap, started) == [1, 1]


def test_an_estimate_of_tokens_does_not_mean_input_tokens(run: Run) -> None:
    step = Step("a", costs(tokens=1), policies=[Estimate(tokens=50)])
    assert run(step, 0, usage_limits=UsageLimits(input_tokens_limit=10)).success
    assert run(step, 0, usage_limits=UsageLimits(total_tokens_limit=49)).status == "limit_exceeded"


def test_an_estimate_inside_a_container_is_part_of_the_containers_estimate(run: Run) -> None:
    inner = Step("inner", costs(0.1), policies=[Estimate(cost_usd=0.1)])
    sub = Pipeline([inner]).as_step("sub").evolve(policies=(Estimate(cost_usd=0.2),))
    assert run(sub, 0, usage_limits=UsageLimits(total_cost_usd_limit=0.2)).success


def _side_by_side(left: Step[Any, Any], right: Step[Any, Any], ready: asyncio.Event) -> list[Any]:
    """Run two steps beside each other under a limit of one dollar, the right one when `ready` is set."""

    @attrs.frozen(kw_only=True)
    class Fork(BaseStep[Any, Any]):
        kind = "fork"

        def children(self) -> dict[str, Any]:
            return {"left": left, "right": right}

    class ForkPlugin:
        @hookimpl
        def flow_bind_step(self, step: Any, binder: Any) -> Any:
            if not isinstance(step, Fork):
                return None
            first, second = binder.bind(left, "l"), binder.bind(right, "r")

            async def fork(data: Any, scope: Any) -> StepResult:
                task = asyncio.ensure_future(first(data, scope))
                await ready.wait()
                results = [await second(data, scope), await task]
                return StepResult.ok(step, [result.output for result in results])

            return fork

    kernel = Kernel(Settings(), only=[], plugins=[ForkPlugin()])
    limits = UsageLimits(total_cost_usd_limit=1)
    flow = Flow(Fork(name="fork"), kernel=kernel, usage_limits=limits, deadline=30)  # what goes wrong must not wait
    return flow.run(1).output  # type: ignore[no-any-return]


# -- the books balance whatever happens --


@attrs.frozen
class Leaf:
    cents: int
    fails: int
    retries: int
    fallback: int | None


leaves = st.builds(
    Leaf, st.integers(0, 5), st.integers(0, 3), st.integers(0, 3), st.one_of(st.none(), st.integers(0, 5))
)
trees = st.recursive(leaves, lambda inside: st.lists(inside, min_size=1, max_size=3), max_leaves=8)
KERNEL = Kernel(Settings(), only=[])


@settings(max_examples=150, deadline=None)
@given(trees, st.one_of(st.none(), st.integers(0, 20)))
def test_the_run_has_spent_what_the_agents_have_spent(tree: Any, limit: int | None) -> None:
    ledger: list[int] = []

    def build(item: Any, name: str) -> Any:
        if isinstance(item, list):
            steps = [build(inner, f"{name}{index}") for index, inner in enumerate(item)]
            pipeline = steps[0] >> steps[1] if len(steps) > 1 else steps[0].evolve(name=f"{name}only")
            for further in steps[2:]:
                pipeline = pipeline >> further
            return pipeline.as_step(name) if len(steps) > 1 else pipeline

        async def agent(value: int, *, run: StepRun) -> int:
            run.usage.add(input_tokens=item.cents)
            ledger.append(item.cents)
            if run.attempt <= item.fails:
                raise ValueError("no")
            return value

        async def cheap(value: int, *, run: StepRun) -> int:
            run.usage.add(output_tokens=item.fallback)
            ledger.append(item.fallback)
            return value

        fallback = None if item.fallback is None else Step("cheap", cheap)
        return Step(name, agent, retries=item.retries, fallback=fallback)

    limits = None if limit is None else UsageLimits(total_tokens_limit=limit)
    result = Flow(build(tree, "n"), usage_limits=limits, kernel=KERNEL).run(0)
    assert result.total_tokens == sum(ledger)
    assert sum(item.token_counts for item in result.step_history) == sum(ledger)
    for item in result.walk():
        assert item.token_counts >= sum(child.token_counts for child in item.children)
    if limit is not None and sum(ledger) > limit:
        assert result.status == "limit_exceeded"
