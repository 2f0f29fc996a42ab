"""What it costs to begin: imports, and the command line with many plugins installed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks._measure import Figure, Plan, Scenario, compared
from tests.benchmarks.fake_plugins import FakePlugins

IMPORT = "import time; began = time.process_time(); {statement}; print((time.process_time() - began) * 1000)"
MANY = 30


def import_ms(statement: str) -> float:
    """Return the CPU milliseconds of an import in a fresh interpreter, whose own start does not count."""
    command = [sys.executable, "-c", IMPORT.format(statement=statement)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def command_ms(plugins: FakePlugins, *arguments: str) -> float:
    """Return the CPU milliseconds of a whole ``flow`` command, the start of the interpreter included."""
    began = _children_cpu_s()
    plugins.flow(*arguments)
    return (_children_cpu_s() - began) * 1000


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def take_turns(rounds: int, works: Mapping[str, Callable[[], float]]) -> Mapping[str, list[float]]:
    """Return what each work measures, `rounds` times, the works taking turns; a first turn warms the file cache."""
    for work in works.values():
        work()
    samples: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            samples[name].append(work())
    return samples


async def measure_imports(plan: Plan) -> Sequence[Figure]:
    """Compare importing flow with importing Pydantic, which flow cannot do without; and the same in use."""
    statements = ["import flow", "from flow import Flow, Step", "import pydantic", "from pydantic import BaseModel"]
    samples = take_turns(plan.rounds, {text: lambda text=text: import_ms(text) for text in statements})  # type: ignore[misc]
    pairs = [
        ("import flow", "import pydantic", 1.35),
        ("from flow import Flow, Step", "from pydantic import BaseModel", None),
    ]
    return [
        compared(ours, samples[ours], samples[bare], per="start", unit="ms", ratio_at_most=bound)
        for ours, bare, bound in pairs
    ]


async def measure_commands(plan: Plan) -> Sequence[Figure]:
    """Compare the command line with 30 plugins to the one with none, and count the plugins that it imports."""
    with TemporaryDirectory() as directory:
        none = FakePlugins.install(Path(directory, "none"), 0)
        many = FakePlugins.install(Path(directory, "many"), MANY)
        samples = take_turns(
            plan.rounds,
            {
                "help, none": lambda: command_ms(none, "--help"),
                "list, none": lambda: command_ms(none, "plugins", "list"),
                "help, many": lambda: command_ms(many, "--help"),
                "list, many": lambda: command_ms(many, "plugins", "list"),
            },
        )
        imported = len(many.imported)
    help_none = samples["help, none"]
    return [
        compared("flow plugins list (bare: flow --help)", samples["list, none"], help_none, per="start", unit="ms"),
        compared(
            f"flow --help, {MANY} plugins (bare: none)",
            samples["help, many"],
            help_none,
            per="start",
            unit="ms",
            ratio_at_most=1.3,
        ),
        compared(
            f"flow plugins list, {MANY} (bare: --help, none)",
            samples["list, many"],
            help_none,
            per="start",
            unit="ms",
            ratio_at_most=1.3,
        ),
        Figure(name="plugins imported by the two", per=f"{MANY} plugins", cost=imported, unit="plugins", at_most=0),
    ]


SCENARIOS = [Scenario("imports", measure_imports)]
if hasattr(os, "wait4"):  # the CPU time of a command that has ended is known on POSIX only
    SCENARIOS.append(Scenario("command line", measure_commands))
