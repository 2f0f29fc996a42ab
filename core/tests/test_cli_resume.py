"""``flow resume``: which app and store, answers from options and from a terminal, what is refused, the exit codes."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from core.tests.command_line import KEPT, Done, start
from core.tests.fake_site import Site
from flow._lease import new_owner

# Steps that fail, ask or stream as the files in the working directory say, and tell when they run.
APP = """
import sys
from pathlib import Path
from typing import Any, Literal
import attrs
from pydantic import BaseModel

def told(name):
    print(f"{name} runs", file=sys.stderr)

class Label(BaseModel):
    name: str
    score: int = 0

@attrs.frozen(kw_only=True)
class Ask(BaseStep):
    kind = "ask"
    type: object = None
    question: str = "Which colour?"
    until: float | None = None
    schema: object = None
    def answer_type(self):
        return self.type

@attrs.frozen(kw_only=True)
class Both(BaseStep):
    kind = "both"
    left: object
    right: object
    def children(self):
        return {"left": self.left, "right": self.right}

def bind(step, binder):
    if step.kind == "ask":
        async def ask(data, scope):
            if scope.path not in scope.run.answers:
                if step.until is not None and scope.run.questions:
                    return StepResult.ok(step, "nobody answered")
                raise PauseSignal(step.question, schema=step.schema, deadline=step.until)
            return StepResult.ok(step, repr(scope.run.answers[scope.path]))
        return ask
    if step.kind == "both":
        left, right = binder.bind(step.left, "left"), binder.bind(step.right, "right")
        async def both(data, scope):
            outputs, questions = {}, []
            for name, execute in (("left", left), ("right", right)):
                try:
                    outputs[name] = (await execute(data, scope)).output
                except PauseSignal as signal:
                    questions.append(signal)
            if questions:
                raise PauseSignal.join(questions)
            return StepResult.ok(step, outputs)
        return both

class Plugin:
    @hookimpl
    def flow_bind_step(self, step, binder):
        return bind(step, binder)

kernel = Kernel(plugins=[Plugin()])
first = Step("first", lambda data: told("first") or f"{data} first")

@step
async def fail(data):
    if not Path("fixed").exists():
        raise ValueError("not fixed")
    return f"{data} fixed"
@step
async def spend(data, *, run: StepRun):
    run.usage.add(cost_usd=1.0)
    return data
@step
async def talk(data):
    for word in ("one ", "two ", "three"):
        yield word

def make(pipeline):
    return Flow(pipeline, kernel=kernel)

failing = make(first >> fail)
asking = make(first >> Ask(name="ask"))
choosing = make(first >> Ask(name="ask", type=Literal["red", "blue"], schema={"enum": ["red", "blue"]}))
labelling = make(first >> Ask(name="ask", type=Label))
waiting = make(Ask(name="ask", until=1.0))
both = make(first >> Both(name="both", left=Ask(name="l", type=int), right=Ask(name="r", question="How many?")))
speaking = make(fail >> talk)
spending = make(spend >> fail)
@step
async def label(data) -> Label:
    return Label(name="a")
typed = make(label)
"""


@pytest.fixture
def stored(app: Any, kept: Any, cli: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run ``app.py:NAME`` with the id ``r`` in ``kept://``; the value of the function is the record of the run."""

    def run(name: str, *arguments: str, source: str = APP) -> Any:
        app(source)
        cli("run", f"app.py:{name}", "-i", "x", "--run-id", "r", "--state", "kept://", "-q", *arguments)
        return kept.STORES["kept://"]

    return run


@pytest.fixture
def resume(cli: Any) -> Callable[..., Done]:
    """Resume the run ``r`` in ``kept://``, quietly."""

    def go_on(*arguments: str) -> Done:
        done: Done = cli("resume", "r", "--state", "kept://", "-q", *arguments)
        return done

    return go_on


def record_of(store: Any, run_id: str = "r") -> Any:
    return asyncio.run(store.load_run(run_id))


# -- going on


