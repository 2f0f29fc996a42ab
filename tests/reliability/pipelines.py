"""The pipelines that are killed: with branches, loops, retries, a map and a question, all noting what they do."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import zlib
from collections.abc import Callable
from typing import Annotated, Any

import attrs
from flow_hitl import human_in_the_loop
from flow_loop import loop_until
from flow_parallel import map_over, parallel
from pydantic import BaseModel

from flow import Pipeline, PipelineContext, Step
from tests.reliability.ledger import EXECUTED, VOIDED, Ledger

START, ANSWER = 1, 7
AT_GATE = "at gate"


class Tally(PipelineContext):
    """What the steps leave in the context: lines of a log, joined when branches wrote at the same time."""

    trail: Annotated[list[str], operator.add] = []
    counts: dict[str, int] = {}


class Parcel(BaseModel):
    """An output that JSON alone does not give back."""

    value: int
    label: str


@attrs.frozen
class Size:
    """How many steps a pipeline has."""

    line: int
    branches: int
    deep: int
    iterations: int
    items: int


SIZES = {
    "long": Size(line=8, branches=8, deep=2, iterations=5, items=4),
    "short": Size(line=1, branches=2, deep=1, iterations=2, items=2),
}


def mixed(value: int, label: str) -> int:
    """A number that depends on everything that was done before, in its order."""
    return (value * 31 + zlib.crc32(label.encode())) % 1_000_003


class Works:
    """Makes the steps of one life.

    :param gate: a file descriptor; the step called ``gate`` goes on when nobody can write to it any more.
    :param renewed: what that step waits for, too.
    """

    def __init__(self, ledger: Ledger, gate: int | None = None, renewed: asyncio.Event | None = None) -> None:
        self.ledger = ledger
        self.gate = gate
        self.renewed = renewed
        self.stumbled = False

    def executed(self, run: Any) -> None:
        self.ledger.note(EXECUTED, path=run.path, key=run.idempotency_key, attempt=run.attempt)

    def step(self, label: str, **settings: Any) -> Step[Any, Any]:
        """An async step that writes to the ledger and to the context, and spends a token."""

        async def work(value: int, run: Any, context: Tally) -> int:
            self.executed(run)
            run.usage.add(input_tokens=1)
            context.trail = [*context.trail, label]
            return mixed(value, label)

        return Step(label, work, **settings)

    def blocking(self, label: str) -> Step[Any, Any]:
        """A step that works in a thread."""

        def work(value: int, run: Any) -> Parcel:
            self.executed(run)
            run.usage.add(output_tokens=1)
            return Parcel(value=mixed(value, label), label=label)

        return Step(label, work)

    def unpack(self, label: str) -> Step[Any, Any]:
        """A step that needs the typed output of the one before it."""

        async def work(parcel: Parcel, run: Any) -> int:
            self.executed(run)
            return mixed(parcel.value, parcel.label)

        return Step(label, work)

    def quiet(self, label: str) -> Step[Any, Any]:
        """A step that only notes that it ran: it may run several times without a trace in the result."""

        async def work(value: int, run: Any) -> int:
            self.executed(run)
            return mixed(value, label)

        return Step(label, work)

    def flaky(self, label: str) -> Step[Any, Any]:
        """A step whose first attempt fails."""

        async def work(value: int, run: Any) -> int:
            self.executed(run)
            if run.attempt == 1:
                raise ConnectionError("the first attempt always fails")
            return mixed(value, label)

        return Step(label, work, retries=2)

    def stumbling(self, label: str) -> Step[Any, Any]:
        """A step that fails the first time in each life: whoever is around it begins anew."""

        async def work(value: int, run: Any) -> int:
            self.executed(run)
            if not self.stumbled:
                self.stumbled = True
                self.ledger.note(VOIDED, path=run.path.rsplit("/", 2)[0])
                raise ConnectionError("stumbled")
            return mixed(value, label)

        return Step(label, work)

    def gated(self, label: str) -> Step[Any, Any]:
        """A step that waits, when there is a gate, until it is opened."""

        async def work(value: int, run: Any) -> int:
            self.executed(run)
            self.ledger.note(AT_GATE, path=run.path)
            if self.gate is not None:
                await readable(self.gate)
            if self.renewed is not None:
                await self.renewed.wait()
            return mixed(value, label)

        return Step(label, work)

    def deadly(self, label: str) -> Step[Any, Any]:
        """A step that ends its process, as a crash in native code does."""

        async def work(value: int, run: Any) -> int:
            self.executed(run)
            os.kill(os.getpid(), signal.SIGKILL)
            return value

        return Step(label, work)

    def sum_up(self, label: str) -> Step[Any, Any]:
        """A step that joins what branches or items returned."""

        async def work(values: Any, run: Any, context: Tally) -> int:
            self.executed(run)
            parts = list(values.values()) if isinstance(values, dict) else values
            context.counts = {**context.counts, label: len(parts)}
            total = 0
            for part in parts:
                total = mixed(total + part, label)
            return total

        return Step(label, work)


async def readable(descriptor: int) -> None:
    """Wait until there is something to read, or nobody is left who could write it."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(descriptor)


def line(works: Works, prefix: str, length: int) -> Pipeline[Any, Any]:
    steps = [works.step(f"{prefix}{number}") for number in range(length)]
    return Pipeline(steps, name=prefix)


def build(works: Works, size: str = "long") -> Pipeline[Any, Any]:
    """A pipeline of some 15 or 55 executions with everything in it that can be interrupted."""
    if size == "poison":
        return Pipeline([works.step("healthy"), works.deadly("deadly"), works.step("never")], name="poison")
    scale = SIZES[size]
    branches: dict[str, Any] = {f"b{number}": line(works, f"b{number}", scale.deep) for number in range(scale.branches)}
    again = works.quiet("before") >> works.stumbling("stumble")
    return Pipeline(
        [
            *line(works, "a", scale.line).steps,
            works.blocking("pack"),
            works.unpack("unpack"),
            parallel("fan", branches),
            works.sum_up("join"),
            loop_until("loop", works.step("turn") >> works.step("check"), counted(scale.iterations), max_loops=50),
            works.flaky("flaky"),
            loop_until("again", again, always, retries=3),
            works.gated("gate"),
            human_in_the_loop("ask", "How much is {{ data }}?", int),
            works.step("answered"),
            map_over("items", works.step("item"), items=span(scale.items)),
            works.sum_up("gather"),
            *line(works, "z", scale.line).steps,
        ],
        name="campaign",
    )


def counted(iterations: int) -> Callable[[Any, Any], bool]:
    """A condition that looks at the context only, so that it says the same when iterations are replayed."""

    def enough(_output: Any, context: Any) -> bool:
        return context.trail.count("turn") >= iterations

    return enough


def always(_output: Any, _context: Any) -> bool:
    return True


def span(items: int) -> Callable[[Any, Any], list[int]]:
    def numbers(data: Any, _context: Any) -> list[int]:
        return [data + number for number in range(items)]

    return numbers
