"""What control flow costs: an iteration of a loop, an item of a fan-out, a branch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from flow_branch import branch_on
from flow_loop import loop_until
from flow_parallel import map_over, parallel

from flow import Flow, Step
from tests.benchmarks._measure import Figure, Pair, Plan, Scenario, Work, alternate, compared, versus_bare
from tests.benchmarks.steps import bare_work, flow_work, noop

MANY = 1000
WORKERS = 16


async def add_one(value: int) -> int:
    return value + 1


@versus_bare("loop iteration of 1,000", per="iteration", units=MANY, at_most=3.0)
def loop() -> Pair:
    def enough(value: int, context: Any) -> bool:
        return value >= MANY

    async def bare() -> int:
        value = 0
        while True:
            value = await add_one(value)
            if enough(value, None):
                return value

    return flow_work(loop_until("loop", Step("body", add_one), enough, max_loops=MANY) >> Step("end", noop), 0), bare


def fan_out(items: int) -> Work:
    """The work of mapping over a number of items."""
    flow, data = Flow(map_over("each", Step("body", add_one), max_concurrency=WORKERS)), list(range(items))
    return lambda: flow.run_async(data)


async def fan_out_bare() -> Sequence[int]:
    """The counterpart: a fixed set of tasks that pull items."""
    results = [0] * MANY

    async def worker(items: Iterator[int]) -> None:
        for item in items:
            results[item] = await add_one(item)

    items = iter(range(MANY))
    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(worker(items))
    return results


@versus_bare("fan-out item of 1,000", per="item", units=MANY, at_most=8.0)
def fan_out_of_1000() -> Pair:
    return fan_out(MANY), fan_out_bare


async def measure_growth(plan: Plan) -> Sequence[Figure]:
    """Compare an item of 10,000 with an item of 1,000."""
    samples = await alternate(plan, {"few": fan_out(MANY), "many": fan_out(10 * MANY)})
    many, few = [sample / 10_000 for sample in samples["many"]], [sample / 1000 for sample in samples["few"]]
    name = "fan-out, 10,000 items (bare: 1,000)"
    return [compared(name, many, few, per="item", at_most=8.0, ratio_at_most=1.2)]


@versus_bare("branch of one step", per="branch", units=1)
def branch() -> Pair:
    sides = {name: Step(name, noop) for name in ("left", "right")}
    return flow_work(branch_on("choose", lambda data, context: data, sides), "left"), bare_work(noop, 1)


@versus_bare("parallel, two branches of one step", per="fan-out", units=1)
def two_at_once() -> Pair:
    async def bare() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(noop(1))
            group.create_task(noop(1))

    return flow_work(parallel("fan", {name: Step(name, noop) for name in ("left", "right")})), bare


SCENARIOS = [loop, fan_out_of_1000, Scenario("growth of a fan-out", measure_growth), branch, two_at_once]