def test_failed_run_goes_on_at_the_failed_step(stored: Any, resume: Any) -> None:
    stored("failing")
    Path("fixed").touch()
    assert resume() == Done(0, "x first fixed\n", "")


def test_app_is_told_and_a_line_says_how_it_went(stored: Any, cli: Any) -> None:
    stored("failing")
    Path("fixed").touch()
    done = cli("resume", "r", "--state", "kept://")
    assert done.err.startswith("the app of run r is app.py:failing\ncompleted in ")
    assert done.err.endswith(": 2 steps, run r\n")


def test_beginning_of_the_id_is_enough(stored: Any, cli: Any) -> None:
    stored("failing", "--run-id", "nightly-7")
    Path("fixed").touch()
    assert cli("resume", "night", "--state", "kept://", "-q") == Done(0, "x first fixed\n", "")


def test_run_that_fails_again_says_how_to_go_on(stored: Any, resume: Any) -> None:
    stored("failing")
    assert resume() == Done(
        1,
        "",
        "error: failed at 1:fail: Agent failed with ValueError: not fixed\n"
        "hint: continue it with: flow resume r --state kept://\n",
    )


def test_result_as_json(stored: Any, resume: Any) -> None:
    stored("failing")
    Path("fixed").touch()
    done = resume("--json")
    result = json.loads(done.out)
    assert (done.code, result["status"], result["output"]) == (0, "completed", "x first fixed")
    assert [step["replayed"] for step in result["step_history"]] == [True, False]


def test_chunks_are_printed_as_they_come(stored: Any, resume: Any) -> None:
    stored("speaking")
    Path("fixed").touch()
    assert resume("--stream") == Done(0, "one two three\n", "")


def test_stream_of_a_run_that_cannot_go_on_ends_with_the_reason(stored: Any, resume: Any) -> None:
    stored("asking")
    done = resume("--stream", "--answer", "x", "--app", "app.py:labelling")
    assert done.code == 2
    assert "began with another pipeline" in done.err


def test_stream_and_json_exclude_each_other(resume: Any) -> None:
    assert resume("--stream", "--json").code == 2


def test_deadline_and_limits_can_be_raised(stored: Any, resume: Any) -> None:
    stored("spending", "--limit-cost", "0.5")
    Path("fixed").touch()
    assert "limit exceeded" in resume("--limit-cost", "0.7").err
    assert resume("--limit-cost", "2").out == "x fixed\n"


def test_limits_of_the_command_line_stay_with_the_run(stored: Any, resume: Any) -> None:
    stored("spending", "--limit-cost", "0.5", "--limit-tokens", "5")
    assert "limit exceeded" in resume().err
    assert "failed at 1:fail" in resume("--limit-cost", "2").err
    Path("fixed").touch()
    assert "limit exceeded" in resume().err


def test_deadline_can_be_replaced(stored: Any, resume: Any) -> None:
    store = stored("failing", "--deadline", "0")
    assert record_of(store).status == "deadline_exceeded"
    Path("fixed").touch()
    assert resume().err.endswith("hint: continue it with: flow resume r --state kept:// --deadline SECONDS\n")
    assert resume("--deadline", "60").out == "x first fixed\n"


@pytest.mark.parametrize(
    ("name", "output"), [("failing", "x first fixed\n"), ("typed", '{\n  "name": "a",\n  "score": 0\n}\n')]
)
def test_completed_run_prints_its_output_again_without_its_app(
    stored: Any, resume: Any, name: str, output: str
) -> None:
    Path("fixed").touch()
    store = stored(name)
    before = record_of(store)
    Path("app.py").unlink()
    assert resume() == Done(0, output, "")
    assert record_of(store) == before
    values = json.loads(resume("--json").out)
    assert (values["status"], values["success"], values["run_id"]) == ("completed", True, "r")


def test_run_of_a_living_process_is_left_alone(stored: Any, resume: Any) -> None:
    store = stored("failing")
    asyncio.run(store.claim_run("r", owner := new_owner(), 30))
    asyncio.run(store.update_run("r", record_of(store).epoch, status="running"))
    Path("app.py").unlink()
    done = resume()
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"error: run r is executed by {owner}\nhint: Wait until it has ended")


