"""The black-box tester."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from flow_testkit import FlowTester, Outcome

SHOUT = """
    from flow import hookimpl

    @hookimpl
    def flow_bind_step(step, binder):
        return None
"""


@pytest.fixture
def shout(flow_tester: FlowTester) -> FlowTester:
    flow_tester.write_plugin("flow_shout", SHOUT, entry_points={"flow.steps": {"shout": "flow_shout"}}, version="1.5")
    return flow_tester


def rows(outcome: Outcome) -> dict[str, Any]:
    return {row["name"]: row for row in outcome.assert_success().no_traceback().json() if row["dist"] != "flow-core"}


def test_written_plugin_is_listed(shout: FlowTester) -> None:
    row = rows(shout.run("plugins", "list", "--json"))["shout"]
    assert (row["dist"], row["version"], row["kind"], row["state"]) == ("flow-shout", "1.5", "steps", "available")


def test_table_can_be_matched(shout: FlowTester) -> None:
    shout.run("plugins", "list").assert_success().fnmatch_lines(["NAME *", "shout *flow-shout*1.5*"])


def test_requirements_count(flow_tester: FlowTester) -> None:
    flow_tester.write_plugin(
        "flow_old", SHOUT, entry_points={"flow.steps": {"old": "flow_old"}}, requires=["flow-core>=7"], dist="my-old"
    )
    row = rows(flow_tester.run("plugins", "list", "--json", "--all"))["old"]
    assert (row["dist"], row["state"]) == ("my-old", "incompatible")


def test_wrong_use_is_an_exit_code_and_a_message(flow_tester: FlowTester) -> None:
    outcome = flow_tester.run("plugins", "info", "nobody")
    outcome.assert_failed(code=2, error="no plugin is called 'nobody'").no_traceback()
    outcome.assert_failed()


def test_environment_is_clean(flow_tester: FlowTester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOW_STATE", "nowhere://")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("MARKER_OF_THE_CALLER", "kept")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = flow_tester.run_python("-c", program, env={"FLOW_CACHE": "memory://"}).json()
    assert "FLOW_STATE" not in seen
    assert "PYTHONWARNINGS" not in seen
    assert seen["FLOW_CACHE"] == "memory://"
    assert seen["MARKER_OF_THE_CALLER"] == "kept"
    assert seen["HOME"].startswith(str(flow_tester.path.parent))


def test_files_input_and_output_are_utf8(flow_tester: FlowTester) -> None:
    flow_tester.write("inner/app.py", "import sys\nprint('ü', sys.stdin.read())\n")
    flow_tester.write("data.bin", b"\xff")
    assert (flow_tester.path / "data.bin").read_bytes() == b"\xff"
    assert flow_tester.run_python("inner/app.py", stdin="ñ").stdout == "ü ñ\n"


def test_settings_file_of_the_project_is_read(shout: FlowTester) -> None:
    shout.write("flow.toml", '[plugins]\nblock = ["shout"]\n')
    assert rows(shout.run("plugins", "list", "--json", "--all"))["shout"]["state"] == "blocked"


APP = """
    from flow import Step

    pipeline = Step("upper", str.upper) >> Step("number", int)
"""


def test_app_is_run(flow_tester: FlowTester) -> None:
    flow_tester.write("app.py", APP)
    result = flow_tester.run("run", "app.py", "--input", "17", "--json").assert_success().json()
    assert result["output"] == 17
    assert [step["name"] for step in result["step_history"]] == ["upper", "number"]


def test_failing_app_is_an_exit_code(flow_tester: FlowTester) -> None:
    flow_tester.write("app.py", APP)
    flow_tester.run("run", "app.py", "--input", "x").assert_failed(code=1, error="1:number").no_traceback()


def test_app_is_validated(flow_tester: FlowTester) -> None:
    flow_tester.write("app.py", APP)
    flow_tester.run("validate", "app.py").assert_success().no_traceback()


def test_program_that_does_not_end_fails(flow_tester: FlowTester) -> None:
    flow_tester.write("app.py", "import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    with pytest.raises(pytest.fail.Exception, match=r"did not end within 0.5 s\n\$ python app.py\n(?s:.*)begun"):
        flow_tester.run_python("app.py", timeout=0.5)


OUTCOME = Outcome(
    ("python", "-m", "flow", "run"), 2, "one\ntwo\nthree\n", "error: bad\nTraceback (most recent call last):\n"
)


@pytest.mark.parametrize(
    ("complaint", "check"),
    [
        ("the exit code is 2, expected 0", lambda: OUTCOME.assert_success()),
        ("the exit code is 2, expected 1", lambda: OUTCOME.assert_failed(code=1)),
        ("standard error does not contain 'good'", lambda: OUTCOME.assert_failed(code=2, error="good")),
        ("no line matches 'one' where it is expected", lambda: OUTCOME.fnmatch_lines(["t*", "one"])),
        ("a traceback was printed", lambda: OUTCOME.no_traceback()),
        ("standard output is not JSON", lambda: OUTCOME.json()),
        ("the exit code is 0, expected any but 0", lambda: Outcome((), 0, "", "").assert_failed()),
    ],
)
def test_failed_assertion_shows_the_transcript(complaint: str, check: Any) -> None:
    with pytest.raises(pytest.fail.Exception) as caught:
        check()
    message = str(caught.value)
    assert message.startswith(complaint)
    if "any but 0" not in complaint:
        assert "$ python -m flow run\nexit code 2\n-- stdout --\none\ntwo\nthree\n-- stderr --\nerror: bad" in message


def test_assertions_hold_and_chain() -> None:
    outcome = Outcome((), 0, '{"a": 1}\n', "")
    assert outcome.assert_success().no_traceback().fnmatch_lines('{"a"*').json() == {"a": 1}
    OUTCOME.assert_failed(code=2, error="error: bad").fnmatch_lines("one\nthr?e")


def test_python_is_the_one_of_the_tests(flow_tester: FlowTester) -> None:
    printed = flow_tester.run_python("-c", "import sys; print(sys.executable)").stdout.strip()
    assert os.path.normpath(printed) == os.path.normpath(sys.executable)
