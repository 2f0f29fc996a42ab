"""Steps and pipelines are frozen values that compose."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import attrs
import pytest

from flow import (
    BaseStep,
    ConfigurationError,
    Flow,
    MissingAgentError,
    Pipeline,
    RecoveryStrategy,
    Step,
    step,
)


async def echo(value: Any) -> Any:
    return value


def test_a_step_takes_name_and_agent_by_position() -> None:
    made = Step("shout", str.upper, retries=2, timeout=10)
    assert (made.name, made.agent, made.retries, made.timeout) == ("shout", str.upper, 2, 10)


def test_settings_that_flow_does_not_know_are_kept_for_the_agent() -> None:
    assert Step("ask", echo, temperature=0.5, retries=1).settings == {"temperature": 0.5}


def test_steps_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Step("a", echo).retries = 3  # type: ignore[misc]


def test_evolve_changes_a_copy_and_keeps_the_rest() -> None:
    first = Step("a", echo, retries=1, temperature=0.1)
    second = first.evolve(retries=3, top_p=0.9)
    assert (first.retries, second.retries) == (1, 3)
    assert second.settings == {"top_p": 0.9, "temperature": 0.1}
    assert second.agent is echo


def test_equal_steps_are_equal_and_hash_alike() -> None:
    one, two = Step("a", echo, metadata={"team": "x"}), Step("a", echo, metadata={"team": "x"})
    assert one == two
    assert hash(one) == hash(two)
    assert one != Step("a", echo, retries=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": "a/b"}, "holds a '/'"),
        ({"name": "a", "retries": -1}, "retries must be a number of at least 0"),
        ({"name": "a", "timeout": "soon"}, "timeout must be a number"),
    ],
)
def test_senseless_settings_are_refused_when_the_step_is_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Step(agent=echo, **arguments)


def test_the_decorator_makes_a_step_that_still_is_the_function() -> None:
    @step
    async def fetch(url: str) -> bytes:
        return url.encode()

    @step(retries=2, name="cut")
    def first(page: bytes) -> str:
        return page.decode()[0]

    assert (fetch.name, first.name, first.retries) == ("fetch", "cut", 2)
    assert asyncio.run(fetch("abc")) == b"abc"  # type: ignore[arg-type]
    assert first(b"xyz") == "x"
    assert (fetch >> first)["cut"].retries == 2


def test_named_constructors() -> None:
    assert Step.from_callable(echo).name == "echo"
    assert Step.from_mapper(str.upper).name == "upper"
    assert Step.review(echo, timeout=30).name == "review"
    assert Step.solution(echo, retries=3).retries == 3
    gate = Step.validate_step(name="gate", agent=echo, strict=True)
    assert (gate.name, gate.gate, gate.strict) == ("gate", True, True)


def test_chaining_flattens_steps_and_pipelines_in_any_order() -> None:
    a, b, c, d = (Step(name, echo) for name in "abcd")
    names = [item.name for item in (a >> b) >> (c >> d)]
    assert names == [item.name for item in a >> (b >> c) >> d] == list("abcd")


def test_the_same_step_may_occur_more_than_once() -> None:
    async def inc(number: int) -> int:
        return number + 1

    once = Step("inc", inc)
    result = Flow(once >> once >> once).run(0)
    assert result.output == 3
    assert [item.path for item in result.step_history] == ["0:inc", "1:inc", "2:inc"]


def test_pipelines_are_indexed_by_position_and_by_name() -> None:
    pipeline = Step("a", echo) >> Step("b", echo)
    assert pipeline[0].name == "a"
    assert pipeline["b"] is pipeline[-1]
    assert len(pipeline) == 2


def test_an_ambiguous_name_is_refused_with_the_positions() -> None:
    once = Step("inc", echo)
    with pytest.raises(KeyError, match="2 steps are called 'inc', at positions 0, 1"):
        (once >> once)["inc"]


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(KeyError, match="there are: a"):
        Pipeline([Step("a", echo)])["b"]


@pytest.mark.parametrize("wrong", [5, "text", None, echo])
def test_only_steps_and_pipelines_can_be_chained(wrong: Any) -> None:
    with pytest.raises(TypeError, match=type(wrong).__name__):
        Step("a", echo) >> wrong


def test_a_function_at_the_arrow_gets_the_hint_to_wrap_it() -> None:
    with pytest.raises(TypeError, match="wrap it: Step"):
        Pipeline([echo])  # type: ignore[list-item]


def test_a_step_without_agent_is_an_error_and_not_a_failed_result() -> None:
    with pytest.raises(MissingAgentError, match="step 'a' has no agent"):
        Flow(Step("a")).run(1)


@pytest.mark.parametrize("agent", [42, "gpt-5", object()])
def test_an_agent_that_cannot_be_run_is_an_error(agent: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"step 'a': .* is not an agent"):
        Flow(Step("a", agent)).run(1)


def test_an_unknown_kind_is_an_error_that_names_it() -> None:
    @attrs.frozen(kw_only=True)
    class Mystery(BaseStep[Any, Any]):
        kind = "mystery"

    with pytest.raises(ConfigurationError, match="of kind 'mystery', which no installed plugin runs"):
        Flow(Mystery(name="m")).run(1)


def test_a_flow_runs_steps_and_pipelines_only() -> None:
    with pytest.raises(ConfigurationError, match="a Flow runs a step or a pipeline, got function"):
        Flow(echo)  # type: ignore[arg-type]


def test_a_constructor_of_an_absent_package_names_the_package() -> None:
    with pytest.raises(AttributeError, match=r"Step.nothing_like_it"):
        Step.nothing_like_it  # type: ignore[attr-defined]  # noqa: B018


def test_a_sync_function_runs_in_a_worker_thread() -> None:
    threads = []

    def where(value: int) -> int:
        threads.append(threading.current_thread())
        return value

    assert Flow(Step("where", where)).run(1).output == 1
    assert threads[0] is not threading.main_thread()


def test_policies_are_read_back_by_type(kernel: Any) -> None:
    from flow import Binder, Cache

    strategy = RecoveryStrategy(name="a")
    made = Step("a", echo, policies=[strategy, Cache(ttl=1), Cache(ttl=2)])
    binder = Binder(kernel, "", services=None)  # type: ignore[arg-type]
    assert binder.policy(made, RecoveryStrategy) is strategy
    assert binder.policy(made, Cache) == Cache(ttl=2)
    assert binder.policy(made, int) is None
    assert binder.policies(made, Cache) == [Cache(ttl=1), Cache(ttl=2)]
