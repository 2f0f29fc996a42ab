"""Processes that execute runs and can be killed: forked from a server that has everything imported, or fresh ones.

Nobody sleeps to wait here: a process tells what it does through a pipe, and the reader blocks until it does.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from flow import FlowError
from tests.reliability.driving import ROOT, Job, insist
from tests.reliability.ledger import read_lines
from tests.reliability.mutants import apply
from tests.reliability.witness import DIED

ERROR = "error"
"""The entry that a life ends with when `Flow` has raised: ``type``, ``message`` and ``seconds`` it took."""
PATIENCE_S = 30.0
"""How long a process may say nothing before the test gives up."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pytest", "tests.reliability.preload"])


class Child:
    """A process that drives a run.

    :ivar code: its exit code when it has ended, minus the signal's number when one has ended it.
    """

    def __init__(self, process: Any, tap: int, wait: Callable[[Any, float | None], int | None]) -> None:
        self._process = process
        self._tap = tap
        self._wait = wait
        self._rest = b""
        self._entries: deque[dict[str, Any]] = deque()
        self.code: int | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it notes, as it does, until it has ended; each entry is told once."""
        while True:
            while self._entries:
                yield self._entries.popleft()
            ready, _, _ = select.select([self._tap], [], [], PATIENCE_S)
            if not ready:
                self.kill()
                raise AssertionError(f"process {self.pid} has said nothing for {PATIENCE_S:g} s")
            data = os.read(self._tap, 65536)
            if not data:
                return
            whole, _, self._rest = (self._rest + data).rpartition(b"\n")
            self._entries.extend(read_lines(whole))

    def until(self, kind: str) -> dict[str, Any] | None:
        """Wait for an entry of this kind; ``None`` when the process has ended without."""
        return next((entry for entry in self.lines() if entry["kind"] == kind), None)

    def after(self, entries: int) -> bool:
        """Wait until it has noted so many things; False when it has ended before."""
        return any(number >= entries for number, _ in enumerate(self.lines(), start=1))

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    def wait(self, seconds: float | None = PATIENCE_S) -> int | None:
        """Wait until it has ended, and return its exit code; ``None`` when it goes on after `seconds`."""
        self.code = self._wait(self._process, seconds)
        return self.code

    def close(self) -> None:
        """End it if it has not ended yet."""
        if self.code is None:
            self.kill()
            self.wait()
        os.close(self._tap)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Gate:
    """What keeps processes waiting until it is opened, for all of them at once."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self._open = False

    def open(self) -> None:
        if not self._open:
            self._open = True
            os.close(self._writer)

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        os.close(self.reader)


def forked(job: Job, *, gate: Gate | None = None, start: Gate | None = None) -> Child:
    """Drive `job` in a process that had everything imported before it was forked: it begins within milliseconds.

    :param gate: what the step called ``gate`` waits for.
    :param start: what the process waits for before it does anything.
    """
    reader, writer = os.pipe()
    with Connection(writer, readable=False) as tap:
        doors = [None if door is None else Connection(os.dup(door.reader), writable=False) for door in (gate, start)]
        process = _context.Process(target=_forked, args=(job, tap, *doors))
        process.start()
        for door in doors:
            if door is not None:
                door.close()
    return Child(process, reader, _wait_forked)


def served(job: Job, stop: Gate, serve: Callable[[Job, int], None]) -> Any:
    """Let a process serve until the gate is opened; returns a `multiprocessing.Process`."""
    with Connection(os.dup(stop.reader), writable=False) as door:
        process = _context.Process(target=_served, args=(job, door, serve))
        process.start()
    return process


def _served(job: Job, stop: Connection, serve: Callable[[Job, int], None]) -> None:
    serve(job, stop.fileno())


def fresh(job: Job, *, gate: Gate | None = None) -> Child:
    """Drive `job` in an interpreter of its own."""
    reader, writer = os.pipe()
    descriptors = [writer] + ([gate.reader] if gate is not None else [])
    command = [sys.executable, "-m", "tests.reliability.processes", pickle.dumps(job).hex(), *map(str, descriptors)]
    process = subprocess.Popen(command, cwd=ROOT, pass_fds=descriptors, stdin=subprocess.DEVNULL)
    os.close(writer)
    return Child(process, reader, _wait_fresh)


def _wait_forked(process: Any, seconds: float | None) -> int | None:
    process.join(seconds)
    return process.exitcode


def _wait_fresh(process: Any, seconds: float | None) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def _forked(job: Job, tap: Connection, gate: Connection | None, start: Connection | None) -> None:
    if start is not None:
        os.read(start.fileno(), 1)
    run_life(job, tap.fileno(), None if gate is None else gate.fileno())


def run_life(job: Job, tap: int, gate: int | None) -> None:
    """Drive the run in this process; an error of flow is an entry, and the exit code is 1."""
    apply(job.mutant)
    began = time.monotonic()
    try:
        asyncio.run(insist(job, tap=tap, gate=gate))
    except FlowError as error:
        seconds = time.monotonic() - began
        line = {"kind": ERROR, "type": type(error).__name__, "message": str(error), "seconds": seconds}
        os.write(tap, json.dumps(line).encode() + b"\n")
        raise SystemExit(1) from None


def killed_or_died(code: int | None) -> bool:
    """Whether a process was ended on purpose."""
    return code in (-9, DIED)


if __name__ == "__main__":
    _job, _tap, *_gate = sys.argv[1:]
    run_life(pickle.loads(bytes.fromhex(_job)), int(_tap), int(_gate[0]) if _gate else None)
