"""The campaigns: what is done to runs, in an order that a seed decides, and the oracle's word on each of them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import attrs

from flow import StateError
from tests.reliability.driving import Job, drive
from tests.reliability.ledger import ACKNOWLEDGED, REFUSED, RESUMED, entries
from tests.reliability.mutants import mutated
from tests.reliability.oracle import Violation, account_of, check, url_in
from tests.reliability.pipelines import AT_GATE
from tests.reliability.processes import ERROR, Child, Gate, forked, fresh, killed_or_died
from tests.reliability.stores import open_store, opened
from tests.reliability.witness import DIED, Fault

MOST_LIVES = 400
"""A run that is continued more often than this is not going to end."""


@attrs.define
class Figures:
    """What a campaign has measured."""

    runs: int = 0
    kills: int = 0
    executions: int = 0
    repeats: int = 0
    points: Counter[str] = attrs.field(factory=Counter)

    def __str__(self) -> str:
        return f"{self.runs} runs, {self.kills} kills, {self.executions} executions, {self.repeats} of them repeated"


def kill_at_random(
    kind: str, folder: Path, seed: int, kills: int, *, fresh_share: float = 0.0, **settings: Any
) -> Figures:
    """Kill the processes of durable runs at random moments, until so many were killed, and check every run."""
    random, figures = Random(seed), Figures()
    while figures.kills < kills:
        place = folder / f"run{figures.runs}"
        job = job_in(kind, place, **settings)
        for _ in range(MOST_LIVES):
            start = fresh if random.random() < fresh_share else forked
            with start(job) as child:
                if figures.kills < kills:
                    _kill_somewhen(child, random, in_time=start is forked)
                code = child.wait()
            figures.kills += code == -9
            if code == 0:
                break
            if not killed_or_died(code):
                raise Violation(f"seed {seed}: a process of {job} ended with {code}")
        _count(figures, check(job))
    return figures


def _kill_somewhen(child: Child, random: Random, *, in_time: bool) -> None:
    if in_time and random.random() < 0.3:
        child.wait(random.uniform(0.005, 0.12))
        child.kill()
    elif child.after(random.randrange(1, 30)):
        child.kill()


def job_in(kind: str, place: Path, **settings: Any) -> Job:
    """A job on a store of its own, unless the settings name one."""
    url = url_in(kind, place)
    return Job(**{"url": url, "ledger": str(place / "ledger"), **settings})


# -- a crash at every write


def die_at_each_write(
    kind: str,
    folder: Path,
    how: str,
    *,
    first: int = 1,
    stride: int = 1,
    only: str = "",
    mutant: str = "",
    **settings: Any,
) -> Figures:
    """End the process before or after the first durable write, the second, and so on until the run gets through."""
    figures, number = Figures(), first
    while True:
        fault = Fault(number, how, only)
        job = job_in(kind, folder / f"{how}{number}{only}", fault=fault, size="short", mutant=mutant, **settings)
        code = _life(job)
        if code not in (0, DIED):
            raise Violation(f"a process of {job} ended with {code}")
        if code == DIED and _life(attrs.evolve(job, fault=None)) != 0:
            raise Violation(f"not resumed after a crash: {job}")
        _count(figures, check(job))
        if code == 0:
            return figures
        figures.kills += 1
        number += stride


def fail_at_each_write(kind: str, folder: Path, *, stride: int = 1, mutant: str = "", **settings: Any) -> Figures:
    """Let the first durable write fail, the second, and so on: the run stops, and goes on when it is resumed."""
    figures, number = Figures(), 1
    with mutated(mutant):
        while True:
            fault = Fault(number, "fail")
            job = job_in(kind, folder / f"fail{number}", fault=fault, size="short", **settings)
            store = open_store(job.url) if kind == "memory" else None
            failed = _fails(job, store)
            if failed:
                asyncio.run(drive(attrs.evolve(job, fault=None), store=store))
            _count(figures, check(job, store=store))
            if not any(entry["kind"] == REFUSED for entry in entries(job.ledger)):
                return figures
            figures.kills += 1
            number += stride


def _fails(job: Job, store: Any) -> bool:
    try:
        asyncio.run(drive(job, store=store))
    except StateError:
        return True
    return False


def _life(job: Job) -> int | None:
    with forked(job) as child:
        return child.wait()


def _count(figures: Figures, account: Any) -> None:
    figures.runs += 1
    figures.executions += account.executions
    figures.repeats += account.repeats


# -- several processes


def race(kind: str, folder: Path, racers: int, **settings: Any) -> float:
    """Let processes resume one run at the same moment; returns the seconds in which the last loser was told."""
    job = job_in(kind, folder, **settings)
    with Gate() as never, forked(job, gate=never) as first:
        first.until(AT_GATE)
        first.kill()
        first.wait()
    slowest = 0.0
    with Gate() as start, Gate() as gate:
        children = [forked(job, start=start, gate=gate) for _ in range(racers)]
        try:
            start.open()
            told = [next(entry for entry in child.lines() if entry["kind"] in (AT_GATE, ERROR)) for child in children]
            losers = [entry for entry in told if entry["kind"] == ERROR]
            if len(losers) != racers - 1 or any(entry["type"] != "RunOwned" for entry in losers):
                raise Violation(f"{racers} resumed one run at once: {[entry.get('type', 'owner') for entry in told]}")
            slowest = max(entry["seconds"] for entry in losers)
            gate.open()
            codes = sorted(child.wait() or 0 for child in children)
        finally:
            for child in children:
                child.close()
    if codes != [0] + [1] * (racers - 1):
        raise Violation(f"{racers} resumed one run at once and ended with {codes}")
    check(job)
    return slowest


def take_over(kind: str, folder: Path, lease: float, how: str, **settings: Any) -> float:
    """Take a run over from a process that was killed, or stopped and then woken; returns after how many seconds.

    :param how: ``"kill"``; ``"stop"``, and woken while the other process works; ``"late"``, when it has ended.
    """
    patience = 0.0 if how == "kill" else lease + 2
    job = job_in(kind, folder, lease=lease, patience=patience, **settings)
    with Gate() as gate, Gate() as other_gate, fresh(job, gate=gate) as first:
        first.until(AT_GATE)
        os.kill(first.pid, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        began = time.monotonic()
        if how == "kill":
            first.wait()
        if how != "stop":
            other_gate.open()
        with forked(job, gate=other_gate) as second:
            taken = _resumed(second)
            if how == "stop":
                second.until(AT_GATE)
            elif second.wait() != 0:
                raise Violation(f"the process that took over {job} ended with {second.code}")
            if how != "kill":
                _wake(first, gate, taken["life"], job)
            other_gate.open()
            if second.wait() != 0:
                raise Violation(f"the process that took over {job} ended with {second.code}")
    check(job)
    return taken["at"] - began


def outlive_a_lease(kind: str, folder: Path, lease: float, *, mutant: str = "") -> None:
    """Let a process work for longer than its lease while another one wants the run: it keeps it."""
    job = job_in(kind, folder, lease=lease, mutant=mutant)
    with Gate() as gate, forked(job, gate=gate) as owner:
        owner.until(AT_GATE)
        with forked(attrs.evolve(job, patience=3 * lease), gate=gate) as other:
            told = next((entry for entry in other.lines() if entry["kind"] in (ERROR, AT_GATE)), None)
            if told is None or told.get("type") != "RunOwned":
                raise Violation(f"the run of a living process was taken over: {told}: {job}")
        gate.open()
        if owner.wait() != 0:
            raise Violation(f"the process that owns the run ended with {owner.code}: {job}")
    check(job)


def _resumed(child: Child) -> dict[str, Any]:
    entry = child.until(RESUMED)
    if entry is None:
        raise Violation("the run was not taken over")
    return entry


def _wake(zombie: Child, gate: Gate, successor: str, job: Job) -> None:
    """Let the stopped process go on: it must notice, and must not have written anything."""
    os.kill(zombie.pid, signal.SIGCONT)
    gate.open()
    told = zombie.until(ERROR)
    zombie.wait()
    if told is None or told["type"] != "LeaseLost":
        raise Violation(f"a process that was taken over ended with {told or zombie.code}: {job}")
    life = ""
    for entry in entries(job.ledger):
        if entry["kind"] == RESUMED and entry["life"] == successor:
            life = successor
        elif life and entry["kind"] == ACKNOWLEDGED and entry["life"] != successor:
            raise Violation(f"written by a process that was taken over: {entry['path']}: {job}")


# -- a run that kills its process


def poison(kind: str, folder: Path, **settings: Any) -> tuple[int, str]:
    """Recover a run that kills its process every time; returns how often it was executed, and its last status."""
    job = job_in(kind, folder, size="poison", **settings)
    _life(job)
    for _ in range(20):
        if _life(attrs.evolve(job, task="recover")) == 0:
            break
    return account_of(job.ledger).executions - 1, asyncio.run(_status(job))


def cancel_at_each_write(kind: str, folder: Path, how: str, **settings: Any) -> int:
    """End the process at each write of a cancellation; afterwards the run can be cancelled, and nothing has run."""
    number = 1
    while True:
        job = job_in(kind, folder / f"{how}{number}", size="short", **settings)
        with Gate() as never, forked(job, gate=never) as child:
            child.until(AT_GATE)
            child.kill()
            child.wait()
        executions = account_of(job.ledger).executions
        cancelling = attrs.evolve(job, task="cancel", fault=Fault(number, how))
        code = _life(cancelling)
        if code != 0 and _life(attrs.evolve(cancelling, fault=None)) != 0:
            raise Violation(f"cannot be cancelled after a crash: {job}")
        status, account = asyncio.run(_status(job)), account_of(job.ledger)
        if status != "cancelled" or account.executions != executions or account.wrong:
            raise Violation(f"cancelled, but {status}, {account.wrong}: {job}")
        if code == 0:
            return number - 1
        number += 1


def cancel_orphan(kind: str, folder: Path, **settings: Any) -> None:
    """Cancel an orphaned run."""
    job = job_in(kind, folder, size="short", **settings)
    with Gate() as never, forked(job, gate=never) as child:
        child.until(AT_GATE)
        child.kill()
        child.wait()
    if _life(attrs.evolve(job, task="cancel")) != 0 or asyncio.run(_status(job)) != "cancelled":
        raise Violation(f"cannot be cancelled: {job}")


async def _status(job: Job) -> str:
    async with opened(job.url) as store:
        record = await store.load_run(job.run_id)
        return "unknown" if record is None else record.status
