"""Runs that a released version has stored: later versions must still resume them.

``python -m tests.reliability.golden`` stores those of this version. What is stored is never written anew: a pipeline
or a format that has changed shows here first. This module is part of what is stored: do not edit `pipeline`.
"""

from __future__ import annotations

import asyncio
import operator
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from flow_hitl import human_in_the_loop
from flow_loop import loop_until
from flow_parallel import map_over, parallel
from pydantic import BaseModel

from flow import Flow, Pipeline, PipelineContext, StateError, Step
from tests.reliability.stores import LASTING, kernel, open_store, url_of
from tests.reliability.witness import Fault, Faulty

STORED = Path(__file__).parent / "stored_runs"
VERSION = "0.1.0"
RUNS = ("crashed", "paused", "answered", "failed")
OUTPUT = "Ada: 14.50 on 2026-01-02, yes"

executed: list[str] = []
"""What was executed in this process, by name."""
working = True
"""Whether the last step works."""


class Order(PipelineContext):
    """The context of the stored runs."""

    notes: Annotated[list[str], operator.add] = []
    totals: dict[str, Decimal] = {}


class Line(BaseModel):
    """An output that is more than JSON."""

    price: Decimal
    day: datetime


@dataclass(frozen=True)
class Decision:
    """A typed answer."""

    yes: bool
    by: str = "Ada"


async def read(name: str, context: Order) -> list[int]:
    executed.append("read")
    context.notes = [*context.notes, f"read {name}"]
    return [1, 2]


async def price(n: int) -> Line:
    executed.append("price")
    return Line(price=Decimal("4.75") * n, day=datetime(2026, 1, n, tzinfo=UTC))


async def add_up(lines: list[Line], context: Order) -> Line:
    executed.append("add_up")
    total = sum((line.price for line in lines), Decimal("0.25"))
    context.totals = {**context.totals, "all": total}
    return Line(price=total, day=lines[-1].day)


async def keep(line: Line) -> Line:
    executed.append("keep")
    return line


async def text(line: Line) -> str:
    executed.append("text")
    return f"{line.price} on {line.day:%Y-%m-%d}"


async def letter(both: dict[str, Any]) -> str:
    executed.append("letter")
    return f"Ada: {both['text']}"


async def send(decision: Decision, context: Order) -> str:
    executed.append("send")
    if not working:
        raise ConnectionError("nobody answers")
    said = context.notes[-1]
    return f"{said}, {'yes' if decision.yes else 'no'}"


async def remember(said: str, context: Order) -> str:
    executed.append("remember")
    context.notes = [*context.notes, said]
    return said


def enough(_line: Line, _context: Order) -> bool:
    return True


def pipeline() -> Pipeline[Any, Any]:
    """The pipeline of the stored runs."""
    return Pipeline(
        [
            Step("read", read),
            map_over("lines", Step("price", price)),
            Step("add_up", add_up),
            loop_until("kept", Step("keep", keep), enough, max_loops=2),
            parallel("both", {"text": Step("text", text), "same": Step("keep", keep)}),
            Step("letter", letter),
            Step("remember", remember),
            human_in_the_loop("agree", "Send {{ data }}?", Decision),
            Step("send", send),
        ],
        name="order",
    )


def flow_on(store: Any) -> Flow[Any, Any]:
    return Flow(pipeline(), context_model=Order, state=store, kernel=kernel())


async def store_runs(kind: str, folder: Path) -> None:
    """Store one run of each sort in `folder`."""
    global working
    store = open_store(url_of(kind, folder))
    try:
        await flow_on(Faulty(store, Fault(9, "fail", "append"))).run_async("order", run_id="crashed")
        raise AssertionError("did not crash")
    except StateError:
        pass
    for run_id in RUNS[1:]:
        await flow_on(store).run_async("order", run_id=run_id)
    try:
        await flow_on(Faulty(store, Fault(2, "fail", "append"))).resume_async("answered", Decision(yes=True))
        raise AssertionError("did not crash")
    except StateError:
        pass
    working = False
    await flow_on(store).resume_async("failed", Decision(yes=True))
    working = True
    await store.aclose()


def main() -> None:
    for kind in LASTING:
        folder = STORED / VERSION / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        asyncio.run(store_runs(kind, folder))


if __name__ == "__main__":
    from tests.reliability import golden

    golden.main()  # under its own name, as the functions of the pipeline are known by
