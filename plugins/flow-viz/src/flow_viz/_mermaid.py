"""Mermaid: diagrams that GitHub, GitLab and many editors show as pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from flow_viz._drawing import MAX_NODES, Direction, Drawing, checked_direction, draw, kind_of, label_of
from flow_viz._graph import Arrow, Box, Graph, Item, Role, Way, graph_of, is_choice
from flow_viz._hints import Shape
from flow_viz._nodes import Node
from flow_viz._states import SIGNS, State
from flow_viz._wording import cut, visible

# Letters, digits and what neither Mermaid nor Markdown nor HTML reads as anything but itself.
_SPECIAL = re.compile(r"[^\w ,.()/=?!+|\-]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", re.ASCII)
# At the beginning of a line Markdown reads these as a list.
_LIST = re.compile(r"^(\d*)([.)+\-])(?= )")
_BRACKETS = {
    Shape.STEP: '["{}"]',
    Shape.HUMAN: '[/"{}"\\]',
    Shape.CHOICE: '["{}"]',
    Shape.FORK: '["{}"]',
    Shape.EACH: '[["{}"]]',
    Shape.FOLDED: '["{}"]',
}
_ROUND, _RHOMBUS, _STADIUM = '(("{}"))', '{{"{}"}}', '(["{}"])'
# Fill, line and text together, so that a diagram is read as well on a dark page as on a light one.
_CLASSES = {
    State.FAILED: "fill:#ffebe9,stroke:#cf222e,color:#82071e,stroke-width:2px",
    State.PAUSED: "fill:#fff8c5,stroke:#9a6700,color:#633c01,stroke-width:2px",
    State.STOPPED: "fill:#fff1e5,stroke:#bc4c00,color:#762c00",
    State.BEGUN: "fill:#ddf4ff,stroke:#0969da,color:#0a3069",
    State.DONE: "fill:#dafbe1,stroke:#1a7f37,color:#044f1e",
    State.CACHED: "fill:#ddf4ff,stroke:#0969da,color:#0a3069",
    State.REPLAYED: "fill:#ddf4ff,stroke:#0969da,color:#0a3069",
    State.IDLE: "fill:#f6f8fa,stroke:#afb8c1,color:#6e7781,stroke-dasharray:2 3",
}
_INSIDE_FRAMES = "fill:#f6f8fa"
_FOLDED_CLASS = "stroke-dasharray:6 4"
_RAN, _NOT_RAN = "stroke:#1a7f37,stroke-width:2px", "stroke:#afb8c1,stroke-dasharray:2 3"
_ARROWS = {Way.NEXT: "-->", Way.AGAIN: "-->", Way.FAILURE: "-.->"}


def to_mermaid(
    pipeline: Any,
    *,
    run: Any = None,
    direction: Direction = "TB",
    depth: int | None = None,
    max_nodes: int = MAX_NODES,
    types: bool = True,
) -> str:
    """Return a pipeline as a Mermaid flowchart.

    :param pipeline: a pipeline, step or flow, or what `flow.structure` says of one.
    :param run: a `RunResult`, or the `StepRecord`s of a run: then its states, timings and costs are drawn.
    :param direction: ``"TB"`` from top to bottom, ``"LR"`` from left to right.
    :param depth: how many levels of steps inside steps are opened; all when left out.
    :param max_nodes: how many steps are drawn at most; the rest is folded.
    :param types: whether the declared types of steps are shown.

    Raises `ConfigurationError` for what cannot be drawn.

    >>> from flow import Step
    >>> print(to_mermaid(Step("fetch", str.strip) >> Step("count", len), types=False))
    flowchart TB
      n1["fetch"]
      n2["count"]
      n1 --> n2
    """
    direction = checked_direction(direction)
    drawing = draw(pipeline, run=run, depth=depth, max_nodes=max_nodes, types=types)
    graph = graph_of(drawing)
    lines = [f"flowchart {direction}"]
    lines += [f"  %% {_comment(text)}" for text in drawing.remarks]
    lines += [f"  {line}" for item in graph.items for line in _lines(item, drawing)]
    lines += [f"  {_arrow(arrow)}" for arrow in graph.arrows]
    lines += [f"  {line}" for line in _styles(graph, drawing)]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return `text` as it may stand between the quotes of a label.

    >>> escape('say "end"; #1')
    'say #quot;end#quot;#59; #35;1'
    """
    text = _SPECIAL.sub(lambda found: _named(found[0]), text)
    return _LIST.sub(lambda found: f"{found[1]}{_entity(found[2])}", text)


