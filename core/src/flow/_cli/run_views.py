"""Stored runs as people and programs read them: a table, one run in full, JSON. Inputs and contexts do not appear."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from .._answers import questions_of
from .._lease import lease_is_over
from .._protocols import INTERNAL_METADATA, RunRecord
from .questions import describe
from .report import answering, command_to_resume
from .store import Store
from .table import aligned, fitted
from .wording import ago, columns, cut, duration, iso, lines_of, moment, one_line

RUNNING = "running"
_SHORTEST_ID = 14  # of a made-up id: the millisecond and twelve random bits
_WIDEST_PIPELINE = 24
_LONGEST_REMARK = 300


def is_orphaned(run: RunRecord) -> bool:
    """Tell whether the process that executes a run is gone, or has not shown itself for longer than it promised."""
    if run.status != RUNNING:
        return False
    return lease_is_over(run.owner, math.inf, run.lease_until) or run.lease_until <= time.time()


def as_dict(run: RunRecord) -> dict[str, Any]:
    """Return what a program may want to know about a run, with the names of `RunRecord`; times in ISO 8601, UTC."""
    asked = questions_of(run).values()
    return {
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "status": run.status,
        "orphaned": is_orphaned(run),
        "error": run.error,
        "pending": [
            {
                "path": question.path,
                "message": question.message,
                "schema": question.schema,
                "since": iso(question.since),
                "deadline": iso(question.deadline),
            }
            for question in (asked if run.status == "paused" else ())
        ],
        "usage": attrs.asdict(run.usage),
        "total_cost_usd": run.usage.cost_usd,
        "total_tokens": run.usage.total_tokens,
        "created_at": iso(run.created_at),
        "updated_at": iso(run.updated_at),
        "deadline_at": iso(run.deadline_at),
        "wake_at": iso(run.wake_at),
        "owner": run.owner,
        "epoch": run.epoch,
        "lease_until": iso(run.lease_until),
        "recoveries": run.recoveries,
        "trace_id": run.trace_id,
        "fingerprint": run.fingerprint,
        "metadata": metadata_of(run),
    }


def metadata_of(run: RunRecord) -> dict[str, str]:
    """Return what was kept beside the run by others than the kernel."""
    return {name: value for name, value in run.metadata.items() if name not in INTERNAL_METADATA}


def remark_on(run: RunRecord) -> str:
    """Say in one line what matters about a run beside its status: its question, its error, the loss of its process."""
    if is_orphaned(run):
        return "its process is gone; flow recover continues it"
    if run.status == "paused":
        asked = [f"{question.path} asks: {question.message}" for question in questions_of(run).values()]
        return one_line("; ".join(asked), _LONGEST_REMARK)
    return "" if run.status == RUNNING else one_line(run.error or "", _LONGEST_REMARK)


# -- the table


def plain_table(runs: Sequence[RunRecord]) -> list[str]:
    """Return a line per run for other programs: whole ids, times in ISO 8601, the remark in the last column."""
    rows = [[run.run_id, *_cells(run, started=iso(run.created_at) or ""), remark_on(run)] for run in runs]
    return aligned([["RUN", *_HEADERS, "REMARK"], *rows], to_the_right=_FIGURES)


def screen_table(runs: Sequence[RunRecord], width: int) -> list[str]:
    """Return a line per run that fits the screen, with made-up ids cut, and its remark below it."""
    ids = short_ids([run.run_id for run in runs])
    rows = [
        ["RUN", *_HEADERS],
        *([short, *_cells(run, started=ago(run.created_at))] for short, run in zip(ids, runs, strict=True)),
    ]
    rows, figures = fitted(rows, width, names=_PIPELINE, figures=_FIGURES)
    head, *lines = aligned(rows, to_the_right=figures)
    shown = [head]
    for line, run in zip(lines, runs, strict=True):
        shown.append(line)
        if remark := remark_on(run):
            shown.append(cut(f"  {remark}", width))
    return shown


_HEADERS = ("PIPELINE", "STATUS", "STARTED", "TOOK", "COST", "TOKENS")
_PIPELINE = 1
_FIGURES = (4, 5, 6)


def _cells(run: RunRecord, started: str) -> list[str]:
    until = time.time() if run.status == RUNNING else run.updated_at
    return [
        one_line(run.pipeline, _WIDEST_PIPELINE),
        one_line(run.status),
        started,
        duration(until - run.created_at),
        f"${run.usage.cost_usd:.4f}" if run.usage.cost_usd else "-",
        f"{run.usage.total_tokens:,}" if run.usage.total_tokens else "-",
    ]


def short_ids(ids: Sequence[str]) -> list[str]:
    """Return the beginnings of ids that tell them apart, of one length for the made-up ones.

    >>> short_ids(["nightly-7", "019ab0c2d3e4f5061728394a5b6c7d8"])
    ['nightly-7', '019ab0c2d3e4f5']
    """
    length = _SHORTEST_ID
    while length < max(map(len, ids), default=0) and len({known[:length] for known in ids}) < len(set(ids)):
        length += 1
    return [known if len(known) < 2 * _SHORTEST_ID - 4 else known[:length] for known in ids]


# -- one run


def details(run: RunRecord, store: Store) -> list[str]:
    """Return all that may be shown of one run, a label in front of each line."""
    labelled = list(_details(run, store))
    wide = max(columns(label) for label, _ in labelled)
    return [f"{label:<{wide}}  {text}".rstrip() for label, text in labelled]


def _details(run: RunRecord, store: Store) -> Iterator[tuple[str, str]]:
    yield "run", run.run_id
    yield "pipeline", one_line(run.pipeline)
    yield "status", one_line(run.status.replace("_", " "))
    yield "started", f"{moment(run.created_at)} ({ago(run.created_at)})"
    if run.status == RUNNING:
        yield "owner", f"{one_line(run.owner or 'nobody')}{', which is gone' if is_orphaned(run) else ''}"
    else:
        passed = duration(run.updated_at - run.created_at)
        yield "changed", f"{moment(run.updated_at)} ({ago(run.updated_at)}), {passed} after the start"
    if run.deadline_at is not None:
        yield "deadline", moment(run.deadline_at)
    if run.usage:
        yield "usage", f"${run.usage.cost_usd:.4f}, {run.usage.total_tokens:,} tokens, {run.usage.requests:,} requests"
    if run.recoveries:
        yield "recovered", f"{run.recoveries} times"
    for name, value in metadata_of(run).items():
        yield one_line(name, 20), one_line(value, _LONGEST_REMARK)
    if run.error:
        yield from _several("error", lines_of(run.error))
    if run.status == "paused":
        for question in questions_of(run).values():
            yield from _several("asks", list(describe(question)))
    command = how_to_continue(run, store)
    if command is not None:
        yield "continue", command


def how_to_continue(run: RunRecord, store: Store) -> str | None:
    """Return the command that continues a run, or answers it; ``None`` when there is nothing to continue."""
    command = command_to_resume(run.run_id, store)
    if command is None or run.status == "completed" or (run.status == RUNNING and not is_orphaned(run)):
        return None
    return answering(command, list(questions_of(run).values() if run.status == "paused" else ()))


def _several(label: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    return ((label if not index else "", line) for index, line in enumerate(lines))
