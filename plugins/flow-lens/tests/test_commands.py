"""``flow lens`` as it is typed: what is printed, as text and as JSON, and the exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import orjson
import pytest

from flow import Flow, StateBackend, Step, StepRecord, Usage

Lens = Callable[..., Any]
Make = Callable[..., StepRecord]
COMMANDS = ("list", "show", "trace", "diff", "replay", "stats", "export", "prune")


@pytest.fixture
def two_runs(fill: Any, make_step: Make) -> None:
    """run-1 has completed; run-2, which is newer, has failed in its second step."""

    async def put() -> None:
        await fill(
            "run-1",
            make_step("0:fetch", cost=0.25, output=b'"what was fetched"'),
            make_step("1:write", at=1, took=2, output=b'"the whole essay"'),
            usage=Usage(cost_usd=0.25, input_tokens=100),
        )
        error = "ValueError: cannot write 'what was fetched'; caused by OSError: disk"
        await fill(
            "run-2",
            make_step("0:fetch", attempts=2, output=b'"what was fetched"'),
            make_step(
                "1:write", at=1, status="failed", output=None, error=error, feedback=f"Agent failed with {error}"
            ),
            status="failed",
            created_at=1_700_000_100.0,
            error="step '1:write' failed: cannot write",
        )

    asyncio.run(put())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_and_its_exit_codes(command: str, lens: Lens) -> None:
    done = lens(command, "--help")
    assert done.code == 0
    assert "Exit codes:" in done.out


def test_help_names_every_command(lens: Lens) -> None:
    done = lens("--help")
    assert all(command in done.out for command in COMMANDS)
    assert "flow lens diff" in done.out


# -- list


@pytest.mark.usefixtures("two_runs")
def test_list_has_a_line_per_run_the_newest_first(lens: Lens) -> None:
    done = lens("list")
    _, first, second = done.out.splitlines()
    assert first.split()[:3] == ["run-2", "essay", "failed"]
    assert "step '1:write' failed" in first
    assert second.split()[:3] == ["run-1", "essay", "completed"]
    assert "$0.2500" in second
    assert done.err == ""


@pytest.mark.usefixtures("two_runs")
@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--status", "failed"], ["run-2"]),
        (["--status", "failed", "--status", "completed"], ["run-2", "run-1"]),
        (["--pipeline", "other"], []),
        (["--since", "2023-11-14T22:14:00Z"], ["run-2"]),
        (["--text", "WRITE' FAILED"], ["run-2"]),
        (["--min-cost", "0.2"], ["run-1"]),
        (["--limit", "1"], ["run-2"]),
        (["--limit", "1", "--offset", "1"], ["run-1"]),
        (["--all"], ["run-2", "run-1"]),
    ],
)
def test_list_filters_and_pages(options: list[str], found: list[str], lens: Lens) -> None:
    done = lens("list", "--json", *options)
    assert [run["run_id"] for run in json.loads(done.out)] == found


@pytest.mark.usefixtures("two_runs")
def test_list_tells_the_command_for_the_next_page(lens: Lens) -> None:
    done = lens("list", "--limit", "1", "--pipeline", "essay")
    assert done.err == "there are more: flow lens list --pipeline essay --limit 1 --offset 1\n"


def test_list_says_when_there_is_nothing(lens: Lens) -> None:
    assert lens("list").err == "no runs are stored in the store of the app\n"
    assert lens("list", "--status", "failed").err == "no such runs are stored in the store of the app\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list", "--status", "compleded"], "Did you mean completed?"),
        (["list", "--since", "yesterday"], "is no time"),
        (["show", "nothing"], "no run in the store of the app"),
        (["show", "../etc"], "cannot be a run id"),
        (["trace", "nothing"], "no run in the store of the app"),
        (["diff", "nothing", "either"], "no run in the store of the app"),
        (["stats", "--sort", "beauty"], "The orders are path, count"),
        (["prune", "--older-than", "soon"], "--older-than: 'soon' is no time"),
        (["export", "--endpoint", "http://127.0.0.1:1"], "Add --format otlp"),
        (["export", "--format", "otlp", "--endpoint", "nowhere"], "is no http address"),
        (["replay", "nothing"], "no run in the store of the app"),
        (["replay", "nothing", "--id", "new"], "--from PATH"),
        (["list", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_use_is_said_without_a_traceback(arguments: list[str], says: str, lens: Lens) -> None:
    done = lens(*arguments)
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


# -- show


@pytest.mark.usefixtures("two_runs")
def test_show_tells_steps_errors_and_causes_but_no_content(lens: Lens) -> None:
    done = lens("show", "run-2")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "✗ essay failed  run-2"
    assert any(text.split()[:3] == ["0:fetch", "step", "completed"] and "×2" in text for text in lines)
    assert "error      ValueError: cannot write '[withheld]'" in done.out
    assert "caused by  OSError: disk" in done.out
    assert "feedback" not in done.out  # it says the same
    assert "what was fetched" not in done.out


@pytest.mark.usefixtures("two_runs")
def test_show_adds_content_when_asked(lens: Lens) -> None:
    inputs, outputs = lens("show", "run-1", "--inputs").out, lens("show", "run-1", "--outputs").out
    assert 'input  "the topic of the essay"' in inputs
    assert 'input  "what was fetched"' in inputs
    assert "the whole essay" not in inputs
    assert 'output  "the whole essay"' in outputs
    assert "the topic" not in outputs
    both = lens("show", "run-1", "--content").out
    assert "the topic of the essay" in both
    assert "the whole essay" in both


@pytest.mark.usefixtures("two_runs")
def test_show_of_one_step_is_in_full(lens: Lens) -> None:
    done = lens("show", "run-2", "--step", "write")
    assert done.out.splitlines()[0] == "✗ 1:write failed"
    assert "started    2023-11-14T22:13:21.000+00:00 (" in done.out
    assert (
        json.loads(lens("show", "run-1", "--step", "0:fetch", "--outputs", "--json").out)["output"]
        == "what was fetched"
    )
    missing = lens("show", "run-2", "--step", "1:wriet")
    assert missing.code == 2
    assert "1:write" in missing.err


@pytest.mark.usefixtures("two_runs")
def test_show_in_json_has_the_run_and_its_steps(lens: Lens) -> None:
    values = json.loads(lens("show", "run-2", "--json").out)
    assert (values["run_id"], values["status"]) == ("run-2", "failed")
    fetch, write = values["steps"]
    assert (fetch["path"], fetch["attempts"], fetch["started_at"]) == ("0:fetch", 2, "2023-11-14T22:13:20.000+00:00")
    assert write["error"] == "ValueError: cannot write '[withheld]'"
    assert write["caused_by"] == ["OSError: disk"]
    assert "output" not in fetch


def test_show_tells_what_a_paused_run_asks(fill: Any, lens: Lens) -> None:
    pending = orjson.dumps([{"path": "1:ok", "message": "Publish 'the topic of the essay'?\x1b[2J"}])
    asyncio.run(fill("run-1", status="paused", pending=pending, context=b'{"topic": "owls"}'))
    done = lens("show", "run-1", "--context")
    assert "asks     1:ok: Publish '[withheld]'?\\x1b[2J" not in done.out  # content was asked for
    assert "asks     1:ok: Publish 'the topic of the essay'?\\x1b[2J" in done.out
    assert '"topic": "owls"' in done.out
    assert "Publish '[withheld]'?" in lens("show", "run-1").out


def test_show_follow_tells_steps_as_they_come_and_the_end(fill: Any, make_step: Make, lens: Lens) -> None:
    asyncio.run(
        fill(
            "run-1", make_step("0:a"), make_step("1:b", at=1, status="failed", error="ValueError: no"), status="failed"
        )
    )
    done = lens("show", "run-1", "--follow")
    assert done.code == 0
    lines = done.out.splitlines()
    assert "    1.0 s  ✓ 0:a" in lines
    assert "    1.0 s  ✗ 1:b" in lines
    assert any("ValueError: no" in text for text in lines)


@pytest.mark.parametrize("command", ["show", "trace"])
def test_follow_that_is_interrupted_ends_with_130(
    command: str, fill: Any, lens: Lens, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(fill("run-1", status="running", owner="somebody"))

    async def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    import flow_lens._following

    monkeypatch.setattr(flow_lens._following.follow, "__kwdefaults__", {"interval_s": 1.0, "sleep": interrupted})
    assert lens(command, "run-1", "--follow").code == 130


# -- trace


@pytest.mark.usefixtures("two_runs")
def test_trace_in_a_pipe_has_a_line_per_step_with_seconds(lens: Lens) -> None:
    done = lens("trace", "run-1")
    header, *lines = done.out.splitlines()
    assert header.split()[:4] == ["PATH", "STATUS", "START", "TOOK"]
    assert [text.split()[:4] for text in lines] == [
        ["0:fetch", "completed", "0.000", "1.000"],
        ["1:write", "completed", "1.000", "2.000"],
    ]


@pytest.mark.usefixtures("two_runs")
def test_trace_is_drawn_where_a_width_is_given(lens: Lens) -> None:
    done = lens("trace", "run-2", "--width", "60", "--ascii")
    assert done.out.isascii()
    assert done.out.splitlines()[0] == "x essay failed  run-2"
    assert all(len(text) <= 60 for text in done.out.splitlines())
    assert "###" in done.out
    assert "what was fetched" not in done.out


@pytest.mark.usefixtures("two_runs")
def test_trace_in_json_says_where_steps_lie_on_the_axis(lens: Lens) -> None:
    values = json.loads(lens("trace", "run-1", "--json").out)
    assert values["axis_s"] == 3.0
    assert [(step["offset_s"], step["critical"]) for step in values["steps"]] == [(0.0, True), (1.0, True)]
    assert values["cuts"] == []


@pytest.mark.usefixtures("two_runs")
def test_trace_follow_ends_with_the_run(lens: Lens) -> None:
    assert "0:fetch" in lens("trace", "run-1", "--follow").out


# -- diff, stats


@pytest.mark.usefixtures("two_runs")
def test_diff_tells_the_first_difference_and_ends_with_1(lens: Lens) -> None:
    done = lens("diff", "run-1", "run-2")
    assert done.code == 1
    assert "0:fetch: attempts differs\n  - 1\n  + 2" in done.out
    assert "0 steps the same, 2 different" in done.out
    values = json.loads(lens("diff", "run-1", "run-2", "--json").out)
    assert values["first"] == {"path": "0:fetch", "what": "attempts", "a": 1, "b": 2}
    assert values["cost_usd"] == {"a": 0.25, "b": 0.0}


@pytest.mark.usefixtures("two_runs")
def test_diff_of_equal_runs_ends_with_0(lens: Lens) -> None:
    done = lens("diff", "run-1", "run-1")
    assert done.code == 0
    assert "the runs are the same" in done.out


@pytest.mark.usefixtures("two_runs")
def test_stats_have_runs_by_status_and_steps(lens: Lens) -> None:
    done = lens("stats", "--sort", "failures")
    assert "failed" in done.out
    table = done.out[done.out.index("STEP") :].splitlines()
    assert table[1].split()[:2] == ["write", "2"]
    assert "1 (50%)" in table[1]
    assert done.err == "from 2 runs\n"
    values = json.loads(lens("stats", "--json", "--limit", "1").out)
    assert values["count"] == 1
    assert values["steps"][0]["attempts"] == 2


def test_stats_of_nothing_say_so(lens: Lens) -> None:
    assert "no such runs" in lens("stats").err


# -- export, prune


@pytest.mark.usefixtures("two_runs")
def test_export_has_a_json_object_per_run(lens: Lens) -> None:
    done = lens("export")
    values = [json.loads(text) for text in done.out.splitlines()]
    assert [(run["run_id"], len(run["steps"])) for run in values] == [("run-2", 2), ("run-1", 2)]
    assert "what was fetched" not in done.out
    (content,) = [json.loads(text) for text in lens("export", "run-1", "--content").out.splitlines()]
    assert (content["input"], content["output"]) == ("the topic of the essay", "the whole essay")
    assert content["steps"][1]["input"] == "what was fetched"


@pytest.mark.usefixtures("two_runs")
def test_export_of_spans_has_a_request_per_line(lens: Lens) -> None:
    done = lens("export", "--format", "otlp", "--status", "failed", "--service", "audit")
    (message,) = [json.loads(text) for text in done.out.splitlines()]
    resource = message["resourceSpans"][0]
    assert resource["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "audit"}}]
    assert [span["name"] for span in resource["scopeSpans"][0]["spans"]] == ["invoke_workflow essay", "fetch", "write"]


@pytest.mark.usefixtures("two_runs")
def test_export_to_a_receiver_that_is_not_there_ends_with_1(lens: Lens) -> None:
    done = lens("export", "--format", "otlp", "--endpoint", "http://127.0.0.1:1/v1/traces")
    assert done.code == 1
    assert "cannot be reached" in done.err


@pytest.mark.usefixtures("two_runs")
def test_prune_says_what_it_would_do_and_does_it(lens: Lens, store: StateBackend) -> None:
    rehearsed = lens("prune", "--older-than", "1d", "--dry-run")
    assert rehearsed.out.splitlines()[0] == "2 runs would be removed"
    assert sorted(rehearsed.out.splitlines()[1:]) == ["  1 completed of essay", "  1 failed of essay"]
    assert json.loads(lens("prune", "--older-than", "1d", "--dry-run", "--json").out)["removed"] is None
    done = lens("prune", "--older-than", "1d", "--keep", "1")
    assert done.out.splitlines() == ["1 run removed", "  1 completed of essay"]
    assert [run.run_id for run in asyncio.run(store.list_runs())] == ["run-2"]


def test_a_damaged_run_is_named_and_the_others_are_exported(fill: Any, make_step: Make, lens: Lens) -> None:
    asyncio.run(fill("bad", make_step("0:a", metadata=b"{")))
    asyncio.run(fill("good", make_step("0:a")))
    done = lens("export")
    assert done.code == 4
    assert [json.loads(text)["run_id"] for text in done.out.splitlines()] == ["good"]
    assert "run 'bad': the record of step '0:a' cannot be read" in done.err
    assert lens("show", "bad").code == 4
    assert lens("stats").code == 4


# -- replay


APP = """
from pathlib import Path
from flow import Pipeline, Step

