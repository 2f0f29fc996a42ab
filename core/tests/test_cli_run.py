"""``flow run``: what goes in, what comes out, what is said when it goes wrong, and the exit codes."""

from __future__ import annotations

import io
import json
import re
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import pytest

from core.tests.command_line import KEPT, Done, start
from core.tests.fake_site import Site
from flow import RunResult, UsageLimits
from flow._cli.wording import moment
from flow._kernel import default_kernel

TRACER = """\
import sys
from flow import Tracer, hookimpl

class Printing(Tracer):
    def on_event(self, event):
        print(f"saw {event.kind.value}", file=sys.stderr)

@hookimpl
def flow_open_tracer(name, settings):
    return Printing()
"""


ECHO = """
@step
async def echo(data):
    return data
"""


# -- output


@pytest.mark.parametrize(
    ("expression", "printed"),
    [
        ("'grüße'", "grüße\n"),
        ("'two\\nlines\\n'", "two\nlines\n\n"),
        ("{'a': [1, None]}", '{\n  "a": [\n    1,\n    null\n  ]\n}\n'),
        ("3.5", "3.5\n"),
        ("b'raw'", "raw"),
        ("None", ""),
        ("float('nan')", "null\n"),
        ("10 ** 30", "1" + "0" * 30 + "\n"),
        ("Usage(0.5, 1)", '{\n  "cost_usd": 0.5,\n  "input_tokens": 1,\n  "output_tokens": 0,\n  "requests": 0\n}\n'),
        ("UsageLimits(requests_limit=1)", json.dumps(UsageLimits(requests_limit=1).model_dump(), indent=2) + "\n"),
        ("ValueError('odd')", '"odd"\n'),
        ("[b'\\xff']", "\"[b'\\\\xff']\"\n"),
    ],
)
def test_output_is_text_or_json(app: Any, cli: Any, expression: str, printed: str) -> None:
    app(f"@step\nasync def make(data):\n    return {expression}\n")
    done = cli("run", "app.py")
    assert (done.code, done.out) == (0, printed)


def test_one_line_tells_how_it_went(app: Any, cli: Any) -> None:
    app("""
        @step
        async def ask(text: str, *, run: StepRun):
            run.usage.add(cost_usd=0.0123, input_tokens=1000, output_tokens=234)
            return text
        @step
        async def answer(text: str): return text
        pipeline = ask >> answer
    """)
    done = cli("run", "app.py", "-i", "hello", "--run-id", "run-1")
    assert done.out == "hello\n"
    assert re.fullmatch(r"completed in \d+(\.\d)? ms: 2 steps, 1,234 tokens, \$0\.0123, run run-1\n", done.err)


def test_quiet_prints_the_output_only(app: Any, cli: Any) -> None:
    app(ECHO)
    assert cli("run", "app.py", "-i", "hello", "--quiet") == Done(0, "hello\n", "")


def test_json_is_one_object_with_the_names_of_the_result(app: Any, cli: Any) -> None:
    app("""
        print("imported")
        @step
        async def echo(data): return data
        @step
        def loud(data):
            print("running")
            return data
        main = echo >> loud
    """)
    done = cli("run", "app.py", "-i", "hello", "--json")
    assert (done.code, done.err) == (0, "imported\nrunning\n")
    result = json.loads(done.out)
    assert {name.strip("_") for name in attrs.fields_dict(RunResult)} <= set(result)
    assert (result["status"], result["success"], result["output"]) == ("completed", True, "hello")
    assert [step["path"] for step in result["step_history"]] == ["0:echo", "1:loud"]


def test_json_holds_values_that_json_cannot(app: Any, cli: Any) -> None:
    app("""
        @step
        async def loop(data):
            ring = []
            ring.append(ring)
            return {"bytes": b"\\xff", "ring": ring}
    """)
    done = cli("run", "app.py", "--json")
    assert done.code == 0
    assert json.loads(done.out)["output"] == "{'bytes': b'\\xff', 'ring': [[...]]}"


