"""Every block of the README is a test file that passes."""

from __future__ import annotations

import re
from pathlib import Path

# Imported here, or pytester would import it, and all of flow, anew.
import flow_testkit.suites  # noqa: F401
import pytest

pytest_plugins = ["pytester"]

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_readme_blocks_pass(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")
    pytester.makepyfile(**{f"test_block_{number}": block for number, block in enumerate(BLOCKS)})
    run = pytester.inline_run("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    passed, skipped, failed = run.listoutcomes()
    assert [report.nodeid for report in failed] == []
    tested = {report.nodeid.partition(".")[0] for report in [*passed, *skipped]}
    assert tested == {f"test_block_{number}" for number in range(len(BLOCKS))}


def test_readme_says_how_to_start() -> None:
    first = BLOCKS[0].splitlines()
    assert len(first) < 20
    assert "run_one" in BLOCKS[0]
