"""Agents that answer from a list, or fail a number of times."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flow_testkit import StubAgent, run_one, simulate_error

from flow import PauseSignal, PipelineContext, RunStatus, Step, Usage


def test_outputs_come_in_order_and_inputs_are_kept() -> None:
    agent = StubAgent([1, {"a": 2}])
    result = run_one(Step("one", agent) >> Step("two", agent), "data")
    assert result.output == {"a": 2}
    assert agent.inputs == ["data", 1]
    assert agent.call_count == 2


def test_agent_works_without_a_runner() -> None:
    assert asyncio.run(StubAgent(["hi"], usage=Usage(1.0)).run("x")) == "hi"


@pytest.mark.parametrize("outputs", ["text", {"a": 1}, None, iter(())])
def test_outputs_must_be_a_list(outputs: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a list of outputs, got \w+: StubAgent\(\["):
        StubAgent(outputs)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([], "no more outputs: 0 calls were expected, this is call 1, with 'data'"),
        (["a"], "no more outputs: 1 call was expected, this is call 2, with 'a'"),
        (["a", "b"], "no more outputs: 2 calls were expected, this is call 3, with 'b'"),
    ],
)
def test_exhausted_agent_says_how_many_calls_were_expected(outputs: list[str], message: str) -> None:
    agent = StubAgent(outputs)
    steps = Step("first", agent) >> Step("second", agent) >> Step("third", agent)
    result = run_one(steps, "data")
    assert message in str(result.error)
    assert isinstance(result.step_history[-1].error, IndexError)


@pytest.mark.parametrize("error", [ValueError("bad"), ValueError])
def test_exceptions_are_raised(error: Any) -> None:
    agent = StubAgent([error, "good"])
    result = run_one(Step("ask", agent, retries=1))
    assert result.output == "good"
    assert result.step_history[0].attempts == 2


def test_control_signals_are_raised() -> None:
    result = run_one(Step("ask", StubAgent([PauseSignal("which?")])))
    assert result.status is RunStatus.PAUSED


def test_exception_types_can_still_be_data() -> None:
    assert run_one(Step("ask", StubAgent([int]))).output is int


def test_usage_is_spent_by_every_call() -> None:
    agent = StubAgent([ValueError("bad"), "good"], usage=Usage(0.5, 10, 20, 1))
    result = run_one(Step("ask", agent, retries=1))
    assert result.usage == Usage(1.0, 20, 40, 2)


def test_contexts_are_what_the_call_saw() -> None:
    class Counted(PipelineContext):
        count: int = 0

    async def count(data: Any, *, context: Counted) -> Any:
        context.count += 1
        return data

    agent = StubAgent(["a", "b"])
    run_one(Step("ask", agent) >> Step("count", count) >> Step("again", agent), context_model=Counted)
    assert [context.count for context in agent.contexts] == [0, 1]


def test_simulated_error_fails_and_then_returns_its_input() -> None:
    agent = simulate_error("search", times=2)
    result = run_one(Step("search", agent, retries=2), "data")
    assert result.output == "data"
    assert (agent.attempts, agent.failures) == (3, 2)


@pytest.mark.parametrize("error", [KeyError("gone"), KeyError])
def test_simulated_error_is_the_given_one(error: Any) -> None:
    result = run_one(Step("search", simulate_error(None, error)))
    assert isinstance(result.step_history[0].error, KeyError)


@pytest.mark.parametrize(("name", "message"), [("search", "simulated error in search"), (None, "simulated error")])
def test_default_error_names_what_fails(name: str | None, message: str) -> None:
    result = run_one(Step("search", simulate_error(name)))
    assert result.step_history[0].feedback == f"Agent failed with RuntimeError: {message}"


async def later(data: str) -> str:
    return f"later {data}"


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({"result": None}, None),
        ({"result": "fixed"}, "fixed"),
        ({"result_factory": str.upper}, "DATA"),
        ({"result_factory": later}, "later data"),
    ],
)
def test_simulated_error_ends_in_the_given_result(options: dict[str, Any], output: Any) -> None:
    assert run_one(Step("search", simulate_error(**options), retries=1), "data").output == output


def test_simulated_error_needs_a_failure() -> None:
    with pytest.raises(ValueError, match="times must be at least 1, got 0"):
        simulate_error(times=0)


def test_simulated_error_has_one_result() -> None:
    with pytest.raises(ValueError, match="result or result_factory, not both"):
        simulate_error(result=None, result_factory=str.upper)
