"""A stored run as a value: what ran inside what, when, how it ended and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import attrs

from flow import ConfigurationError, RunRecord, Usage
from flow_lens._paths import natural

COMPLETED, FAILED, INTERRUPTED, ANSWERED, RESTARTED = "completed", "failed", "interrupted", "answered", "restarted"
OPEN = "open"
"""Of a step that has no record yet although steps inside it have: it is being executed, or was when the run stopped."""
GROUP = "group"
"""The kind of what is no step but holds some: an item of a map, an iteration, a branch."""


@attrs.frozen(kw_only=True)
class Answer:
    """What a person answered to the question of a step: JSON text and the moment, in epoch seconds."""

    text: bytes | None
    at: float


@attrs.define(kw_only=True, eq=False, slots=False)
class TraceStep:
    """One executed step, or a group of steps such as an iteration; treat it as read-only.

    ``output`` is JSON text; ``None`` of a completed step means that it handed its input on. ``usage`` is all that was
    spent in it, ``own_usage`` what was spent beside the steps inside it. ``took_s`` is how long something happened in
    it: the time between two executions of the run does not count. Times are epoch seconds.

    :ivar label: the path without that of the enclosing step.
    """

    path: str
    label: str
    name: str
    kind: str
    status: str
    output: bytes | None = None
    usage: Usage = attrs.field(factory=Usage)
    own_usage: Usage = attrs.field(factory=Usage)
    attempts: int = 1
    started_at: float = 0.0
    ended_at: float = 0.0
    took_s: float = 0.0
    feedback: str | None = None
    error: str | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    answer: Answer | None = None
    children: tuple[TraceStep, ...] = ()

    @property
    def is_step(self) -> bool:
        """False for a group of steps."""
        return self.kind != GROUP

    @property
    def failed(self) -> bool:
        """True when it ended with a failure."""
        return self.status == FAILED

    @property
    def tries(self) -> int:
        """How often it was tried: the attempts of a loop are its iterations, and those are no tries."""
        return 1 if "iterations" in self.metadata else self.attempts

    def walk(self) -> Iterator[TraceStep]:
        """Yield this one and all inside it, outermost first, each before its successors."""
        waiting: list[TraceStep] = [self]
        while waiting:
            step = waiting.pop()
            yield step
            waiting += step.children[::-1]


@attrs.define(kw_only=True, eq=False, slots=False)
class Trace:
    """A stored run with its steps as a tree; treat it as read-only.

    :ivar run: the run as its store has it.
    :ivar steps: the outermost steps, in the order of the pipeline.
    :ivar superseded: how many records belong to attempts of an enclosing step that were given up.
    :ivar structure: the pipeline as it was stored with its first run, if it was.
    """

    run: RunRecord
    steps: tuple[TraceStep, ...] = ()
    superseded: int = 0
    structure: Mapping[str, Any] | None = None

    def walk(self) -> Iterator[TraceStep]:
        """Yield every step and group, containers before what is inside them."""
        for step in self.steps:
            yield from step.walk()

    @cached_property
    def by_path(self) -> Mapping[str, TraceStep]:
        """Every step and group by its path."""
        return {step.path: step for step in self.walk()}

    @property
    def executed(self) -> list[TraceStep]:
        """The steps without the groups."""
        return [step for step in self.walk() if step.is_step]

    def step(self, path: str) -> TraceStep:
        """Return the step at `path`, or the only one with that name; `ConfigurationError` says what there is."""
        found = self.by_path.get(path)
        if found is not None:
            return found
        named = [step for step in self.walk() if step.name == path and step.is_step]
        if len(named) == 1:
            return named[0]
        if named:
            some = ", ".join(step.path for step in named[:5])
            raise ConfigurationError(
                f"{len(named)} steps of run {self.run.run_id} are called {path!r:.80}",
                hint=f"Name one by its path: {some}{', ...' if len(named) > 5 else ''}",
            )
        raise ConfigurationError(f"run {self.run.run_id} has no step {path!r:.80}", hint=self._nearest(path))

    def _nearest(self, path: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(path, self.by_path, n=3, cutoff=0.5)
        near = near or sorted(self.by_path, key=natural)[:5]
        return f"Its steps are, among others, {', '.join(near)}" if near else "No step of it has finished yet"
