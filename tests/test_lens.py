"""``flow lens`` on real runs in SQLite and in files: looked at, followed, compared, played again, forked, exported."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import attrs
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flow._cli.main import main
from flow._kernel import default_kernel
from tests.places import Done, Place

# What a step does is written to a ledger, one line with one write; `slow` waits for a file.
APP = """
import asyncio, os
from pathlib import Path
from flow import Pipeline, Step, step
from flow_hitl import approval
from flow_loop import loop_until
from flow_parallel import map_over

def note(line):
    ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, f"{line}\\n".encode())
    os.close(ledger)

@step
async def search(topic: str) -> list[str]:
    note("search")
    return [f"{topic} {number}" for number in range(30)]

@step(retries=2)
async def read(page: str, run) -> str:
    note(f"read {page}")
    run.usage.add(cost_usd=0.01, input_tokens=100)
    if page.endswith(" 17") and run.attempt == 1:
        raise ConnectionError("reset by peer")
    return page

@step
async def count(pages) -> int:
    note("count")
    return len(pages) if isinstance(pages, list) else pages + 1

@step
async def publish(number: int) -> str:
    note("publish")
    if not Path("fixed").exists():
        try:
            raise OSError("disk is full")
        except OSError as error:
            raise RuntimeError("cannot publish") from error
    return f"published {number}"

@step
async def slow(number: int) -> int:
    note("slow")
    while not Path("go").exists():
        print("ready", flush=True)
        await asyncio.Event().wait()
    return number

reading = map_over("read", read)
counting = loop_until("improve", loop_body_pipeline=count >> Step("same", lambda n: n),
                      exit_condition_callable=lambda out, ctx: out >= 32, max_loops=5)
