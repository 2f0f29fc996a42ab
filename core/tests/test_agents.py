"""What may be an agent, and what it is given."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from flow import AppResources, PipelineContext, RunResult, Step, StepRun

Run = Callable[..., RunResult[Any]]


class WithRun:
    async def run(self, data: int, **kwargs: Any) -> int:
        return data + 1


class SyncRun:
    def run(self, data: int) -> int:
        return data + 1


class Callable_:
    async def __call__(self, data: int) -> int:
        return data + 1


async def plus(data: int, by: int = 1) -> int:
    return data + by


def returns_an_awaitable(data: int) -> Any:
    return plus(data)


@pytest.mark.parametrize(
    "agent",
    [
        WithRun(),
        SyncRun(),
        Callable_(),
        plus,
        functools.partial(plus, by=1),
        lambda x: x + 1,
        returns_an_awaitable,
        WithRun().run,
    ],
    ids=["object", "sync object", "callable object", "function", "partial", "lambda", "awaitable", "method"],
)
def test_anything_that_can_be_called_is_an_agent(agent: Any, run: Run) -> None:
    assert run(Step("inc", agent), 1).output == 2


@pytest.mark.parametrize(("agent", "data", "output"), [(str.upper, "a", "A"), (len, "abc", 3), (int, "7", 7)])
def test_builtins_and_classes_are_agents(agent: Any, data: Any, output: Any, run: Run) -> None:
    assert run(Step("it", agent), data).output == output


def test_a_callable_without_parameters_is_called_without_the_data(run: Run) -> None:
    assert run(Step("now", lambda: 7), "ignored").output == 7


class Context(PipelineContext):
    count: int = 0


def test_an_agent_gets_what_it_names(run: Run) -> None:
    seen: dict[str, Any] = {}

    async def agent(data: str, *, context: Context, resources: AppResources, run: StepRun) -> str:
        seen.update(context=context, resources=resources, run=run)
        return data

    resources = AppResources(db="x")
    result = run(Step("a", agent), "in", context_model=Context, resources=resources, run_id="r1", trace_id="t1")
    assert isinstance(seen["context"], Context)
    assert seen["resources"] is resources
    assert (seen["run"].run_id, seen["run"].trace_id, seen["run"].path, seen["run"].attempt) == ("r1", "t1", "0:a", 1)
    assert seen["run"].feedback is None
    assert seen["run"].remaining_s is None
    assert (result.run_id, result.trace_id) == ("r1", "t1")


def test_the_first_parameter_is_the_data_whatever_it_is_called(run: Run) -> None:
    async def agent(context: str) -> str:
        return context

    assert run(Step("a", agent), "data").output == "data"


def test_settings_reach_an_agent_that_accepts_them(run: Run) -> None:
    async def strict(data: str, temperature: float = 0.0) -> float:
        return temperature

    async def open_ended(data: str, **settings: Any) -> Any:
        return settings

    async def deaf(data: str) -> str:
        return data

    assert run(Step("a", strict, temperature=0.5, top_p=1), "x").output == 0.5
    assert run(Step("a", open_ended, temperature=0.5), "x").output == {"temperature": 0.5}
    assert run(Step("a", deaf, temperature=0.5), "x").output == "x"


class Odd:
    text = "text"
    data = "data"
    value = "value"


@pytest.mark.parametrize("output", [Odd(), {"iteration": 5}, None, "00123"])
def test_an_output_is_handed_on_as_it_is(output: Any, run: Run) -> None:
    async def make(_: Any) -> Any:
        return output

    async def same(value: Any) -> Any:
        return value

    assert run(Step("make", make) >> Step("same", same), 1).output is output


def test_the_idempotency_key_is_stable_across_attempts_and_differs_between_steps_and_runs(run: Run) -> None:
    keys: list[str] = []

    async def agent(data: int, *, run: StepRun) -> int:
        keys.append(run.idempotency_key)
        if run.attempt == 1:
            raise ValueError("once")
        return data

    pipeline = Step("a", agent, retries=1) >> Step("b", agent, retries=1)
    run(pipeline, 1, run_id="r1")
    run(pipeline, 1, run_id="r2")
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]
    assert len({keys[0], keys[2], keys[4], keys[6]}) == 4


def test_strings_and_bytes_that_an_agent_streams_are_joined(run: Run) -> None:
    async def text(_: Any) -> AsyncIterator[str]:
        for part in ("Hel", "lo"):
            yield part

    async def binary(_: Any) -> AsyncIterator[bytes]:
        for part in (b"a", b"b"):
            yield part

    async def mixed(_: Any) -> AsyncIterator[Any]:
        yield "a"
        yield 1

    async def nothing(_: Any) -> AsyncIterator[str]:
        return
        yield ""

    assert [run(Step("s", agent)).output for agent in (text, binary, mixed, nothing)] == ["Hello", b"ab", ["a", 1], ""]


def test_a_real_pydantic_ai_agent_is_an_agent(run: Run) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai", exc_type=ImportError)
    models = pytest.importorskip("pydantic_ai.models.test", exc_type=ImportError)
    agent = pydantic_ai.Agent(models.TestModel(custom_output_text="from the model"))
    result = run(Step("ask", agent), "hello")
    assert result.output == "from the model"
    assert result.usage.requests == 1
    assert result.usage.input_tokens > 0
