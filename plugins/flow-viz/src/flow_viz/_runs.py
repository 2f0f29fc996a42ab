"""From results and records of runs to facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flow import ConfigurationError, RunResult, StepRecord, StepResult
from flow_viz._nodes import Node
from flow_viz._states import state_of_record, state_of_result
from flow_viz._story import Fact, Story, tell

_RESTARTED = "restarted"


def story_of(root: Node, run: Any) -> Story | None:
    """Return what `run`, a `RunResult` or the `StepRecord`s of a run, tells about the steps below `root`."""
    if run is None or isinstance(run, Story):
        return run
    if isinstance(run, RunResult):
        return tell(
            root,
            [fact_of_result(result) for result in run.walk()],
            status=run.status.value,
            waiting=[asked.path for asked in run.pending],
            seconds=run.latency_s,
            cost_usd=run.usage.cost_usd,
            run_id=run.run_id,
        )
    if isinstance(run, Sequence) and all(isinstance(record, StepRecord) for record in run):
        return tell(root, facts_of_records(run))
    raise ConfigurationError(
        f"run= takes a RunResult or a sequence of StepRecords, got {type(run).__name__}",
        hint="Draw what flow.run(...) returned, or what load_steps(run_id) of a store did",
    )


def fact_of_result(result: StepResult) -> Fact:
    """Return what a result tells."""
    fell_back = bool(result.metadata.get("fallback_triggered"))
    of_fallback = sum(child.attempts for child in result.children if child.path == f"{result.path}/fallback")
    return Fact(
        path=result.path,
        state=state_of_result(result),
        seconds=result.latency_s,
        attempts=_own_attempts(result.attempts, result.metadata, of_fallback if fell_back else 0),
        cost_usd=result.usage.cost_usd,
        fell_back=fell_back,
    )


def facts_of_records(records: Sequence[StepRecord]) -> Iterator[Fact]:
    """Yield what the journal of a run tells; what a further attempt made void is left out."""
    last: dict[str, StepRecord] = {}
    for record in records:
        if record.status == _RESTARTED:
            _forget(last, record)
        else:
            last[record.path] = record
    for record in last.values():
        state = state_of_record(record.status)
        if state is None:
            continue
        metadata = _metadata_of(record)
        fell_back = bool(metadata.get("fallback_triggered"))
        fallback = last.get(f"{record.path}/fallback")
        of_fallback = fallback.attempts if fell_back and fallback is not None else 0
        yield Fact(
            path=record.path,
            state=state,
            seconds=record.latency_s,
            attempts=_own_attempts(record.attempts, metadata, of_fallback),
            cost_usd=record.usage.cost_usd,
            fell_back=fell_back,
        )


def _forget(last: dict[str, StepRecord], restarted: StepRecord) -> None:
    """Drop what an earlier attempt of a step ran inside; its fallback is none of them where the record says so."""
    inside = f"{restarted.parent}/"
    spared = f"{restarted.parent}/fallback" if restarted.metadata else None
    for path in [path for path in last if path.startswith(inside)]:
        if spared is None or not f"{path}/".startswith(f"{spared}/"):
            del last[path]


def _own_attempts(attempts: int, metadata: Mapping[str, Any], of_fallback: int) -> int:
    if metadata.get("iterations") == attempts:  # a loop counts its iterations
        return 1
    return max(1, attempts - of_fallback)


def _metadata_of(record: StepRecord) -> Mapping[str, Any]:
    if not record.metadata:
        return {}
    try:
        found = json.loads(record.metadata)
    except ValueError:  # a damaged remark is no reason not to draw the run
        return {}
    return found if isinstance(found, dict) else {}
