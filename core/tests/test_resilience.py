"""Retries, timeouts, fallbacks, recovery strategies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from flow import (
    ErrorCategory,
    FallbackLoop,
    Flow,
    Kernel,
    Recovery,
    RecoveryAction,
    RecoveryStrategy,
    RunResult,
    Settings,
    Step,
    StepRun,
    StepTimeout,
    hookimpl,
)

Run = Callable[..., RunResult[Any]]


class Flaky:
    """Raises the given errors in turn, then returns the data; every call costs."""

    def __init__(self, *errors: BaseException, cost: float = 0.0) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.feedback: list[str | None] = []
        self.cost = cost

    async def run(self, data: Any, *, run: StepRun) -> Any:
        self.calls += 1
        self.feedback.append(run.feedback)
        run.usage.add(cost_usd=self.cost, input_tokens=1)
        if self.errors:
            raise self.errors.pop(0)
        return data


def failing(count: int = 100, cost: float = 0.0) -> Flaky:
    return Flaky(*(ValueError(f"x{index}") for index in range(1, count + 1)), cost=cost)


@pytest.mark.parametrize(("retries", "failures", "calls"), [(0, 5, 1), (1, 1, 2), (3, 5, 4), (3, 2, 3)])
def test_retries_are_further_attempts(retries: int, failures: int, calls: int, run: Run) -> None:
    agent = failing(failures)
    result = run(Step("a", agent, retries=retries), 7)
    assert (agent.calls, result.step_history[0].attempts) == (calls, calls)
    assert result.success is (failures <= retries)
    assert result.step_history[0].feedback == (None if result.success else f"Agent failed with ValueError: x{calls}")


def test_the_next_attempt_sees_why_the_last_one_failed(run: Run) -> None:
    agent = failing(1)
    run(Step("a", agent, retries=1), 7)
    assert agent.feedback == [None, "Agent failed with ValueError: x1"]


def test_what_failed_attempts_spent_is_counted(run: Run) -> None:
    result = run(Step("a", failing(2, cost=0.1), retries=2), 7)
    assert result.step_history[0].cost_usd == pytest.approx(0.3)
    assert result.total_cost_usd == pytest.approx(0.3)
    assert result.total_tokens == 3


@pytest.mark.parametrize("error", [TypeError("wrong"), NameError("x"), ImportError("x"), NotImplementedError()])
def test_mistakes_in_the_program_are_not_retried(error: Exception, run: Run) -> None:
    agent = Flaky(error)
    assert not run(Step("a", agent, retries=3), 7).success
    assert agent.calls == 1


def test_a_timeout_is_a_failed_attempt(run: Run) -> None:
    calls = []

    async def slow(value: int) -> int:
        calls.append(value)
        await asyncio.Event().wait()
        return value

    result = run(Step("slow", slow, timeout=0.01, retries=1), 1)
    assert len(calls) == 2
    assert isinstance(result.error, StepTimeout)
    assert result.step_history[0].feedback == "step '0:slow' timed out after 0.01 s"


def test_each_attempt_gets_the_whole_timeout(run: Run) -> None:
    async def second_time(value: int, *, run: StepRun) -> int:
        if run.attempt == 1:
            await asyncio.Event().wait()
        return value

    assert run(Step("a", second_time, timeout=0.02, retries=1), 1).output == 1


def test_a_timeout_error_of_the_agent_is_its_own(run: Run) -> None:
    result = run(Step("a", Flaky(TimeoutError("upstream")), timeout=10), 1)
    assert result.step_history[0].feedback == "Agent failed with TimeoutError: upstream"


def test_a_fallback_gets_the_original_input_and_both_are_paid(run: Run) -> None:
    second = Flaky(cost=0.1)
    result = run(Step("a", failing(cost=0.1), retries=1, fallback=Step("b", second)), 7)
    step = result.step_history[0]
    assert (result.output, step.name, step.attempts, step.feedback) == (7, "a", 3, None)
    assert step.metadata["fallback_triggered"] is True
    assert step.metadata["original_error"] == "Agent failed with ValueError: x2"
    assert step.cost_usd == pytest.approx(0.3)
    assert [child.path for child in step.children] == ["0:a/fallback"]


def test_a_fallback_keeps_its_own_retries(run: Run) -> None:
    second = failing(1)
    assert run(Step("a", failing(), fallback=Step("b", second, retries=1)), 7).output == 7
    assert second.calls == 2


def test_when_both_fail_both_are_named(run: Run) -> None:
    result = run(Step("a", failing(), fallback=Step("b", Flaky(KeyError("k")))), 7)
    assert result.step_history[0].feedback == (
        "Agent failed with ValueError: x1; fallback 'b': Agent failed with KeyError: 'k'"
    )


def test_a_fallback_is_not_tried_when_all_is_well(run: Run) -> None:
    second = Flaky()
    assert run(Step("a", Flaky(), fallback=Step("b", second)), 7).output == 7
    assert second.calls == 0


def test_fallbacks_may_have_fallbacks(run: Run) -> None:
    chain = Step("a", failing(), fallback=Step("b", failing(), fallback=Step("c", Flaky())))
    result = run(chain, 7)
    assert result.output == 7
    assert result.step_history[0].attempts == 3


def test_a_circle_of_fallbacks_is_an_error_that_shows_it(run: Run) -> None:
    first = Step("a", failing())
    second = Step("b", failing(), fallback=first)
    object.__setattr__(first, "fallback", second)  # values cannot form a circle by honest means
    with pytest.raises(FallbackLoop, match="a -> b -> a"):
        run(first, 1)


def test_the_context_of_a_failed_step_does_not_reach_its_fallback(run: Run) -> None:
    from flow import PipelineContext

    class Counter(PipelineContext):
        n: int = 0

    async def bad(_: Any, *, context: Counter) -> None:
        context.n = 99
        raise ValueError("no")

    async def good(_: Any, *, context: Counter) -> int:
        context.n += 1
        return context.n

    result = run(Step("a", bad, fallback=Step("b", good)), 1, context_model=Counter)
    assert result.output == 1
    assert result.final_pipeline_context.n == 1


# -- strategies and hooks --


class GatewayError(Exception):
    pass


@pytest.mark.parametrize(
    ("strategy", "error", "matches"),
    [
        (RecoveryStrategy(name="type", error_types={GatewayError}), GatewayError("x"), True),
        (RecoveryStrategy(name="type", error_types={GatewayError}), ValueError("x"), False),
        (RecoveryStrategy(name="text", error_patterns=["502"]), ValueError("got 502"), True),
        (RecoveryStrategy(name="category", applies_to_categories={ErrorCategory.NETWORK}), ConnectionError(), True),
        (RecoveryStrategy(name="any"), ValueError("x"), True),
    ],
)
def test_a_strategy_applies_to_what_it_matches(
    strategy: RecoveryStrategy, error: Exception, matches: bool, run: Run
) -> None:
    agent = Flaky(error)
    strategy_now = RecoveryStrategy(
        name=strategy.name,
        error_types=strategy.error_types,
        error_patterns=strategy.error_patterns,
        applies_to_categories=strategy.applies_to_categories,
        max_retries=1,
        retry_delay_seconds=0,
    )
    assert run(Step("a", agent, policies=[strategy_now]), 1).success is matches


def test_delays_double_up_to_the_cap_and_jitter_stays_below() -> None:
    exact = RecoveryStrategy(name="s", retry_delay_seconds=1, max_delay_seconds=5, jitter=False)
    assert [exact.delay(attempt) for attempt in (1, 2, 3, 4, 100)] == [1, 2, 4, 5, 5]
    spread = RecoveryStrategy(name="s", retry_delay_seconds=1, max_delay_seconds=5)
    assert all(0 <= spread.delay(3) <= 4 for _ in range(100))


def test_after_the_retries_of_a_strategy_its_next_action_follows(run: Run) -> None:
    strategy = RecoveryStrategy(
        name="s",
        max_retries=2,
        retry_delay_seconds=0,
        fallback_actions=[RecoveryAction.USE_VALUE],
        fallback_value="plan b",
    )
    agent = failing()
    result = run(Step("a", agent, policies=[strategy]), 1)
    assert (agent.calls, result.output) == (3, "plan b")
    assert result.step_history[0].metadata["original_error"] == "Agent failed with ValueError: x3"


@pytest.mark.parametrize(
    ("action", "success", "output"),
    [(RecoveryAction.SKIP, True, "in"), (RecoveryAction.FALLBACK, True, "in!"), (RecoveryAction.FAIL, False, None)],
)
def test_actions_that_end_the_attempts(action: RecoveryAction, success: bool, output: Any, run: Run) -> None:
    strategy = RecoveryStrategy(name="s", primary_action=action)
    fallback = Step("f", lambda text: text + "!")
    result = run(Step("a", failing(), policies=[strategy], fallback=fallback), "in")
    assert result.success is success
    if success:
        assert result.output == output


def test_a_plugin_decides_before_the_default_policy() -> None:
    class Patient:
        @hookimpl
        def flow_classify_error(self, error: BaseException, step: Any) -> ErrorCategory | None:
            return ErrorCategory.RATE_LIMIT if isinstance(error, GatewayError) else None

        @hookimpl
        def flow_choose_recovery(self, failure: Any) -> Recovery | None:
            if failure.category is ErrorCategory.RATE_LIMIT and failure.attempt < 5:
                return Recovery(RecoveryAction.RETRY)
            return None

    agent = Flaky(*(GatewayError() for _ in range(3)))
    kernel = Kernel(Settings(), only=[], plugins=[Patient()])
    assert Flow(Step("a", agent), kernel=kernel).run(1).success
    assert agent.calls == 4
