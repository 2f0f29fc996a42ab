"""A terminal in memory, and events told at chosen moments, so that what is shown can be compared letter by letter."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pyte
import pytest
from flow_console import ConsoleTracer
from rich.console import Console

from flow import Event, EventKind, RunResult, RunStatus, StepResult, Usage

START = 1_000_000.0
RUN_ID = "1a1fc8f3625acecce0faab57bdf"


class Terminal(io.StringIO):
    """A stream that is a terminal; `screen` is what a person sees, `getvalue()` all that was written."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        super().__init__()
        self._display = pyte.HistoryScreen(columns, lines, history=10_000)
        self._feed = pyte.Stream(self._display)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._feed.feed(text.replace("\n", "\r\n"))
        return super().write(text)

    @property
    def screen(self) -> list[str]:
        lines = [line.rstrip() for line in self._display.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def scrolled(self) -> int:
        return len(self._display.history.top)

    @property
    def cursor_is_hidden(self) -> bool:
        return bool(self._display.cursor.hidden)


class Story:
    """Tells a tracer the events of one run, each at its moment."""

    def __init__(self, tracer: ConsoleTracer | None = None, run_id: str = RUN_ID, name: str = "triage") -> None:
        self.tracer = tracer
        self.run_id = run_id
        self.pipeline = name
        self.stored = False
        self.now = START
        self.history: list[StepResult] = []
        self.children: dict[str, list[StepResult]] = {}

    def clock(self) -> float:
        return self.now

    def event(self, kind: EventKind, path: str = "", **fields: Any) -> Story:
        assert self.tracer is not None
        step = path.rpartition("/")[2].rpartition(":")[2]
        fields.setdefault("step", step)
        self.tracer.on_event(
            Event(
                kind=kind, run_id=self.run_id, trace_id=self.run_id, at=self.now, path=path, step_kind="step", **fields
            )
        )
        return self

    def begin(self, data: Any = None) -> Story:
        assert self.tracer is not None
        self._around = self.tracer.around_run(self)  # type: ignore[arg-type]  # it asks for these three fields only
        self._around.__enter__()
        return self.event(EventKind.RUN_STARTED, data=data, step="")

    def start(self, path: str, data: Any = None) -> Story:
        return self.event(EventKind.STEP_STARTED, path, data=data)

    def finish(self, path: str, after: float = 0.0, **fields: Any) -> Story:
        self.now += after
        fields = {"name": path.rpartition("/")[2].rpartition(":")[2], "kind": "step", "path": path, **fields}
        inside = [key for key in self.children if key.startswith(f"{path}/")]
        children = [child for key in inside for child in self.children.pop(key)]
        result = StepResult(latency_s=after, children=tuple(children), **fields)
        self.children[path] = [result]
        return self.event(EventKind.STEP_FINISHED, path, result=result, step=result.name)

    def step(self, path: str, after: float = 0.0, **fields: Any) -> Story:
        return self.start(path).finish(path, after, **fields)

    def progress(self, path: str, done: int | None, total: int | None = None, unit: str = "item") -> Story:
        return self.event(EventKind.PROGRESS, path, detail={"done": done, "total": total, "unit": unit})

    def result(self, status: str = "completed", **fields: Any) -> RunResult[Any]:
        history = [result for results in self.children.values() for result in results]
        return RunResult(
            run_id=self.run_id,
            trace_id=self.run_id,
            pipeline=self.pipeline,
            status=RunStatus(status),
            step_history=history,
            usage=sum((step.usage for step in history), Usage()),
            final_pipeline_context=None,
            started_at=START,
            latency_s=self.now - START,
            **fields,
        )

    def end(self, status: str = "completed", **fields: Any) -> Story:
        self.event(EventKind.RUN_FINISHED, result=self.result(status, **fields), step="")
        self._around.__exit__(None, None, None)
        return self

    def pause(self, path: str, error: BaseException) -> Story:
        return self.event(EventKind.PAUSED, path, error=error)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine that runs the tests says of its terminal is left out."""
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LINES", "24")


class Told(Story):
    """A run whose lines go to a stream that is no terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.out = io.StringIO()
        self.tracer = ConsoleTracer(stream=self.out, clock=self.clock, **options)

    @property
    def text(self) -> str:
        return self.out.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


class Shown(Story):
    """A run on a terminal."""

    def __init__(self, columns: int = 80, lines: int = 24, **options: Any) -> None:
        super().__init__()
        self.columns = columns
        self.terminal = Terminal(columns, lines)
        self.tracer = ConsoleTracer(stream=self.terminal, width=columns, clock=self.clock, **options)

    def frame(self, height: int = 23) -> list[str]:
        """Return the picture of the moment; what is on the screen may be a tenth of a second old."""
        assert self.tracer is not None
        console = Console(file=io.StringIO(), width=self.columns, color_system=None)
        console.print(self.tracer.frame(height))
        return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


@pytest.fixture
def told() -> type[Told]:
    """Makes a run whose lines go to a stream that is no terminal, with options of the tracer."""
    return Told


@pytest.fixture
def shown() -> Iterator[Callable[..., Shown]]:
    """Makes a run on a terminal, with options of the tracer; in the end the cursor must be there again."""
    made: list[Shown] = []

    def make(**options: Any) -> Shown:
        made.append(Shown(**options))
        return made[-1]

    yield make
    assert [run for run in made if run.terminal.cursor_is_hidden] == []


@pytest.fixture
def story() -> type[Story]:
    """Tells the events of a run to a tracer, or only its result."""
    return Story


@pytest.fixture
def terminal() -> type[Terminal]:
    """Makes a terminal in memory."""
    return Terminal