def test_json_holds_a_context_that_json_cannot(app: Any, cli: Any) -> None:
    app("""
        class Odd:
            def __repr__(self): return "odd"
        @step
        async def keep(data, *, context): context.scratchpad["path"] = Odd()
    """)
    done = cli("run", "app.py", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["final_pipeline_context"]["scratchpad"] == {"path": "odd"}


# -- failure

FAILING = """
@step
async def first(data): return data
@step
async def extract(data): raise ValueError("no table")
pipeline = first >> extract
"""


def test_failed_run_names_step_and_cause(app: Any, cli: Any) -> None:
    app(FAILING)
    done = cli("run", "app.py", "-i", "x", "-q")
    assert done == Done(1, "", "error: failed at 1:extract: Agent failed with ValueError: no table\n")


def test_traceback_is_shown_when_asked_for(app: Any, cli: Any) -> None:
    app(FAILING)
    done = cli("run", "app.py", "-i", "x", "--traceback")
    assert done.code == 1
    assert 'app.py", line 7, in extract' in done.err


def test_failed_run_as_json(app: Any, cli: Any) -> None:
    app(FAILING)
    done = cli("run", "app.py", "--json")
    result = json.loads(done.out)
    assert done.code == 1
    assert (result["status"], result["failed_path"], result["output"]) == ("failed", "1:extract", None)
    assert done.err == "error: failed at 1:extract: Agent failed with ValueError: no table\n"


def test_hint_of_the_error_stands_on_a_line_of_its_own(app: Any, cli: Any) -> None:
    app("@step\nasync def ask(data: int): return data\n@step\nasync def text(data): return 'x'\npipeline = text >> ask")
    done = cli("run", "app.py", "-q")
    assert done.code == 1
    assert done.err == (
        "error: failed at 1:ask: Validation failed: input: Input should be a valid integer\n"
        "hint: Step '1:ask' declares int and got str\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit-cost", "0.15"], "error: limit exceeded at 0:spend: Cost limit of $0.15 exceeded\n"),
        (["--limit-tokens", "150"], "error: limit exceeded at 0:spend: Token limit of 150 exceeded\n"),
        (["--deadline", "0"], "error: deadline exceeded: run r has passed its deadline\n"),
    ],
)
def test_limits_end_the_run(app: Any, cli: Any, arguments: list[str], message: str) -> None:
    app("@step\nasync def spend(data, *, run: StepRun):\n    run.usage.add(cost_usd=0.2, input_tokens=200)")
    assert cli("run", "app.py", "--run-id", "r", "-q", *arguments) == Done(1, "", message)


def test_run_that_a_step_cancels_is_not_completed(app: Any, cli: Any) -> None:
    app("@step\nasync def stop(data): raise CancelSignal('nothing to do')")
    assert cli("run", "app.py", "-q") == Done(1, "", "error: cancelled: nothing to do\n")


