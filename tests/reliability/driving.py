"""Driving one run to its end from wherever it is: what every process of a campaign does."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any, Literal

import attrs

from flow import Flow, RunOwned, RunResult, RunStatus, StateBackend
from tests.reliability import pipelines
from tests.reliability.ledger import ANSWERING, ASKED, ENDED, FOUND, Ledger
from tests.reliability.stores import completed_paths, kernel, open_store
from tests.reliability.witness import Fault, Faulty, Witness

ROOT = str(Path(__file__).resolve().parents[2])
MOST_PAUSES = 5
_lives = itertools.count(1)


@attrs.frozen(kw_only=True)
class Job:
    """What a process has to do; plain values, so that it can be sent to it.

    :ivar task: ``"drive"`` the run to its end, ``"cancel"`` it, or ``"recover"`` what is orphaned.
    :ivar patience: seconds for which a run that somebody else executes is tried again and again.
    :ivar mutant: the name of a mutation of the engine to apply first.
    """

    url: str
    ledger: str
    run_id: str = "campaign"
    size: str = "long"
    durability: Literal["full", "normal", "exit", "off"] = "full"
    lease: float = 30.0
    task: Literal["drive", "cancel", "recover"] = "drive"
    patience: float = 0.0
    fault: Fault | None = None
    mutant: str = ""


def new_life() -> str:
    """A name that no other execution has."""
    return f"{os.getpid()}-{next(_lives)}"


async def drive(
    job: Job, *, store: StateBackend | None = None, tap: int | None = None, gate: int | None = None
) -> None:
    """Begin or continue the run of `job`, answer what it asks, and note how it ended; raises what `Flow` raises."""
    ledger = Ledger(job.ledger, new_life(), tap)
    inner = store if store is not None else open_store(job.url)
    faulty = Faulty(inner, job.fault, ledger)
    witness: Any = Witness(faulty, ledger)
    renewed = faulty.renewed if job.fault is not None and job.fault.only == "renew" else None
    flow: Flow[Any, Any] = Flow(
        pipelines.build(pipelines.Works(ledger, gate, renewed), job.size),
        context_model=pipelines.Tally,
        state=witness,
        durability=job.durability,
        lease=job.lease,
        kernel=kernel(),
    )
    try:
        found = completed_paths(await inner.load_steps(job.run_id))
        ledger.note(FOUND, paths=sorted(found))
        if job.task == "drive":
            ledger.note(ENDED, **summary(await _to_the_end(flow, witness, job, ledger)))
        elif job.task == "cancel":
            await flow.cancel(job.run_id)
        else:
            await flow.recover_async()
    finally:
        if store is None:
            await inner.aclose()
        ledger.close()


async def insist(job: Job, **how: Any) -> None:
    """Drive the run, and try again as long as somebody else executes it and there is patience."""
    give_up = time.monotonic() + job.patience
    while True:
        try:
            return await drive(job, **how)
        except RunOwned:
            if time.monotonic() >= give_up:
                raise


async def _to_the_end(flow: Flow[Any, Any], store: Any, job: Job, ledger: Ledger) -> RunResult[Any]:
    for _ in range(MOST_PAUSES):
        record = await store.load_run(job.run_id)
        if record is None:
            result = await flow.run_async(pipelines.START, run_id=job.run_id)
        elif record.status == "paused":
            ledger.note(ANSWERING)
            result = await flow.resume_async(job.run_id, pipelines.ANSWER)
        else:
            result = await flow.resume_async(job.run_id)
        if result.status is not RunStatus.PAUSED:
            return result
        ledger.note(ASKED)
    raise AssertionError("the run asks for ever")


def summary(result: RunResult[Any]) -> dict[str, Any]:
    """What must be the same however often the run was interrupted."""
    context = result.final_pipeline_context
    return {
        "status": result.status.value,
        "output": result.output if result.success else None,
        "tokens": [result.usage.input_tokens, result.usage.output_tokens],
        "context": None if context is None else context.model_dump(mode="json"),
    }


def environment(job: Job, tap: str = "") -> dict[str, str]:
    """What `app.py` reads."""
    told = {"RELIABILITY_STATE": job.url, "RELIABILITY_LEDGER": job.ledger, "RELIABILITY_SIZE": job.size}
    found = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    return {**os.environ, **told, "PYTHONPATH": found, **({"RELIABILITY_TAP": tap} if tap else {})}
