"""How long ``flow lens`` takes over a large store, beyond its own start-up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from tests.benchmarks._measure import Figure, Plan, Scenario, compared
from tests.benchmarks.durable import STORED, _fill, folder
from tests.benchmarks.startup import take_turns

COMMANDS = {
    "list": ["list"],
    "list, filtered": ["list", "--status", "completed", "--pipeline", "bench"],
    "list --text, nowhere": ["list", "--text", "no such text"],
    "list --min-cost, nowhere": ["list", "--min-cost", "1"],
    "show, part of an id": ["show", "run-1"],
}


def command_ms(*arguments: str) -> Callable[[], float]:
    """Return what measures the wall-clock milliseconds of one ``flow`` command."""

    def measure() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "flow", *arguments], capture_output=True, check=False)
        return (time.perf_counter() - began) * 1000

    return measure


async def large_store(plan: Plan) -> Sequence[Figure]:
    """Time each command over a store of many runs, and beyond what it takes over one of ten: that is its start-up."""
    async with folder() as place:
        urls = {size: f"sqlite:///{place}/{size}.db" for size in (STORED, 10)}
        for size, url in urls.items():
            await _fill(url, size)
        works = {
            f"{name}, {size}": command_ms("lens", *words, "--state", url)
            for name, words in COMMANDS.items()
            for size, url in urls.items()
        }
        samples = take_turns(max(5, plan.rounds // 3), works)
    figures = []
    for name in COMMANDS:
        large, small = samples[f"{name}, {STORED}"], samples[f"{name}, 10"]
        beyond = [max(0.0, many - few) for many, few in zip(large, small, strict=True)]
        figures.append(compared(f"lens {name}: beyond its start", beyond, small, per="command", unit="ms", at_most=200))
    return figures


SCENARIOS = [Scenario(f"lens over {STORED:,} runs", large_store)]