essay = Pipeline([search, reading, counting, approval("ok", "Publish {{ data }} pages?"), publish], name="essay")
waiting = Pipeline([search, count, slow, publish], name="waiting")
"""


@attrs.frozen
class LensPlace(Place):
    """A place whose runs are looked into."""

    def lens(self, *arguments: str) -> Done:
        """Run ``flow lens``; in this process, unless it imports the app."""
        if arguments[0] == "replay":
            return self.flow("lens", *arguments)
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            try:
                code: Any = main(["lens", *arguments])
            except SystemExit as end:
                code = end.code
        return Done(code or 0, out.getvalue(), err.getvalue())

    def values(self, *arguments: str) -> Any:
        return json.loads(self.lens(*arguments, "--json").out)


@pytest.fixture(params=["sqlite", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LensPlace:
    """A place with a store of each kind."""
    for name in [name for name in os.environ if name.startswith("FLOW_")]:
        monkeypatch.delenv(name)
    return place_in(
        tmp_path, "sqlite:///runs.db" if request.param == "sqlite" else f"file://{tmp_path}/runs", monkeypatch
    )


def place_in(home: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> LensPlace:
    """A place in an empty directory, which is that of this process too."""
    (home / "app.py").write_text(APP)
    monkeypatch.chdir(home)
    monkeypatch.setenv("FLOW_STATE", url)
    monkeypatch.setenv("COLUMNS", "80")
    default_kernel.cache_clear()
    return LensPlace(home, url)


@pytest.fixture(autouse=True)
def forget_the_kernel() -> Iterator[None]:
    """The kernel of a test knows its store; the next test has another one."""
    yield
    default_kernel.cache_clear()


@pytest.fixture
def failed(place: LensPlace) -> LensPlace:
    """A run that was paused, answered, and has failed when it published."""
    assert place.flow("run", "app.py:essay", "-i", "tides", "--run-id", "tides-1").code == 0
    assert place.flow("resume", "tides-1", "--answer", "yes").code == 1
    return place


def test_a_run_is_listed_shown_and_drawn(failed: LensPlace) -> None:
    (run,) = failed.values("list", "--text", "TIDES")
    assert (run["run_id"], run["status"]) == ("tides-1", "failed")
    shown = failed.lens("show", "tid")
    assert shown.code == 0
    assert "error      RuntimeError: cannot publish" in shown.out
    assert "caused by  OSError: disk is full" in shown.out
    assert "tides 3" not in shown.out  # content
    assert 'output  "tides 17"' in failed.lens("show", "tides-1", "--outputs").out
    steps = failed.values("trace", "tides-1")["steps"]
    by_path = {step["path"]: step for step in steps}
    assert by_path["1:read/17/0:read"]["attempts"] == 2
    assert by_path["2:improve/i3/0:count"]["status"] == "completed"
    assert by_path["3:ok"]["answered_at"] is not None
    drawn = failed.lens("trace", "tides-1", "--width", "80")
    assert all(len(line) <= 80 for line in drawn.out.splitlines())
    assert "more: " in drawn.out
    assert "17/0:read" in drawn.out  # folded it may not be: it took longest or it failed


def test_a_replay_returns_answers_too_and_executes_nothing(failed: LensPlace) -> None:
    before = failed.ledger
    done = failed.lens("replay", "tides-1", "--content")
    assert (done.code, failed.ledger) == (0, before)
    assert (
        done.out.splitlines()[-1]
        == f"failed: {len(failed.values('show', 'tides-1')['steps'])} steps replayed, none executed"
    )
    assert "answer    true" in done.out


def test_a_fork_runs_from_a_step_on_and_is_compared(failed: LensPlace) -> None:
    (failed.home / "fixed").touch()
    before = len(failed.ledger)
    done = failed.lens("replay", "tides-1", "--from", "4:publish", "--id", "tides-2")
    assert done.code == 0
    assert failed.ledger[before:] == ["publish"]
    compared = failed.values("diff", "tides-1", "tides-2")
    assert compared["first"]["path"] == "4:publish"
    assert (compared["first"]["what"], compared["different"]) == ("status", ["4:publish"])
    assert failed.lens("diff", "tides-1", "tides-2").code == 1
    assert failed.lens("diff", "tides-2", "tides-2").code == 0
    assert failed.values("show", "tides-2")["metadata"]["forked_from"] == "tides-1"


def test_a_fork_in_a_loop_executes_the_rest_of_it_and_asks_again(failed: LensPlace) -> None:
    before = len(failed.ledger)
    values = failed.values("replay", "tides-1", "--from", "2:improve/i3/0:count")
    assert values["status"] == "paused"
    assert failed.ledger[before:] == ["count"]
    assert values["forked_from"] == "tides-1"


def test_statistics_count_items_and_iterations_together(failed: LensPlace) -> None:
    values = failed.values("stats", "--pipeline", "essay")
    steps = {step["step"]: step for step in values["steps"]}
    assert (steps["read/*/read"]["count"], steps["read/*/read"]["retried"]) == (30, 1)
    assert steps["improve/i*/count"]["count"] == 3
    assert steps["publish"]["failure_rate"] == 1.0
    assert steps["read/*/read"]["cost_usd"] == pytest.approx(0.31)
    assert [(run["status"], run["count"]) for run in values["runs"]] == [("failed", 1)]


def test_exported_spans_are_messages_of_the_protocol(failed: LensPlace) -> None:
    lines = failed.lens("export", "--format", "otlp").out.splitlines()
    assert lines == failed.lens("export", "--format", "otlp").out.splitlines()
    spans = [span for line in lines for span in decoded(json.loads(line))]
    by_path = {attribute(span, "flow.step.path"): span for span in spans}
    assert by_path["1:read/3/0:read"].parent_span_id == by_path["1:read"].span_id
    assert by_path["1:read"].parent_span_id == by_path[None].span_id
    assert by_path["4:publish"].status.code == 2
    assert len({span.trace_id for span in spans}) == 1
    costs = [cost for span in spans if (cost := attribute(span, "flow.usage.cost_usd"))]
    assert sum(costs) == pytest.approx(0.31)


def decoded(message: dict[str, Any]) -> list[Any]:
    """The spans of a message in the JSON form of OTLP, which has hexadecimal ids where protobuf's own has base64."""
    for resource in message["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    request = ParseDict(message, ExportTraceServiceRequest())
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def attribute(span: Any, name: str) -> Any:
    for item in span.attributes:
        if item.key == name:
            return getattr(item.value, item.value.WhichOneof("value"))
    return None


def test_a_run_is_followed_while_another_process_executes_it(place: LensPlace) -> None:
    with place.start("run", "app.py:waiting", "-i", "owls", "--run-id", "owls-1") as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "ready\n"
        with place.start("lens", "show", "owls-1", "--follow", "--interval", "0.05") as follower:
            assert follower.stdout is not None
            told: list[str] = []
            while not told or "1:count" not in told[-1]:
                told.append(follower.stdout.readline())
                assert told[-1], follower.communicate()
            assert told[0] == "» waiting running  owls-1\n"
            runner.send_signal(signal.SIGINT)
            rest, _ = follower.communicate(timeout=60)
        assert follower.returncode == 0
        assert "∅ waiting interrupted  owls-1" in rest


def test_following_is_interrupted_with_130(place: LensPlace) -> None:
    with place.start("run", "app.py:waiting", "-i", "owls", "--run-id", "owls-1") as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "ready\n"
        with place.start("lens", "show", "owls-1", "--follow", "--interval", "30") as follower:
            assert follower.stdout is not None
            while "1:count" not in (line := follower.stdout.readline()):
                assert line
            follower.send_signal(signal.SIGINT)
            follower.communicate(timeout=60)
        assert follower.returncode == 130


def test_a_fork_that_is_interrupted_can_be_resumed(place: LensPlace) -> None:
    place.home.joinpath("go").touch()
    assert place.flow("run", "app.py:waiting", "-i", "owls", "--run-id", "owls-1").code == 1
    place.home.joinpath("go").unlink()
    with place.start("lens", "replay", "owls-1", "--from", "slow", "--id", "owls-2") as fork:
        assert fork.stdout is not None
        assert fork.stdout.readline() == "ready\n"
        fork.send_signal(signal.SIGINT)
        out, _ = fork.communicate(timeout=60)
    assert fork.returncode == 130
    assert "interrupted: run owls-2" in out
    place.home.joinpath("go").touch()
    place.home.joinpath("fixed").touch()
    assert place.flow("resume", "owls-2", "-q").out == "published 30\n"


def test_damaged_runs_are_named_and_the_others_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FLOW_")]:
        monkeypatch.delenv(name)
    place = place_in(tmp_path, "sqlite:///runs.db", monkeypatch)
    (tmp_path / "fixed").touch()
    (tmp_path / "go").touch()
    for number in range(3):
        assert place.flow("run", "app.py:waiting", "-i", "x", "--run-id", f"run-{number}").code == 0
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection, connection:
        connection.execute("UPDATE runs SET pipeline = 'forged' WHERE run_id = 'run-1'")
        connection.execute("UPDATE steps SET output = '8' WHERE run_id = 'run-0' AND path = '1:count'")
    done = place.lens("list", "--json")
    assert done.code == 4
    assert [run["run_id"] for run in json.loads(done.out)] == ["run-2", "run-0"]
    assert "run 'run-1' is damaged" in done.err
    assert place.lens("show", "run-1").code == 4
    assert place.lens("show", "run-0").code == 4
    exported = place.lens("export")
    assert exported.code == 4
    assert [json.loads(line)["run_id"] for line in exported.out.splitlines()] == ["run-2"]


def test_old_runs_are_pruned(failed: LensPlace) -> None:
    assert failed.lens("prune", "--older-than", "1h").out == "0 runs removed\n"
    assert failed.lens("prune", "--older-than", "2099-01-01", "--dry-run").out.startswith("1 run would be removed\n")
    assert failed.lens("prune", "--older-than", "2099-01-01").out == "1 run removed\n  1 failed of essay\n"
    assert failed.lens("list").err.startswith("no runs are stored")


@pytest.mark.parametrize("command", ["list", "stats", "export", "prune --older-than 1d"])
def test_a_store_that_is_not_there_is_wrong_use(command: str, place: LensPlace) -> None:
    done = place.lens(*command.split(), "--state", "sqlite:///nothing.db")
    assert done.code == 2
    assert "nothing.db" in done.err