def test_run_that_another_process_has_just_claimed_is_left_alone(stored: Any, resume: Any) -> None:
    store = stored("failing")
    asyncio.run(store.claim_run("r", new_owner(), 30))
    assert resume().code == 3


def test_cached_results_may_be_elsewhere(stored: Any, resume: Any) -> None:
    stored("failing")
    done = resume("--cache", "nowhere://")
    assert (done.code, "no installed plugin provides the cache URL scheme 'nowhere'" in done.err) == (2, True)


# -- which app


def test_app_outside_the_directory_is_not_imported(
    stored: Any, resume: Any, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored("failing")
    home = Path.cwd()
    Path("app.py").write_text("raise AssertionError('imported')")
    Path("below").mkdir()
    monkeypatch.chdir("below")
    done = resume()
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: run r belongs to {home}/app.py:failing, which is no Python file in the working directory\n"
        f"hint: Nothing else is imported because a store says so. If you trust it, add: --app {home}/app.py:failing\n"
    )


def test_link_out_of_the_directory_is_not_followed(stored: Any, resume: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stored("failing")
    outside = Path("outside")
    outside.mkdir()
    (outside / "evil.py").write_text("raise AssertionError('imported')")
    inside = Path("inside")
    inside.mkdir()
    (inside / "app.py").symlink_to("../outside/evil.py")
    set_app(resume, str(Path.cwd() / "inside/app.py"))
    monkeypatch.chdir(inside)
    assert "which is no Python file in the working directory" in resume().err


def set_app(resume: Any, app: str | None) -> None:
    """Make the stored run remember `app`."""
    from kept_state import STORES  # type: ignore[import-not-found]

    store = STORES["kept://"]
    metadata = {**record_of(store).metadata, "app": app} if app is not None else {}
    store._runs["r"] = attrs.evolve(record_of(store), metadata=metadata)


@pytest.mark.parametrize(
    "hostile",
    [
        "{here}/../evil.py",
        "/etc/passwd",
        "{here}/notes",
        "{here}/notes.txt",
        "{here}/folder",
        "{here}/gone.py",
        "antigravity",
        "os",
        "os.path",
        "package.missing",
        "linked",
        "{here}/app.py\x00",
        "{here}/\x1b[31m.py",
        "-c",
        "..",
        "",
        "http://example.org/app.py",
    ],
)
def test_nothing_is_imported_because_a_store_says_so(stored: Any, resume: Any, hostile: str) -> None:
    stored("failing")
    for path in ("../evil.py", "notes", "notes.txt", "package/__init__.py"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("raise AssertionError('imported')")
    Path("folder").mkdir()
    Path("linked.py").symlink_to("../evil.py")
    set_app(resume, hostile.format(here=Path.cwd()))
    before = set(sys.modules)
    done = resume()
    assert (done.code, done.out) == (2, "")
    assert "hint: " in done.err
    assert "\x1b" not in done.err
    assert not {"antigravity", "notes", "linked", "package"} & (set(sys.modules) - before)


def test_app_can_be_named(stored: Any, resume: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stored("failing")
    Path("below").mkdir()
    monkeypatch.chdir("below")
    assert resume("--app", "../app.py:failing").err.endswith("flow resume r --state kept:// --app ../app.py:failing\n")
    Path("fixed").touch()
    assert resume("--app", "../app.py:failing") == Done(0, "x first fixed\n", "")


def test_run_without_an_app_needs_one(stored: Any, resume: Any) -> None:
    stored("failing")
    set_app(resume, None)
    assert resume() == Done(
        2,
        "",
        "error: run r does not say which app it belongs to (its pipeline is 'pipeline')\n"
        "hint: Name the app: --app app.py\n",
    )


def test_app_may_be_a_module_of_the_directory(app: Any, cli: Any, kept: Any) -> None:
    app(APP, "shop/orders.py")
    assert cli("run", "shop.orders:failing", "-i", "x", "--run-id", "r", "--state", "kept://", "-q").code == 1
    Path("fixed").touch()
    assert cli("resume", "r", "--state", "kept://", "-q").out == "x first fixed\n"


def test_store_may_be_that_of_the_app(stored: Any, cli: Any) -> None:
    stored("failing")
    Path("app.py").write_text(Path("app.py").read_text() + "\nkeeping = failing.evolve(state='kept://')\n")
    Path("fixed").touch()
    assert cli("resume", "r", "-q", "--app", "app.py:keeping").out == "x first fixed\n"


def test_store_may_be_an_object_of_the_app(app: Any, cli: Any, kept: Any) -> None:
    own = "failing.evolve(state=kept_state.STORES.setdefault('o', kept_state.MemoryState()))"
    app(f"{APP}\nimport kept_state\nkeeping = {own}")
    done = cli("run", "app.py:keeping", "-i", "x", "--run-id", "r", "-q")
    assert (done.code, "resume" in done.err) == (1, False)
    assert cli("resume", "s", "-q", "--app", "app.py:keeping").err.startswith("error: no run in the store of the app")
    Path("fixed").touch()
    assert cli("resume", "r", "-q", "--app", "app.py:keeping").out == "x first fixed\n"


@pytest.mark.parametrize("arguments", [["--app", "gone.py"], ["--app", "app.py:nothing"]])
def test_app_that_cannot_be_loaded_is_wrong_use(stored: Any, resume: Any, arguments: list[str]) -> None:
    stored("failing")
    assert resume(*arguments).code == 2


# -- a changed pipeline


def test_changed_pipeline_is_refused_with_the_difference(stored: Any, resume: Any) -> None:
    store = stored("failing")
    Path("app.py").write_text(Path("app.py").read_text().replace("make(first >> fail)", "make(first >> fail >> talk)"))
    before = record_of(store)
    done = resume()
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: run 'r' began with another pipeline\n"
        "  + 2:talk (step) is new\n"
        "hint: Add --on-change continue to run it with this one: steps are matched by path\n"
    )
    after = record_of(store)
    assert (after.status, after.error, after.owner) == (before.status, before.error, None)
    Path("fixed").touch()
    assert resume("--on-change", "continue").out == "one two three\n"


def test_other_ways_to_meet_a_change_are_refused(resume: Any) -> None:
    assert resume("--on-change", "perhaps").code == 2


# -- answers from options


@pytest.mark.parametrize(
    ("name", "answer", "output"),
    [
        ("asking", "red", "'red'"),
        ("asking", "a=b", "'a=b'"),
        ("asking", "1:ask=red", "'red'"),
        ("asking", "5", "'5'"),
        ("asking", "two\nlines", "'two\\nlines'"),
        ("asking", "@answer.txt", "'of a file\\n'"),
        ("asking", "1:ask=@answer.txt", "'of a file\\n'"),
        ("asking", "-", "'of standard input'"),
        ("choosing", "blue", "'blue'"),
        ("labelling", '{"name": "a", "score": 2}', "Label(name='a', score=2)"),
    ],
)
def test_answer_is_given(
    stored: Any, resume: Any, monkeypatch: pytest.MonkeyPatch, name: str, answer: str, output: str
) -> None:
    stored(name)
    Path("answer.txt").write_text("of a file\n\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"of standard input\n")))
    assert resume("--answer", answer) == Done(0, f"{output}\n", "")


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("choosing", "green", "this is no answer to the question at '1:ask': Input should be 'red' or 'blue'"),
        ("choosing", "", "this is no answer to the question at '1:ask': Input should be 'red' or 'blue'"),
        ("labelling", '{"score": 2}', "this is no answer to the question at '1:ask': name: Field required"),
        ("labelling", "nothing", "this is no answer to the question at '1:ask': "),
        ("asking", "@gone.txt", "'gone.txt' cannot be read: No such file or directory"),
        ("asking", "@latin.txt", "latin.txt is not UTF-8 text"),
        ("both", "5", "run r waits for 2 answers, and --answer '5' begins with no path of one"),
        ("both", "1:both=5", "run r waits for 2 answers, and --answer '1:both=5' begins with no path of one"),
        ("both", "1:both/left=five", "this is no answer to the question at '1:both/left': "),
    ],
)
def test_answer_that_is_none_leaves_the_run_as_it_is(
    stored: Any, resume: Any, name: str, answer: str, message: str
) -> None:
    store = stored(name)
    Path("latin.txt").write_bytes("über".encode("latin-1").rjust(5))
    before = record_of(store)
    done = resume("--answer", answer)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {message}")
    assert record_of(store) == before


def test_several_questions_are_answered_in_any_order(stored: Any, resume: Any) -> None:
    stored("both")
    done = resume("--answer", "1:both/right=many")
    assert done == Done(
        0,
        "",
        "paused at 1:both/left: Which colour?\nanswer it with: flow resume r --state kept:// --answer TEXT\n",
    )
    assert json.loads(resume("--answer", "5").out) == {"left": "5", "right": "'many'"}


def test_several_questions_are_answered_at_once(stored: Any, resume: Any) -> None:
    stored("both")
    done = resume("--answer", "1:both/right=many", "-a", "1:both/left=5")
    assert json.loads(done.out) == {"left": "5", "right": "'many'"}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["1:both/left=1", "1:both/left=2"], "the question at 1:both/left is answered twice"),
        (["1:both/left=-", "1:both/right=-"], "only one answer can come from standard input"),
        (["1:both/left=1", "two"], "run r waits for 2 answers, and --answer 'two' begins with no path of one"),
    ],
)
def test_unclear_answers_are_refused(stored: Any, resume: Any, answers: list[str], message: str) -> None:
    stored("both")
    done = resume(*(word for answer in answers for word in ("--answer", answer)))
    assert (done.code, done.err.partition("\n")[0]) == (2, f"error: {message}")


