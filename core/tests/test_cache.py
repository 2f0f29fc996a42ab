"""Cached steps: opt-in, honest about usage, isolated, and harmless when the cache is broken."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from flow import (
    Cache,
    ConfigurationError,
    Flow,
    Kernel,
    PauseSignal,
    PipelineContext,
    Settings,
    Step,
    StepRun,
    UsageLimits,
    hookimpl,
)
from flow._builtin.memory_cache import MemoryCache


class Counting:
    """An agent that counts its calls and costs money."""

    def __init__(self, model: str = "small", *, fails: int = 0) -> None:
        self.model = model
        self.calls = 0
        self.fails = fails

    async def run(self, data: Any, *, run: StepRun) -> list[Any]:
        self.calls += 1
        run.usage.add(cost_usd=0.1)
        if self.calls <= self.fails:
            raise ValueError("no")
        return [data]


def cached(agent: Any, **options: Any) -> Step[Any, Any]:
    return Step("ask", agent, cache=Cache(**options))


async def test_without_a_cache_policy_every_call_is_made() -> None:
    agent = Counting()
    step = Step("ask", agent)
    await Flow(step >> step >> step).run_async("x")
    assert agent.calls == 3


async def test_an_equal_call_is_made_once_and_paid_once() -> None:
    agent = Counting()
    flow = Flow(cached(agent))
    first, second = await flow.run_async({"a": 1, "b": 2}), await flow.run_async({"b": 2, "a": 1})
    assert (agent.calls, second.output) == (1, first.output)
    assert (first.step_history[0].cached, second.step_history[0].cached) == (False, True)
    assert (first.total_cost_usd, second.total_cost_usd) == (0.1, 0)
    assert first.step_history[0].metadata["cache_key"] == second.step_history[0].metadata["cache_key"]


async def test_a_hit_is_isolated_from_what_callers_do_with_the_output() -> None:
    flow = Flow(cached(Counting()))
    (await flow.run_async("x")).output.append("mutated")
    assert (await flow.run_async("x")).output == ["x"]


async def test_failures_are_not_kept() -> None:
    agent = Counting(fails=1)
    flow = Flow(cached(agent))
    assert not (await flow.run_async("x")).success
    assert (await flow.run_async("x")).success
    assert agent.calls == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda: cached(Counting("large")),
        lambda: cached(Counting()).evolve(name="other"),
        lambda: cached(Counting()).evolve(temperature=0.5),
        lambda: cached(Counting()).evolve(strict=False),
    ],
    ids=["model", "name", "setting", "field"],
)
async def test_another_computation_has_another_key(other: Callable[[], Step[Any, Any]]) -> None:
    store = MemoryCache()
    await Flow(cached(Counting()), cache=store).run_async("x")
    result = await Flow(other(), cache=store).run_async("x")
    assert not result.step_history[0].cached


async def test_equal_computations_of_two_flows_share_a_cache() -> None:
    store = MemoryCache()
    await Flow(cached(Counting()), cache=store).run_async("x")
    assert (await Flow(cached(Counting()), cache=store).run_async("x")).step_history[0].cached


async def test_the_key_may_be_chosen() -> None:
    agent = Counting()
    flow = Flow(cached(agent, key=lambda data, context: data.lower()))
    await flow.run_async("ABC")
    assert (await flow.run_async("abc")).step_history[0].cached
    assert agent.calls == 1


async def test_the_key_may_be_looked_up() -> None:
    async def version(data: str, context: PipelineContext) -> tuple[str, str]:
        return data, context.initial_prompt

    flow = Flow(cached(Counting(), key=version))
    results = [await flow.run_async(text) for text in ("a", "b", "a")]
    assert [result.step_history[0].cached for result in results] == [False, False, True]


async def test_a_plugin_may_choose_the_key() -> None:
    class Keys:
        @hookimpl
        def flow_make_cache_key(self, step: Any, data: Any, context: Any) -> bytes | None:
            return b"one for all"

    flow = Flow(cached(Counting()), kernel=Kernel(Settings(), only=[], plugins=[Keys()]))
    await flow.run_async("x")
    assert (await flow.run_async("y")).output == ["x"]


async def test_entries_expire() -> None:
    now = 100.0
    agent = Counting()
    flow = Flow(cached(agent, ttl=10), cache=MemoryCache(clock=lambda: now))
    await flow.run_async("x")
    now = 109.9
    await flow.run_async("x")
    assert agent.calls == 1
    now = 110.0
    await flow.run_async("x")
    assert agent.calls == 2


class Remembering(PipelineContext):
    facts: list[str] = []


async def test_a_hit_applies_the_context_change_again() -> None:
    async def learn(fact: str, *, context: Remembering) -> str:
        context.facts.append(fact)
        return fact

    flow = Flow(cached(learn), context_model=Remembering)
    for _ in range(2):
        assert (await flow.run_async("x")).final_pipeline_context.facts == ["x"]
    grown = await flow.run_async("x", initial_context={"facts": ["known"]})
    assert grown.final_pipeline_context.facts == ["known", "x"]


async def test_a_hit_changes_the_context_also_when_the_key_has_read_it() -> None:
    async def learn(fact: str, *, context: Remembering) -> str:
        context.facts.append(fact)
        return fact

    flow = Flow(cached(learn, key=lambda data, context: [data, len(context.facts)]), context_model=Remembering)
    for _ in range(2):
        assert (await flow.run_async("x")).final_pipeline_context.facts == ["x"]


async def test_a_hit_in_a_journaled_run_is_recorded_with_its_change_of_the_context() -> None:
    async def learn(fact: str, *, context: Remembering) -> str:
        context.facts.append(fact)
        return fact

    async def breaks(_: Any) -> Any:
        raise ValueError("no")

    flow = Flow(cached(learn) >> Step("b", breaks), context_model=Remembering, state="memory://", cache=MemoryCache())
    await flow.run_async("x", run_id="r1")
    await flow.run_async("x", run_id="r2")
    again = await flow.resume_async("r2")
    assert (again.step_history[0].replayed, again.final_pipeline_context.facts) == (True, ["x"])


async def test_what_is_kept_is_isolated_from_the_context() -> None:
    async def keep(data: list[int], *, context: PipelineContext) -> list[int]:
        context.scratchpad["kept"] = data
        return data

    async def spoil(data: list[int], *, context: PipelineContext) -> list[int]:
        data.append(7)
        context.scratchpad["kept"].append(8)
        return data

    flow = Flow(cached(keep) >> Step("spoil", spoil))
    for _ in range(2):
        result = await flow.run_async([1])
        assert (result.output, result.final_pipeline_context.scratchpad) == ([1, 7], {"kept": [1, 8]})


async def test_what_breaches_a_limit_is_not_kept() -> None:
    agent = Counting()
    flow = Flow(cached(agent).evolve(usage_limits=UsageLimits(total_cost_usd_limit=0.05)))
    for _ in range(2):
        assert (await flow.run_async("x")).status == "limit_exceeded"
    assert agent.calls == 2


async def test_a_pause_is_not_kept() -> None:
    calls: list[Any] = []

    async def ask(data: Any) -> Any:
        calls.append(data)
        raise PauseSignal("sure?")

    flow = Flow(cached(ask))
    for _ in range(2):
        assert (await flow.run_async("x")).status == "paused"
    assert len(calls) == 2


async def test_the_output_of_a_fallback_is_kept() -> None:
    agent = Counting(fails=9)
    flow = Flow(cached(agent).evolve(fallback=Step("other", lambda data: data)))
    assert [(await flow.run_async("x")).output for _ in range(2)] == ["x", "x"]
    assert agent.calls == 1


async def test_typed_outputs_come_back_typed() -> None:
    class Article(BaseModel):
        title: str

    async def write(title: str) -> Article:
        return Article(title=title)

    flow = Flow(cached(write))
    await flow.run_async("x")
    assert (await flow.run_async("x")).output == Article(title="x")


class Unreadable(MemoryCache):
    async def get(self, key: bytes) -> bytes | None:
        raise ConnectionError("cache down")


class Unwritable(MemoryCache):
    async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> None:
        raise ConnectionError("cache down")


class Foreign(MemoryCache):
    def __init__(self, entry: Any) -> None:
        super().__init__()
        self.entry = entry

    async def get(self, key: bytes) -> bytes | None:
        return self.entry


@pytest.mark.parametrize(
    "store",
    [
        Unreadable(),
        Foreign(b"\x00 not json"),
        Foreign(b"[]"),
        Foreign(b"[1]"),
        Foreign(b'[1,true,"{",null]'),
        Foreign(7),
    ],
    ids=["raises", "garbage", "empty", "cut", "unreadable output", "number"],
)
async def test_a_broken_cache_is_a_miss_with_one_warning(store: Any, caplog: Any) -> None:
    agent = Counting()
    flow = Flow(cached(agent) >> cached(agent).evolve(name="second"), cache=store)
    with caplog.at_level(logging.WARNING, logger="flow"):
        for _ in range(3):
            assert (await flow.run_async("x")).output == [["x"]]
    assert agent.calls == 6
    assert len(caplog.records) == 1
    assert "the cache of step 'ask' cannot be read" in caplog.text


async def test_a_cache_that_keeps_nothing_is_a_miss_with_one_warning(caplog: Any) -> None:
    flow = Flow(cached(Counting()), cache=Unwritable())
    with caplog.at_level(logging.WARNING, logger="flow"):
        for _ in range(3):
            assert not (await flow.run_async("x")).step_history[0].cached
    assert len(caplog.records) == 1
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("entry", [b'[2,true,"1",null]', b'["flow",{}]', b'{"output":"1","typed":true,"changes":null}'])
async def test_an_entry_of_another_version_is_a_miss(entry: bytes, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, logger="flow"):
        assert (await Flow(cached(Counting()), cache=Foreign(entry)).run_async("x")).output == ["x"]
    assert not caplog.records


async def test_an_input_that_makes_no_key_is_computed(caplog: Any) -> None:
    agent = Counting()
    flow = Flow(Step("ask", agent, cache=Cache()) >> Step("drop", lambda _: None))
    with caplog.at_level(logging.WARNING, logger="flow"):
        for _ in range(2):
            assert (await flow.run_async(object())).success
    assert agent.calls == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the cache of step 'ask' makes no key and is not used: builtins.object has no canonical form"
    ]


async def test_an_output_that_cannot_be_kept_is_still_the_output(caplog: Any) -> None:
    async def opaque(_: Any) -> Any:
        return object

    with caplog.at_level(logging.WARNING, logger="flow"):
        assert (await Flow(cached(opaque)).run_async("x")).output is object
    assert "cannot be written" in caplog.text


class Locked(PipelineContext):
    token: SecretStr = SecretStr("")


async def sign_in(user: str) -> SecretStr:
    return SecretStr(f"of {user}")


async def remember(user: str, *, context: Locked) -> str:
    context.token = SecretStr(f"of {user}")
    return user


@pytest.mark.parametrize("agent", [sign_in, remember])
async def test_what_gives_a_secret_is_not_kept(agent: Any, caplog: Any) -> None:
    store = MemoryCache()
    flow = Flow(cached(agent), cache=store, context_model=Locked)
    with caplog.at_level(logging.WARNING, logger="flow"):
        for _ in range(2):
            result = await flow.run_async("ada")
            assert not result.step_history[0].cached
            secret = result.output if agent is sign_in else result.final_pipeline_context.token
            assert secret.get_secret_value() == "of ada"
    assert not store._entries
    assert "keeps no secrets" in caplog.text
    assert "of ada" not in caplog.text


async def test_an_input_that_holds_a_secret_is_not_hashed(caplog: Any) -> None:
    store = MemoryCache()
    with caplog.at_level(logging.WARNING, logger="flow"):
        assert (await Flow(cached(Counting()), cache=store).run_async({"password": SecretStr("x")})).success
    assert not store._entries
    assert "pydantic.types.SecretStr has no canonical form" in caplog.text


def test_something_that_is_no_cache_policy_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cache must be a Cache, got bool"):
        Flow(Step("a", str.upper, cache=True)).run("x")


async def test_a_cache_that_cannot_be_opened_is_no_cache(caplog: Any) -> None:
    class Broken:
        @hookimpl
        def flow_open_cache(self, url: str, settings: Any) -> Any:
            raise OSError("the disk is gone") if url.startswith("memory://") else None

    calls: list[int] = []

    async def work(value: int) -> int:
        calls.append(value)
        return value

    kernel = Kernel(Settings(), only=[], plugins=[Broken()])
    flow = Flow(Step("work", work, cache=Cache()), kernel=kernel, cache="memory://")
    assert [(await flow.run_async(1)).output for _ in range(2)] == [1, 1]
    assert calls == [1, 1]
    assert caplog.text.count("the cache cannot be opened and is not used: the disk is gone") == 1


@pytest.mark.parametrize("ttl", [0, -1])
def test_a_result_is_kept_for_some_time_or_for_ever(ttl: float) -> None:
    with pytest.raises(ValueError, match="ttl"):
        Cache(ttl=ttl)
