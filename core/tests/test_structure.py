"""Structure and fingerprints: the same for equal pipelines, in every process."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import attrs
import orjson
import pytest

from flow import Cache, Pipeline, RecoveryStrategy, Step, UsageLimits, structure


async def fetch(url: str) -> str:
    return url


async def other(url: str) -> str:
    return url


def pipeline(**changes: Any) -> Pipeline[Any, Any]:
    settings = {"retries": 2, "policies": [RecoveryStrategy(name="s", error_types={ValueError, KeyError})], **changes}
    return Step("fetch", settings.pop("agent", fetch), **settings) >> (Step("a", str.upper) >> Step("b", len)).as_step(
        "sub"
    )


def test_structure_names_kinds_settings_and_children() -> None:
    told = structure(pipeline())
    assert (told["kind"], list(told["children"])) == ("pipeline", ["0:fetch", "1:sub"])
    first = told["children"]["0:fetch"]
    assert (first["name"], first["kind"], first["config"]["retries"]) == ("fetch", "step", 2)
    assert first["config"]["agent"].endswith("test_structure.fetch")
    inner = told["children"]["1:sub"]["children"]["pipeline"]["children"]
    assert list(inner) == ["0:a", "1:b"]
    assert "pipeline" not in told["children"]["1:sub"]["config"]


def test_structure_is_plain_json() -> None:
    wild = pipeline(
        agent=functools.partial(fetch, "x"),
        cache=Cache(ttl=5),
        usage_limits=UsageLimits(requests_limit=3),
        metadata={"x": object()},
    )
    assert orjson.loads(orjson.dumps(structure(wild))) == structure(wild)


def test_equal_pipelines_have_equal_fingerprints() -> None:
    assert pipeline().fingerprint == pipeline().fingerprint
    assert len(pipeline().fingerprint) == 64


@pytest.mark.parametrize(
    "changed",
    [
        lambda: pipeline(retries=3),
        lambda: pipeline(agent=other),
        lambda: pipeline(temperature=0.5),
        lambda: pipeline(policies=[]),
        lambda: pipeline() >> Step("more", len),
        lambda: Pipeline(reversed(pipeline().steps)),
        lambda: Pipeline([step.evolve(name=step.name + "x") for step in pipeline()]),
    ],
)
def test_a_different_structure_has_a_different_fingerprint(changed: Any) -> None:
    assert changed().fingerprint != pipeline().fingerprint


def test_metadata_and_state_of_agents_do_not_count() -> None:
    class Agent:
        def __init__(self) -> None:
            self.calls = 0

        async def run(self, data: Any) -> Any:
            self.calls += 1
            return data

    agent = Agent()
    before = Pipeline([Step("a", agent, metadata={"team": "x"})]).fingerprint
    agent.calls += 1
    assert Pipeline([Step("a", agent)]).fingerprint == before


def test_a_fingerprint_is_the_same_in_another_process() -> None:
    program = (
        "from flow import Step, RecoveryStrategy\n"
        "strategy = RecoveryStrategy(name='s', error_types={ValueError, KeyError, OSError})\n"
        "print((Step('a', str.upper, policies=[strategy]) >> Step('b', len)).fingerprint)"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(prints) == 1


def test_neither_addresses_nor_secrets_are_in_the_structure() -> None:
    class Client:
        def __init__(self) -> None:
            self.api_key = "sk-canary"

        def __repr__(self) -> str:
            return f"Client({self.api_key})"

        async def run(self, data: Any) -> Any:
            return data

    text = orjson.dumps(structure(Pipeline([Step("a", Client())]))).decode()
    assert "canary" not in text
    assert " at 0x" not in text


def test_state_of_attrs_agents_does_not_count_and_their_secrets_are_not_told() -> None:
    @attrs.define
    class Agent:
        api_key: str
        calls: int = 0

        async def run(self, data: Any) -> Any:
            self.calls += 1
            return data

    agent = Agent("sk-canary")
    pipeline = Pipeline(
        [Step("a", agent, api_key="sk-canary", prompt="canary " * 50, policies=[RecoveryStrategy(name="s")])]
    )
    before = pipeline.fingerprint
    agent.calls += 1
    assert pipeline.fingerprint == before
    assert "canary" not in orjson.dumps(structure(pipeline)).decode()
    assert Pipeline([pipeline[0].evolve(prompt="other " * 50)]).fingerprint != before