def test_second_answer_to_one_question_is_refused(stored: Any, resume: Any) -> None:
    stored("asking")
    assert resume("-a", "red", "-a", "blue").err.startswith(
        "error: run r waits for 1 answer, and --answer 'red' begins"
    )


@pytest.mark.parametrize(("name", "status"), [("failing", "failed"), ("first", "completed")])
def test_run_that_asks_nothing_takes_no_answer(stored: Any, resume: Any, name: str, status: str) -> None:
    stored(name)
    done = resume("--answer", "red")
    assert done == Done(2, "", f"error: run r is {status} and waits for no answer\n")


# -- questions without answers


def test_questions_are_printed_where_nobody_sits(stored: Any, resume: Any) -> None:
    store = stored("choosing")
    before = record_of(store)
    Path("app.py").unlink()  # it is not needed for that
    assert resume() == Done(
        0,
        "",
        "paused at 1:ask: Which colour?\n"
        "  answer: red or blue\n"
        "answer it with: flow resume r --state kept:// --answer TEXT\n",
    )
    assert record_of(store) == before


def test_questions_as_json(stored: Any, resume: Any) -> None:
    stored("choosing")
    values = json.loads(resume("--json").out)
    assert (values["status"], values["success"], values["output"]) == ("paused", False, None)
    assert [question["path"] for question in values["pending"]] == ["1:ask"]