def test_limits_are_added_to_those_of_the_flow(app: Any, cli: Any) -> None:
    app("""
        @step
        async def spend(data, *, run: StepRun): run.usage.add(cost_usd=0.2)
        flow = Flow(spend, usage_limits=UsageLimits(total_cost_usd_limit=0.1))
    """)
    done = cli("run", "app.py", "--limit-tokens", "5", "-q")
    assert done.err == "error: limit exceeded at 0:spend: Cost limit of $0.1 exceeded\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit-cost", "-1"], "Invalid value for '--limit-cost'"),
        (["--limit-tokens", "many"], "Invalid value for '--limit-tokens'"),
        (["--run-id", "a b"], "error: 'a b' cannot be a run id\n"),
        (["--state", "nowhere"], "error: 'nowhere' is not a state URL\n"),
        (["--state", "nowhere://"], "error: no installed plugin provides the state URL scheme 'nowhere'\n"),
        (["--cache", "nowhere://"], "error: no installed plugin provides the cache URL scheme 'nowhere'\n"),
        (["--trace", "logs"], "error: no installed plugin provides the tracer 'logs'\nhint: Did you mean log?\n"),
        (["--stream", "--json"], "error: --stream and --json exclude each other"),
    ],
)
def test_wrong_options_are_refused(app: Any, cli: Any, arguments: list[str], message: str) -> None:
    app(ECHO)
    done = cli("run", "app.py", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_step_without_agent_is_wrong_use(app: Any, cli: Any) -> None:
    app("pipeline = Step('draft')")
    done = cli("run", "app.py")
    assert done == Done(2, "", "error: step 'draft' has no agent\nhint: Write Step(\"draft\", agent)\n")


# -- input


def kind_of(annotation: str) -> str:
    return f"""
        import datetime, enum, pathlib
        from typing import Any, Literal, Annotated
        class Colour(enum.Enum):
            RED = "red"
        class Ticket(PipelineContext):
            number: int
        @step
        async def show(data: {annotation}):
            return f"{{type(data).__name__}} {{data!r}}"
    """


@pytest.mark.parametrize(
    ("annotation", "text", "shown"),
    [
        ("str", "5", "str '5'"),
        ("Any", '{"a": 1}', "str '{\"a\": 1}'"),
        ("str | None", "null", "str 'null'"),
        ("Annotated[str, 'x']", "a", "str 'a'"),
        ("Literal['a', 'b']", "a", "str 'a'"),
        ("bytes", "grüße", "bytes b'gr\\xc3\\xbc\\xc3\\x9fe'"),
        ("int", "5", "int 5"),
        ("dict[str, int]", '{"a": 1}', "dict {'a': 1}"),
        ("list[int] | None", "[1]", "list [1]"),
        ("datetime.date", "2024-02-29", "date datetime.date(2024, 2, 29)"),
        ("pathlib.Path", "a/b", "PosixPath PosixPath('a/b')"),
        ("Colour", "red", "Colour <Colour.RED: 'red'>"),
        ("Colour | None", "red", "Colour <Colour.RED: 'red'>"),
    ],
)
def test_input_is_read_as_the_first_step_declares(app: Any, cli: Any, annotation: str, text: str, shown: str) -> None:
    app(kind_of(annotation))
    done = cli("run", "app.py", "--input", text)
    assert (done.code, done.out) == (0, f"{shown}\n"), done.err


def test_json_becomes_the_declared_model(app: Any, cli: Any) -> None:
    app(kind_of("Ticket"))
    assert cli("run", "app.py", "-i", '{"number": 7}').out.startswith("Ticket Ticket(")


def test_json_input_can_be_asked_for(app: Any, cli: Any) -> None:
    app(kind_of("Any"))
    assert cli("run", "app.py", "-i", '{"a": 1}', "--json-input").out == "dict {'a': 1}\n"


@pytest.mark.parametrize("arguments", [["--input", "@in.txt"], ["--input", "-"]], ids=["file", "stdin"])
@pytest.mark.parametrize(
    ("annotation", "content", "shown"),
    [
        ("str", "zwei\nWörter\n".encode(), "str 'zwei\\nWörter\\n'"),
        ("str", b"\xef\xbb\xbfmarked", "str 'marked'"),
        ("bytes", b"\xff\x00", "bytes b'\\xff\\x00'"),
        ("list[int]", b"[1,\n2]\n", "list [1, 2]"),
    ],
)
def test_input_comes_from_a_file_or_standard_input(
    app: Any, cli: Any, monkeypatch: Any, arguments: list[str], annotation: str, content: bytes, shown: str
) -> None:
    app(kind_of(annotation))
    Path("in.txt").write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert cli("run", "app.py", *arguments).out == f"{shown}\n"


@pytest.mark.parametrize(
    ("annotation", "text", "message"),
    [
        (
            "dict",
            '{"a": 1,\n "b": }',
            (
                'error: --input is not JSON: line 2, column 7: Expecting value, in {"a": 1, "b": }\n'
                "hint: Step 'show' takes dict\n"
            ),
        ),
        ("list[str]", "", "error: --input is empty where JSON is expected\n"),
        ("dict", "x" * 100, f"Expecting value, in {'x' * 60}…\n"),
        ("list", "[" * 100_000, "error: --input is JSON that is nested too deeply\n"),
        ("str", "@there/is/none.txt", "error: 'there/is/none.txt' cannot be read: No such file or directory\n"),
        ("str", "@latin.txt", "error: latin.txt is not UTF-8 text: byte 1 is "),
        ("dict", "@broken.json", "error: broken.json is not JSON: line 1, column 2: "),
    ],
)
def test_unreadable_input_is_refused(app: Any, cli: Any, annotation: str, text: str, message: str) -> None:
    app(kind_of(annotation))
    Path("latin.txt").write_bytes("über".encode("latin-1").rjust(5))
    Path("broken.json").write_text("{")
    done = cli("run", "app.py", "--input", text)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert sorted(path.name for path in Path().iterdir() if path.suffix != "") == ["app.py", "broken.json", "latin.txt"]


def test_missing_input_is_refused_when_the_first_step_needs_one(app: Any, cli: Any) -> None:
    app(kind_of("str"))
    done = cli("run", "app.py")
    assert done.code == 2
    assert done.err == (
        "error: step 'show' takes str, and there is no input\n"
        "hint: Give it one: --input TEXT, --input @FILE, or --input - for standard input\n"
    )


# -- context

CONTEXT = """
class Research(PipelineContext):
    topic: str = ""
    depth: int = 0
    anything: object = None
    tags: list[str] = []
@step
async def show(data, *, context: Research):
    return [context.topic, context.depth, context.anything, context.tags]
flow = Flow(show, context_model=Research)
"""


@pytest.mark.parametrize(
    ("pairs", "shown"),
    [
        ([], ["", 0, None, []]),
        (["topic=art", "depth=3"], ["art", 3, None, []]),
        (["topic=123"], ["123", 0, None, []]),
        (["topic=a=b"], ["a=b", 0, None, []]),
        (['anything={"a": 1}'], ["", 0, {"a": 1}, []]),
        (["anything=plain words"], ["", 0, "plain words", []]),
        (['tags=["a", "b"]'], ["", 0, None, ["a", "b"]]),
    ],
)
def test_context_values_are_json_or_text(app: Any, cli: Any, pairs: list[str], shown: list[Any]) -> None:
    app(CONTEXT)
    done = cli("run", "app.py", *(word for pair in pairs for word in ("--context", pair)))
    assert (done.code, json.loads(done.out)) == (0, shown)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("topic", "error: --context takes key=value, got 'topic'\n"),
        ("=x", "error: --context takes key=value, got '=x'\n"),
        ("colour=red", "error: Research has no field colour\nhint: Its fields are: initial_prompt, "),
        ("depth=deep", "error: Research cannot be built from initial_context: depth: Input should be a valid integer"),
    ],
)
def test_wrong_context_is_refused(app: Any, cli: Any, pair: str, message: str) -> None:
    app(CONTEXT)
    done = cli("run", "app.py", "--context", pair)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(message)


