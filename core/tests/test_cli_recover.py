"""``flow recover``: what is continued with which app, what is left alone, how it is told, and the exit codes."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from core.tests.command_line import KEPT, Done, start
from core.tests.fake_site import Site
from flow._lease import new_owner, retire_owner

# A step that does what the file beside it says: there is a word for each run, by its input.
APP = """
import sys
from pathlib import Path

@step
async def work(data):
    print(f"work on {data}", file=sys.stderr)
    words = Path("words").read_text().split() if Path("words").exists() else []
    if data in words:
        raise ValueError(f"no {data} today")
    if f"ask-{data}" in words:
        raise PauseSignal("Which colour?")
    return f"{data} done"

pipeline = Pipeline(work, name="triage")
other = Pipeline(work, name="other")
"""


@pytest.fixture
def orphan(app: Any, kept: Any, cli: Any) -> Callable[..., None]:
    """Store runs of ``app.py`` in ``kept://``, each with its id as input, that their processes have left behind."""

    def leave(*run_ids: str, target: str = "app.py", **fields: Any) -> None:
        if not Path("app.py").exists():
            app(APP)
        for run_id in run_ids:
            cli("run", target, "-i", run_id, "--run-id", run_id, "--state", "kept://", "-q")
            owner = new_owner()
            change(kept, run_id, **{"status": "running", "owner": owner, **fields})
            retire_owner(owner)
            kept.STORES["kept://"]._steps[run_id].clear()

    return leave


@pytest.fixture
def recover(cli: Any) -> Callable[..., Done]:
    """Recover what is in ``kept://``."""

    def go_on(*arguments: str) -> Done:
        done: Done = cli("recover", "--state", "kept://", *arguments)
        return done

    return go_on


def change(kept: Any, run_id: str, **fields: Any) -> None:
    runs = kept.STORES["kept://"]._runs
    runs[run_id] = attrs.evolve(runs[run_id], **fields)


def statuses(kept: Any) -> dict[str, str]:
    return {run_id: run.status for run_id, run in kept.STORES["kept://"]._runs.items()}


def told(done: Done) -> list[str]:
    """The lines about runs, without how long they took."""
    return [re.sub(r" in [\d.]+ ms: .*(?=run )", ": ", line) for line in done.out.splitlines()]


# -- what is recovered


def test_orphans_are_recovered_with_the_app_they_remember(orphan: Any, recover: Any, kept: Any) -> None:
    orphan("a")
    orphan("b", target="app.py:other")
    orphan("c", status="interrupted", owner=None)
    done = recover()
    assert done.code == 0
    assert sorted(told(done)) == ["other: completed: run b", "triage: completed: run a", "triage: completed: run c"]
    assert done.err.endswith("\nrecovered 3 runs: 3 completed\n")
    assert set(statuses(kept).values()) == {"completed"}


def test_there_may_be_nothing_to_do(orphan: Any, recover: Any, cli: Any) -> None:
    cli("runs", "--state", "kept://")
    assert recover() == Done(0, "", "nothing to recover\n")
    orphan("a", status="failed", owner=None)
    orphan("b", status="paused", owner=None)
    assert recover() == Done(0, "", "nothing to recover\n")


def test_question_whose_time_is_over_is_gone_on_with(orphan: Any, recover: Any) -> None:
    orphan("a", status="paused", owner=None, wake_at=1.0)
    assert told(recover()) == ["triage: completed: run a"]


def test_runs_of_living_processes_are_left_alone(orphan: Any, recover: Any, kept: Any) -> None:
    orphan("a", "b", "c")
    asyncio.run(kept.STORES["kept://"].claim_run("a", new_owner(), 30))
    asyncio.run(kept.STORES["kept://"].claim_run("b", new_owner(), 30))
    change(kept, "b", status="interrupted")  # claimed by somebody who has not begun yet
    done = recover()
    assert done.code == 0
    assert done.err.endswith("recovered 1 run: 1 completed; 2 runs left to the living process\n")
    assert statuses(kept) == {"a": "running", "b": "interrupted", "c": "completed"}


