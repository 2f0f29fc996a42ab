"""Progress of real runs: loops, maps and streams, as a person sees them on a terminal and as a pipe gets them."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyte
import pytest
from flow_console import ConsoleTracer
from flow_loop import Refinement, loop_until, refine_until
from flow_parallel import map_over, map_reduce, parallel
from rich.console import Console

from flow import Flow, Kernel, Settings, Step, StepRun

COLUMNS = 80


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Watcher:
    """Somebody before a terminal; steps wait until they see what the test waits for."""

    def __init__(self) -> None:
        self.tracer = ConsoleTracer(stream=Tty(), width=COLUMNS)
        self.seen: list[str] = []

    @property
    def rows(self) -> list[str]:
        """The tree of the moment, drawn on a terminal: a row that is too wide would be two."""
        console = Console(file=io.StringIO(), width=COLUMNS, color_system=None)
        console.print(self.tracer.frame(23))
        screen = pyte.Screen(COLUMNS, 40)
        pyte.Stream(screen).feed(console.file.getvalue().replace("\n", "\r\n"))  # type: ignore[attr-defined]
        return [line.rstrip() for line in screen.display if line.strip()]

    async def sees(self, pattern: str) -> None:
        """Wait until a row matches, and keep it."""
        rows: list[str] = []
        try:
            async with asyncio.timeout(20):
                while True:
                    rows = self.rows
                    found = [row for row in rows if re.search(pattern, row)]
                    if found:
                        self.seen.append(found[0])
                        return
                    await asyncio.sleep(0)
        except TimeoutError:
            raise AssertionError("\n".join([f"never seen: {pattern}", *rows])) from None

    def flow(self, pipeline: Any, **options: Any) -> Flow[Any, Any]:
        return Flow(pipeline, local_tracer=self.tracer, **options)


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Watcher:
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return Watcher()


async def test_a_map_counts_its_items(watcher: Watcher) -> None:
    async def embed(item: int) -> int:
        if item == 50:
            await watcher.sees(r"all +━━━━━━━━━━──────────  +50/100\b")
        return item

    result = await watcher.flow(map_over("all", Step("embed", embed), max_concurrency=1)).run_async(list(range(100)))
    assert result.success, result.error
    assert len(watcher.seen) == 1


async def test_items_of_several_steps_that_overlap_are_counted_when_they_end(watcher: Watcher) -> None:
    last = asyncio.Event()
    open_items = 0

    async def write(item: int) -> int:
        nonlocal open_items
        if item < 90:
            return item
        open_items += 1
        if open_items == 10:
            await watcher.sees(r"all .* 90/100\b")
            last.set()
        await last.wait()
        return item

    body = Step("read", lambda item: item) >> Step("check", lambda item: item) >> Step("write", write)
    result = await watcher.flow(map_over("all", body, max_concurrency=10)).run_async(list(range(100)))
    assert result.output == list(range(100))


@pytest.mark.parametrize("reduces", [False, True])
async def test_items_whose_number_is_unknown_are_counted_without_a_bar(watcher: Watcher, reduces: bool) -> None:
    async def items() -> AsyncIterator[int]:
        for item in range(30):
            yield item

    async def embed(item: int) -> int:
        if item == 20:
            await watcher.sees(r"all  20 items\b")
        return item

    body = Step("embed", embed)
    mapped = (
        map_reduce("all", body, reduce=lambda total, item: total + item, initial=0, max_concurrency=1)
        if reduces
        else map_over("all", body, max_concurrency=1)
    )
    assert (await watcher.flow(mapped).run_async(items())).success
    assert "━" not in watcher.seen[0]
    assert "left" not in watcher.seen[0]


async def test_failed_items_that_are_collected_count_as_done(watcher: Watcher) -> None:
    async def embed(item: int) -> int:
        if item == 40:
            await watcher.sees(r"all .* 40/60 · 4 failed\b")
        if item % 10 == 3:
            raise ValueError(item)
        return item

    mapped = map_over("all", Step("embed", embed), max_concurrency=1, on_failure="collect")
    assert (await watcher.flow(mapped).run_async(list(range(60)))).success


async def test_a_retried_map_counts_from_the_beginning(watcher: Watcher) -> None:
    calls = 0

    async def embed(item: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise ConnectionError
        if calls == 12:
            await watcher.sees(r"all .* 3/10\b.*2 attempts")
        return item

    mapped = map_over("all", Step("embed", embed), max_concurrency=1, retries=1)
    assert (await watcher.flow(mapped).run_async(list(range(10)))).success
    assert watcher.seen


async def test_a_loop_says_at_most(watcher: Watcher) -> None:
    async def draft(turn: int) -> int:
        if turn == 2:
            await watcher.sees(r"improve  iteration 3 of at most 10\b")
        return turn + 1

    loop = loop_until("improve", Step("draft", draft), lambda output: output == 5, max_loops=10)
    assert (await watcher.flow(loop).run_async(0)).output == 5
    assert "left" not in watcher.seen[0]


async def test_a_refinement_says_at_most(watcher: Watcher) -> None:
    critics = 0

    async def criticise(artifact: str) -> Refinement:
        nonlocal critics
        critics += 1
        if critics == 2:
            await watcher.sees(r"polish  iteration 2 of at most 4\b")
        return Refinement(is_complete=critics == 2, feedback="more")

    refine = refine_until("polish", Step("draft", lambda data: "text"), Step("critic", criticise), max_refinements=4)
    assert (await watcher.flow(refine).run_async("x")).success
    assert watcher.seen


async def test_a_stream_is_counted_while_it_arrives(watcher: Watcher) -> None:
    async def chat(data: str, run: StepRun) -> str:
        for _ in range(12):
            await run.emit("word ")
        await watcher.sees(r"chat  12 chunks · .*60 characters\b")
        return data

    assert (await watcher.flow(Step("chat", chat)).run_async("x")).success
    assert watcher.seen


async def test_a_step_reports_in_its_own_unit(watcher: Watcher) -> None:
    async def scan(data: str, run: StepRun) -> str:
        for page in range(31):
            await run.progress(page, 120, unit="page")
        await watcher.sees(r"scan  ━━━━━───────────────   30/120 pages\b")
        return data

    assert (await watcher.flow(Step("scan", scan)).run_async("x")).success
    assert watcher.seen


async def test_what_runs_side_by_side_is_counted_side_by_side(watcher: Watcher) -> None:
    """A map, a loop, a stream and a step that counts, in branches of one step."""
    arrived, go_on = asyncio.Barrier(4), asyncio.Event()

    async def meet() -> None:
        await arrived.wait()
        if not watcher.seen:
            watcher.seen.append("")
            for pattern in ("7/9", "iteration 2 of at most 3", "2 chunks", "1/4 pages"):
                await watcher.sees(rf"\b{pattern}\b")
            go_on.set()
        await go_on.wait()

    async def embed(item: int) -> int:
        if item == 7:
            await meet()
        return item

    async def draft(turn: int) -> int:
        if turn == 1:
            await meet()
        return turn + 1

    async def chat(data: Any, run: StepRun) -> str:
        await run.emit("a")
        await run.emit("b")
        await meet()
        return "ab"

    async def scan(data: Any, run: StepRun) -> str:
        await run.progress(1, 4, unit="page")
        await meet()
        return "text"

    branches = {
        "map": map_over("embed", Step("one", embed), items=lambda data, context: range(9), max_concurrency=1),
        "loop": loop_until("draft", Step("one", draft), lambda output: output == 3, max_loops=3),
        "stream": Step("chat", chat),
        "scan": Step("scan", scan),
    }
    assert (await watcher.flow(parallel("all", branches)).run_async(0)).success
    assert len(watcher.seen) == 5


async def test_a_resumed_map_tells_what_was_replayed_and_makes_no_rate_of_it(watcher: Watcher) -> None:
    store = Kernel(Settings()).open_state("memory://")
    broken = True

    async def embed(item: int) -> int:
        if item == 400:
            if broken:
                raise ConnectionError
            await watcher.sees(r"all +━━━━━━━━━━━━━━━━──── +400/500\b")
        return item

    mapped = map_over("all", Step("embed", embed), max_concurrency=1)
    first = await Flow(mapped, state=store).run_async(list(range(500)))
    assert not first.success
    broken = False
    result = await watcher.flow(mapped, state=store).resume_async(first.run_id)
    assert result.output == list(range(500))
    assert "400 replayed" in watcher.seen[0]
    assert "/s" not in watcher.seen[0]
    assert "left" not in watcher.seen[0]


def lines_of(run: Callable[[ConsoleTracer], Any]) -> list[str]:
    """What a pipe gets, without times."""
    out = io.StringIO()
    run(ConsoleTracer(stream=out))
    return [re.sub(r"^ *[\d.]+s +", "", line) for line in out.getvalue().splitlines()]


def test_a_pipe_gets_milestones_with_the_count_and_nothing_else() -> None:
    mapped = map_over("all", Step("embed", lambda item: item), max_concurrency=1)
    lines = lines_of(lambda tracer: Flow(mapped, local_tracer=tracer).run(list(range(300))))
    assert [line for line in lines if "embed" not in line][:2] == [
        "… 100 more steps so far, 112/300 items",
        "… 200 more steps so far, 212/300 items",
    ]
    assert len(lines) == 12 + 2 + 1 + 2  # the first items, milestones, the map, and how the run ended


def next_turn(turn: int) -> int:
    return turn + 1


def test_a_loop_in_a_pipe_tells_its_bound_at_milestones() -> None:
    loop = loop_until("poll", Step("ask", next_turn), lambda output: output == 150, max_loops=500)
    lines = lines_of(lambda tracer: Flow(loop, local_tracer=tracer).run(0))
    assert [line for line in lines if "so far" in line] == ["… 100 more steps so far, iteration 112 of at most 500"]


def test_a_pipe_gets_no_line_for_what_a_step_reports_or_streams() -> None:
    async def scan(data: str, run: StepRun) -> str:
        for page in range(1_000):
            await run.progress(page, 1_000, unit="page")
            await run.emit("text")
        return data

    lines = lines_of(lambda tracer: Flow(Step("scan", scan), local_tracer=tracer).run("x"))
    assert [line.split()[0] for line in lines] == ["done", "completed", "run"]


APP = """
import asyncio

