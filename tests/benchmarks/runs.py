"""What a whole run costs: alone, many at once, many through ``run_many``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from flow import Flow
from tests.benchmarks._measure import Pair, Work, versus_bare
from tests.benchmarks.steps import bare_work, chain_of, flow_work, noop

MANY = 1000
WORKERS = 50


@versus_bare("run of one step", per="run", units=1, at_most=15)
def one_step() -> Pair:
    return flow_work(chain_of(noop, 1)), bare_work(noop, 1)


@versus_bare("run of one step with a deadline", per="run", units=1)
def one_step_with_deadline() -> Pair:
    return flow_work(chain_of(noop, 1), deadline=60), bare_work(noop, 1)


@versus_bare("run of one step in the background", per="run", units=1)
def one_step_in_background() -> Pair:
    flow = Flow(chain_of(noop, 1))

    async def work() -> None:
        await flow.start(1)

    async def bare() -> None:
        await asyncio.create_task(noop(1))

    return work, bare


@versus_bare("1,000 ten-step runs at once", per="run", units=MANY, at_most=50)
def many_at_once() -> Pair:
    return _all_at_once(flow_work(chain_of(noop, 10))), _all_at_once(bare_work(noop, 10))


def _all_at_once(work: Work) -> Work:
    async def one() -> Any:
        return await work()

    async def works() -> None:
        await asyncio.gather(*(one() for _ in range(MANY)))

    return works


@versus_bare("run_many, ten-step item of 1,000", per="item", units=MANY, at_most=50)
def through_run_many() -> Pair:
    return _run_many(10), _workers(bare_work(noop, 10))


@versus_bare("run_many, one-step item of 1,000", per="item", units=MANY)
def through_run_many_small() -> Pair:
    return _run_many(1), _workers(bare_work(noop, 1))


def _run_many(length: int) -> Work:
    flow, items = Flow(chain_of(noop, length)), list(range(MANY))
    return lambda: flow.run_many(items, concurrency=WORKERS)


def _workers(work: Work) -> Work:
    """The counterpart of ``run_many``: a fixed set of tasks that pull items."""

    async def worker(items: Iterator[int], results: dict[int, Any]) -> None:
        for item in items:
            results[item] = await work()

    async def works() -> None:
        items, results = iter(range(MANY)), dict[int, Any]()
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(worker(items, results))

    return works


SCENARIOS = [
    one_step,
    one_step_with_deadline,
    one_step_in_background,
    many_at_once,
    through_run_many,
    through_run_many_small,
]