# -- which object


def saying(*names: str) -> str:
    return "".join(f"{name} = Step({name!r}, lambda data: {name!r})\n" for name in names)


@pytest.mark.parametrize(
    ("source", "suffix", "printed"),
    [
        (saying("a") + "pipeline = a >> a", "", "a"),
        (saying("a", "b") + "pipeline = a >> a\nflow = Flow(b)", "", "b"),
        (saying("a", "b") + "main = Pipeline.from_step(a)\nother = Flow(b)", "", "a"),
        (saying("a", "b") + "work = a >> b\nmain = work", "", "b"),
        (saying("a", "b") + "x = Pipeline.from_step(a)\ny = Flow(b)", "", "b"),
        (saying("a", "b") + "x = a >> b", "", "b"),
        (saying("a"), "", "a"),
        (saying("a") + "alias = a", "", "a"),
        (saying("a", "_b"), "", "a"),
        (saying("a") + "def main(): ...", "", "a"),
        (saying("a", "b"), ":b", "b"),
        (saying("a", "_b"), ":_b", "_b"),
        (saying("a", "pipeline"), ":a", "a"),
    ],
)
def test_what_runs(app: Any, cli: Any, source: str, suffix: str, printed: str) -> None:
    app(source)
    done = cli("run", f"app.py{suffix}")
    assert (done.code, done.out) == (0, f"{printed}\n"), done.err


@pytest.mark.parametrize(
    ("source", "suffix", "message"),
    [
        (
            saying("a", "b"),
            "",
            (
                "error: app.py holds more than one thing that can be run: a (Step), b (Step)\n"
                "hint: Name one, such as app.py:a, or call it pipeline\n"
            ),
        ),
        (
            saying("a") + "x = Flow(a)\ny = Flow(a)",
            "",
            "error: app.py holds more than one thing that can be run: a (Step), x (Flow), y (Flow)\n",
        ),
        ("x = 1", "", "error: app.py holds no flow, pipeline or step\nhint: At the top level, write something like"),
        (
            saying("draft"),
            ":darft",
            "error: app.py: there is no darft; a flow, pipeline or step is needed\nhint: Did you mean draft?\n",
        ),
        (
            saying("draft") + "x = 1",
            ":x",
            "error: app.py: x is of type int; a flow, pipeline or step is needed\nhint: There are draft (Step)\n",
        ),
        (saying("a"), ":", "error: 'app.py:' names nothing after the colon\nhint: Write it like app.py:pipeline\n"),
    ],
)
def test_unclear_target_is_refused(app: Any, cli: Any, source: str, suffix: str, message: str) -> None:
    app(source)
    done = cli("run", f"app.py{suffix}")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(message)


def test_flow_is_used_as_it_is(app: Any, cli: Any) -> None:
    app("""
        @step
        async def show(data, *, context, resources): return f"{resources} {type(context).__name__}"
        class Own(PipelineContext): ...
        flow = Flow(show, resources="database", context_model=Own)
    """)
    assert cli("run", "app.py", "--state", "memory://", "--cache", "memory://").out == "database Own\n"


