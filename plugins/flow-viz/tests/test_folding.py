"""Large pipelines: as many steps as are readable, and a word for each that is not drawn."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flow_viz import to_mermaid, to_svg, to_text
from flow_viz._folding import fold
from flow_viz._reading import read
from hypothesis import given, settings
from hypothesis import strategies as st

Make = Callable[..., Any]


@pytest.fixture
def long_chain(structure_of: Make, series_of: Make) -> dict[str, Any]:
    return series_of(*(structure_of(f"s{number}") for number in range(500)))


def test_middle_of_a_long_chain_is_folded(long_chain: Any) -> None:
    lines = to_text(long_chain, max_nodes=10).splitlines()
    assert lines == [
        "pipeline",
        "8 of 500 steps drawn, 492 folded",
        *(f"├─ s{number}" for number in range(4)),
        "├─ … 492 more steps",
        *(f"├─ s{number}" for number in range(496, 499)),
        "└─ s499",
    ]


def test_nothing_is_folded_that_fits(long_chain: Any) -> None:
    assert len(to_text(long_chain, max_nodes=500).splitlines()) == 501


def test_failed_steps_are_never_hidden_behind_good_ones(long_chain: Any, record_of: Make) -> None:
    records = [record_of(f"{number}:s{number}", "failed" if number == 250 else "completed") for number in range(251)]
    lines = to_text(long_chain, run=records, max_nodes=12).splitlines()
    (at,) = [number for number, line in enumerate(lines) if "s250" in line]
    assert "✗" in lines[at]
    assert re.search(r"✓ … \d+ more steps +\d+ done", lines[at - 1])
    assert re.search(r"· … \d+ more steps", lines[at + 1])


def test_many_failures_are_counted_where_they_have_no_room(long_chain: Any, record_of: Make) -> None:
    records = [record_of(f"{number}:s{number}", "failed") for number in range(500)]
    text = to_text(long_chain, run=records, max_nodes=20)
    assert text.count("✗ s") <= 20
    assert re.search(r"✗ … \d+ more steps +\d+ failed", text)


def test_many_branches_are_folded(structure_of: Make, series_of: Make) -> None:
    branches = {f"b{number}": series_of(structure_of(f"s{number}")) for number in range(300)}
    text = to_text(series_of(structure_of("all", "parallel", branches)), max_nodes=12)
    assert re.search(r"… \d+ more branches", text)
    assert text.count("b299: s299") == 1


def test_depth_closes_what_is_deeper(structure_of: Make, series_of: Make) -> None:
    loop = structure_of("loop", "loop", {"body": series_of(structure_of("a"), structure_of("b"))})
    outer = series_of(structure_of("sub", "acme.group", {"body": series_of(loop)}))
    assert to_text(outer, depth=1).splitlines()[1:] == [
        "1 of 4 steps drawn, 3 folded",
        "└─ sub acme.group  3 steps inside",
    ]
    assert "⟳ loop loop  2 steps inside" in to_text(outer, depth=2)
    assert to_text(outer, depth=3) == to_text(outer)


@given(data=st.data(), limit=st.integers(8, 40))
@settings(deadline=None, max_examples=50)
def test_limit_is_kept_and_every_step_is_drawn_or_counted(
    data: st.DataObject,
    limit: int,
    any_structure: st.SearchStrategy[dict[str, Any]],
    steps_of: Callable[[Mapping[str, Any]], list[Mapping[str, Any]]],
) -> None:
    structure = data.draw(any_structure)
    total = len(steps_of(structure))
    folded = fold(read(structure), depth=None, max_nodes=limit, keep=lambda node: False)
    shown = [node for node in folded.root.walk() if node.framed]
    assert folded.steps == total
    assert folded.drawn + sum(node.hidden for node in shown) == total
    if total <= limit:
        assert folded.drawn == total
    else:
        assert len(shown) <= limit


@pytest.mark.parametrize("render", [to_mermaid, to_svg, to_text])
def test_500_steps_are_drawn_quickly(render: Callable[[Any], str], long_chain: Any) -> None:
    begin = time.process_time()
    drawn = render(long_chain)
    assert time.process_time() - begin < 1
    assert len(re.findall(r"\bs\d+\b", drawn)) < 200
