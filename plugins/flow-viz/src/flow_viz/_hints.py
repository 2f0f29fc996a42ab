"""What is known about kinds of steps beyond their structure: a table of hints, and a default for all other kinds."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs


class Shape(enum.StrEnum):
    """What a step looks like."""

    STEP = "step"
    HUMAN = "human"
    CHOICE = "choice"
    FORK = "fork"
    EACH = "each"
    EMPTY = "empty"
    FOLDED = "folded"


@attrs.frozen(kw_only=True)
class Hint:
    """How a kind of step is drawn where its structure alone would leave that open.

    :ivar shape: of the step when nothing is inside it, and of the point where its children part.
    :ivar sign: what stands before its name on a terminal; `ascii_sign` where only ASCII can be shown.
    :ivar in_series: its children follow one another although their labels say nothing of an order.
    :ivar repeats: the last of its children is followed by the first again.
    :ivar passes: the label of the way past its children.
    :ivar words: how its settings are put into words, by name; ``{}`` is the value.
    :ivar chooser: the setting that names what decides.
    """

    shape: Shape = Shape.STEP
    sign: str = ""
    ascii_sign: str = ""
    in_series: bool = False
    repeats: bool = False
    passes: str = ""
    words: Mapping[str, str] = attrs.field(factory=dict)
    chooser: str = ""


UNKNOWN = Hint()
_LOOP = {"exit_condition": "until {}", "max_loops": "at most {} times", "max_refinements": "at most {} times"}
_SIDE_BY_SIDE = {"max_concurrency": "{} at once", "router": "routed"}
_ASKS = {"message": "asks: {}"}

HINTS: Mapping[str, Hint] = {
    "step": Hint(),
    "pipeline": Hint(),
    "loop": Hint(sign="⟳", ascii_sign="@", in_series=True, repeats=True, words=_LOOP),
    "refine": Hint(sign="⟳", ascii_sign="@", in_series=True, repeats=True, words=_LOOP),
    "branch": Hint(shape=Shape.CHOICE, sign="◇", ascii_sign="<>", chooser="choose"),
    "parallel": Hint(shape=Shape.FORK, sign="∥", ascii_sign="||", words=_SIDE_BY_SIDE),
    "map": Hint(shape=Shape.EACH, sign="⁝", ascii_sign="*", words=_SIDE_BY_SIDE),
    "hitl": Hint(shape=Shape.HUMAN, sign="☺", ascii_sign="?", words=_ASKS),
    "approval": Hint(shape=Shape.HUMAN, sign="☺", ascii_sign="?", passes="approved", words=_ASKS),
}
"""By kind. A kind that is not here is drawn from its structure alone."""


def hint_for(kind: str) -> Hint:
    """Return what is known about a kind."""
    return HINTS.get(kind, UNKNOWN)