def test_failure_is_told_with_its_cause(orphan: Any, recover: Any) -> None:
    orphan("a", "b", "c")
    Path("words").write_text("b ask-c")
    done = recover()
    assert done.code == 1
    assert sorted(told(done)) == [
        "  0:work asks: Which colour?",
        "  failed at 0:work: Agent failed with ValueError: no b today",
        "triage: completed: run a",
        "triage: failed: run b",
        "triage: paused: run c",
    ]
    assert done.err.endswith("recovered 3 runs: 1 completed, 1 failed, 1 paused\n")


def test_run_that_asks_again_is_recovered(orphan: Any, recover: Any) -> None:
    orphan("a")
    Path("words").write_text("ask-a")
    assert recover().code == 0


def test_run_that_kills_its_process_again_and_again_is_parked(orphan: Any, recover: Any, kept: Any) -> None:
    orphan("a", recoveries=5)
    done = recover()
    assert (done.code, done.out.startswith("triage: parked, ")) == (1, True)
    assert done.out.endswith(", run a\n")
    assert done.err == "recovered 0 runs; 1 run parked\n"
    assert statuses(kept) == {"a": "dead"}
    assert recover() == Done(0, "", "nothing to recover\nparked earlier: a; flow resume continues one\n")


def test_how_often_is_often_can_be_said(orphan: Any, recover: Any, kept: Any) -> None:
    orphan("a", recoveries=5)
    assert recover("--max-recoveries", "6").code == 0
    assert statuses(kept) == {"a": "completed"}


def test_changed_pipeline_is_told_and_can_be_gone_on_with(orphan: Any, recover: Any, kept: Any) -> None:
    orphan("a")
    Path("app.py").write_text(Path("app.py").read_text().replace("Pipeline(work, name", "Pipeline([work, work], name"))
    done = recover()
    assert (done.code, statuses(kept)) == (1, {"a": "running"})
    assert done.out == "not recovered: run 'a' began with another pipeline\n    + 1:work (step) is new\n"
    assert done.err == (
        "hint: Add --on-change continue to run it with this one: steps are matched by path\n"
        "recovered 0 runs; 1 run not recovered\n"
    )
    assert recover("--on-change", "continue").code == 0


def test_damaged_run_does_not_keep_the_others(orphan: Any, recover: Any, kept: Any) -> None:
    orphan("a", "b")
    change(kept, "a", context=b'{"no": "such field", "scratchpad": 5}')
    done = recover()
    assert done.code == 1
    assert statuses(kept)["b"] == "completed"
    assert "not recovered: run 'a': what is stored of it cannot be read: " in done.out


def test_results_as_json(orphan: Any, recover: Any, kept: Any) -> None:
    orphan("a", "b", "c", "d", "e", "f")
    asyncio.run(kept.STORES["kept://"].claim_run("c", new_owner(), 30))
    change(kept, "d", recoveries=5)
    change(kept, "e", status="dead")
    change(kept, "f", metadata={})
    Path("words").write_text("b")
    done = recover("--json")
    values = json.loads(done.out)
    assert done.code == 1
    assert {result["run_id"]: result["status"] for result in values["results"]} == {"a": "completed", "b": "failed"}
    assert (values["alive"], values["parked"], values["dead"]) == (["c"], ["d"], ["e"])
    (refused,) = values["refused"]
    assert (refused["run_id"], refused["code"]) == ("f", "configuration")


@pytest.mark.parametrize("arguments", [["--max-recoveries", "0"], ["--concurrency", "0"], ["--on-change", "perhaps"]])
def test_wrong_options_are_refused(recover: Any, arguments: list[str]) -> None:
    assert recover(*arguments).code == 2


# -- which apps


def test_app_can_be_named_several_times(orphan: Any, recover: Any, kept: Any) -> None:
    orphan("a")
    orphan("b", target="app.py:other")
    assert told(recover("--app", "app.py:other")) == ["other: completed: run b"]
    assert statuses(kept) == {"a": "running", "b": "completed"}
    orphan("c", target="app.py:other")
    assert sorted(told(recover("--app", "app.py", "--app", "app.py:other"))) == [
        "other: completed: run c",
        "triage: completed: run a",
    ]


