"""One run while it runs: its tree grows with the events, its size does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flow import Event, EventKind, StepResult, StreamChunk
from flow.privacy import texts_in, withhold
from flow_console._nodes import Node
from flow_console._options import Options
from flow_console._progress import Progress, Stream, progress_after
from flow_console._report import reason_of
from flow_console._states import State, state_of

_MOST_REASONS = 100


@dataclass(slots=True)
class Facts:
    """What is known of a run besides its events: its pipeline, whether it is stored, and when it ended (seconds)."""

    pipeline: str = ""
    stored: bool | None = None
    ended_at: float | None = None


class RunView:
    """The tree of one run as far as events have told it, and what its messages must not repeat."""

    def __init__(self, event: Event, facts: Facts, options: Options, rank: int) -> None:
        self.run_id = event.run_id
        self.facts = facts
        self.rank = rank
        """The how-manieth run of those shown together, from 0."""
        self.started = event.at
        self.tagged = rank > 0
        """Whether lines name the run, because others run at the same time."""
        self.root = Node(name=facts.pipeline or "run", own_state=State.RUNNING, started=event.at, listed=True)
        self.reasons: dict[str, str] = {}
        self.input: Any = event.data if event.kind is EventKind.RUN_STARTED else None
        self._options = options
        self._inputs: dict[str, Any] = {}

    def apply(self, event: Event) -> list[Node]:
        """Take one event of a step; returns the nodes from the run to the step."""
        trail = self.root.trail(event.path)
        node = trail[-1]
        node.name = event.step or node.name
        if event.kind is EventKind.STEP_STARTED:
            self._inputs[event.path] = event.data
            node.restart()
            node.own_state, node.started, node.seconds, node.attempts = State.RUNNING, event.at, None, 1
            if (progress := _counting(trail)) is not None:
                progress.start(node.segment)
        elif event.kind is EventKind.STEP_FINISHED and isinstance(event.result, StepResult):
            self._finish(node, event.path, event.result)
            if (progress := _counting(trail)) is not None:
                failed = node.own_state is State.FAILED
                progress.finish(node.segment, event.at, failed=failed, replayed=event.result.replayed)
        elif event.kind is EventKind.RETRY:
            node.restart()
            node.attempts = event.attempt
        elif event.kind is EventKind.FALLBACK:
            node.restart()
            node.fallback = True
        elif event.kind is EventKind.CHUNK:
            _stream(node, event.chunk, event.at)
        elif event.kind is EventKind.PROGRESS:
            node.progress = progress_after(node.progress, event.detail or {}, event.at)
        elif event.kind in (EventKind.PAUSED, EventKind.CANCELLED):
            self._inputs.pop(event.path, None)
            node.own_state = State.PAUSED if event.kind is EventKind.PAUSED else State.CANCELLED
            node.seconds = max(0.0, event.at - node.started) if node.started else None
        return trail

    def _finish(self, node: Node, path: str, result: StepResult) -> None:
        reason = ""
        if state_of(result) is State.FAILED:
            reason = reason_of(result, lambda message: self.safe(message, path, result.output))
            if len(self.reasons) < _MOST_REASONS:
                self.reasons[path] = reason
        self._inputs.pop(path, None)
        node.finish(result, reason)

    def safe(self, message: str, path: str, output: Any = None) -> str:
        """Return a message of the step at `path` without the input and output it repeats, if they may not be shown."""
        values = (self._inputs.get(path), self.input, output)
        return withhold(message, texts_in(*values, secrets_only=self._options.shows_content))


def _counting(trail: Sequence[Node]) -> Progress | None:
    """Return what counts the items, if the last node of the trail is a step of an item."""
    return trail[-3].progress if len(trail) > 2 and trail[-2].is_group else None


def _stream(node: Node, chunk: StreamChunk, at: float) -> None:
    if chunk.meta and chunk.meta.get("restart"):
        node.stream = None
        return
    if node.stream is None:
        node.stream = Stream(at)
    node.stream.add(chunk.data if isinstance(chunk.data, str) else "", at)
