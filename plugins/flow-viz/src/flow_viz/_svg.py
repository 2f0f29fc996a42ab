"""SVG: a picture that needs no other program, is read on light and dark pages, and fetches nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from flow_viz._drawing import MAX_NODES, Direction, Drawing, checked_direction, draw
from flow_viz._geometry import Axis, Line, Rect, Shape, Sign, Words
from flow_viz._layout import lay_out
from flow_viz._states import State
from flow_viz._style import style_sheet
from flow_viz._wording import counted

_ROUND = 7.0
_ARROW, _ARROW_HALF = 7.0, 3.6


def to_svg(
    pipeline: Any,
    *,
    run: Any = None,
    direction: Direction = "TB",
    depth: int | None = None,
    max_nodes: int = MAX_NODES,
    types: bool = True,
) -> str:
    """Return a pipeline as an SVG picture, laid out here: no other program is needed.

    Parameters and errors are those of `to_mermaid`. Colours follow the reader's light or dark setting; pointing at a
    step shows all its settings.

    >>> from flow import Step
    >>> to_svg(Step("fetch", str.strip)).startswith("<svg ")
    True
    """
    direction = checked_direction(direction)
    drawing = draw(pipeline, run=run, depth=depth, max_nodes=max_nodes, types=types)
    axis = Axis(direction == "LR")
    page = lay_out(drawing, axis)
    width, height = axis.xy(page.along, page.across)
    shapes = [_markup(shape) for shape in _layered(list(page.flat(axis)))]
    mark = f"flow-viz-{hashlib.blake2s(chr(10).join(shapes).encode(), digest_size=5).hexdigest()}"
    lines = [*_head(drawing, mark, width, height), *shapes, "</svg>"]
    return "\n".join(lines)


def _head(drawing: Drawing, mark: str, width: float, height: float) -> Iterator[str]:
    size = f'width="{_number(width)}" height="{_number(height)}" viewBox="0 0 {_number(width)} {_number(height)}"'
    labels = f'role="img" aria-labelledby="{mark}-t {mark}-d"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" class="{mark}" {size} {labels}>'
    yield f'<title id="{mark}-t">{escape(drawing.title)}</title>'
    yield f'<desc id="{mark}-d">{escape(_description(drawing))}</desc>'
    yield f"<style>{style_sheet(mark)}</style>"
    yield f'<rect class="page" width="{_number(width)}" height="{_number(height)}"/>'


def _description(drawing: Drawing) -> str:
    """Say in words what the picture shows, for who does not see it."""
    names = [part.node.name for part in drawing.root.lines()]
    told = [f"A pipeline of {counted(len(names), 'step')} in series." if names else "A pipeline without steps."]
    if drawing.story is not None:
        counts = {
            state: sum(drawing.state_of(node) is state for node in drawing.root.walk() if node.framed)
            for state in State
        }
        told.append(", ".join(f"{number} {state}" for state, number in counts.items() if number) + ".")
    return " ".join([*told, *(f"{remark}." for remark in drawing.remarks)])


def _layered(shapes: Sequence[Shape]) -> list[Shape]:
    """Return ways above frames and below boxes, texts on top."""
    return sorted(shapes, key=_layer)


def _layer(shape: Shape) -> int:
    if isinstance(shape, Rect):
        return 2 if shape.style.startswith("box") else 0
    if isinstance(shape, Line):
        return 1
    return 3 if isinstance(shape, Sign) else 4


def _markup(shape: Shape) -> str:
    match shape:
        case Rect():
            return _rect(shape)
        case Words():
            return (
                f'<text class="{shape.style}" x="{_number(shape.x)}" y="{_number(shape.y)}">{escape(shape.text)}</text>'
            )
        case Line():
            return _line(shape)
        case Sign():
            return _sign(shape)


def _rect(rect: Rect) -> str:
    place = f'x="{_number(rect.x)}" y="{_number(rect.y)}" width="{_number(rect.width)}" height="{_number(rect.height)}"'
    start = f'<rect class="{rect.style}" {place} rx="{_number(rect.radius)}"'
    return f"{start}><title>{escape(rect.tooltip)}</title></rect>" if rect.tooltip else f"{start}/>"


def _line(line: Line) -> str:
    path = f'<path class="{line.style}" d="{_path(line.points)}"/>'
    if not line.arrow:
        return path
    (before_x, before_y), (x, y) = line.points[-2:]
    length = max(abs(x - before_x), abs(y - before_y)) or 1
    dx, dy = (x - before_x) / length, (y - before_y) / length
    back_x, back_y = x - dx * _ARROW, y - dy * _ARROW
    left = f"{_number(back_x - dy * _ARROW_HALF)} {_number(back_y + dx * _ARROW_HALF)}"
    right = f"{_number(back_x + dy * _ARROW_HALF)} {_number(back_y - dx * _ARROW_HALF)}"
    return f'{path}<path class="{_head_style(line.style)}" d="M{_number(x)} {_number(y)}L{left}L{right}Z"/>'


def _head_style(way: str) -> str:
    return " ".join(["head", *(word for word in way.split() if word in ("ran", "faint"))])


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Return a path through points that are joined by vertical and horizontal lines, its corners rounded."""
    points = [point for number, point in enumerate(points) if number == 0 or point != points[number - 1]]
    words = [f"M{_number(points[0][0])} {_number(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        into, out = _towards(corner, before), _towards(corner, after)
        words.append(f"L{into}Q{_number(corner[0])} {_number(corner[1])} {out}")
    words.append(f"L{_number(points[-1][0])} {_number(points[-1][1])}")
    return "".join(words)


def _towards(corner: tuple[float, float], other: tuple[float, float]) -> str:
    length = abs(corner[0] - other[0]) + abs(corner[1] - other[1])
    share = min(_ROUND, length / 2) / length
    x, y = (at + (to - at) * share for at, to in zip(corner, other, strict=True))
    return f"{_number(x)} {_number(y)}"


def _sign(sign: Sign) -> str:
    x, y, size = sign.x, sign.y, sign.size
    if sign.name == "diamond":
        points = ((x, y - size), (x + size, y), (x, y + size), (x - size, y))
        corners = "L".join(f"{_number(right)} {_number(down)}" for right, down in points)
        return f'<path class="{sign.style}" d="M{corners}Z"/>'
    if sign.name == "person":
        face, wide, low = _number(size * 0.45), _number(size * 0.85), _number(y + size * 0.95)
        head = f'<circle class="{sign.style}" cx="{_number(x)}" cy="{_number(y - size * 0.45)}" r="{face}"/>'
        left, right = _number(x - size * 0.85), _number(x + size * 0.85)
        return f'{head}<path class="{sign.style}" d="M{left} {low}A{wide} {wide} 0 0 1 {right} {low}Z"/>'
    style = " ".join([sign.name, *(word for word in sign.style.split() if word in ("ran", "faint"))])
    return f'<circle class="{style}" cx="{_number(x)}" cy="{_number(y)}" r="{_number(size)}"/>'


def _number(value: float) -> str:
    """Return a coordinate with a digit behind the point at most: enough, and the same everywhere."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
