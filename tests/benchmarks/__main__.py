"""The command ``python -m tests.benchmarks``: measures and prints a table; never fails because something was slow."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import control, durable, lens, resilience, runs, startup, steps, streams, telemetry
from tests.benchmarks._measure import Figure, Plan, Scenario, select
from tests.benchmarks._tables import heading, line_of, markdown

GROUPS: Mapping[str, Sequence[Scenario]] = {
    "steps": steps.SCENARIOS,
    "runs": runs.SCENARIOS,
    "control flow": control.SCENARIOS,
    "resilience": resilience.SCENARIOS,
    "streams": streams.SCENARIOS,
    "durable runs": durable.SCENARIOS,
    "telemetry": telemetry.SCENARIOS,
    "stored runs": lens.SCENARIOS,
    "start-up": startup.SCENARIOS,
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME", action="append", default=[], help="scenarios whose name holds NAME, or a group"
    )
    parser.add_argument("--rounds", metavar="N", type=int, default=15, help="alternating blocks of each side (15)")
    parser.add_argument("--quick", action="store_true", help="5 short blocks: a first impression")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--tables",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="measure nothing; print Markdown tables of --json outputs",
    )
    parser.add_argument("--uvloop", action="store_true", help="measure on uvloop, which must be installed")
    parser.add_argument("--list", action="store_true", help="print the names of the scenarios")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for and print it; 0 unless nothing bears the name or a scenario raises."""
    options = parse(arguments)
    if options.tables:
        print("\n".join(markdown(options.tables)))
        return 0
    chosen = {group: items for group in GROUPS if (items := _chosen(group, options.only))}
    if not chosen:
        print(f"no scenario is called {' or '.join(options.only)}; see --list", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{group}: {item.name}" for group, items in chosen.items() for item in items))
        return 0
    plan = Plan(rounds=5, block_s=0.002) if options.quick else Plan(rounds=max(1, options.rounds))
    out = sys.stderr if options.json else sys.stdout
    print(f"{_machine()}; {plan.rounds} blocks of {plan.block_s * 1000:g} ms; medians", file=out)
    measured = {group: _measure(group, items, plan, options.uvloop, out) for group, items in chosen.items()}
    if options.json:
        print(json.dumps(_document(plan, measured), indent=2, ensure_ascii=False))
    return 0


def _chosen(group: str, wanted: Sequence[str]) -> list[Scenario]:
    return list(GROUPS[group]) if group in wanted else select(GROUPS[group], wanted)


def _measure(group: str, scenarios: Sequence[Scenario], plan: Plan, uvloop: bool, out: Any) -> list[Figure]:
    """Measure one group, each scenario on a loop of its own, and print each line when it is known."""
    print(f"\n{heading(group)}", file=out)
    figures: list[Figure] = []
    for scenario in scenarios:
        gc.collect()  # what another scenario has left is not to be paid by this one
        with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
            found = runner.run(_figures(scenario, plan))
        for figure in found:
            print(line_of(figure), file=out, flush=True)
        figures += found
    return figures


async def _figures(scenario: Scenario, plan: Plan) -> list[Figure]:
    return list(await scenario.measure(plan))


def _loop_factory(uvloop: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    return importlib.import_module("uvloop").new_event_loop if uvloop else None


def _machine() -> str:
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return f"{platform.python_implementation()} {platform.python_version()}, {system}"


def _document(plan: Plan, measured: Mapping[str, Sequence[Figure]]) -> dict[str, Any]:
    return {
        "machine": _machine(),
        "python": platform.python_version(),
        "rounds": plan.rounds,
        "block_s": plan.block_s,
        "groups": {group: [figure.as_dict() for figure in figures] for group, figures in measured.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