# -- how the file is imported


def test_modules_beside_the_file_can_be_imported(app: Any, cli: Any) -> None:
    app("WORD = 'beside'", "there/words_of_app.py")
    app("from words_of_app import WORD\npipeline = Step('say', lambda data: f'{WORD} {__name__}')", "there/app.py")
    assert cli("run", "there/app.py").out == "beside app\n"


def test_module_is_named_with_dots(app: Any, cli: Any) -> None:
    app("", "shop/__init__.py")
    app("pipeline = Step('say', lambda data: __name__)", "shop/orders.py")
    assert cli("run", "shop.orders:pipeline").out == "shop.orders\n"


@pytest.mark.parametrize(
    ("name", "module"),
    [("own.py", "own"), ("json.py", "json_app"), ("colorsys.py", "colorsys_app"), ("attr.py", "attr_app")],
)
def test_name_of_the_module_does_not_depend_on_what_is_loaded(app: Any, cli: Any, name: str, module: str) -> None:
    app("pipeline = Step('say', lambda data: __name__)", name)
    assert cli("run", name).out == f"{module}\n"


@pytest.mark.parametrize("name", ["flow.py", "json.py", "with-dashes.py"])
def test_file_may_be_called_like_anything(app: Any, cli: Any, name: str) -> None:
    app("import json\npipeline = Step('say', json.dumps)", name)
    assert cli("run", name, "-i", "x").out == '"x"\n'


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = (\n", "error: app.py, line 3, column 5: SyntaxError: '(' was never closed\n"),
        ("\n1 / 0", "error: app.py, line 4: ZeroDivisionError: division by zero\n"),
        (
            "from broken import x",
            "error: app.py, line 3: RuntimeError: no luck (raised in broken.py, line 4)\n",
        ),
        (
            "import not_there_at_all",
            (
                f"error: app.py, line 3: ModuleNotFoundError: No module named 'not_there_at_all'\n"
                f"hint: Is it installed for {sys.executable}?\n"
            ),
        ),
        (
            "raise SystemExit('done')",
            (
                "error: app.py, line 3: SystemExit: done\n"
                'hint: Put what only a program does under: if __name__ == "__main__"\n'
            ),
        ),
        (
            "pipeline = Step('')",
            "error: app.py, line 3: a step needs a name, got ''\nhint: Write Step(\"name\", agent)\n",
        ),
        (
            "pipeline = Step('a', str) >> 5",
            "error: app.py, line 3: TypeError: only a step or a pipeline can follow >>, got int 5\n",
        ),
        pytest.param(
            "Step.human_in_the_loop('x')",
            (
                "error: app.py, line 3: AttributeError: Step.human_in_the_loop comes from flow-hitl: "
                "pip install flow-hitl\n"
            ),
            marks=pytest.mark.skipif(find_spec("flow_hitl") is not None, reason="flow-hitl is installed"),
        ),
    ],
)
def test_module_that_cannot_be_imported_is_named_with_line_and_cause(
    app: Any, cli: Any, source: str, message: str
) -> None:
    app("def fail(): raise RuntimeError('no luck')\n1; fail()", "broken.py")
    Path("broken.py").write_text("\n\ndef fail():\n    raise RuntimeError('no\\nluck')\nfail()")
    app(source)
    assert cli("run", "app.py") == Done(2, "", message)


def test_traceback_of_an_import_is_shown_when_asked_for(app: Any, cli: Any) -> None:
    app("1 / 0")
    assert 'app.py", line 3, in <module>' in cli("--traceback", "run", "app.py").err


def test_module_that_failed_is_not_left_behind(app: Any, cli: Any) -> None:
    app("1 / 0", "half_imported.py")
    cli("run", "half_imported.py")
    assert "half_imported" not in sys.modules


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("ap.py", "error: ap.py does not exist\nhint: Did you mean app.py?\n"),
        ("zzzzzz.py", "error: zzzzzz.py does not exist\nhint: Name a Python file or module, such as app.py\n"),
        ("folder", "error: folder is a directory, not a Python file\n"),
        ("notes.txt", "error: notes.txt is not a Python file\nhint: Name a file that ends in .py\n"),
        ("no.such.module", "error: there is no file or module 'no.such.module'\n"),
        ("json.missing", "error: there is no file or module 'json.missing'\n"),
    ],
)
def test_target_that_does_not_exist_is_refused(app: Any, cli: Any, target: str, message: str) -> None:
    app(ECHO)
    Path("folder").mkdir()
    Path("notes.txt").touch()
    done = cli("run", target)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(message)


