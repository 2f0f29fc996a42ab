"""Durable runs from the command line, in processes of their own: killed, interrupted, resumed, answered, recovered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from flow import Kernel, Settings
from flow._cli.main import main
from flow._cli.run_views import as_dict
from flow._kernel import default_kernel
from tests.places import Done, Place

# What a step does is written to a ledger, one line with one write; `work` waits for a file, or is killed.
APP = """
import asyncio, os, sys
from pathlib import Path
from typing import Literal
from pydantic import BaseModel
from flow import Flow, Step, step
from flow_hitl import human_in_the_loop

def note(line):
    ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, f"{line}\\n".encode())
    os.close(ledger)

@step
async def draft(topic: str) -> str:
    note(f"draft {topic}")
    return f"essay on {topic}"

@step
async def work(text: str) -> str:
    note(f"work on {text}")
    if not Path("go").exists():
        print("ready", flush=True)
        await asyncio.Event().wait()
    return text

@step
async def listen(text: str) -> str:
    print("ready", flush=True)
    return text + (await asyncio.to_thread(sys.stdin.readline)).rstrip()

@step
async def deaf(text: str) -> str:
    while not Path("go").exists():
        print("ready", flush=True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
    return text

@step
async def die(text: str) -> str:
    note(f"die of {text}")
    if not Path("go").exists():
        os.kill(os.getpid(), 9)
    return text

class Price(BaseModel):
    amount: int

label = human_in_the_loop("label", "What is {{ data }}?", Literal["spam", "ham"])
price = human_in_the_loop("price", "What does it cost?", Price)
working = draft >> work >> Step("upper", str.upper)
listening = Flow(draft >> listen >> Step("upper", str.upper), lease=0.3)
unwilling = draft >> deaf
dying = draft >> die
asking = draft >> label >> Step("upper", str.upper)
both = draft >> Step.parallel("both", {"label": label, "price": price})
"""


@attrs.frozen
class DurablePlace(Place):
    """A place whose steps wait to be let go on."""

    def record(self, run_id: str) -> Any:
        """What ``flow runs RUN_ID --json`` shows of a run."""

        async def load() -> Any:
            store = Kernel(Settings()).open_state(self.url)
            run = await store.load_run(run_id)
            await store.aclose()
            return run

        return as_dict(asyncio.run(load()))

    def go(self) -> None:
        """Let steps go on that wait."""
        (self.home / "go").touch()

    def files(self) -> dict[str, bytes]:
        """The content of all files, also beside the working directory."""
        return {str(path): path.read_bytes() for path in self.home.parent.rglob("*") if path.is_file()}


@pytest.fixture(params=["sqlite", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DurablePlace:
    """A place with a store of each kind."""
    for name in [name for name in os.environ if name.startswith("FLOW_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    (home / "app.py").write_text(APP)
    monkeypatch.chdir(home)
    return DurablePlace(home, "sqlite:///runs.db" if request.param == "sqlite" else f"file://{home}/runs")


def wait_for(process: subprocess.Popen[str]) -> None:
    """Wait until a step says that it is ready."""
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "ready\n", process.stderr.read()


@pytest.fixture
def killed(place: DurablePlace) -> Callable[..., None]:
    """Run ``app.py:NAME``, and kill the process with -9 when its second step works."""

    def run(run_id: str, name: str = "working") -> None:
        with place.start("run", f"app.py:{name}", "-i", run_id, "--run-id", run_id) as process:
            wait_for(process)
            process.kill()

    return run


# -- killed


def test_killed_run_is_resumed_at_the_step_that_was_working(place: DurablePlace, killed: Any) -> None:
    killed("rivers")
    record = place.record("rivers")
    assert (record["status"], record["orphaned"]) == ("running", True)
    assert json.loads(place.flow("runs", "rivers", "--json").out) == record
    assert "  its process is gone; flow recover continues it\n" in place.flow("runs").out
    place.go()
    done = place.flow("resume", "riv", "-q")
    assert done == Done(0, "ESSAY ON RIVERS\n", "")
    assert place.ledger == ["draft rivers", "work on essay on rivers", "work on essay on rivers"]
    assert (place.record("rivers")["status"], place.record("rivers")["orphaned"]) == ("completed", False)
    assert place.flow("resume", "rivers", "-q") == Done(0, "ESSAY ON RIVERS\n", "")
    assert len(place.ledger) == 3


def test_id_is_told_before_the_first_step_so_that_a_killed_run_can_be_found(place: DurablePlace) -> None:
    with place.start("run", "app.py:working", "-i", "x") as process:
        wait_for(process)
        process.kill()
        assert process.stderr is not None
        line = process.stderr.readline()
    place.go()
    assert line.endswith(f" is stored in {place.url}\n")
    assert place.flow("resume", line.split()[1], "-q").out == "ESSAY ON X\n"


def test_run_of_a_living_process_belongs_to_it(place: DurablePlace) -> None:
    with place.start("run", "app.py:working", "-i", "x", "--run-id", "r") as process:
        wait_for(process)
        done = place.flow("resume", "r")
        assert (done.code, done.out) == (3, "")
        assert done.err.startswith("error: run r is executed by ")
        assert place.flow("recover") == Done(0, "", "recovered 0 runs; 1 run left to the living process\n")
        assert place.record("r")["orphaned"] is False
        process.kill()
    place.go()
    assert place.flow("resume", "r", "-q").code == 0


def test_process_that_wakes_up_after_its_lease_has_lost_the_run(place: DurablePlace) -> None:
    with place.start("run", "app.py:listening", "-i", "x", "--run-id", "r", "-q") as process:
        wait_for(process)
        process.send_signal(signal.SIGSTOP)
        others = (place.flow("resume", "r", "-q", text=" again\n") for _ in range(100))
        ended = next(done for done in others if done.code != 3)
        assert ended == Done(0, "ready\nESSAY ON X AGAIN\n", "")
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(" late\n", timeout=60)
    assert process.returncode == 3
    assert err.startswith("error: run 'r' was taken over")
    assert place.flow("resume", "r", "-q").out == "ESSAY ON X AGAIN\n"


# -- recovered


def test_all_that_were_killed_are_recovered(place: DurablePlace, killed: Any) -> None:
    for run_id in ("a", "b"):
        killed(run_id)
    place.flow("run", "app.py:asking", "-i", "c", "--run-id", "c")
    place.go()
    done = place.flow("recover")
    assert done.code == 0
    assert sorted(line.rpartition(", ")[2] for line in done.out.splitlines()) == ["run a", "run b"]
    assert done.err == "recovered 2 runs: 2 completed\n"
    assert [place.record(run_id)["status"] for run_id in "abc"] == ["completed", "completed", "paused"]
    assert place.flow("recover").err == "nothing to recover\n"


def test_run_that_kills_its_process_is_parked_and_can_be_resumed(place: DurablePlace) -> None:
    assert place.flow("run", "app.py:dying", "-i", "x", "--run-id", "r").code == -signal.SIGKILL
    for _ in range(2):
        assert place.flow("recover", "--max-recoveries", "2").code == -signal.SIGKILL
    done = place.flow("recover", "--max-recoveries", "2")
    assert (done.code, done.err) == (1, "recovered 0 runs; 1 run parked\n")
    assert place.record("r")["status"] == "dead"
    assert place.ledger == ["draft x", *["die of essay on x"] * 3]
    place.go()
    assert place.flow("resume", "r", "-q").out == "essay on x\n"


# -- interrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
@pytest.mark.parametrize("continued", ["resume", "recover"])
def test_interrupted_run_goes_on_later(place: DurablePlace, number: signal.Signals, code: int, continued: str) -> None:
    with place.start("run", "app.py:working", "-i", "x", "--run-id", "r") as process:
        wait_for(process)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err == (
        f"run r is stored in {place.url}\n"
        f"interrupted by {number.name}: run r is interrupted, 1 step completed\n"
        f"continue it with: flow resume r --state {place.url}\n"
    )
    assert (place.record("r")["status"], place.record("r")["owner"]) == ("interrupted", None)
    place.go()
    assert place.flow(continued, *(["r"] if continued == "resume" else [])).code == 0
    assert place.record("r")["status"] == "completed"
    assert place.ledger == ["draft x", "work on essay on x", "work on essay on x"]


def test_second_signal_ends_the_program_at_once(place: DurablePlace) -> None:
    with place.start("run", "app.py:unwilling", "-i", "x", "--run-id", "r") as process:
        for _ in range(2):
            wait_for(process)
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert place.record("r")["orphaned"] is True
    place.go()
    assert place.flow("resume", "r", "-q").out == "essay on x\n"


# -- answered


def test_answer_of_another_process_is_checked_and_kept(place: DurablePlace) -> None:
    done = place.flow("run", "app.py:asking", "-i", "x", "--run-id", "r", "-q")
    assert (done.code, done.out) == (0, "")
    assert done.err == (
        "paused at 1:label: What is essay on x?\n"
        "  answer: spam or ham\n"
        f"answer it with: flow resume r --state {place.url} --answer TEXT\n"
    )
    assert place.flow("resume", "r", "-q") == done
    refused = place.flow("resume", "r", "--answer", "eggs")
    assert refused.code == 2
    assert "error: this is no answer to the question at '1:label': Input should be 'spam' or 'ham'" in refused.err
    assert place.record("r")["status"] == "paused"
    assert place.flow("resume", "r", "-q", "--answer", "-", text="ham\n") == Done(0, "HAM\n", "")
    again = place.flow("resume", "r", "--answer", "spam")
    assert again == Done(2, "", "error: run r is completed and waits for no answer\n")
    assert place.ledger == ["draft x"]


def test_questions_side_by_side_are_answered_one_by_one(place: DurablePlace) -> None:
    place.flow("run", "app.py:both", "-i", "x", "--run-id", "r")
    paths = [question["path"] for question in place.record("r")["pending"]]
    label, price = paths
    assert place.flow("resume", "r", "--answer", "ham").code == 2
    assert place.flow("resume", "r", "--answer", f"{price}=cheap").code == 2
    first = place.flow("resume", "r", "-q", "--answer", f'{price}={{"amount": 3}}')
    assert (first.code, f"paused at {label}: " in first.err) == (0, True)
    last = place.flow("resume", "r", "-q", "--answer", "ham")
    assert json.loads(last.out) == {"label": "ham", "price": {"amount": 3}}
    assert place.ledger == ["draft x"]


# -- refused


@pytest.fixture
def call(
    place: DurablePlace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Done]]:
    """Run ``flow`` in this process, which is faster: for what is refused before anything else happens."""
    monkeypatch.setenv("FLOW_STATE", place.url)

    def run(*arguments: str) -> Done:
        default_kernel.cache_clear()
        capsys.readouterr()
        try:
            code: Any = main(arguments)
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return Done(code or 0, printed.out, printed.err)

    yield run
    default_kernel.cache_clear()  # it knows the store


def test_hostile_ids_touch_no_file(place: DurablePlace, call: Any) -> None:
    for name in ("planted", "planted.json", "planted.jsonl"):
        (place.home.parent / name).write_text('{"planted": true}')
    place.flow("run", "app.py:asking", "-i", "x", "--run-id", "r")
    before = place.files()
    ids = [
        "../planted",
        "..",
        "%00",
        "%2e%2e/planted",
        "a\nb",
        "a/b",
        "a\\b",
        "-",
        "_",
        "a" * 129,
        "r.json",
        "ä",
        "r\0",
    ]
    for run_id in ids:
        for command in (["run", "app.py", f"--run-id={run_id}"], ["runs", "--", run_id], ["resume", "--", run_id]):
            done = call(*command)
            assert (done.code, done.out) == (2, "")
            assert "cannot be a run id" in done.err
    assert place.files() == before


def test_filters_are_values_and_never_parts_of_a_query(place: DurablePlace, call: Any) -> None:
    place.flow("run", "app.py:asking", "-i", "x", "--run-id", "r")
    for text in ["' OR '1'='1", "x'; DROP TABLE runs; --", '" OR ""="', "%", "_", "*", "\\", "p' --", "../..", "\n"]:
        assert call("runs", "--pipeline", text) == Done(0, "", f"no such runs are stored in {place.url}\n")
        assert call("runs", "--status", text).code == 2
        assert call("runs", "--since", text).code == 2
    assert [run["run_id"] for run in json.loads(call("runs", "--json").out)] == ["r"]


def test_store_that_is_none_is_left_as_it_is(place: DurablePlace, call: Any) -> None:
    path = place.home / "notes"
    path.write_text("these are notes and no store")
    url = "sqlite:///notes" if "sqlite" in place.url else f"file://{path}"
    for command in (["runs"], ["runs", "r"], ["resume", "r"], ["recover"]):
        done = call(*command, "--state", url)
        assert (done.code, done.out) == (4, ""), done.err
    assert path.read_text() == "these are notes and no store"


def test_reading_makes_no_store(place: DurablePlace, call: Any) -> None:
    for command in (["runs"], ["runs", "r"], ["resume", "r"], ["recover"]):
        assert call(*command).code == 2
    assert [path.name for path in place.home.iterdir()] == ["app.py"]


def test_taken_id_is_refused(place: DurablePlace) -> None:
    place.flow("run", "app.py:asking", "-i", "x", "--run-id", "r")
    done = place.flow("run", "app.py:asking", "-i", "x", "--run-id", "r")
    assert (done.code, "is stored in" in done.err) == (4, False)
    assert place.record("r")["status"] == "paused"


# -- listed


def test_table_fits_a_terminal(place: DurablePlace, killed: Any) -> None:
    killed("a")
    for run_id in ("b", "c"):
        place.flow("run", "app.py:both", "-i", "x", "--run-id", run_id)
    place.flow("run", "app.py:both", "-i", "x")
    for width in (80, 120):
        lines = on_a_terminal(place, width, "runs")
        assert lines[0].split() == ["RUN", "PIPELINE", "STATUS", "STARTED", "TOOK", "COST", "TOKENS"]
        assert len(lines) == 9
        assert max(map(len, lines)) <= width


def test_questions_are_asked_at_a_terminal(place: DurablePlace) -> None:
    place.flow("run", "app.py:asking", "-i", "x", "--run-id", "r")
    assert on_a_terminal(place, 80, "resume", "r", "-q", typed="eggs\nham\n") == [
        "eggs",
        "ham",
        "An empty line leaves a question open.",
        "1:label: What is essay on x?",
        "  answer: spam or ham",
        "> this is no answer to the question at '1:label': Input should be 'spam' or 'ham'; answer again",
        "> HAM",
    ]


def on_a_terminal(place: DurablePlace, width: int, *arguments: str, typed: str = "") -> list[str]:
    """Run ``flow`` in a terminal of so many columns and return the lines on it."""
    ours, theirs = os.openpty()
    os.write(ours, typed.encode())
    with subprocess.Popen(
        [sys.executable, "-m", "flow", *arguments],
        cwd=place.home,
        env={**os.environ, "FLOW_STATE": place.url, "COLUMNS": str(width)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        text = b"".join(chunks_of(ours)).decode()
    os.close(ours)
    return text.replace("\r\n", "\n").splitlines()


def chunks_of(terminal: int) -> Iterator[bytes]:
    """What comes from a terminal, until nobody holds its other end."""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # as Linux says that it is closed
            return
        if not chunk:
            return
        yield chunk
