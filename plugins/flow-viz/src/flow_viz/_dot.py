"""DOT: the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flow_viz._drawing import MAX_NODES, Direction, Drawing, checked_direction, draw, kind_of, label_of
from flow_viz._graph import Arrow, Box, Frame, Graph, Item, Role, Way, graph_of, is_choice
from flow_viz._hints import Shape
from flow_viz._nodes import Node
from flow_viz._states import SIGNS, State
from flow_viz._wording import cut, visible

_FONT = "Helvetica,Arial,sans-serif"
_SHAPES = {Shape.HUMAN: "house", Shape.EACH: "box3d"}
_COLOURS = {  # line, fill, text
    State.FAILED: ("#cf222e", "#ffebe9", "#82071e"),
    State.PAUSED: ("#9a6700", "#fff8c5", "#633c01"),
    State.STOPPED: ("#bc4c00", "#fff1e5", "#762c00"),
    State.BEGUN: ("#0969da", "#ddf4ff", "#0a3069"),
    State.DONE: ("#1a7f37", "#dafbe1", "#044f1e"),
    State.CACHED: ("#0969da", "#ddf4ff", "#0a3069"),
    State.REPLAYED: ("#0969da", "#ddf4ff", "#0a3069"),
    State.IDLE: ("#afb8c1", "#f6f8fa", "#6e7781"),
}
_LINE, _FILL, _TEXT, _FRAME = "#57606a", "#ffffff", "#24292f", "#f6f8fa"
_TO_THE_LEFT = "\0"  # ends a line that is not centred; no name holds one
_FAINT, _RAN = "#afb8c1", "#1a7f37"


def to_dot(
    pipeline: Any,
    *,
    run: Any = None,
    direction: Direction = "TB",
    depth: int | None = None,
    max_nodes: int = MAX_NODES,
    types: bool = True,
) -> str:
    """Return a pipeline as a graph in DOT, which ``dot -Tpdf`` and other Graphviz programs draw.

    Parameters and errors are those of `to_mermaid`.

    >>> from flow import Step
    >>> print(to_dot(Step("fetch", str.strip) >> Step("count", len), types=False).splitlines()[-2].strip())
    n1 -> n2;
    """
    direction = checked_direction(direction)
    drawing = draw(pipeline, run=run, depth=depth, max_nodes=max_nodes, types=types)
    graph = graph_of(drawing)
    lines = [f"digraph {quote(drawing.title)} {{"]
    lines += [f"  {line}" for line in _head(drawing, direction)]
    lines += [f"  {line}" for item in graph.items for line in _lines(item, drawing)]
    lines += [f"  {line}" for line in _arrows(graph, drawing)]
    return "\n".join([*lines, "}"])


def quote(text: str) -> str:
    r"""Return `text` as a string of DOT in which nothing but line breaks has a meaning of its own.

    >>> print(quote('a "b" &lt; c'))
    "a \"b\" &amp;lt; c"
    """
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return '"' + text.replace(_TO_THE_LEFT, "\\l").replace("\n", "\\n") + '"'


def _attributes(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={quote(value)}" for name, value in values.items())


def _head(drawing: Drawing, direction: str) -> Iterator[str]:
    title = "\n".join([drawing.title, *drawing.remarks])
    graph = {"label": title, "labelloc": "t", "rankdir": direction, "compound": "true", "fontname": _FONT}
    node = {"shape": "box", "style": "rounded,filled", "fontname": _FONT, "fontsize": "11"}
    yield f"graph [{_attributes({**graph, 'bgcolor': _FILL, 'fontcolor': _TEXT})}];"
    yield f"node [{_attributes({**node, 'color': _LINE, 'fillcolor': _FILL, 'fontcolor': _TEXT})}];"
    yield f"edge [{_attributes({'fontname': _FONT, 'fontsize': '10', 'color': _LINE, 'fontcolor': _LINE})}];"


def _lines(item: Item, drawing: Drawing) -> Iterator[str]:
    if isinstance(item, Box):
        yield f"{item.id} [{_attributes(_box(item, drawing))}];"
        return
    yield f"subgraph cluster_{item.id} {{"
    yield f"  graph [{_attributes(_frame(item.node, drawing))}];"
    for inner in item.items:
        yield from (f"  {line}" for line in _lines(inner, drawing))
    yield "}"


def _box(box: Box, drawing: Drawing) -> dict[str, str]:
    tooltip = {"tooltip": drawing.tooltip(box.node)}
    if box.role is Role.NOTHING:
        return {"label": "no steps", "shape": "plaintext", "style": "", "fontcolor": _LINE}
    if box.role is Role.PART and is_choice(box.node):
        return {"label": cut(f"{visible(box.node.chooser)}?", 24), "shape": "diamond", "style": "filled", **tooltip}
    if box.role in (Role.PART, Role.MEET):
        return {"label": "", "shape": "circle", "width": "0.12", "style": "filled", "fillcolor": _LINE, **tooltip}
    kind = kind_of(box.node)
    lines = [f"{_sign(box.node, drawing)}{label_of(box.node)}", *([kind] if kind else []), *drawing.details(box.node)]
    shape = {"shape": _SHAPES[box.node.hint.shape], "style": "filled"} if box.node.hint.shape in _SHAPES else {}
    dashed = {"style": "rounded,filled,dashed"} if box.node.is_fold else {}
    return {"label": "\n".join(lines), **shape, **dashed, **_colours(box.node, drawing), **tooltip}


def _frame(node: Node, drawing: Drawing) -> dict[str, str]:
    name = " ".join(filter(None, [f"{_sign(node, drawing)}{label_of(node)}", kind_of(node)]))
    colours = {"color": _LINE, **_colours(node, drawing)} | {"fillcolor": _FRAME}
    label = "".join(f"{line}{_TO_THE_LEFT}" for line in [name, *drawing.details(node)])
    return {"label": label, "style": "rounded,filled", "labeljust": "l", **colours, "tooltip": drawing.tooltip(node)}


def _colours(node: Node, drawing: Drawing) -> dict[str, str]:
    state = drawing.state_of(node)
    if state is None:
        return {}
    line, fill, text = _COLOURS[state]
    return {"color": line, "fillcolor": fill, "fontcolor": text}


def _sign(node: Node, drawing: Drawing) -> str:
    state = drawing.state_of(node)
    return "" if state is None else f"{SIGNS[state]} "


def _arrows(graph: Graph, drawing: Drawing) -> Iterator[str]:
    inside = {frame.id: frame for frame in graph.frames()}
    for arrow in graph.arrows:
        values = _arrow(arrow, drawing)
        source = arrow.source
        if source in inside:  # an arrow cannot begin at a frame: it is clipped there
            values["ltail"] = f"cluster_{source}"
            source = _last_box(inside[source])
        told = f" [{_attributes(values)}]" if values else ""
        yield f"{source} -> {arrow.target}{told};"


def _arrow(arrow: Arrow, drawing: Drawing) -> dict[str, str]:
    values = {"label": cut(visible(arrow.label))} if arrow.label else {}
    if arrow.way is Way.FAILURE:
        values["style"] = "dashed"
    if arrow.way is Way.AGAIN:
        values["constraint"] = "false"
    if drawing.story is not None:
        values |= {"color": _RAN, "penwidth": "1.8"} if arrow.ran else {"color": _FAINT, "style": "dotted"}
    return values


def _last_box(frame: Frame) -> str:
    last = frame.items[-1]
    return last.id if isinstance(last, Box) else _last_box(last)
