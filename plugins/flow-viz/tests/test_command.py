"""`flow viz`: formats, files, stored runs, and what it says when it is used wrongly."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from flow_viz._command import app as command
from flow_viz._picture import _can_show
from typer.testing import CliRunner

from flow import Flow, FlowError, RunRecord, StateBackend, StateCorrupt, Step
from flow.cli import Store

APP = """
from flow import Step

def fetch(url: str) -> bytes:
    return url.encode()

pipeline = Step("fetch", fetch, retries=2) >> Step("count", len)
many = Step("s0", len)
for number in range(1, 200):
    many = many >> Step(f"s{number}", len)
"""


@pytest.fixture
def app_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"app_{uuid.uuid4().hex}"  # modules are imported once in a process
    (tmp_path / f"{name}.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    return f"{name}.py"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> StateBackend:
    """A store in memory that the command opens for every --state."""
    kernel = Flow(Step("a", len)).kernel
    backend = kernel.open_state("memory://")
    monkeypatch.setattr("flow_viz._picture.store_of", lambda option, flow: Store(backend, kernel))
    return backend


def viz(*arguments: str, **options: Any) -> Any:
    outcome = CliRunner().invoke(command, list(arguments), **options)
    if isinstance(outcome.exception, FlowError):
        raise outcome.exception
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    return outcome


@pytest.mark.parametrize(
    ("format", "beginning"),
    [("mermaid", "flowchart TB\n"), ("dot", 'digraph "pipeline" {'), ("svg", "<svg "), ("text", "pipeline\n├─ fetch")],
)
def test_formats(app_file: str, format: str, beginning: str) -> None:
    assert viz(app_file, "--format", format).stdout.startswith(beginning)


def test_text_is_what_comes_without_a_format(app_file: str) -> None:
    assert viz(f"{app_file}:pipeline", "--no-types").stdout == "pipeline\n├─ fetch  2 retries\n└─ count\n"


@pytest.mark.parametrize(
    ("name", "beginning"), [("p.mmd", "flowchart"), ("p.gv", "digraph"), ("p.svg", "<svg"), ("p", "pipe")]
)
def test_name_of_the_file_tells_the_format(app_file: str, name: str, beginning: str) -> None:
    outcome = viz(app_file, "--output", name)
    assert outcome.stdout == ""
    assert outcome.stderr == f"{name}: pipeline, 2 steps\n"
    assert Path(name).read_text(encoding="utf-8").startswith(beginning)


def test_json_tells_what_was_drawn(app_file: str) -> None:
    found = json.loads(viz(f"{app_file}:many", "--format", "mermaid", "--max-nodes", "10", "--json").stdout)
    drawing = found.pop("drawing")
    assert drawing.startswith("flowchart TB\n")
    assert found == {
        "pipeline": "pipeline",
        "format": "mermaid",
        "steps": 200,
        "drawn": 8,
        "run_id": None,
        "status": None,
        "output": None,
    }


def test_what_is_folded_is_said_beside_the_drawing(app_file: str) -> None:
    outcome = viz(f"{app_file}:many", "--format", "svg")
    assert outcome.stderr.endswith("folded; --max-nodes 200 draws them all\n")
    ElementTree.fromstring(outcome.stdout)


def test_direction_is_taken_in_any_case(app_file: str) -> None:
    assert viz(app_file, "-f", "mermaid", "--direction", "lr").stdout.startswith("flowchart LR\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "png"], "no format 'png'"),
        (["--direction", "LR"], "text has no direction"),
        (["--format", "svg", "--direction", "XY"], "direction must be TB or LR"),
        (["--format", "svg", "--ascii"], "--ascii is for text only"),
        (["--max-nodes", "2"], "max_nodes must be at least 8"),
        (["--state", "memory://x"], "--state is the store of a run"),
        (["--output", "nowhere/p.svg"], "nowhere/p.svg cannot be written: No such file"),
        (["--run", "r1"], "no state store is named"),
    ],
)
def test_wrong_use_is_explained(app_file: str, arguments: list[str], message: str) -> None:
    with pytest.raises(FlowError, match=message):
        viz(app_file, *arguments)


def test_something_must_be_named() -> None:
    with pytest.raises(FlowError, match="name what is to be drawn"):
        viz()


# -- stored runs


def fails(data: str) -> str:
    raise ValueError("no")


def test_stored_run_is_drawn_without_its_app(store: StateBackend) -> None:
    flow = Flow(Step("a", str.strip) >> Step("bad", fails) >> Step("c", len), state=store)
    run_id = flow.run("x").run_id
    text = viz("--run", run_id[:14], "--state", "memory://").stdout
    assert text.splitlines()[1] == f"run {run_id}"
    assert [line.split()[1] for line in text.splitlines()[-3:]] == ["✓", "✗", "·"]
    found = json.loads(viz("--run", run_id, "--state", "memory://", "--json").stdout)
    assert (found["run_id"], found["status"], found["steps"]) == (run_id, "failed", 3)


def test_run_is_drawn_as_it_was_and_not_as_its_app_is_now(store: StateBackend, app_file: str) -> None:
    run_id = Flow(Step("old", str.strip), state=store).run("x").run_id
    text = viz(app_file, "--run", run_id, "--state", "memory://").stdout
    assert "✓ old" in text
    assert "fetch" not in text


@pytest.mark.parametrize("kept", [b"not json", b"[]", b'{"name": 1}', b"{" * 100_000])
async def test_damaged_structure_is_no_traceback(store: StateBackend, kept: bytes) -> None:
    flow = Flow(Step("a", str.strip), state=store)
    run_id = (await flow.run_async("x")).run_id
    await store.save_pipeline(flow.pipeline.fingerprint, kept)
    with pytest.raises(StateCorrupt, match=r"stored pipeline of run .* cannot be read"):
        await asyncio.to_thread(viz, "--run", run_id, "--state", "memory://")


def test_unknown_run_is_named(store: StateBackend) -> None:
    with pytest.raises(FlowError, match=r"no run in .* begins with 'zzz'"):
        viz("--run", "zzz", "--state", "memory://")


async def test_run_whose_pipeline_was_not_stored_needs_its_app(store: StateBackend, app_file: str) -> None:
    run = RunRecord(run_id="r1", pipeline="old", fingerprint="gone", created_at=1.0, updated_at=2.5, status="completed")
    await store.create_run(run)
    with pytest.raises(FlowError, match="the pipeline of run r1 was not stored with it"):
        await asyncio.to_thread(viz, "--run", "r1", "--state", "memory://")
    drawn = await asyncio.to_thread(viz, app_file, "--run", "r1", "--state", "memory://")
    assert drawn.stdout.splitlines()[:4] == [
        "✓ old",
        "run r1",
        "completed in 1.5 s",
        "├─ · fetch  str → bytes · 2 retries",
    ]


# -- the program


def test_program_knows_the_command(flow_tester: Any) -> None:
    flow_tester.write("app.py", APP)
    outcome = flow_tester.run("viz", "app.py:pipeline", "--format", "mermaid").assert_success()
    assert outcome.stdout.startswith("flowchart TB\n")
    assert "flow viz app.py" in flow_tester.run("viz", "--help").assert_success().stdout
    flow_tester.run("viz", "nothing.py").assert_failed(code=2, error="nothing.py does not exist").no_traceback()


def test_encoding_without_lines_gets_ascii(flow_tester: Any) -> None:
    flow_tester.write("app.py", APP)
    outcome = flow_tester.run("viz", "app.py:pipeline", env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
    assert outcome.assert_success().stdout.splitlines()[1].startswith("|- fetch")


@pytest.mark.parametrize(
    ("encoding", "can"), [("utf-8", True), ("ascii", False), ("latin-1", False), (None, False), ("x-none", False)]
)
def test_what_an_encoding_can_show(encoding: str | None, can: bool) -> None:
    assert _can_show(encoding) is can


def test_a_format_of_another_renderer_is_drawn_by_it(app_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def arrows(pipeline: Any) -> str:
        return " -> ".join(step.name for step in pipeline)

    monkeypatch.setattr("flow_viz._picture.find_renderer", {"arrows": arrows}.__getitem__)
    assert viz(app_file, "--format", "arrows").stdout == "fetch -> count\n"
    with pytest.raises(FlowError, match="arrows draws pipelines and no runs"):
        viz(app_file, "--format", "arrows", "--run", "r1", "--state", "memory://")
