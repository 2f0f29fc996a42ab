"""Runs stored by released versions are resumed by this one."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from tests.reliability import golden
from tests.reliability.stores import open_store, url_of

STORED = sorted(path for path in golden.STORED.glob("*/*"))


@pytest.fixture(params=STORED, ids=lambda path: f"{path.parent.name}-{path.name}")
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a copy of a stored version."""
    shutil.copytree(request.param, tmp_path / "copy")
    golden.executed.clear()
    return url_of(request.param.name, tmp_path / "copy")


@pytest.mark.parametrize(
    ("run_id", "executed"),
    [
        ("crashed", ["letter", "remember", "send"]),
        ("paused", ["send"]),
        ("answered", ["send"]),
        ("failed", ["send"]),
    ],
)
async def test_a_run_stored_by_a_released_version_is_resumed(stored: str, run_id: str, executed: list[str]) -> None:
    store = open_store(stored)
    flow = golden.flow_on(store)
    result = await flow.resume_async(run_id)
    if result.status == "paused":
        assert result.pending[0].message == "Send Ada: 14.50 on 2026-01-02?"
        result = await flow.resume_async(run_id, {"yes": True})
    assert result.output == golden.OUTPUT
    assert [name for name in golden.executed if name in ("letter", "remember", "send")] == executed
    assert set(golden.executed) <= {"keep", "text", *executed}
    context = result.final_pipeline_context
    assert isinstance(context, golden.Order)
    assert context.totals == {"all": Decimal("14.50")}
    assert context.notes == ["read order", "Ada: 14.50 on 2026-01-02"]
    await store.aclose()


def test_a_version_has_stored_runs_for_every_store_that_lasts() -> None:
    assert {path.name for path in STORED} == {"sqlite", "file"}
