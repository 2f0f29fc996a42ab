"""What is drawn, whatever the format: steps inside steps, in series or as branches."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

import attrs

from flow_viz._hints import UNKNOWN, Hint

_POSITION = re.compile(r"\d+:")


class Layout(enum.StrEnum):
    """How what is inside a step belongs together."""

    LEAF = "leaf"
    SERIES = "series"
    BRANCHES = "branches"


@attrs.frozen(kw_only=True)
class Node:
    """A step, a pipeline, or a place that stands for what was folded.

    :ivar place: its labels from the root on, joined by ``/``.
    :ivar name: as the user wrote it; renderers make it visible and short.
    :ivar framed: it is a step of its own; ``False`` for the bare pipelines that are bodies and branches.
    :ivar notes: its settings in words.
    :ivar chooser: what decides where it branches.
    :ivar hidden: how many steps were folded into it; `hides` are those themselves.
    """

    place: str
    name: str
    kind: str
    hint: Hint = UNKNOWN
    layout: Layout = Layout.LEAF
    framed: bool = True
    types: str = ""
    notes: tuple[str, ...] = ()
    chooser: str = ""
    tooltip: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    fallback: Node | None = None
    hidden: int = 0
    hides: tuple[Node, ...] = ()

    @property
    def is_fold(self) -> bool:
        """True for a place that stands for several steps, and is none itself."""
        return bool(self.hides)

    def inside(self) -> Iterator[Node]:
        """Yield what is directly inside, the fallback last."""
        yield from (part.node for part in self.parts)
        if self.fallback is not None:
            yield self.fallback

    def walk(self) -> Iterator[Node]:
        """Yield this and all that is inside it, outermost first."""
        pending: list[Node] = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(reversed(list(node.inside())))

    def steps(self) -> int:
        """Return how many steps there are, this one among them; those that were folded do not count."""
        return sum(node.framed and not node.is_fold for node in self.walk())

    def lines(self) -> Iterator[Part]:
        """Yield what follows one another inside; bare pipelines are no level of their own.

        Where several of them do, the first step of each has the label of its pipeline.
        """
        for part in self.parts:
            if part.node.framed:
                yield part
                continue
            label = part.label if len(self.parts) > 1 else ""
            for inner in part.node.lines():
                yield Part(label or inner.label, inner.node)
                label = ""


@attrs.frozen
class Part:
    """A node inside another, and the label it has there; none where the label only counts."""

    label: str
    node: Node

    @property
    def shown(self) -> str:
        """The label where it says more than a number."""
        return "" if is_position(self.label) else self.label


def is_position(label: str) -> bool:
    """Tell whether a label gives the place of a step in a pipeline, such as ``0:fetch``."""
    return _POSITION.match(label) is not None
