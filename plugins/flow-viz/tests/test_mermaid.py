"""Mermaid: what Mermaid's own parser makes of it, and that no name is read as anything but a name."""

from __future__ import annotations

import html
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flow_viz import to_mermaid
from flow_viz._mermaid import escape
from flow_viz._wording import cut, visible
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from flow import Step


def fetch(url: str) -> bytes:
    return url.encode()


def count(page: bytes) -> int:
    return len(page)


Parse = Callable[[list[str]], list[dict[str, Any]]]
NASTY = [
    'say "hello"',
    "end",
    "graph TD",
    "subgraph",
    "a<br>b",
    "<script>x</script>",
    "a&lt;b",
    "[brackets]",
    "{braces}",
]
NASTY += ["(round)", "100%", "%%{init: {}}%%", "two\nlines", "back\\slash\\n", "`code`", "1. first", "- item", "+ plus"]
NASTY += ["* star", "#35;", "#quot;", "$$x^2$$", "fa:fa-car", "東京 ☃ é", "style a:#fff;", "classDef x:#f;", "click n1"]
NASTY += [
    "n1 --> n2",
    "a|b|c",
    "\u202eabc",
    "x" * 300,
    "'",
    ";",
    "__dunder__",
    "*bold*",
    "~strike~",
    "@{shape: x}",
    "_",
]


def text_of(label: str) -> list[str]:
    """Return the lines that a reader of the diagram sees: the parser hands on entities in a form of its own."""
    for instead, entity in (("ﬂ°°", "&#"), ("ﬂ°", "&"), ("¶ß", ";")):
        label = label.replace(instead, entity)
    return [html.unescape(line) for line in re.split(r"<br\s*/?>", label)]


def test_small_pipeline_is_written_like_this() -> None:
    pipeline = Step("fetch", fetch, retries=2, timeout=30) >> Step("count", count)
    assert to_mermaid(pipeline).splitlines() == [
        "flowchart TB",
        '  n1["fetch<br/>str → bytes<br/>2 retries · timeout 30 s"]',
        '  n2["count<br/>bytes → int"]',
        "  n1 --> n2",
    ]


def test_pipeline_draws_itself() -> None:
    pipeline = Step("fetch", fetch) >> Step("count", count)
    assert pipeline.to_mermaid() == to_mermaid(pipeline)


def test_fallback_is_a_dashed_way() -> None:
    drawn = to_mermaid(Step("fetch", fetch, fallback=Step("cached", fetch)) >> Step("count", count), types=False)
    assert '  n1 -.->|"on failure"| n2' in drawn
    assert "  n2 -.-> n3" in drawn


@pytest.mark.parametrize("name", [name for name in NASTY if len(name) < 40])
def test_entities_mean_the_name(name: str) -> None:
    seen = re.sub(
        r"#(\w+);", lambda found: html.unescape(f"&{'' if found[1] == 'quot' else '#'}{found[1]};"), escape(name)
    )
    assert seen == name


def test_no_name_is_read_as_anything_else(
    parse_mermaid: Parse, structure_of: Callable[..., Any], series_of: Callable[..., Any]
) -> None:
    diagrams = [
        to_mermaid(
            series_of(
                structure_of(name),
                structure_of(name, "branch", {name: series_of(structure_of(name)), "other": series_of()}),
                name=name,
            )
        )
        for name in NASTY
    ]
    for name, found in zip(NASTY, parse_mermaid(diagrams), strict=True):
        assert "error" not in found, (name, found["error"])
        label = cut(visible(name))
        boxes = {box["id"]: text_of(box["text"]) for box in found["boxes"]}
        assert boxes["n1"] == [label]
        assert boxes["n5"] == [label]
        assert [text_of(frame["text"]) for frame in found["frames"]] == [[f"{label} branch"]]
        assert [label] in [text_of(arrow["text"]) for arrow in found["arrows"]]
        assert found["frames"][0]["inside"], name


@given(data=st.data())
@settings(max_examples=1, deadline=None, phases=[Phase.generate], database=None)
def test_random_structures_are_parsed_as_they_were_meant(
    data: st.DataObject,
    any_structure: st.SearchStrategy[dict[str, Any]],
    parse_mermaid: Parse,
    steps_of: Callable[[Mapping[str, Any]], list[Mapping[str, Any]]],
) -> None:
    drawn = data.draw(st.lists(any_structure, min_size=60, max_size=60))
    directions = random.Random(7)
    diagrams = [to_mermaid(one, max_nodes=10_000, direction=directions.choice(["TB", "LR"])) for one in drawn]
    for structure, diagram, found in zip(drawn, diagrams, parse_mermaid(diagrams), strict=True):
        assert "error" not in found, (diagram, found["error"])
        told = [text_of(part["text"])[0] for part in (*found["boxes"], *found["frames"])]
        for step in steps_of(structure):
            label = cut(visible(step["name"]))
            assert any(text.startswith(label) for text in told), (label, diagram)
        ids = {box["id"] for box in found["boxes"]} | {frame["id"] for frame in found["frames"]}
        assert all({arrow["from"], arrow["to"]} <= ids for arrow in found["arrows"])


def test_run_is_parsed_with_its_colours(
    parse_mermaid: Parse, structure_of: Callable[..., Any], series_of: Callable[..., Any], record_of: Callable[..., Any]
) -> None:
    pipeline = series_of(
        structure_of("a"),
        structure_of("choose", "branch", {"x": series_of(structure_of("b")), "y": series_of(structure_of("c"))}),
        structure_of("d"),
    )
    records = [record_of("0:a"), record_of("1:choose/x/0:b", "failed"), record_of("1:choose", "failed", kind="branch")]
    (found,) = parse_mermaid([to_mermaid(pipeline, run=records)])
    classes = {text_of(box["text"])[0]: box["classes"] for box in found["boxes"]}
    assert classes["✓ a"] == ["done"]
    assert classes["✗ b"] == ["failed"]
    assert classes["· c"] == classes["· d"] == ["idle"]


def test_ways_of_a_run_are_told_apart(
    structure_of: Callable[..., Any], series_of: Callable[..., Any], record_of: Callable[..., Any]
) -> None:
    pipeline = series_of(structure_of("a"), structure_of("b"), structure_of("c"))
    drawn = to_mermaid(pipeline, run=[record_of("0:a"), record_of("1:b", "failed")])
    assert "  linkStyle 0 stroke:#1a7f37,stroke-width:2px" in drawn
    assert "  linkStyle 1 stroke:#afb8c1,stroke-dasharray:2 3" in drawn


def test_folding_is_said(series_of: Callable[..., Any], structure_of: Callable[..., Any], parse_mermaid: Parse) -> None:
    drawn = to_mermaid(series_of(*(structure_of(f"s{number}") for number in range(500))))
    (found,) = parse_mermaid([drawn])
    assert len(found["boxes"]) <= 80
    (fold,) = [box for box in found["boxes"] if "more steps" in box["text"]]
    hidden = int(text_of(fold["text"])[0].split()[1])
    assert hidden + len(found["boxes"]) - 1 == 500
    assert fold["classes"] == ["folded"]
    assert f"%% {500 - hidden} of 500 steps drawn, {hidden} folded" in drawn