def test_run_whose_time_to_answer_is_over_goes_on(stored: Any, resume: Any) -> None:
    store = stored("waiting")
    assert record_of(store).wake_at < time.time()
    assert resume() == Done(0, "nobody answered\n", "")


# -- questions at a terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Somebody sits at a terminal and types these lines."""

    def typed(text: str) -> None:
        stdin = io.StringIO(text)
        monkeypatch.setattr(stdin, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)

    return typed


def test_question_is_asked_until_the_answer_fits(stored: Any, resume: Any, terminal: Any) -> None:
    stored("choosing")
    terminal("green\nblue\n")
    assert resume() == Done(
        0,
        "'blue'\n",
        "An empty line leaves a question open.\n"
        "1:ask: Which colour?\n"
        "  answer: red or blue\n"
        "> this is no answer to the question at '1:ask': Input should be 'red' or 'blue'; answer again\n"
        "> ",
    )


def test_question_that_gets_an_empty_line_stays_open(stored: Any, resume: Any, terminal: Any) -> None:
    stored("both")
    terminal("\nmany\n")
    done = resume()
    assert done.code == 0
    assert done.err.endswith(
        "paused at 1:both/left: Which colour?\nanswer it with: flow resume r --state kept:// --answer TEXT\n"
    )


@pytest.mark.parametrize("text", ["\n", ""], ids=["empty line", "end of input"])
def test_run_waits_when_nothing_is_answered(stored: Any, cli: Any, terminal: Any, text: str) -> None:
    store = stored("asking")
    before = record_of(store)
    terminal(text)
    done = cli("resume", "r", "--state", "kept://")
    assert (done.code, done.out) == (0, "")
    assert done.err.endswith("run r still waits\n")
    assert record_of(store) == before


