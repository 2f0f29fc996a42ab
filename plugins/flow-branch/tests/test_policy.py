"""Routing policies: tables and functions that may change while runs are going on."""

from __future__ import annotations

import asyncio
import enum
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from flow_branch import RoutingPolicy, route_by_policy
from flow_testkit import StubAgent

from flow import BaseStep, ConfigurationError, Flow, Pipeline, Step, StepFailed

MakeFlow = Callable[..., Flow[Any, Any]]


class Tier(enum.Enum):
    GOLD = "gold"
    FREE = "free"


def tenant(ticket: Mapping[str, Any], context: Any) -> Any:
    return ticket["tenant"]


def lanes() -> dict[Any, BaseStep[Any, Any]]:
    return {name: Step(name, StubAgent([name] * 20)) for name in ("fast", "slow")}


def router(policy: Any, **settings: Any) -> BaseStep[Any, Any]:
    return route_by_policy("route", policy, lanes(), key=tenant, **settings)


async def route(runner: Flow[Any, Any], key: Any) -> Any:
    result = await runner.run_async({"tenant": key})
    return result.output if result.success else result.step_history[0].feedback


# -- asking


async def one_way(key: str) -> str | None:
    return {"acme": "fast"}.get(key)


POLICIES: dict[str, Callable[[], Any]] = {
    "mapping": lambda: {"acme": "fast"},
    "policy": lambda: RoutingPolicy({"acme": "fast"}),
    "function": lambda: {"acme": "fast"}.get,
    "async function": lambda: one_way,
    "policy of a function": lambda: RoutingPolicy(one_way),
    "json": lambda: RoutingPolicy.from_json('{"acme": "fast"}'),
    "yaml": lambda: RoutingPolicy.from_yaml("acme: fast\n"),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
async def test_a_policy_may_be_a_mapping_a_function_or_text(flow: MakeFlow, policy: Callable[[], Any]) -> None:
    assert await route(flow(router(policy())), "acme") == "fast"


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
async def test_a_key_without_a_branch_fails_naming_it(flow: MakeFlow, policy: Callable[[], Any]) -> None:
    feedback = await route(flow(router(policy())), "nobody")
    assert "the routing policy has no branch for 'nobody'" in feedback


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
async def test_a_key_without_a_branch_takes_the_default_branch(flow: MakeFlow, policy: Callable[[], Any]) -> None:
    runner = flow(router(policy(), default_branch_pipeline=Step("other", StubAgent(["other"]))))
    assert await route(runner, "nobody") == "other"


@pytest.mark.parametrize("table", [{"acme": "fast"}, one_way], ids=["mapping", "function"])
async def test_the_default_of_a_policy_comes_before_the_default_branch(flow: MakeFlow, table: Any) -> None:
    policy = RoutingPolicy(table, default="slow")
    runner = flow(router(policy, default_branch_pipeline=Step("other", StubAgent(["other"]))))
    assert await route(runner, "nobody") == "slow"


async def test_a_branch_that_is_not_there_is_named_with_the_choices(flow: MakeFlow) -> None:
    feedback = await route(flow(router({"acme": "fsat"})), "acme")
    assert feedback == "no branch for key 'fsat' and no default branch; the branches are: 'fast', 'slow'"


async def test_the_branch_that_was_taken_is_recorded(flow: MakeFlow) -> None:
    result = await flow(router({"acme": "slow"})).run_async({"tenant": "acme"})
    assert result.step_history[0].metadata == {"executed_branch_key": "slow"}
    assert result.step_history[0].children[0].path == "0:route/slow/0:slow"


async def test_the_same_branches_serve_different_tables_at_the_same_time(flow: MakeFlow) -> None:
    east, west = flow(router({"acme": "fast"})), flow(router({"acme": "slow"}))
    assert await asyncio.gather(*(route(runner, "acme") for runner in (east, west) * 5)) == ["fast", "slow"] * 5


@pytest.mark.parametrize("key", [True, 3, Tier.GOLD], ids=repr)
async def test_a_table_that_was_text_finds_keys_by_what_they_are_called(flow: MakeFlow, key: Any) -> None:
    policy = RoutingPolicy.from_json('{"true": "fast", "3": "fast", "gold": "fast"}', default="slow")
    assert await route(flow(router(policy)), key) == "fast"


async def test_a_table_that_was_text_finds_branches_by_what_they_are_called(flow: MakeFlow) -> None:
    branches = {Tier.GOLD: Step("g", StubAgent(["g"])), 3: Step("three", StubAgent(["three"]))}
    policy = RoutingPolicy.from_json('{"acme": "gold", "else": 3}')
    runner = flow(route_by_policy("route", policy, branches, key=tenant))
    assert [await route(runner, name) for name in ("acme", "else")] == ["g", "three"]


@pytest.mark.parametrize("key", [["a"], {"a": 1}], ids=repr)
async def test_a_key_that_cannot_be_looked_up_fails_the_step(flow: MakeFlow, key: Any) -> None:
    assert "which cannot be looked up" in await route(flow(router({"acme": "fast"})), key)


async def test_a_raising_policy_fails_the_step_and_is_named(flow: MakeFlow) -> None:
    def by_weekday(key: str) -> str:
        raise TypeError("it is Sunday")

    result = await flow(router(by_weekday)).run_async({"tenant": "acme"})
    assert result.step_history[0].feedback == "routing policy 'by_weekday' raised TypeError: it is Sunday"
    assert isinstance(result.error, StepFailed)


async def test_a_raising_key_function_fails_the_step_and_is_named(flow: MakeFlow) -> None:
    result = await flow(router({})).run_async({})
    assert result.step_history[0].feedback == "routing key 'tenant' raised KeyError: 'tenant'"


async def test_key_functions_may_be_async(flow: MakeFlow) -> None:
    async def key(data: Any, context: Any) -> str:
        return "acme"

    assert (await flow(route_by_policy("route", {"acme": "fast"}, lanes(), key=key)).run_async(1)).output == "fast"


# -- changing


async def test_a_mapping_may_change_between_runs(flow: MakeFlow) -> None:
    table = {"acme": "fast"}
    runner = flow(router(table))
    before = await route(runner, "acme")
    table["acme"] = "slow"
    assert (before, await route(runner, "acme")) == ("fast", "slow")


@pytest.mark.parametrize("replacement", [{"acme": "slow"}, lambda key: "slow"], ids=["mapping", "function"])
async def test_a_policy_may_be_replaced_while_a_run_is_under_way(flow: MakeFlow, replacement: Any) -> None:
    policy = RoutingPolicy({"acme": "fast"}, default="fast")
    asked, replaced = asyncio.Event(), asyncio.Event()

    async def wait(ticket: Any) -> Any:
        asked.set()
        await replaced.wait()
        return ticket

    handle = flow(Step("wait", wait) >> router(policy)).start({"tenant": "acme"})
    await asked.wait()
    policy.replace(replacement)
    replaced.set()
    assert (await handle).output == "slow"


async def test_a_default_may_be_replaced(flow: MakeFlow) -> None:
    policy = RoutingPolicy({}, default="fast")
    runner = flow(router(policy))
    before = await route(runner, "acme")
    policy.set_default("slow")
    assert (before, await route(runner, "acme"), policy.default) == ("fast", "slow", "slow")


def test_a_replacement_that_is_no_policy_is_refused_and_changes_nothing() -> None:
    policy = RoutingPolicy({"acme": "fast"})
    with pytest.raises(ConfigurationError, match="a mapping or a callable, got int"):
        policy.replace(3)  # type: ignore[arg-type]
    assert policy.lookup("acme") == "fast"


def test_what_a_policy_says_is_no_part_of_the_fingerprint() -> None:
    east, west = (Pipeline((router({"acme": lane}),)) for lane in ("fast", "slow"))
    assert east.fingerprint == west.fingerprint


# -- reading


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        (lambda: RoutingPolicy(3), "a routing policy is a mapping or a callable, got int"),  # type: ignore[arg-type]
        (lambda: RoutingPolicy.from_json("{"), "the routing policy is not JSON"),
        (lambda: RoutingPolicy.from_json("[1]"), "a mapping from key to branch, got list"),
        (lambda: RoutingPolicy.from_yaml("a: [1"), "the routing policy is not YAML"),
        (lambda: RoutingPolicy.from_yaml("- a"), "a mapping from key to branch, got list"),
        (lambda: RoutingPolicy.from_yaml(""), "a mapping from key to branch, got NoneType"),
        (lambda: RoutingPolicy.from_yaml("a: !!python/name:os.system x"), "the routing policy is not YAML"),
        (lambda: RoutingPolicy.from_env("FLOW_TEST_NO_SUCH_ROUTES"), "FLOW_TEST_NO_SUCH_ROUTES is not set"),
        (lambda: RoutingPolicy.from_file("no/such/file.json"), "no/such/file.json cannot be read"),
    ],
)
def test_what_is_no_policy_is_refused_saying_why(read: Callable[[], Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        read()


@pytest.mark.parametrize(
    ("name", "text"), [("routes.json", '{"acme": "fast"}'), ("routes.yaml", "acme: fast"), ("routes.yml", "acme: fast")]
)
def test_a_policy_is_read_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert RoutingPolicy.from_file(tmp_path / name).lookup("acme") == "fast"
    assert RoutingPolicy.from_file(str(tmp_path / name), default="slow").lookup("other") == "slow"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "routes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        RoutingPolicy.from_file(tmp_path / "routes.json")


def test_a_policy_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOW_TEST_ROUTES", '{"acme": "fast"}')
    policy = RoutingPolicy.from_env("FLOW_TEST_ROUTES", default="slow")
    assert (policy.lookup("acme"), policy.lookup("other")) == ("fast", "slow")


def test_text_may_come_as_bytes() -> None:
    assert RoutingPolicy.from_json(b'{"acme": "fast"}').lookup("acme") == "fast"


def test_yaml_without_its_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    with pytest.raises(ConfigurationError, match="pip install flow-branch\\[yaml\\]"):
        RoutingPolicy.from_yaml("a: b")