@pytest.mark.parametrize("source", ["1 / 0", "import also_not_there"])
def test_package_that_cannot_be_imported_is_not_taken_for_a_missing_one(app: Any, cli: Any, source: str) -> None:
    app(source, "shop/__init__.py")
    app(ECHO, "shop/orders.py")
    done = cli("run", "shop.orders")
    assert done.code == 2
    assert done.err.startswith("error: shop/__init__.py, line 3: ")


# -- streams and tracers

STREAM = """
@step
async def talk(data):
    for word in ("one ", "two ", "three"):
        yield word
@step
async def upper(data: str): return data.upper()
both = talk >> upper
"""


@pytest.mark.parametrize(
    ("name", "printed"), [("talk", "one two three\n"), ("both", "one two three\nONE TWO THREE\n"), ("upper", "X\n")]
)
def test_chunks_are_printed_as_they_come_and_once(app: Any, cli: Any, name: str, printed: str) -> None:
    app(STREAM)
    assert cli("run", f"app.py:{name}", "-i", "x", "--stream", "-q") == Done(0, printed, "")


def test_stream_that_starts_again_says_so(app: Any, cli: Any) -> None:
    app("""
        calls = []
        @step(retries=1)
        async def talk(data):
            calls.append(data)
            yield f"attempt {len(calls)}"
            if len(calls) == 1:
                raise OSError
    """)
    done = cli("run", "app.py", "--stream", "-q")
    assert done == Done(0, "attempt 1\nattempt 2\n", "0:talk failed and starts again:\n")


def test_stream_of_a_failing_run_ends_with_its_error(app: Any, cli: Any) -> None:
    app(STREAM + "\n@step\nasync def fail(data): raise OSError('gone')\npipeline = talk >> fail")
    done = cli("run", "app.py", "--stream", "-q")
    assert done == Done(1, "one two three", "error: failed at 1:fail: Agent failed with OSError: gone\n")


def test_tracer_is_switched_on(app: Any, cli: Any, caplog: pytest.LogCaptureFixture) -> None:
    app(ECHO)
    with caplog.at_level("INFO", "flow.trace"):
        assert cli("run", "app.py", "--trace", "log", "--trace", "log").code == 0
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == [
        "run.started",
        "step.started",
        "step.finished",
        "run.finished",
    ]


@pytest.mark.parametrize(
    ("flow", "arguments", "terminal", "shown"),
    [
        ("Flow(echo)", [], True, True),
        ("Flow(echo)", [], False, False),
        ("Flow(echo)", ["--trace", "console"], False, True),
        ("Flow(echo)", ["--trace", "console"], True, True),
        ("Flow(echo)", ["--quiet"], True, False),
        ("Flow(echo)", ["--json"], True, False),
        ("Flow(echo)", ["--stream"], True, False),
        ("Flow(echo, tracers=['console'])", [], True, True),
        ("Flow(echo, local_tracer='default')", [], True, True),
        ("Flow(echo, tracers=[Tracer()])", [], True, False),
    ],
)
def test_progress_is_shown_once_and_to_a_terminal(
    site: Site, app: Any, cli: Any, monkeypatch: Any, flow: str, arguments: list[str], terminal: bool, shown: bool
) -> None:
    monkeypatch.setenv("FLOW_PLUGINS_BLOCK", "flow-console")  # the real one, where everything is installed
    site.add("flow-fake", {"flow.tracers": {"console": "fake_console"}}, {"fake_console": TRACER})
    app(f"{ECHO}\nflow = {flow}")
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: terminal)
    done = cli("run", "app.py", *arguments)
    assert done.code == 0
    assert done.err.count("saw run.started") == int(shown)
    assert ("completed in" in done.err) is not (shown or bool({"--quiet", "--json"} & {*arguments}))


# -- pauses and stored runs

PAUSING = """
@step
async def ask(data): raise PauseSignal("Which colour?")
"""


def test_paused_run_asks_its_question_and_is_no_failure(app: Any, cli: Any) -> None:
    app(PAUSING)
    done = cli("run", "app.py", "-q")
    assert done == Done(0, "", "paused at 0:ask: Which colour?\n")


