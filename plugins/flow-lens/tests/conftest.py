"""Runs, journals, a store and the command line for the tests of flow-lens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import attrs
import flow_lens._replaying
import pytest
from flow_lens import Trace, build_trace
from flow_testkit import KernelFactory

import flow.cli
from flow import Flow, Kernel, RunRecord, StateBackend, StepRecord, Usage

START = 1_700_000_000.0
"""When the runs of tests begin, in epoch seconds."""


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Run each test in an empty directory without FLOW_* variables, as in a pipe of 80 columns."""
    for name in [name for name in os.environ if name.startswith("FLOW_") or name == "NO_COLOR"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make_run() -> Callable[..., RunRecord]:
    """Make a run: ``make_run("run-1", status="failed")``."""

    def make(run_id: str = "run-1", **fields: Any) -> RunRecord:
        values = {"pipeline": "essay", "fingerprint": "f1", "status": "completed", "epoch": 1}
        values |= {"created_at": START, "updated_at": START + 10, "input": b'"the topic of the essay"'}
        return RunRecord(run_id=run_id, **values | fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_step() -> Callable[..., StepRecord]:
    """Make the record of a finished step: ``make_step("0:a", at=1.5, took=0.5, cost=0.01)``; `at` from the start."""

    def make(path: str, at: float = 0.0, took: float = 1.0, cost: float = 0.0, **fields: Any) -> StepRecord:
        parent = fields.pop("parent", None)
        values = {
            "name": path.rpartition("/")[2].rpartition(":")[2],
            "kind": "step",
            "status": "completed",
            "output": b'"done"',
            "usage": Usage(cost_usd=cost),
        }
        return StepRecord(path=path, parent=parent or "", started_at=START + at, latency_s=took, **values | fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def trace_of(make_run: Callable[..., RunRecord]) -> Callable[..., Trace]:
    """Make a trace: ``trace_of(record, record, status="failed")``."""
    return lambda *records, **fields: build_trace(make_run(**fields), records)


@pytest.fixture
def kernel(flow_kernel: KernelFactory) -> Kernel:
    """A kernel that sees only what is in the kernel's own package."""
    return flow_kernel()


@pytest.fixture
def store(kernel: Kernel) -> StateBackend:
    """A store in memory."""
    return kernel.open_state("memory://")


@pytest.fixture
def fill(store: StateBackend, make_run: Callable[..., RunRecord]) -> Callable[..., Any]:
    """Store a run with its steps: ``await fill("run-1", record, record, status="failed")``."""

    async def put(run_id: str, *records: StepRecord, **fields: Any) -> None:
        run = make_run(run_id, **fields)
        await store.create_run(run, 3600.0 if run.owner else 0.0)
        if records:
            await store.append_steps(run_id, run.epoch, records)

    return put


@pytest.fixture
def flow_in(store: StateBackend, kernel: Kernel) -> Callable[..., Flow[Any, Any]]:
    """Make a flow whose runs are in `store`: ``flow_in(pipeline)``."""
    return lambda pipeline, **options: Flow(pipeline, state=store, kernel=kernel, **options)


@attrs.frozen
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def lens(
    store: StateBackend, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run ``flow lens`` in this process on `store`: ``lens("list", "--json")``."""
    (script,) = entry_points(group="console_scripts", name="flow")
    main = script.load()

    def store_of(option: str | None, flow_of_the_app: Any = None) -> flow.cli.Store:
        return flow.cli.Store(option or store, kernel)

    monkeypatch.setattr(flow.cli, "store_of", store_of)
    monkeypatch.setattr(flow_lens._replaying, "store_of", store_of)

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        path, modules = list(sys.path), set(sys.modules)
        try:
            code: Any = main(["lens", *arguments])
        except SystemExit as end:
            code = end.code
        finally:  # the next command is another program
            sys.path[:] = path
            for name in set(sys.modules) - modules:
                if Path(vars(sys.modules[name]).get("__file__") or "/").is_relative_to(Path.cwd()):
                    del sys.modules[name]
        printed = capsys.readouterr()
        return Done(code or 0, printed.out, printed.err)

    return run
