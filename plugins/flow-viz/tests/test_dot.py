"""DOT: read by a strict reader of the part of the language that is written here, and by Graphviz where it is there."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest
from flow_viz import to_dot
from flow_viz._dot import quote
from flow_viz._wording import cut, visible
from hypothesis import given, settings
from hypothesis import strategies as st

from flow import Step


def fetch(url: str) -> bytes:
    return url.encode()


def count(page: bytes) -> int:
    return len(page)


_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|(->)|([{}\[\];=,])|([A-Za-z_]\w*))', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)")


@attrs.define
class Graph:
    """What a strict reader makes of DOT."""

    name: str = ""
    boxes: dict[str, dict[str, str]] = attrs.field(factory=dict)
    frames: dict[str, dict[str, str]] = attrs.field(factory=dict)
    arrows: list[tuple[str, str, dict[str, str]]] = attrs.field(factory=list)
    settings: dict[str, dict[str, str]] = attrs.field(factory=dict)


class Reader:
    """Reads tokens; anything it does not expect is an error."""

    def __init__(self, text: str) -> None:
        self.tokens = list(self._tokens(text))
        self.at = 0
        self.graph = Graph()

    @staticmethod
    def _tokens(text: str) -> Iterator[str]:
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            assert found is not None, f"no token at {text[at : at + 40]!r}"
            yield found[0].strip()
            at = found.end()

    def next(self, *expected: str) -> str:
        token = self.tokens[self.at]
        assert not expected or token in expected, f"{token!r} where {expected} was expected"
        self.at += 1
        return token

    def read(self) -> Graph:
        self.next("digraph")
        self.graph.name = unquote(self.next())
        self.body("")
        assert self.at == len(self.tokens)
        return self.graph

    def body(self, frame: str) -> None:
        self.next("{")
        while self.tokens[self.at] != "}":
            self.statement(frame)
        self.next("}")

    def statement(self, frame: str) -> None:
        word = self.next()
        if word == "subgraph":
            name = self.next()
            assert name.startswith("cluster_")
            self.body(name)
            return
        if self.tokens[self.at] == "->":
            self.next()
            target = self.next()
            self.graph.arrows.append((word, target, self.attributes()))
        elif word in ("graph", "node", "edge"):
            (self.graph.frames if frame else self.graph.settings)[frame or word] = self.attributes()
        else:
            assert word not in self.graph.boxes
            self.graph.boxes[word] = self.attributes()
        self.next(";")

    def attributes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.tokens[self.at] != "[":
            return found
        self.next("[")
        while True:
            name = self.next()
            self.next("=")
            assert name not in found
            found[name] = unquote(self.next())
            if self.next(",", "]") == "]":
                return found


def unquote(token: str) -> str:
    assert token[0] == token[-1] == '"', token
    text = _ESCAPE.sub(lambda found: {"n": "\n", "l": "\n"}.get(found[1], found[1]), token[1:-1])
    return html.unescape(text)


def read(text: str) -> Graph:
    return Reader(text).read()


@pytest.mark.parametrize("text", ['"', "\\", "\\n", '\\"', "&lt;", "a\nb", "{x|y}", "<b>", "\\N", "東京"])
def test_quoted_text_is_read_back(text: str) -> None:
    assert unquote(quote(text)) == text


def test_boxes_and_arrows_are_those_of_the_pipeline() -> None:
    graph = read(to_dot(Step("fetch", fetch, retries=2) >> Step("count", count), direction="LR"))
    assert [box["label"] for box in graph.boxes.values()] == ["fetch\nstr → bytes\n2 retries", "count\nbytes → int"]
    assert graph.arrows == [("n1", "n2", {})]
    assert graph.settings["graph"]["rankdir"] == "LR"


def test_pipeline_draws_itself() -> None:
    pipeline = Step("fetch", fetch) >> Step("count", count)
    assert pipeline.to_dot() == to_dot(pipeline)


def test_way_back_of_a_loop_does_not_turn_the_graph_round(
    structure_of: Callable[..., Any], series_of: Callable[..., Any]
) -> None:
    loop = structure_of("again", "loop", {"body": series_of(structure_of("a"), structure_of("b"))}, max_loops=3)
    graph = read(to_dot(series_of(loop)))
    (back,) = [arrow for arrow in graph.arrows if arrow[2].get("label") == "again"]
    assert back[2]["constraint"] == "false"
    assert [frame["label"].splitlines() for frame in graph.frames.values()] == [["again loop", "at most 3 times"]]


def test_failure_of_a_frame_leads_to_its_fallback(
    structure_of: Callable[..., Any], series_of: Callable[..., Any]
) -> None:
    inner = {"body": series_of(structure_of("a"))}
    graph = read(
        to_dot(series_of(structure_of("all", "map", inner, fallback=structure_of("none")), structure_of("end")))
    )
    (failure,) = [arrow for arrow in graph.arrows if arrow[2].get("label") == "on failure"]
    assert failure[2]["ltail"] in graph.frames
    assert failure[2]["style"] == "dashed"


@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_random_structures_are_read_and_every_box_is_reached(
    data: st.DataObject,
    any_structure: st.SearchStrategy[dict[str, Any]],
    steps_of: Callable[[Mapping[str, Any]], list[Mapping[str, Any]]],
) -> None:
    structure = data.draw(any_structure)
    text = to_dot(structure, max_nodes=10_000)
    assert text == to_dot(structure, max_nodes=10_000)
    graph = read(text)
    told = [part["label"].split("\n")[0] for part in (*graph.boxes.values(), *graph.frames.values())]
    for step in steps_of(structure):
        assert any(line.startswith(cut(visible(step["name"]))) for line in told), step["name"]
    assert all(source in graph.boxes and target in graph.boxes for source, target, _ in graph.arrows)
    assert reached_from(next(iter(graph.boxes)), graph) == set(graph.boxes)


def reached_from(box: str, graph: Graph) -> set[str]:
    reached, pending = set(), [box]
    while pending:
        here = pending.pop()
        if here not in reached:
            reached.add(here)
            pending += [target for source, target, _ in graph.arrows if source == here]
    return reached


def test_graphviz_reads_it(structure_of: Callable[..., Any], series_of: Callable[..., Any]) -> None:
    dot = shutil.which("dot")
    if dot is None:
        pytest.skip("Graphviz is needed to read DOT with it")
    name = 'a "b" \\N &lt; <i>'
    text = to_dot(series_of(structure_of(name), structure_of("x", "branch", {name: series_of(structure_of("y"))})))
    ended = subprocess.run([dot, "-Tplain"], input=text, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    assert len(re.findall(r"^node ", ended.stdout, re.MULTILINE)) == 4
