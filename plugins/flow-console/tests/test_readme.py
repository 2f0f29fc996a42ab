"""Every program of the README runs and prints what stands below it, times and ids aside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def masked(text: str) -> list[str]:
    """Lines without times, run ids, and the room that is left by longer or shorter times."""
    text = re.sub(r"<?\b\d+(\.\d+)? ?m?s\b", "TIME", text)
    text = re.sub(r"^(\s+run\s+)[0-9a-f]{20,}$", r"\1RUN", text, flags=re.MULTILINE)
    return [re.sub(r" {2,}", "  ", line.rstrip()) for line in text.splitlines()]


@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
def test_program_prints_what_the_page_says(program: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    assert masked(capsys.readouterr().out) == masked(printed)


def test_no_program_is_left_out() -> None:
    assert README.count("```python\n") == len(PROGRAMS) == 4