def _named(sign: str) -> str:
    if sign == '"':
        return "#quot;"
    return _entity(sign) if sign.isascii() else sign


def _entity(sign: str) -> str:
    return f"#{ord(sign)};"


def _comment(text: str) -> str:
    return re.sub(r"[%{}]", " ", text)  # %%{ begins a directive


def _lines(item: Item, drawing: Drawing) -> Iterator[str]:
    if isinstance(item, Box):
        yield f"{item.id}{_box(item, drawing)}"
        return
    yield f'subgraph {item.id}["{_title(item.node, drawing)}"]'
    for inner in item.items:
        yield from (f"  {line}" for line in _lines(inner, drawing))
    yield "end"


def _box(box: Box, drawing: Drawing) -> str:
    if box.role is Role.STEP:
        return _BRACKETS.get(box.node.hint.shape, '["{}"]').format(_text(box.node, drawing))
    if box.role is Role.NOTHING:
        return _STADIUM.format("no steps")
    if box.role is Role.MEET:
        return _ROUND.format(" ")
    if is_choice(box.node):
        return _RHOMBUS.format(escape(cut(f"{visible(box.node.chooser)}?", 24)))
    return _ROUND.format(" ")


def _text(node: Node, drawing: Drawing) -> str:
    kind = kind_of(node)
    name = f"{_sign(node, drawing)}{label_of(node)}"
    lines = [name, *([kind] if kind else []), *drawing.details(node)]
    return "<br/>".join(escape(line) for line in lines)


def _title(node: Node, drawing: Drawing) -> str:
    name = " ".join(filter(None, [f"{_sign(node, drawing)}{label_of(node)}", kind_of(node)]))
    told = [*node.notes, *drawing.happened(node)]
    return escape(" · ".join([name, *(cut(text) for text in told)]))


def _sign(node: Node, drawing: Drawing) -> str:
    state = drawing.state_of(node)
    return "" if state is None else f"{SIGNS[state]} "


def _arrow(arrow: Arrow) -> str:
    label = f'|"{escape(cut(visible(arrow.label)))}"|' if arrow.label else ""
    return f"{arrow.source} {_ARROWS[arrow.way]}{label} {arrow.target}"


def _styles(graph: Graph, drawing: Drawing) -> Iterator[str]:
    folded = [box.id for box in graph.boxes() if box.node.is_fold]
    if folded:
        yield f"classDef folded {_FOLDED_CLASS}"
        yield f"class {','.join(folded)} folded"
    if drawing.story is None:
        return
    boxes = [box for box in graph.boxes() if box.role is Role.STEP]
    for kind, items in (("", boxes), ("_frame", list(graph.frames()))):
        for state in State:
            ids = [item.id for item in items if drawing.state_of(item.node) is state]
            if ids:
                style = _CLASSES[state] if not kind else re.sub("fill:[^,]+", _INSIDE_FRAMES, _CLASSES[state])
                yield f"classDef {state.name.lower()}{kind} {style}"
                yield f"class {','.join(ids)} {state.name.lower()}{kind}"
    yield from _link_styles(graph.arrows)


def _link_styles(arrows: Sequence[Arrow]) -> Iterator[str]:
    for ran, style in ((True, _RAN), (False, _NOT_RAN)):
        numbers = [str(number) for number, arrow in enumerate(arrows) if arrow.ran is ran]
        if numbers:
            yield f"linkStyle {','.join(numbers)} {style}"