def test_nothing_is_asked_when_the_answer_would_be_refused(stored: Any, resume: Any, terminal: Any) -> None:
    stored("asking")
    terminal("red\n")
    done = resume("--app", "app.py:labelling")
    assert done.code == 2
    assert "> " not in done.err
    assert "began with another pipeline" in done.err


@pytest.mark.parametrize("arguments", [["--json"], ["--answer", "blue"]])
def test_nobody_is_asked_who_has_said_otherwise(stored: Any, resume: Any, terminal: Any, arguments: list[str]) -> None:
    stored("choosing")
    terminal("red\n")
    assert "> " not in resume(*arguments).err


# -- signals

BLOCKING = """
import asyncio
@step
async def first(data): return data
@step
async def wait(data):
    print("ready", flush=True)
    await asyncio.Event().wait()
pipeline = first >> wait
"""
# A store that holds an interrupted run from the beginning, and reports what becomes of it.
PREPARED = (
    KEPT
    + """
import asyncio, contextlib, sys
from flow import RunRecord
from app import pipeline

class Telling(MemoryState):
    opening = False
    async def load_steps(self, run_id):
        if self.opening:
            print("ready", flush=True)
            await asyncio.Event().wait()
        return await super().load_steps(run_id)
    async def update_run(self, run_id, epoch, **changes):
        await super().update_run(run_id, epoch, **changes)
        if "status" in changes:
            print(changes["status"], file=sys.stderr)

store = Telling()
with contextlib.suppress(StopIteration):  # plugins are imported while a loop runs
    store.create_run(RunRecord(
        run_id="r", pipeline="pipeline", fingerprint=pipeline.fingerprint, status="interrupted", input=b'"x"',
    )).send(None)
STORES["kept://"] = store
STORES["kept://opening"] = slow = Telling()
slow._runs, slow._steps, slow._leases, slow.opening = store._runs, store._steps, store._leases, True
"""
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
@pytest.mark.parametrize("option", ["--quiet", "--stream"])
def test_resumed_run_is_interrupted(site: Site, app: Any, number: signal.Signals, code: int, option: str) -> None:
    site.add("flow-kept", {"flow.state": {"kept": "kept_state"}}, {"kept_state": PREPARED})
    app(BLOCKING)
    with start(site, "resume", "r", "--state", "kept://", "--app", "app.py", option) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err == (
        "running\n"
        "interrupted\n"
        f"interrupted by {number.name}: run r is interrupted, 1 step completed\n"
        "continue it with: flow resume r --state kept://\n"
    )


def test_run_that_is_still_being_opened_is_given_back(site: Site, app: Any) -> None:
    site.add("flow-kept", {"flow.state": {"kept": "kept_state"}}, {"kept_state": PREPARED})
    app(BLOCKING)
    with start(site, "resume", "r", "--state", "kept://opening", "--app", "app.py") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "interrupted by SIGINT: run r did not go on\n"


# -- help


def test_help_teaches_by_example(cli: Any) -> None:
    done = cli("resume", "--help")
    assert done.code == 0
    for text in ("flow resume 0193a7b2 --answer yes", "--app app.py:pipeline", "--on-change continue"):
        assert text in done.out
