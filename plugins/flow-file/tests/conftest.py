"""Records and stores for the tests of flow-file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flow import RunRecord, StepRecord


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The directory of a store, not made yet."""
    return tmp_path / "store"


@pytest.fixture
def make_run() -> Callable[..., RunRecord]:
    """Make a run: ``make_run("run-1", status="failed")``."""

    def make(run_id: str = "run-1", **fields: Any) -> RunRecord:
        values = {"pipeline": "audit", "fingerprint": "f1", "created_at": 1_700_000_000.0, "input": b'{"a": 1}'}
        return RunRecord(run_id=run_id, **values | fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_step() -> Callable[..., StepRecord]:
    """Make a finished step: ``make_step("0:a", output=b'"text"')``."""

    def make(path: str, **fields: Any) -> StepRecord:
        values = {"name": path.partition(":")[2], "kind": "step", "status": "completed", "output": b'{"b": [2]}'}
        return StepRecord(path=path, parent="", **values | fields)  # type: ignore[arg-type]

    return make