def note(word):
    with Path("ledger").open("a") as ledger:
        ledger.write(f"{word} ")

def fetch(topic):
    note("fetch")
    return f"notes on {topic}"

def write(notes):
    note("write")
    if not Path("fixed").exists():
        raise ValueError("no ink")
    return f"essay from {notes}"

pipeline = Pipeline([Step("fetch", fetch), Step("write", write)], name="essay")
"""


@pytest.fixture
def failed_run(place: Path, store: StateBackend, lens: Lens) -> Path:
    """A run of app.py that has failed in its second step."""
    (place / "app.py").write_text(dedent(APP))
    from flow.cli import load_flow

    path = list(sys.path)
    flow: Flow[Any, Any] = load_flow("app.py").evolve(state=store)
    result = flow.run("owls", run_id="run-1", metadata={"app": str(place / "app.py")})
    assert not result.success
    sys.path[:] = path  # the command is another program
    del sys.modules["app"]
    return place / "ledger"


def test_replay_executes_nothing_and_tells_what_was_recorded(failed_run: Path, lens: Lens) -> None:
    before = failed_run.read_text()
    done = lens("replay", "run-1")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "failed: 2 steps replayed, none executed"
    assert "ValueError: no ink" in done.out
    assert done.err == ""
    assert failed_run.read_text() == before
    values = json.loads(lens("replay", "run-1", "--content", "--json").out)
    assert (values["replayed"], values["executed"], values["ended"]) == (2, 0, "failed")
    assert values["steps"][0]["output"] == "notes on owls"


def test_replay_from_a_step_executes_the_rest_as_a_new_run(
    failed_run: Path, lens: Lens, store: StateBackend, place: Path
) -> None:
    (place / "fixed").touch()
    done = lens("replay", "run-1", "--from", "write", "--id", "run-2", "--content")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "completed: run run-2, 1 step replayed, 1 step executed"
    assert '"essay from notes on owls"' in done.out
    assert failed_run.read_text() == "fetch write write "
    old, new = asyncio.run(store.load_run("run-1")), asyncio.run(store.load_run("run-2"))
    assert old is not None
    assert old.status == "failed"
    assert new is not None
    assert new.metadata["forked_from"] == "run-1"


def test_a_fork_that_fails_ends_with_1(failed_run: Path, lens: Lens) -> None:
    done = lens("replay", "run-1", "--from", "1:write", "--json")
    assert done.code == 1
    values = json.loads(done.out)
    assert (values["forked_from"], values["replayed"], values["executed"]) == ("run-1", 1, 1)
    assert values["status"] == "failed"


def test_a_fork_at_a_step_that_is_not_there_names_those_that_are(failed_run: Path, lens: Lens) -> None:
    done = lens("replay", "run-1", "--from", "2:print")
    assert done.code == 2
    assert "1:write" in done.err


def test_a_changed_pipeline_is_refused(failed_run: Path, lens: Lens, place: Path) -> None:
    (place / "other.py").write_text(dedent(APP).replace('"fetch", fetch', '"get", fetch'))
    done = lens("replay", "run-1", "--app", "other.py")
    assert done.code == 2
    assert "began with another pipeline" in done.err
    assert "--on-change continue" in done.err


def test_an_app_outside_the_directory_is_not_imported_because_a_store_says_so(
    store: StateBackend, lens: Lens, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away = tmp_path_factory.mktemp("away") / "app.py"
    away.write_text("raise SystemExit('imported')")
    Flow(Step("a", str.upper), state=store).run("x", run_id="run-1", metadata={"app": str(away)})
    done = lens("replay", "run-1")
    assert done.code == 2
    assert "--app" in done.err
    assert "imported" not in done.out.replace("is imported", "")