def test_apps_outside_the_directory_are_told_once(
    orphan: Any, recover: Any, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan("a", "b")
    path = Path("app.py").resolve()
    path.write_text("raise AssertionError('imported')")
    Path("below").mkdir()
    monkeypatch.chdir("below")
    done = recover()
    assert done.code == 1
    assert done.out == "".join(
        f"not recovered: run {run_id} belongs to {path}, which is no Python file in the working directory\n"
        for run_id in "ab"
    )
    assert done.err == (
        f"hint: Nothing else is imported because a store says so. If you trust it, add: --app {path}\n"
        "recovered 0 runs; 2 runs not recovered\n"
    )


def test_app_that_cannot_be_imported_does_not_keep_the_others(orphan: Any, recover: Any, app: Any, kept: Any) -> None:
    orphan("a")
    app(APP, "second.py")
    orphan("b", target="second.py")
    Path("app.py").write_text("1 / 0")
    done = recover()
    assert done.code == 1
    assert "not recovered: run a: app.py, line 1: ZeroDivisionError: division by zero\n" in done.out
    assert statuses(kept) == {"a": "running", "b": "completed"}


def test_apps_do_not_share_the_modules_beside_them(orphan: Any, recover: Any, app: Any, kept: Any) -> None:
    for home in ("one", "two"):
        app(f"async def work(data): return '{home}'", f"{home}/stages.py")
        app(f"WORD = '{home}'", f"{home}/words/inner.py")
        app("from stages import work\nfrom words import inner\npipeline = Step(inner.WORD, work)", f"{home}/app.py")
        orphan(f"{home}-run", target=f"{home}/app.py")
    path = list(sys.path)
    done = recover("--json")
    assert done.code == 0, done.out
    assert {(result["run_id"], result["output"]) for result in json.loads(done.out)["results"]} == {
        ("one-run", "one"),
        ("two-run", "two"),
    }
    assert sys.path == path
    assert "stages" not in sys.modules


# -- signals

BLOCKING = """
import asyncio
@step
async def wait(data):
    print("ready", flush=True)
    await asyncio.Event().wait()
pipeline = Pipeline(wait)
"""
# A store with three orphans, that reports what becomes of them.
PREPARED = (
    KEPT
    + """
import contextlib, sys
from flow import RunRecord
from app import pipeline

class Telling(MemoryState):
    async def update_run(self, run_id, epoch, **changes):
        await super().update_run(run_id, epoch, **changes)
        if "status" in changes:
            print(run_id, changes["status"], file=sys.stderr)

STORES["kept://"] = store = Telling()
for number in range(3):
    with contextlib.suppress(StopIteration):  # plugins are imported while a loop runs
        store.create_run(RunRecord(
            run_id=f"r{number}", pipeline="pipeline", fingerprint=pipeline.fingerprint, created_at=number + 1.0,
        )).send(None)
"""
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
def test_signal_interrupts_what_runs_and_begins_no_more(
    site: Site, app: Any, number: signal.Signals, code: int
) -> None:
    site.add("flow-kept", {"flow.state": {"kept": "kept_state"}}, {"kept_state": PREPARED})
    app(BLOCKING)
    command = ["recover", "--state", "kept://", "--app", "app.py", "--concurrency", "2"]
    with start(site, *command) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "ready\n"]
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out.count("pipeline: interrupted in ") == 2
    lines = err.splitlines()
    assert sorted(lines[:-1]) == ["r0 interrupted", "r0 running", "r1 interrupted", "r1 running"]
    assert lines[-1] == f"recovered 2 runs: 2 interrupted; interrupted by {number.name}, 1 run not begun"


# -- help


def test_help_teaches_by_example(cli: Any) -> None:
    done = cli("recover", "--help")
    assert done.code == 0
    for text in ("flow recover --state sqlite:///runs.db", "--app billing.py:invoices", "parked as dead"):
        assert text in done.out
