"""Measuring: CPU time of short alternating blocks, so that whatever disturbs the machine disturbs both sides alike."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

import attrs

Work: TypeAlias = Callable[[], Awaitable[Any]]
Pair: TypeAlias = tuple[Work, Work]
Samples: TypeAlias = Mapping[str, Sequence[float]]


@attrs.frozen
class Plan:
    """How long to measure: the number of alternating blocks of each side, and the CPU seconds of one block."""

    rounds: int = 15
    block_s: float = 0.005


@attrs.frozen(kw_only=True)
class Figure:
    """One measured number beside what it is compared with.

    ``cost`` and ``bare`` are medians in ``unit`` per ``per``; ``low`` and ``high`` are the cheapest and dearest block.
    ``at_most`` bounds the cost, ``ratio_at_most`` bounds cost / bare; a figure without bounds is only reported.
    """

    name: str
    per: str
    cost: float
    unit: str = "µs"
    bare: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    at_most: float | None = None
    ratio_at_most: float | None = None

    @property
    def target(self) -> str:
        """The bounds as people write them."""
        unit = f" {self.unit}" if self.unit else ""
        bounds = [f"≤ {self.at_most:g}{unit}"] if self.at_most is not None else []
        bounds += [f"≤ {self.ratio_at_most:g}×"] if self.ratio_at_most is not None else []
        return ", ".join(bounds)

    @property
    def verdict(self) -> str:
        """``ok``, ``MISS``, or nothing without a target."""
        if self.at_most is None and self.ratio_at_most is None:
            return ""
        missed = self.at_most is not None and self.cost > self.at_most
        missed |= self.ratio_at_most is not None and self.ratio is not None and self.ratio > self.ratio_at_most
        return "MISS" if missed else "ok"

    def as_dict(self) -> dict[str, Any]:
        """The figure as plain values."""
        return {**attrs.asdict(self), "target": self.target, "verdict": self.verdict}


@attrs.frozen
class Scenario:
    """Something to measure, by the name that ``--only`` takes."""

    name: str
    measure: Callable[[Plan], Awaitable[Sequence[Figure]]]


def versus_bare(
    name: str, *, per: str, units: int, at_most: float | None = None, ratio_at_most: float | None = None
) -> Callable[[Callable[[], Pair]], Scenario]:
    """Make a scenario of a function that returns the same work twice: done by flow, and by bare asyncio.

    One call of either work is `units` units: steps, runs or chunks.
    """

    def decorate(make: Callable[[], Pair]) -> Scenario:
        async def measure(plan: Plan) -> Sequence[Figure]:
            ours, bare = make()
            samples = await alternate(plan, {"flow": ours, "bare": bare})
            bounds = {"at_most": at_most, "ratio_at_most": ratio_at_most}
            return [compared(name, samples["flow"], samples["bare"], per=per, units=units, **bounds)]

        return Scenario(name, measure)

    return decorate


def compared(
    name: str, ours: Sequence[float], bare: Sequence[float], *, per: str, units: int = 1, **fields: Any
) -> Figure:
    """Make a figure of what both sides cost in each round; the ratio is taken round by round."""
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return Figure(
        name=name,
        per=per,
        cost=median(ours) / units,
        bare=median(bare) / units,
        low=min(ours) / units,
        high=max(ours) / units,
        ratio=median(ratios),
        **fields,
    )


def alone(name: str, ours: Sequence[float], *, per: str, units: int = 1, **fields: Any) -> Figure:
    """Make a figure of something that bare asyncio has no counterpart for."""
    return Figure(
        name=name, per=per, cost=median(ours) / units, low=min(ours) / units, high=max(ours) / units, **fields
    )


async def alternate(plan: Plan, works: Mapping[str, Work]) -> Samples:
    """Return for each work the CPU microseconds of one call, once per round; the works take turns."""
    calls = {name: await _calls_per_block(work, plan.block_s) for name, work in works.items()}
    samples: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(plan.rounds):
        for name, work in works.items():
            samples[name].append(await _block(work, calls[name]) / calls[name] * 1e6)
    return samples


async def _calls_per_block(work: Work, block_s: float) -> int:
    await work()  # binds, imports, fills caches
    calls, spent = 1, await _block(work, 1)
    while spent < block_s / 4:
        calls *= 2
        spent = await _block(work, calls)
    return max(1, round(calls * block_s / spent))


async def _block(work: Work, calls: int) -> float:
    # The garbage collector stays on: what a run leaves for it is part of what the run costs.
    started = time.process_time()
    for _ in range(calls):
        await work()
    return time.process_time() - started


def select(scenarios: Iterable[Scenario], wanted: Sequence[str]) -> list[Scenario]:
    """Return the scenarios whose names hold one of the wanted words; all when none is wanted."""
    return [item for item in scenarios if not wanted or any(word.lower() in item.name.lower() for word in wanted)]
