"""Draws ``progress.svg``, the picture of the README: a run on a terminal while it runs.

``python plugins/flow-console/docs/draw_progress.py`` writes it anew; a test compares it with what is drawn now.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flow_console import ConsoleTracer
from rich.console import Console, RenderableType
from rich.terminal_theme import DIMMED_MONOKAI

from flow import Event, EventKind, Run, StepResult, StreamChunk, Usage

PICTURE = Path(__file__).parent / "progress.svg"
_RUN = "1a1fc99d692a4bd37c0058286f6"
_BEGIN = 1_000_000.0
_SOURCES = "1:prepare/articles/0:embed"
_SCANS = "1:prepare/scans/0:transcribe"
_OUTLINE = "1:prepare/outline/0:improve"
_PREFACE = "1:prepare/preface/0:write"


def _event(kind: EventKind, after: float, path: str = "", **fields: Any) -> Event:
    step = path.rpartition(":")[2]
    return Event(kind=kind, run_id=_RUN, trace_id=_RUN, at=_BEGIN + after, path=path, step=step, **fields)


def _start(path: str, after: float) -> Event:
    return _event(EventKind.STEP_STARTED, after, path)


def _finish(path: str, after: float, seconds: float, **fields: Any) -> Event:
    result = StepResult(name=path.rpartition(":")[2], kind="step", path=path, latency_s=seconds, **fields)
    return _event(EventKind.STEP_FINISHED, after, path, result=result)


def _report(path: str, after: float, done: int, total: int | None, unit: str) -> Event:
    return _event(EventKind.PROGRESS, after, path, detail={"done": done, "total": total, "unit": unit})


def _events() -> Iterator[Event]:
    """The first 21 seconds of a run: a map with a failed item, an agent that counts, a loop and a stream."""
    yield _event(EventKind.RUN_STARTED, 0.0)
    yield from (_start("0:fetch", 0.0), _finish("0:fetch", 1.2, 1.2), _start("1:prepare", 1.2))
    yield from (_start(_SOURCES, 1.2), _report(_SOURCES, 1.2, 0, 10_000, "item"))
    for item in range(4_216):
        yield _start(f"{_SOURCES}/{item}/0:embed", 1.2 + item / 215)
        if item >= 4:
            failure = {"success": False, "feedback": "ValueError: empty text", "error": ValueError()}
            outcome: dict[str, Any] = failure if item == 1_000 else {"usage": Usage(0.00002, 160, 0)}
            yield _finish(f"{_SOURCES}/{item - 4}/0:embed", 1.2 + item / 215, 0.02, **outcome)
    yield _start(_SCANS, 1.2)
    yield from (_report(_SCANS, 1.2 + 2.5 * page, page, 120, "page") for page in range(8))
    yield from (_start(_OUTLINE, 1.2), _report(_OUTLINE, 1.2, 0, 10, "iteration"))
    for turn in (1, 2):
        yield _start(f"{_OUTLINE}/i{turn}/0:draft", 1.2 + 6 * turn)
        yield _finish(f"{_OUTLINE}/i{turn}/0:draft", 7.2 + 6 * turn, 6.0, usage=Usage(0.0123, 1_480, 154))
    yield _start(f"{_OUTLINE}/i3/0:draft", 19.2)
    yield _start(_PREFACE, 12.0)
    yield from (
        _event(EventKind.CHUNK, 13.0 + n / 30, _PREFACE, chunk=StreamChunk("words ", _PREFACE, n)) for n in range(240)
    )


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def frame(width: int) -> RenderableType:
    """Return what the tracer shows in the twenty-first second."""
    tracer = ConsoleTracer(stream=_Terminal(), width=width, clock=lambda: _BEGIN + 21.0)
    with tracer.around_run(Run(_RUN, _RUN, pipeline="digest", context=None, resources=None)):
        for event in _events():
            tracer.on_event(event)
        picture = tracer.frame(24)
    asyncio.run(tracer.aclose())
    return picture


def drawn(width: int = 100) -> str:
    """Return the picture, as SVG."""
    console = Console(file=io.StringIO(), width=width, record=True, force_terminal=True, color_system="truecolor")
    console.print(frame(width))
    return console.export_svg(title="flow run", theme=DIMMED_MONOKAI, unique_id="progress")


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
