"""The programs of the README run, one after the other in one namespace, and print what stands below them."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_programs_print_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for program, printed in PROGRAMS:
        exec(compile(program, "README.md", "exec"), names)
        assert capsys.readouterr().out == printed
    asyncio.run(names["flow"].aclose())
    shutil.rmtree(names["directory"])


def test_no_program_is_left_out() -> None:
    assert README.count("```python\n") == len(PROGRAMS) == 2
