"""What durable runs cost on SQLite: a step, a run, a resume, a listing, one store with many runs in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal

from flow import Flow, Pipeline, RunRecord, Step, StepRecord
from flow._kernel import default_kernel
from tests.benchmarks._measure import Figure, Plan, Scenario, alone, alternate, compared

CHAIN = 50
AT_ONCE = 100
RECORDED = 10_000
STORED = int(os.environ.get("FLOW_BENCH_STORED_RUNS", "100000"))
ROUNDS_OF_DISK = 7
Mode = Literal["full", "normal"]


async def increment(value: int) -> int:
    """Return the next number: as good as nothing, so that only flow is measured."""
    return value + 1


def chain(length: int) -> Pipeline[Any, Any]:
    """Return a pipeline of `length` steps."""
    return Pipeline([Step(f"s{index}", increment) for index in range(length)], name="bench")


@asynccontextmanager
async def folder() -> AsyncIterator[Path]:
    """Make a folder on the disk of the working tree: /tmp is often memory, where a sync costs nothing."""
    Path("build").mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="bench-", dir="build")).resolve()
    try:
        yield made
    finally:
        shutil.rmtree(made)


def raw(path: Path, mode: Mode) -> Callable[[], Awaitable[None]]:
    """Return the floor: a one-row INSERT and COMMIT for each step, in the same journal mode."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={mode}")
    connection.execute("CREATE TABLE steps(run TEXT, path TEXT, output TEXT, at REAL, PRIMARY KEY(run, path))")
    numbers = iter(range(10**9))

    async def work() -> None:
        for _ in range(CHAIN):
            row = ("run", f"{next(numbers)}:step", "1", 0.5)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO steps VALUES (?, ?, ?, ?)", row)
            connection.execute("COMMIT")

    return work


async def _wall(work: Callable[[], Awaitable[Any]]) -> float:
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1e6


async def durable_step(plan: Plan) -> Sequence[Figure]:
    """A step of a lone run: CPU, and the time beside the raw statement."""
    figures = []
    async with folder() as place:
        for mode in ("normal", "full"):
            async with Flow(chain(CHAIN), state=f"sqlite:///{place}/{mode}.db", durability=mode) as flow:
                works = {"flow": lambda flow=flow: flow.run_async(0), "bare": raw(place / f"raw-{mode}.db", mode)}
                if mode == "normal":
                    cpu = await alternate(plan, works)
                    bounds: dict[str, Any] = {"per": "step", "units": CHAIN, "at_most": 60}
                    figures.append(compared("durable step, normal: CPU", cpu["flow"], cpu["bare"], **bounds))
                wall: dict[str, list[float]] = {name: [] for name in works}
                for _ in range(ROUNDS_OF_DISK):
                    for name, work in works.items():
                        wall[name].append(await _wall(work))
                figures.append(
                    compared(
                        f"durable step, {mode}: time",
                        wall["flow"],
                        wall["bare"],
                        per="step",
                        units=CHAIN,
                        ratio_at_most=1.6,
                    )
                )
    return figures


async def group_commit(plan: Plan) -> Sequence[Figure]:
    """100 runs at once against one: the time per step, which is the commit rate the other way round."""
    async with folder() as place, Flow(chain(20), state=f"sqlite:///{place}/runs.db") as flow:

        async def together() -> None:
            await asyncio.gather(*(flow.run_async(0) for _ in range(AT_ONCE)))

        await together()
        many, one = [], []
        for _ in range(ROUNDS_OF_DISK):
            many.append(await _wall(together) / (20 * AT_ONCE))
            one.append(await _wall(lambda: flow.run_async(0)) / 20)
    name = f"durable step of {AT_ONCE} runs at once, full: time beside that of a lone run"
    return [compared(name[:44], many, one, per="step", ratio_at_most=1 / 8)]


async def resume(plan: Plan) -> Sequence[Figure]:
    """Skipping the recorded steps of a long run: loading, checking and replaying."""
    async with folder() as place, Flow(chain(RECORDED), state=f"sqlite:///{place}/runs.db", durability="exit") as flow:
        await flow.run_async(0, run_id="long")
        samples = []
        for _ in range(max(5, plan.rounds // 3)):
            started = time.process_time()
            await flow.resume_async("long")
            samples.append((time.process_time() - started) * 1e6)
    return [alone("resume: a recorded step of 10,000", samples, per="step", units=RECORDED, at_most=20)]


async def full_store(plan: Plan) -> Sequence[Figure]:
    """One more run, and a listing, with many runs stored and with ten."""
    async with folder() as place:
        await _fill(f"sqlite:///{place}/full.db", STORED)
        await _fill(f"sqlite:///{place}/small.db", 10)
        pipeline = chain(3)
        full = Flow(pipeline, state=f"sqlite:///{place}/full.db", durability="normal")
        small = Flow(pipeline, state=f"sqlite:///{place}/small.db", durability="normal")
        async with full, small:
            samples = await alternate(plan, {"flow": lambda: full.run_async(0), "bare": lambda: small.run_async(0)})
            walls = []
            for _ in range(plan.rounds * 5):
                walls.append(await _wall(lambda: full.run_async(0)))
            store = default_kernel().open_state(f"sqlite:///{place}/full.db")
            listing = await alternate(plan, {"list": lambda: store.list_runs(limit=20)})
            await store.aclose()
    title = f"{STORED:,} stored"
    return [
        compared(f"durable 3-step run, {title}: CPU", samples["flow"], samples["bare"], per="run", ratio_at_most=1.2),
        Figure(name=f"durable 3-step run, {title}: time", per="run", cost=median(walls), at_most=1000),
        alone(f"list the last 20 of {title}: CPU", listing["list"], per="list", at_most=300),
    ]


async def _fill(url: str, count: int) -> None:
    """Store `count` ended runs of two steps; through the backend, several at once so that commits are shared."""
    store = default_kernel().open_state(url)

    async def one(number: int) -> None:
        run_id = f"run-{number}"
        record = RunRecord(
            run_id=run_id, pipeline="bench", fingerprint="f", status="completed", input=b"0", context=b"{}",
            created_at=1.7e9 + number, updated_at=1.7e9 + number, owner="bench", epoch=1,
        )  # fmt: skip
        await store.create_run(record, 60)
        steps = [
            StepRecord(path=f"{index}:s", parent="", name="s", kind="step", status="completed", output=b"1")
            for index in range(2)
        ]
        await store.append_steps(run_id, 1, steps, sync=False)
        await store.update_run(run_id, 1, sync=False, owner=None)

    for start in range(0, count, 500):
        await asyncio.gather(*(one(number) for number in range(start, min(start + 500, count))))
    await store.aclose()


SCENARIOS = [
    Scenario("durable step", durable_step),
    Scenario("durable step of 100 runs at once", group_commit),
    Scenario("resume", resume),
    Scenario("full store", full_store),
]
