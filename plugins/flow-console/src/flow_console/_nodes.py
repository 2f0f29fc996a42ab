"""The tree of a run as it is shown: steps by path, with groups for the branches, items and iterations between them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flow import Pending, RunResult, StepResult, Usage
from flow_console._progress import Gauge, Progress, Stream
from flow_console._states import State, state_of, state_of_run

ROWS_PER_CONTAINER = 12
_REMEMBERED = 64  # children of one container that are kept while it runs; the rest is counted
_NOTHING = Usage()
_ITERATION = re.compile(r"i\d+")
_WORST_FIRST = (State.FAILED, State.PAUSED, State.CANCELLED)

BAD = frozenset({State.FAILED, State.PAUSED})
"""What people look for: such rows are the last to go."""


@dataclass(slots=True, eq=False)
class Node:
    """A run, a step, or a group: the part of a path between two steps, such as a branch or an iteration.

    ``forgotten`` counts, by state, the children that are no longer kept, and ``forgotten_usage`` what they spent.
    ``admitted`` counts the children whose lines are printed, ``unlisted`` the steps below whose lines are not.
    """

    segment: str = ""
    name: str = ""
    own_state: State | None = None
    started: float = 0.0
    seconds: float | None = None
    attempts: int = 1
    iterations: int = 0
    fallback: bool = False
    progress: Progress | None = None
    stream: Stream | None = None
    usage: Usage = _NOTHING
    reason: str = ""
    children: dict[str, Node] = field(default_factory=dict)
    forgotten: Counter[State] = field(default_factory=Counter)
    forgotten_usage: Usage = _NOTHING
    prune_at: int = 2 * _REMEMBERED
    listed: bool | None = None
    """Whether what happens here is printed as lines; None until it is decided."""
    admitted: int = 0
    unlisted: int = 0

    @property
    def is_group(self) -> bool:
        """True when no step has this path."""
        return self.own_state is None

    @property
    def is_pipeline(self) -> bool:
        """True when its children are steps of a pipeline: they have their position in the segment."""
        return ":" in next(iter(self.children), ":")

    @property
    def is_sequence(self) -> bool:
        """True when its children follow each other: steps of a pipeline, or iterations."""
        return self.is_pipeline or _ITERATION.fullmatch(next(iter(self.children))) is not None

    @property
    def state(self) -> State:
        """How it stands; a group stands as the steps inside it do."""
        if self.own_state is not None:
            return self.own_state
        if len(self.children) == 1 and not self.forgotten:  # most items run a single step
            return next(iter(self.children.values())).state
        inside = {child.state for child in self.children.values()} | set(self.forgotten)
        if State.RUNNING in inside:
            return State.RUNNING
        return next((state for state in _WORST_FIRST if state in inside), State.DONE)

    @property
    def size(self) -> int:
        """How many children there are or were."""
        return len(self.children) + self.forgotten.total()

    def spent(self) -> Usage:
        """Return what it has spent so far; of a finished step what its result says."""
        if self.seconds is not None or not (self.children or self.forgotten):
            return self.usage
        return sum((child.spent() for child in self.children.values()), self.forgotten_usage)

    def elapsed(self, now: float) -> float | None:
        """Return seconds taken so far; a group takes as long as its children take one after another."""
        if self.seconds is not None:
            return self.seconds
        if not self.is_group:
            return max(0.0, now - self.started) if self.own_state is State.RUNNING and self.started else None
        known = [seconds for child in self.children.values() if (seconds := child.elapsed(now)) is not None]
        return sum(known) if known else None

    @property
    def chunks(self) -> int:
        """How many chunks it has streamed."""
        return self.stream.chunks if self.stream is not None else 0

    def gauge(self, now: float) -> Gauge | None:
        """Return how far it is, while it runs and something is known of that."""
        measured = self.progress or self.stream
        return measured.gauge(now) if measured is not None and self.own_state is State.RUNNING else None

    def tally(self) -> Counter[State]:
        """Return how many children stand how."""
        return Counter(child.state for child in self.children.values()) + self.forgotten

    def descend(self, path: str) -> Node:
        """Return the node at a path below this one, made on the way where it is missing."""
        return self.trail(path)[-1]

    def trail(self, path: str) -> list[Node]:
        """Return the nodes on a path, from this one to its end, made on the way where they are missing."""
        nodes: list[Node] = [self]
        for segment in path.split("/"):
            if segment:
                nodes.append(nodes[-1].children.get(segment) or nodes[-1]._add(segment))
        return nodes

    def _add(self, segment: str) -> Node:
        if len(self.children) >= self.prune_at:
            self.forget(_REMEMBERED)
            self.prune_at = 2 * max(
                _REMEMBERED, len(self.children)
            )  # so that a step costs the same however many there are
        child = self.children[segment] = Node(segment)
        if self.progress is not None:
            self.progress.enter(segment)
        return child

    def forget(self, keep: int) -> None:
        """Keep the running children and `keep` of the others; count the rest.

        The failed stay; then of branches and items the first, of steps and iterations, one after another, the latest.
        """
        if len(self.children) <= keep:
            return
        states = {segment: child.state for segment, child in self.children.items()}
        finished = [segment for segment, state in states.items() if state is not State.RUNNING]
        if self.is_sequence:
            finished.reverse()
        first = [segment for segment in finished if states[segment] in BAD][: keep // 2]
        ordered = [*first, *(segment for segment in finished if segment not in set(first))]
        for segment in ordered[keep:]:
            self.forgotten[states[segment]] += 1
            if spent := self.children.pop(segment).spent():
                self.forgotten_usage += spent

    def restart(self) -> None:
        """Forget what a failed attempt ran inside."""
        self.children.clear()
        self.forgotten.clear()
        self.forgotten_usage = _NOTHING
        self.progress = self.stream = None

    def finish(self, result: StepResult, reason: str) -> None:
        """Take over what a finished step returned."""
        self.name = result.name
        self.own_state = state_of(result)
        self.seconds = result.latency_s
        self.attempts = result.attempts
        self.usage = result.usage
        self.reason = reason
        if result.attempts > 1:  # a fallback counts as an attempt, and asking for metadata makes a dict
            self.fallback = bool(result.metadata.get("fallback_triggered"))
            self.iterations = _iterations(result)
            self.attempts = 1 if self.iterations else result.attempts
        if not self.is_pipeline:
            self.forget(ROWS_PER_CONTAINER)


def own_retries(result: StepResult) -> int:
    """Return how many further attempts a step made itself; those of its fallback are counted there."""
    retries = result.attempts - 1
    if retries and _iterations(result):
        return 0
    if retries and result.metadata.get("fallback_triggered"):
        retries -= sum(child.attempts for child in result.children if child.path == f"{result.path}/fallback") or 1
    return max(0, retries)


def _iterations(result: StepResult) -> int:
    """Return how often a loop went round, if that is what its attempts are."""
    iterations = result.metadata.get("iterations")
    return result.attempts if iterations == result.attempts else 0


def tree_of(result: RunResult[object], reasons: Mapping[str, str]) -> Node:
    """Return the tree of a finished run. `reasons` by path say why steps failed, safe to print."""
    root = Node(name=result.pipeline, own_state=state_of_run(result.status), started=result.started_at)
    _grow(root, result.step_history, "", reasons)
    for pending in result.pending:
        _ask(root, pending)
    root.seconds, root.usage = result.latency_s, result.usage
    return root


def _grow(parent: Node, results: Iterable[StepResult], path: str, reasons: Mapping[str, str]) -> None:
    """Add `results`, which ran inside the step at `path`, below `parent`."""
    for index, result in enumerate(results):
        # A result that a program made by itself may have no path, or one of another run.
        inside = bool(result.path) and (not path or result.path.startswith(f"{path}/"))
        node = parent.descend(result.path[len(path) :] if inside else f"{index}:{result.name}".replace("/", "_"))
        _grow(node, result.children, result.path, reasons)
        node.finish(result, reasons.get(result.path, ""))


def _ask(root: Node, pending: Pending) -> None:
    """Add a step that waits for an answer; it has no result yet."""
    node = root.descend(pending.path)
    if node.is_group:
        node.own_state = State.PAUSED
        node.name = node.segment.partition(":")[2] or node.segment