def test_paused_run_as_json(app: Any, cli: Any) -> None:
    app(PAUSING)
    done = cli("run", "app.py", "--json")
    (pending,) = json.loads(done.out)["pending"]
    assert done.code == 0
    assert (pending["path"], pending["message"]) == ("0:ask", "Which colour?")


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        (PAUSING, 0, "answer it with: flow resume r --state 'kept://a b' --answer TEXT\n"),
        (FAILING, 1, "hint: continue it with: flow resume r --state 'kept://a b'\n"),
    ],
    ids=["paused", "failed"],
)
@pytest.mark.parametrize("how", ["option", "setting", "flow"])
def test_stored_run_is_told_how_to_go_on(
    site: Site, app: Any, cli: Any, monkeypatch: Any, source: str, code: int, message: str, how: str
) -> None:
    site.add("flow-kept", {"flow.state": {"kept": "kept_state"}}, {"kept_state": KEPT})
    if how == "setting":
        monkeypatch.setenv("FLOW_STATE", "kept://a b")
    app(
        source
        + ("\nflow = Flow(Pipeline(locals().get('pipeline') or ask), state='kept://a b')" if how == "flow" else "")
    )
    done = cli("run", "app.py", "--run-id", "r", "-q", *(["--state", "kept://a b"] if how == "option" else []))
    assert done.code == code
    assert done.err.endswith(message)


def test_run_that_ends_with_the_program_has_no_command_to_go_on(app: Any, cli: Any) -> None:
    app(FAILING)
    assert "resume" not in cli("run", "app.py", "--state", "memory://").err


def test_run_says_where_it_is_stored_before_its_first_step(app: Any, cli: Any, kept: Any) -> None:
    app("import sys\n@step\nasync def tell(data): print('running', file=sys.stderr)")
    done = cli("run", "app.py", "--run-id", "r", "--state", "kept://me:geheim@host/runs")
    assert done.err.startswith("run r is stored in kept://me:***@host/runs\nrunning\ncompleted in")


@pytest.mark.parametrize(
    "arguments",
    [["-q", "--state", "kept://"], ["--state", "kept://", "--durability", "off"], ["--state", "memory://"], []],
)
def test_run_that_is_not_stored_or_quiet_does_not_say_so(app: Any, cli: Any, kept: Any, arguments: list[str]) -> None:
    app(ECHO)
    assert "is stored" not in cli("run", "app.py", *arguments).err


def test_run_that_cannot_be_stored_does_not_say_that_it_is(app: Any, cli: Any, kept: Any) -> None:
    app(ECHO)
    cli("run", "app.py", "--run-id", "r", "--state", "kept://")
    done = cli("run", "app.py", "--run-id", "r", "--state", "kept://")
    assert (done.code, done.err.partition("\n")[0]) == (4, "error: run 'r' exists already")


@pytest.mark.parametrize(
    ("target", "remembered"),
    [
        ("app.py", "{here}/app.py"),
        ("./shop/../app.py:echo", "{here}/app.py:echo"),
        ("link.py", "{here}/app.py"),
        ("shop.orders", "shop.orders"),
        ("shop.orders:echo", "shop.orders:echo"),
    ],
)
def test_run_remembers_its_app(app: Any, cli: Any, kept: Any, target: str, remembered: str) -> None:
    app(ECHO)
    app(ECHO, "shop/orders.py")
    Path("link.py").symlink_to("app.py")
    assert cli("run", target, "--run-id", "r", "--state", "kept://", "-q").code == 0
    run = kept.STORES["kept://"]._runs["r"]
    assert run.metadata["app"] == remembered.format(here=Path.cwd())


def test_app_outside_the_directory_is_named_in_the_command_that_continues_the_run(
    app: Any, cli: Any, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = app(FAILING)
    Path("below").mkdir()
    monkeypatch.chdir("below")
    done = cli("run", "../app.py", "--run-id", "r", "--state", "kept://", "-q")
    assert done.err.endswith(f"flow resume r --state kept:// --app {path}\n")


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        (["--deadline", "0"], " --deadline SECONDS\n"),
        (["--limit-tokens", "1"], " --limit-cost USD or --limit-tokens N\n"),
    ],
)
def test_run_that_would_end_at_once_again_is_told_what_to_add(
    app: Any, cli: Any, kept: Any, arguments: list[str], added: str
) -> None:
    app("@step\nasync def spend(data, *, run: StepRun):\n    run.usage.add(input_tokens=200)")
    done = cli("run", "app.py", "--run-id", "r", "--state", "kept://", "-q", *arguments)
    assert done.err.endswith(f"hint: continue it with: flow resume r --state kept://{added}")


