"""``flow validate``: findings in words and as JSON, and the exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow._cli.main import main
from flow._kernel import default_kernel

HEADER = "from flow import *\n"
GOOD = f"{HEADER}pipeline = Step('upper', str.upper)\n"
WRONG = f"""{HEADER}
@step
def length(text: str) -> int: return len(text)
pipeline = length >> Step("upper", str.upper) >> Step("draft")
print("importing")
"""
DOUBTFUL = f"{HEADER}pipeline = Pipeline()\n"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    path, modules, here = list(sys.path), set(sys.modules), str(Path.cwd())
    default_kernel.cache_clear()
    yield
    default_kernel.cache_clear()
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if (vars(sys.modules[name]).get("__file__") or "").startswith(here):
            del sys.modules[name]


def validate(capsys: Any, source: str, *arguments: str) -> tuple[int, str, str]:
    """Write ``app.py`` and return exit code, standard output and standard error of checking it."""
    Path("app.py").write_text(source)
    code: Any = 0
    try:
        code = main(["validate", "app.py", *arguments])
    except SystemExit as end:
        code = end.code or 0
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_good_pipeline_passes(capsys: Any) -> None:
    assert validate(capsys, GOOD, "--strict") == (0, "app.py: nothing wrong\n", "")


def test_findings_name_rule_place_cause_and_cure(capsys: Any) -> None:
    code, out, _ = validate(capsys, WRONG)
    assert code == 1
    assert out == (
        "importing\n"
        "error FLOW-T1 at 1:upper\n"
        "  step 'upper' takes str, but step 'length' returns int\n"
        "  Make the types agree, or put a step between them that turns int into str\n"
        "error FLOW-A1 at 2:draft\n"
        "  step 'draft' has no agent\n"
        '  Write Step("draft", agent)\n'
        "app.py: 2 errors\n"
    )


def test_findings_as_json(capsys: Any) -> None:
    code, out, err = validate(capsys, WRONG, "--json")
    report = json.loads(out)
    assert (code, err) == (1, "importing\n")
    assert (report["target"], report["is_valid"], report["passed"]) == ("app.py", False, False)
    assert [finding["path"] for finding in report["findings"]] == ["1:upper", "2:draft"]
    assert set(report["findings"][0]) == {"severity", "rule_id", "path", "message", "suggestion"}


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--strict"], 1)])
def test_warnings_fail_only_when_asked_to(capsys: Any, arguments: list[str], code: int) -> None:
    found, out, _ = validate(capsys, DOUBTFUL, *arguments)
    assert found == code
    assert out.startswith("warning FLOW-P1\n")
    assert out.endswith("app.py: 1 warning\n")
    found, out, _ = validate(capsys, DOUBTFUL, "--json", *arguments)
    assert (found, json.loads(out)["passed"]) == (code, code == 0)


def test_nothing_is_run(capsys: Any) -> None:
    source = f"{HEADER}import pathlib\npipeline = Step('touch', lambda data: pathlib.Path('ran').touch())"
    assert validate(capsys, source)[0] == 0
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "error: app.py, line 1: ZeroDivisionError: division by zero\n"),
        ("x = (", "error: app.py, line 1, column 5: SyntaxError: '(' was never closed\n"),
        ("", "error: app.py holds no flow, pipeline or step\n"),
    ],
)
def test_unreadable_file_is_not_a_finding(capsys: Any, source: str, message: str) -> None:
    code, out, err = validate(capsys, source)
    assert (code, out) == (2, "")
    assert err.startswith(message)


def test_missing_file(capsys: Any) -> None:
    assert main(["validate", "other.py"]) == 2
    assert capsys.readouterr().err.startswith("error: other.py does not exist\n")


def test_help_teaches_by_example(capsys: Any) -> None:
    assert validate(capsys, GOOD, "--help")[0] == 0
    Path("app.py").unlink()
    with pytest.raises(SystemExit):
        main(["validate", "--help"])
    assert "flow validate app.py:triage --strict" in capsys.readouterr().out
