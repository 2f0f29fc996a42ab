"""``flow run`` stopped by Ctrl-C or by the system: the run is stored as interrupted, and goes on where it was."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from tests.reliability import pipelines
from tests.reliability.campaigns import job_in
from tests.reliability.driving import ROOT, Job, drive, environment
from tests.reliability.ledger import ENDED, EXECUTED, entries, read_lines
from tests.reliability.measured import note
from tests.reliability.oracle import check
from tests.reliability.processes import PATIENCE_S, Gate, forked
from tests.reliability.scale import SOAK, amount
from tests.reliability.stores import opened

APP = "tests/reliability/app.py"


class Program:
    """``flow run`` on the campaign's pipeline, and what it notes in its ledger, as it does."""

    def __init__(self, job: Job, folder: Path, *command: str) -> None:
        fifo = folder / "tap"
        os.mkfifo(fifo)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flow", *command],
            cwd=ROOT,
            env=environment(job, str(fifo)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._tap = fifo.open("rb")  # waits until the program has opened it, too

    def after(self, entries: int) -> None:
        """Wait until it has noted so many things."""
        for _ in range(entries):
            if not list(read_lines(self._tap.readline())):
                return

    def ended(self) -> tuple[int, str]:
        """Its exit code, and what it said on standard error."""
        _, said = self.process.communicate(timeout=PATIENCE_S)
        self._tap.close()
        return self.process.returncode, said


async def status_of(job: Job) -> str:
    async with opened(job.url) as store:
        record = await store.load_run(job.run_id)
        return "unknown" if record is None else record.status


def interrupt(kind: str, folder: Path, number: signal.Signals, seed: int) -> None:
    """Send a signal at a random moment; the run must be interrupted, or have got to its question before."""
    random = Random(seed)
    job = job_in(kind, folder)
    program = Program(job, folder, "run", APP, "--run-id", job.run_id, "-i", str(pipelines.START))
    program.after(random.randrange(1, 70))
    program.process.send_signal(number)
    code, said = program.ended()
    status = asyncio.run(status_of(job))
    told = f"FLOW_TEST_SEED={seed}: {kind}: exit code {code}, {status}: {said}"
    assert "Traceback" not in said, told
    if status != "paused":
        assert (code, status) == (128 + number, "interrupted"), told
    executed_before = [entry for entry in entries(job.ledger) if entry["kind"] == EXECUTED]
    asyncio.run(drive(job))
    account = check(job, tokens=False)  # what an interrupted step has spent stays in the books
    end = entries(job.ledger)[-1]
    assert end["kind"] == ENDED, told
    assert account.executions >= len(executed_before), told
    assert account.repeats <= 8, told  # not more than were in flight: as many as there are branches


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_a_signal_leaves_a_run_that_goes_on(kind: str, number: signal.Signals, tmp_path: Path, seed: int) -> None:
    rounds = amount(50, 2, 1)
    for turn in range(rounds):
        folder = tmp_path / str(turn)
        folder.mkdir()
        interrupt(kind, folder, number, seed + turn)
    note("signals", f"{kind}, {number.name}", f"{rounds} of {rounds} interrupted, resumed and completed")


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_a_second_signal_ends_the_program_at_once(kind: str, tmp_path: Path) -> None:
    slowest, rounds = 0.0, amount(20, 1)
    for turn in range(rounds):
        folder = tmp_path / str(turn)
        folder.mkdir()
        job = job_in(kind, folder)
        program = Program(job, folder, "run", APP, "--run-id", job.run_id, "-i", str(pipelines.START))
        program.after(5 + turn)
        began = time.monotonic()
        program.process.send_signal(signal.SIGINT)
        program.process.send_signal(signal.SIGINT)
        code, said = program.ended()
        slowest = max(slowest, time.monotonic() - began)
        assert code == 130 or (code == 0 and asyncio.run(status_of(job)) == "paused"), (code, said)
        asyncio.run(drive(job))
        check(job, tokens=False)
    note("signals", f"{kind}, {rounds} double SIGINT", f"the slowest ended after {slowest:.2f} s")
    assert slowest < (1.0 if SOAK else 5.0)


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_a_program_that_was_killed_is_resumed_and_recovered_from_the_command_line(kind: str, tmp_path: Path) -> None:
    job = job_in(kind, tmp_path)
    program = Program(job, tmp_path, "run", APP, "--run-id", job.run_id, "-i", str(pipelines.START))
    program.after(20)
    program.process.kill()
    program.ended()
    assert flow_command(job, "recover", "--app", APP) == 0
    assert asyncio.run(status_of(job)) == "paused"
    assert flow_command(job, "resume", job.run_id, "--app", APP, "--answer", str(pipelines.ANSWER)) == 0
    asyncio.run(drive(job))  # replays it, to see what came of it
    check(job)


def flow_command(job: Job, *command: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-m", "flow", "--traceback", *command],
        cwd=ROOT,
        env=environment(job),
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    print(ran.stdout, ran.stderr)
    return ran.returncode


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_the_command_line_says_that_another_process_executes_the_run(kind: str, tmp_path: Path) -> None:
    job = job_in(kind, tmp_path)
    with Gate() as gate, forked(job, gate=gate) as owner:
        owner.until(pipelines.AT_GATE)
        began = time.monotonic()
        assert flow_command(job, "resume", job.run_id, "--app", APP) == 3
        assert time.monotonic() - began < 10.0
        gate.open()
        assert owner.wait() == 0
    check(job)
