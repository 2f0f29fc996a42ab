"""Records for the state suite: of runs and steps, with every field set."""

from __future__ import annotations

from typing import Any

import attrs

from flow import RunRecord, StepRecord, Usage

# What a store keeps up to date by itself.
KEPT_BY_THE_STORE: dict[str, Any] = {"updated_at": 0.0, "owner": None, "epoch": 0, "lease_until": 0.0}

HOSTILE = ("ünïcødé 🜁 \u2028", "'; DROP TABLE runs; --", 'quo"ted\\', "per%cent_under", "new\nline\ttab", " padded ")


def run_record(run_id: str = "run-1", **fields: Any) -> RunRecord:
    """Return a record of a run, every field different from its default."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "pipeline": "audit",
        "fingerprint": "f1",
        "trace_id": f"trace-of-{run_id}",
        "input": b'{"url": "https://example.org"}',
        "context": b'{"topic": "x"}',
        "created_at": 1_700_000_000.123456,
        "updated_at": 1_700_000_000.123456,
        "deadline_at": 1_900_000_000.5,
        "recoveries": 2,
        "usage": Usage(0.125, 10, 20, 3),
        "error": "none yet",
        "pending": b"[]",
        "wake_at": 1_800_000_000.75,
        "metadata": {"app": "app.py"},
    }
    return RunRecord(**values | fields)


def step_record(path: str, **fields: Any) -> StepRecord:
    """Return a record of a step, every field different from its default."""
    values: dict[str, Any] = {
        "path": path,
        "parent": path.rpartition("/")[0],
        "name": path.rpartition(":")[2],
        "kind": "step",
        "status": "completed",
        "output": f'"output of {path}"'.encode(),
        "typed": False,
        "changes": b'{"topic": "y"}',
        "metadata": b'{"validation_passed": true}',
        "usage": Usage(0.25, 1, 2, 1),
        "attempts": 2,
        "started_at": 1_700_000_001.25,
        "latency_s": 0.5,
        "feedback": "it was refused once",
        "error": "ValueError: once",
    }
    return StepRecord(**values | fields)


def comparable(run: RunRecord | None) -> RunRecord | None:
    """Return the record without what a store changes by itself."""
    return None if run is None else attrs.evolve(run, **KEPT_BY_THE_STORE)
