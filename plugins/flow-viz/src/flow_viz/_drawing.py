"""What every format draws: the nodes that are shown, and what happened to them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import attrs

from flow import ConfigurationError
from flow_viz._folding import Folded, fold
from flow_viz._nodes import Node
from flow_viz._reading import read
from flow_viz._runs import story_of
from flow_viz._states import WORST_FIRST, State
from flow_viz._story import Story
from flow_viz._wording import cut, visible, wrapped

Direction: TypeAlias = Literal["TB", "LR"]
_DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
MAX_NODES = 80
_FEWEST = 8
_LINE = 38
_GOOD = (State.DONE, State.CACHED, State.REPLAYED)


@attrs.frozen(kw_only=True)
class Drawing:
    """A pipeline ready to be drawn.

    :ivar types: whether declared types are shown.
    """

    folded: Folded
    story: Story | None
    types: bool

    @property
    def root(self) -> Node:
        """The pipeline, as much of it as is shown."""
        return self.folded.root

    @property
    def title(self) -> str:
        """The name of the pipeline."""
        return label_of(self.root)

    @property
    def remarks(self) -> list[str]:
        """What has to be said about the drawing as a whole: how the run went, and what is not shown."""
        told = list(self.story.summary) if self.story is not None else []
        if self.folded.remark:
            told.append(self.folded.remark)
        if self.story is not None and self.story.unplaced:
            told.append(f"{self.story.unplaced:,} results fit no step of this pipeline")
        return [visible(text) for text in told]

    def state_of(self, node: Node) -> State | None:
        """Return how a step stands; ``None`` when no run is drawn."""
        return None if self.story is None else self.story.state_of(node)

    def worst_inside(self, node: Node) -> State | None:
        """Return how a branch stands: as the worst of what was executed in it."""
        if self.story is None:
            return None
        found = {self.story.state_of(inner) for inner in node.walk() if inner.framed} - {State.IDLE}
        return min(found, key=WORST_FIRST.index, default=self.story.state_of(node))

    def led_on(self, node: Node) -> bool:
        """Tell whether the run went on behind a step; it does when no run is drawn."""
        return self.state_of(node) in (None, *_GOOD)

    def reached(self, node: Node) -> bool:
        """Tell whether the run came to a step; it did to every one when no run is drawn."""
        return self.story is None or self.story.reached(node)

    def always_falls_back(self, node: Node) -> bool:
        """Tell whether it was the fallback each time that led on from a step."""
        tally = None if self.story is None else self.story.tally(node)
        return tally is not None and 0 < tally.total == tally.fallbacks

    def happened(self, node: Node) -> tuple[str, ...]:
        """Return in words what happened to a step."""
        return () if self.story is None else self.story.words(node)

    def details(self, node: Node, width: int = _LINE) -> list[str]:
        """Return the lines below the name of a step: types, settings, what happened."""
        types = [cut(node.types, width)] if self.types and node.types else []
        return [*types, *wrapped(list(node.notes), width), *wrapped(list(self.happened(node)), width)]

    def tooltip(self, node: Node) -> str:
        """Return all that is known about a step, in lines."""
        types = [f"types: {node.types}"] if node.types else []
        told = self.happened(node)
        state = self.state_of(node)
        happened = [] if state is None else [f"run: {', '.join((state.value, *told))}"]
        return "\n".join([*node.tooltip, *types, *happened])


def draw(source: Any, *, run: Any, depth: int | None, max_nodes: int, types: bool) -> Drawing:
    """Make a drawing of a pipeline, and of a run when there is one.

    Raises `ConfigurationError` for what cannot be drawn and for limits that leave nothing to draw.
    """
    require_limits(depth, max_nodes)
    root = source if isinstance(source, Node) else read(source)
    story = story_of(root, run)

    def matters(node: Node) -> bool:
        return story is not None and any(
            story.states.get(inner.place) in (State.FAILED, State.PAUSED) for inner in node.walk()
        )

    folded = fold(root, depth=depth, max_nodes=max_nodes, keep=matters)
    return Drawing(folded=folded, story=story, types=types)


def require_limits(depth: int | None, max_nodes: int) -> None:
    """Raise `ConfigurationError` when no drawing fits the limits."""
    if depth is not None and depth < 1:
        raise ConfigurationError(f"depth must be at least 1, got {depth}", hint="1 draws the outermost steps only")
    if max_nodes < _FEWEST:
        raise ConfigurationError(f"max_nodes must be at least {_FEWEST}, got {max_nodes}")


def checked_direction(direction: str) -> Direction:
    """Return a direction in capital letters; raises `ConfigurationError` when there is no such one."""
    for known in _DIRECTIONS:
        if known == direction.upper():
            return known
    raise ConfigurationError(
        f"direction must be TB or LR, got {visible(direction)!r}",
        hint="TB draws from top to bottom, LR from left to right",
    )


def label_of(node: Node) -> str:
    """Return the name of a step as drawings show it."""
    return cut(visible(node.name))


def kind_of(node: Node) -> str:
    """Return the kind of a step where it says something: that a plain step is one needs no word."""
    return "" if node.kind in ("step", "") else "sub-workflow" if node.kind == "pipeline" else visible(node.kind)
