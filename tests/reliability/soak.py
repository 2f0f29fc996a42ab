"""Two workers that serve runs for minutes on one store, while other runs on it are killed, raced for and poisoned."""

from __future__ import annotations

import asyncio
import os
import select
import time
from pathlib import Path
from random import Random
from typing import Any

import attrs

from flow import Flow
from tests.reliability import campaigns
from tests.reliability.driving import Job
from tests.reliability.ledger import Ledger, entries
from tests.reliability.oracle import Violation, expected, url_in
from tests.reliability.pipelines import ANSWER, START, Tally, Works, build
from tests.reliability.processes import Gate, served
from tests.reliability.stores import kernel, open_store

HEALTH = "health"
RUNS_PER_NOTE = 25
KEPT_S = 30.0
MIB = 2**20


def serve(job: Job, stop: int) -> None:
    """Run short pipelines one after another until `stop` can be read, noting the health of this process."""
    asyncio.run(_serve(job, stop, expected(job.size)["output"]))


async def _serve(job: Job, stop: int, want: int) -> None:
    store = open_store(job.url)
    silent, ledger = Ledger(os.devnull), Ledger(job.ledger)
    flow: Flow[Any, Any] = Flow(build(Works(silent), job.size), context_model=Tally, state=store, kernel=kernel())
    runs = 0
    while not select.select([stop], [], [], 0)[0]:
        run_id = f"{job.run_id}-{runs}"
        await flow.run_async(START, run_id=run_id)
        result = await flow.resume_async(run_id, ANSWER)
        assert result.output == want, result
        runs += 1
        if runs % RUNS_PER_NOTE == 0:
            await store.prune(older_than=time.time() - KEPT_S)
            ledger.note(HEALTH, runs=runs, **_health(job.url))
    await store.aclose()


def _health(url: str) -> dict[str, int]:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    wal = Path(f"{url.partition('://')[2]}-wal")
    return {
        "rss": pages * os.sysconf("SC_PAGE_SIZE"),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "wal": wal.stat().st_size if wal.exists() else 0,
    }


@attrs.frozen
class Trend:
    """What the notes of one worker come to, the first quarter left out as warm-up."""

    runs: int
    mib_per_minute: float
    descriptors: int
    threads: int
    wal: int

    @classmethod
    def of(cls, notes: list[dict[str, Any]]) -> Trend:
        steady = notes[len(notes) // 4 :]
        middle = len(steady) // 2
        early, late = steady[:middle], steady[middle:]
        minutes = (_mean(late, "at") - _mean(early, "at")) / 60
        return cls(
            runs=notes[-1]["runs"],
            mib_per_minute=(_mean(late, "rss") - _mean(early, "rss")) / MIB / minutes,
            descriptors=max(note["descriptors"] for note in late) - max(note["descriptors"] for note in early),
            threads=max(note["threads"] for note in late) - max(note["threads"] for note in early),
            wal=max(note["wal"] for note in notes),
        )


def _mean(notes: list[dict[str, Any]], what: str) -> float:
    return sum(note[what] for note in notes) / len(notes)


def soak(kind: str, folder: Path, seed: int, minutes: float) -> tuple[list[Trend], dict[str, int]]:
    """Serve and disturb for so many minutes; returns the trend of each worker and how often what was done."""
    random, url, done = Random(seed), url_in(kind, folder / "store"), dict[str, int]()
    jobs = [Job(url=url, ledger=str(folder / f"worker{n}"), run_id=f"worker{n}", size="short") for n in range(2)]
    with Gate() as stop:
        workers = [served(job, stop, serve) for job in jobs]
        until = time.monotonic() + minutes * 60
        number = 0
        while time.monotonic() < until:
            what = random.choice(["kill", "race", "take over", "stop", "cancel", "poison"])
            _disturb(what, kind, folder / str(number), random, url=url, run_id=f"disturbed-{number}")
            done[what] = done.get(what, 0) + 1
            number += 1
            if dead := [worker.exitcode for worker in workers if worker.exitcode is not None]:
                raise Violation(f"FLOW_TEST_SEED={seed}: workers have ended: {dead}")
        stop.open()
        for worker in workers:
            worker.join(60)
            if worker.exitcode != 0:
                raise Violation(f"FLOW_TEST_SEED={seed}: a worker ended with {worker.exitcode}")
    return [Trend.of(entries(job.ledger)) for job in jobs], done


def _disturb(what: str, kind: str, place: Path, random: Random, **settings: Any) -> None:
    if what == "kill":
        campaigns.kill_at_random(kind, place, random.randrange(2**32), 1, **settings)
    elif what == "race":
        campaigns.race(kind, place, random.choice([2, 4]), **settings)
    elif what == "take over":
        campaigns.take_over(kind, place, 30.0, "kill", **settings)
    elif what == "stop":
        campaigns.take_over(kind, place, 1.0, "stop", **settings)
    elif what == "poison":
        if campaigns.poison(kind, place, **settings) != (6, "dead"):
            raise Violation("a run that kills its process was not parked")
    else:
        campaigns.cancel_orphan(kind, place, **settings)
