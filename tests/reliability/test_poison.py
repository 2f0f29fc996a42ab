"""Runs that would take everything down with them: they are parked, or fail, and the process lives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flow import Flow, Step
from tests.reliability.campaigns import poison
from tests.reliability.scale import SOAK
from tests.reliability.stores import KINDS, LASTING, kernel, url_of

DEPTH = 200_000


@pytest.mark.parametrize("kind", LASTING)
def test_a_run_that_kills_its_process_every_time_is_parked_after_five_recoveries(kind: str, tmp_path: Path) -> None:
    assert poison(kind, tmp_path) == (6, "dead")


async def nested(_: Any) -> Any:
    value: list[Any] = []
    for _ in range(DEPTH):
        value = [value]
    return value


async def typed(_: Any) -> list[Any]:
    return await nested(_)


async def recursing(depth: int) -> int:
    return await recursing(depth + 1)


async def surrogate(_: Any) -> str:
    return "\ud800"


async def huge_number(_: Any) -> int:
    return 10**5000


@pytest.mark.parametrize("agent", [nested, typed, recursing, surrogate, huge_number])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_value_or_an_agent_without_bounds_fails_its_step(kind: str, agent: Any, tmp_path: Path) -> None:
    async with Flow(Step("wild", agent) >> Step("never", str), state=url_of(kind, tmp_path), kernel=kernel()) as flow:
        result = await flow.run_async(0)
        assert result.status.value == "failed"
        assert result.failed_path == "0:wild"
        assert len(str(result.error)) < 2000
        assert (await Flow(Step("fine", str), kernel=kernel()).run_async(1)).output == "1"


@pytest.mark.skipif(not SOAK, reason="a gigabyte is for the long form")
@pytest.mark.parametrize("kind", LASTING)
async def test_a_step_that_returns_a_gigabyte_fails(kind: str, tmp_path: Path) -> None:
    async def gigabyte(_: Any) -> str:
        return "x" * 2**30

    async with Flow(Step("wild", gigabyte), state=url_of(kind, tmp_path), kernel=kernel()) as flow:
        result = await flow.run_async(0)
    assert result.status.value == "failed"
    assert "0:wild" in json.dumps(str(result.error))
