"""Damaged and hostile rows: a clear error of flow, nothing imported, nothing executed, the stored run as it was."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from flow import ConfigurationError, StateError
from flow.errors import SerializationError
from tests.reliability.campaigns import job_in
from tests.reliability.driving import ROOT, Job, environment
from tests.reliability.garbage import garbled, watched
from tests.reliability.measured import note
from tests.reliability.rows import ALTER, alter_rows, half_done, outcome_of
from tests.reliability.scale import amount
from tests.reliability.stores import open_store
from tests.reliability.witness import Layered

LIMIT_S = 2.0
RECORD_FIELDS = ("output", "changes", "metadata")
RUN_FIELDS = ("input", "context", "pending")


class Garbled(Layered):
    """A store in which one text is garbled: a field of the run, or of one record."""

    def __init__(self, store: Any, random: Random, records: int) -> None:
        super().__init__(store)
        self._number = None if random.random() < 0.3 else random.randrange(records)
        self._field = random.choice(RUN_FIELDS if self._number is None else RECORD_FIELDS)
        self._random = random
        self._value: bytes | None = None
        self.what = f"never read: {self._field}"

    async def load_run(self, run_id: str) -> Any:
        run = await self.inner.load_run(run_id)
        return self._changed(run) if self._number is None else run

    async def load_steps(self, run_id: str) -> Any:
        steps = list(await self.inner.load_steps(run_id))
        if self._number is not None:
            steps[self._number] = self._changed(steps[self._number])
        return steps

    def _changed(self, record: Any) -> Any:
        if self._value is None:
            self._value = garbled(record.__getattribute__(self._field), self._random)
            self.what = f"{type(record).__name__}.{self._field} = {self._value!r:.100}"
        return attrs.evolve(record, **{self._field: self._value})


def test_whatever_stands_in_a_row_nothing_but_an_error_of_flow_comes_of_it(tmp_path: Path, seed: int) -> None:
    rounds, slowest, refused = amount(10_000, 100, 30), 0.0, 0
    usual = undisturbed_events(tmp_path)
    wrong: list[str] = []
    for number in range(rounds):
        random = Random(seed + number)
        store = open_store("memory://")
        job = Job(url="memory://", ledger=str(tmp_path / f"ledger{number}"), size="short")
        half_done(job, store, paused=number % 2 == 1)
        before = stored(job, store)
        hostile = Garbled(store, random, len(before[1]))
        began = time.monotonic()
        with watched() as events:
            outcome = outcome_of(job, hostile)
        slowest = max(slowest, time.monotonic() - began)
        refused += outcome is not None
        told = []
        if not events <= usual:
            told.append(f"it led to {events - usual}")
        nothing_asked = isinstance(outcome, ConfigurationError) and hostile.what.endswith("pending = b''")
        if not isinstance(outcome, (StateError, SerializationError, type(None))) and not nothing_asked:
            told.append("not an error of the store")
        if outcome is not None and not kept(before, stored(job, store)):
            told.append("the stored run is another")
        wrong += [f"seed {seed + number}: {hostile.what}: {type(outcome).__name__} {outcome}: {what}" for what in told]
    note("stored rows", f"{rounds} garbled rows", f"{refused} refused, the slowest took {slowest:.2f} s")
    assert not wrong, f"{len(wrong)} of {rounds}:\n" + "\n".join(wrong[:10])
    assert slowest < LIMIT_S


def stored(job: Job, store: Any) -> tuple[Any, list[Any]]:
    return asyncio.run(store.load_run(job.run_id)), list(asyncio.run(store.load_steps(job.run_id)))


def kept(before: tuple[Any, list[Any]], after: tuple[Any, list[Any]]) -> bool:
    """Whether nothing is gone, changed or done: an answer may have been accepted, and the run is free to be resumed."""
    (run_before, steps_before), (run, steps) = before, after
    added = {step.status for step in steps[len(steps_before) :]}
    same = (run.input, run.context, run.pending) == (run_before.input, run_before.context, run_before.pending)
    resumable = run.owner is None and run.status in (run_before.status, "running")
    return steps[: len(steps_before)] == steps_before and added <= {"answered"} and same and resumable


def undisturbed_events(folder: Path) -> set[str]:
    """What is imported and compiled when runs are resumed from rows that are in order: annotations are, for one."""
    usual: set[str] = set()
    for paused in (False, True):
        job, store = Job(url="memory://", ledger=str(folder / f"usual{paused}"), size="short"), open_store("memory://")
        half_done(job, store, paused=paused)
        with watched() as events:
            assert outcome_of(job, store) is None
        usual |= events
    return usual


# -- the rows of real stores


@pytest.mark.parametrize("kind", ALTER)
def test_an_altered_row_is_noticed_or_does_not_matter(kind: str, tmp_path: Path, seed: int) -> None:
    rounds = amount(1000, 40, 5)
    noticed = alter_rows(kind, tmp_path, seed, rounds)
    note("stored rows", f"{kind}, {rounds} altered rows", f"{noticed} noticed, no result was another")
    assert noticed > rounds / 4


@pytest.mark.parametrize("kind", ALTER)
def test_the_command_line_says_what_is_damaged_and_exits_with_4(kind: str, tmp_path: Path) -> None:
    job = job_in(kind, tmp_path, size="short")
    half_done(job)
    if kind == "sqlite":
        with closing(sqlite3.connect(tmp_path / "runs.db")) as connection, connection:
            connection.execute("UPDATE steps SET output = '1234567'")
    else:
        path = tmp_path / "runs" / "runs" / "campaign.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"output":"', b'"output":"9'))
    ran = subprocess.run(
        [sys.executable, "-m", "flow", "resume", job.run_id, "--app", "tests/reliability/app.py"],
        cwd=ROOT,
        env=environment(job),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 4, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "campaign" in ran.stderr or "runs.db" in ran.stderr
