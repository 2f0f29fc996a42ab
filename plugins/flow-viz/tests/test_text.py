"""Text for the terminal: a tree that fits, in ASCII where nothing else can be shown, coloured only when asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flow_viz import to_text
from flow_viz._wording import columns, cut, visible
from hypothesis import given, settings
from hypothesis import strategies as st

from flow import ConfigurationError, Step


def fetch(url: str) -> bytes:
    return url.encode()


def test_tree_shows_series_branches_and_fallbacks(
    structure_of: Callable[..., Any], series_of: Callable[..., Any]
) -> None:
    branches = {
        "yes": series_of(structure_of("a"), structure_of("b")),
        "no": series_of(structure_of("c")),
        "-": series_of(),
    }
    pipeline = series_of(
        structure_of("get", retries=2, timeout=3, fallback=structure_of("cached", cache={"ttl": 60})),
        structure_of(
            "draft", "loop", {"body": series_of(structure_of("write"))}, max_loops=3, exit_condition="app.done"
        ),
        structure_of("pick", "branch", branches, choose="app.choose"),
        structure_of("ask", "approval", {"on_reject": series_of(structure_of("undo"))}, message="go on?"),
        name="demo",
    )
    assert to_text(pipeline).splitlines() == [
        "demo",
        "├─ get  2 retries · timeout 3 s",
        "│  └╌ on failure: cached  cached 1 min",
        "├─ ⟳ draft loop  until done · at most 3 times",
        "│  └─ write",
        "├─ ◇ pick branch  choose?",
        "│  ├─ yes:",
        "│  │  ├─ a",
        "│  │  └─ b",
        "│  ├─ no: c",
        "│  └─ -: no steps",
        "└─ ☺ ask approval  asks: go on?",
        "   └─ on_reject: undo",
    ]


def test_ascii_says_the_same_with_fewer_letters(
    structure_of: Callable[..., Any], series_of: Callable[..., Any]
) -> None:
    pipeline = series_of(structure_of("naïve", retries=1, timeout=2), structure_of("b", fallback=structure_of("c")))
    assert to_text(pipeline, ascii=True).splitlines() == [
        "pipeline",
        "|- na\\xefve  1 retry - timeout 2 s",
        "`- b",
        "   `~ on failure: c",
    ]


def test_declared_types_are_shown_unless_they_are_not_wanted() -> None:
    assert to_text(Step("fetch", fetch)).splitlines()[1] == "└─ fetch  str → bytes"
    assert to_text(Step("fetch", fetch), types=False).splitlines()[1] == "└─ fetch"


def test_run_stands_at_the_right(
    series_of: Callable[..., Any], structure_of: Callable[..., Any], record_of: Any
) -> None:
    records = [record_of("0:a", cost=0.02), record_of("1:b", "failed", attempts=3)]
    pipeline = series_of(structure_of("a"), structure_of("b"), structure_of("c"))
    assert to_text(pipeline, run=records, width=40).splitlines() == [
        "pipeline",
        "├─ ✓ a                    100 ms · $0.02".replace("$0.02", "$0.0200").replace("  100", "100"),
        "├─ ✗ b               100 ms · 3 attempts",
        "└─ · c",
    ]


@given(data=st.data(), width=st.integers(20, 140), ascii=st.booleans(), with_run=st.booleans())
@settings(deadline=None, max_examples=50)
def test_every_line_fits(
    data: st.DataObject,
    width: int,
    ascii: bool,
    with_run: bool,
    any_structure: st.SearchStrategy[dict[str, Any]],
    record_of: Callable[..., Any],
) -> None:
    structure = data.draw(any_structure)
    records = [record_of(path, attempts=2, cost=1.0) for path in structure["children"]] if with_run else None
    text = to_text(structure, run=records, width=width, ascii=ascii)
    assert all(columns(line) <= width for line in text.splitlines())
    assert all(line.isprintable() for line in text.splitlines())
    assert text.isascii() or not ascii


@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_every_step_has_a_line_where_there_is_room(
    data: st.DataObject,
    any_structure: st.SearchStrategy[dict[str, Any]],
    steps_of: Callable[[Mapping[str, Any]], list[Mapping[str, Any]]],
) -> None:
    structure = data.draw(any_structure)
    lines = to_text(structure, width=110, max_nodes=10_000).splitlines()
    for step in steps_of(structure):
        assert any(cut(visible(step["name"])) in line for line in lines), step["name"]


@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_colours_change_nothing_but_colours(
    data: st.DataObject, any_structure: st.SearchStrategy[dict[str, Any]]
) -> None:
    structure = data.draw(any_structure)
    plain, coloured = to_text(structure, run=[]), to_text(structure, run=[], color=True)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert coloured.count("\x1b[0m") * 2 == coloured.count("\x1b[")


def test_levels_without_room_are_counted(structure_of: Callable[..., Any], series_of: Callable[..., Any]) -> None:
    inner = series_of(structure_of("innermost"))
    for number in range(30):
        inner = series_of(structure_of(f"level {number}", "acme.level", {"body": inner}))
    text = to_text(inner, max_nodes=100)
    assert "innermost" not in text
    assert re.search(r"… \d+ more inside", text)


@pytest.mark.parametrize("width", [0, 19, -1])
def test_no_text_is_that_narrow(width: int) -> None:
    with pytest.raises(ConfigurationError, match="at least 20 columns"):
        to_text(Step("a", len), width=width)