from flow import Step


async def scan(path, run):
    for page in range(4):
        await run.progress(page, 5, unit="page")
    with open(path) as gate:
        await asyncio.to_thread(gate.read)  # until somebody has looked
    return "scanned"


pipeline = Step("scan", scan)
"""


def test_flow_run_shows_progress_on_a_terminal(tmp_path: Path) -> None:
    """The command itself, on a real terminal of 80 columns: it waits until the test has seen its progress."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "COLUMNS", "LINES")}
    program = subprocess.Popen(
        [sys.executable, "-m", "flow", "run", "app.py", "--input", str(gate)],
        cwd=tmp_path,
        env={**kept, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    screen = pyte.Screen(COLUMNS, 24)
    feed = pyte.ByteStream(screen)
    with os.fdopen(os.open(gate, os.O_RDWR), "w", encoding="utf-8") as opened:  # both ends, so that nobody waits here
        deadline = time.monotonic() + 60  # the sign of a running step turns, so there is always something to read
        while "3/5 pages" not in "\n".join(screen.display):
            assert time.monotonic() < deadline, screen.display
            feed.feed(os.read(controller, 65536))
        row = next(line for line in screen.display if "3/5 pages" in line)
        opened.write("\n")
    assert re.match(r"└─ . scan  ━━━━━━━━━━━━────────  3/5 pages  ", row)
    while chunk := _read(controller):
        feed.feed(chunk)
    os.close(controller)
    assert program.wait(timeout=60) == 0
    shown = [line.rstrip() for line in screen.display if line.strip()]
    assert any(line.startswith("└─ ✓ scan") for line in shown)
    assert "scanned" in shown
    assert "3/5" not in "\n".join(shown)


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65536)
    except OSError:  # the other end has been closed
        return b""