def test_secret_of_the_store_is_not_printed_in_the_command(app: Any, cli: Any, kept: Any, monkeypatch: Any) -> None:
    app(FAILING)
    url = "kept://me:geheim@host/runs?token=abc"
    named = cli("run", "app.py", "--run-id", "r", "-q", "--state", url)
    assert named.err.endswith("flow resume r --state 'kept://me:***@host/runs?token=***'\n")
    monkeypatch.setenv("FLOW_STATE", url)
    default_kernel.cache_clear()
    settled = cli("run", "app.py", "--run-id", "s", "-q")
    assert settled.err.endswith("continue it with: flow resume s\n")


def test_wrong_durability_is_refused(app: Any, cli: Any) -> None:
    app(ECHO)
    done = cli("run", "app.py", "--durability", "most")
    assert (done.code, done.err) == (
        2,
        "error: durability is one of 'full', 'normal', 'exit', 'off', got 'most'\n",
    )


def test_messages_of_steps_cannot_control_the_terminal(app: Any, cli: Any) -> None:
    app("@step\nasync def fail(data): raise ValueError('red \\x1b[31m\\u202e')")
    done = cli("run", "app.py", "-q")
    assert done.err == "error: failed at 0:fail: Agent failed with ValueError: red \\x1b[31m\\u202e\n"


def test_questions_are_shown_with_what_answers_them(app: Any, cli: Any, kept: Any) -> None:
    app("""
        @step
        async def ask(data):
            first = PauseSignal("Which\\ncolour?", schema={"enum": ["red", "blue"]}, deadline=1893456000.0, path="0:a")
            raise PauseSignal.join([first, PauseSignal("How many?", schema={"type": "integer"}, path="0:b c")])
    """)
    lines = cli("run", "app.py", "-q", "--run-id", "r", "--state", "kept://").err.splitlines()
    assert lines[:4] == [
        "paused at 0:a: Which",
        "  colour?",
        "  answer: red or blue",
        f"  until:  {moment(1893456000)}",
    ]
    assert lines[4:] == [
        "paused at 0:b c: How many?",
        "  answer: a whole number",
        ("answer them, in any order, with: flow resume r --state kept:// --answer 0:a=TEXT --answer '0:b c'=TEXT"),
    ]


# -- signals

WAITING = """
import asyncio, time

def ready():
    print("ready", flush=True)

@step
async def first(data): return data
@step
async def wait(data):
    ready()
    try:
        await asyncio.Event().wait()
    finally:
        print("unwound", flush=True)
@step
def thread(data):
    ready()
    time.sleep(60)
@step
async def to_thread(data):
    await asyncio.to_thread(thread.agent, data)
@step
async def deaf(data):
    ready()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ready()
waiting, threaded, to_threaded, never = first >> wait, first >> thread, first >> to_thread, first >> deaf
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
@pytest.mark.parametrize("name", ["waiting", "threaded", "to_threaded"])
def test_interrupted_run_is_told_how_to_go_on(
    site: Site, app: Any, number: signal.Signals, code: int, name: str
) -> None:
    site.add("flow-kept", {"flow.state": {"kept": "kept_state"}}, {"kept_state": KEPT})
    app(WAITING)
    with start(site, "run", f"app.py:{name}", "-i", "x", "--run-id", "r", "--state", "kept://") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == ("unwound\n" if name == "waiting" else "")
    assert err == (
        "run r is stored in kept://\n"
        f"interrupted by {number.name}: run r is interrupted, 1 step completed\n"
        "continue it with: flow resume r --state kept://\n"
    )


def test_interrupted_run_as_json(site: Site, app: Any) -> None:
    app(WAITING)
    with start(site, "run", "app.py:to_threaded", "-i", "x", "--json") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["status"] == "interrupted"


def test_second_signal_ends_the_program_at_once(site: Site, app: Any) -> None:
    app(WAITING)
    with start(site, "run", "app.py:never", "-i", "x") as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130


def test_interruption_while_the_file_is_imported(site: Site, app: Any) -> None:
    app("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    with start(site, "run", "app.py") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_thread_of_a_step_that_timed_out_does_not_keep_the_program(site: Site, app: Any) -> None:
    app("import time\npipeline = Step('slow', lambda data: time.sleep(60), timeout=0.01)")
    with start(site, "run", "app.py", "-q") as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == "error: failed at 0:slow: step '0:slow' timed out after 0.01 s\n"


# -- help


def test_help_teaches_by_example(cli: Any) -> None:
    done = cli("run", "--help")
    assert done.code == 0
    for text in ("flow run app.py --input", "--state sqlite:///runs.db", "Exit codes: 0 completed"):
        assert text in done.out
