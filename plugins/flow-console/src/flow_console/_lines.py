"""Events as lines of text: one for each finished step, retry, fallback, pause and cancellation, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.text import Text

from flow import DECISIONS, CancelSignal, Event, EventKind, PauseSignal, StepResult
from flow.privacy import shortened
from flow_console._format import clean, count, duration, first_lines
from flow_console._nodes import BAD, ROWS_PER_CONTAINER, Node
from flow_console._options import Options
from flow_console._report import Report, spent_in
from flow_console._states import LOOKS, State
from flow_console._view import RunView

_STEPS_IN_A_ROW = 200  # a pipeline is written by hand; what is longer is a loop
_FAILURES = 10
_FIRST_MILESTONE = 100

_SILENT = frozenset({EventKind.CHUNK, EventKind.PROGRESS})
"""What may happen any number of times a second."""


class Lines:
    """Writes the lines of runs; `everything` is False where a live tree already shows what is not content or detail."""

    def __init__(self, options: Options, *, everything: bool) -> None:
        self._options = options
        self._everything = everything or options.detailed
        self._writes = self._everything or options.shows_content

    def of(self, view: RunView, event: Event, trail: Sequence[Node]) -> Iterator[Text]:
        """Yield the lines for one event of a step; nothing for steps that are only counted."""
        if not self._writes or event.kind in _SILENT:
            return
        listed = _is_listed(trail)
        if event.kind is EventKind.STEP_FINISHED and isinstance(event.result, StepResult):
            yield from self._finished(view, event, trail, event.result, listed)
        elif listed:
            for word, state, detail in self._happened(view, event, trail[-1]):
                yield self._line(view, event.at, word, state, trail, detail)

    def _happened(self, view: RunView, event: Event, node: Node) -> Iterator[tuple[str, State, str]]:
        if event.kind is EventKind.STEP_STARTED:
            if self._options.detailed:
                yield "started", State.RUNNING, clean(event.step_kind)
            if self._options.log_inputs:
                yield "input", State.RUNNING, shortened(event.data)
        elif event.kind is EventKind.ATTEMPT_FAILED and self._options.detailed:
            message = "".join(first_lines(view.safe(_named(event.error), event.path), lines=1))
            yield "attempt", State.FAILED, f"attempt {event.attempt} failed: {message}"
        elif not self._everything:
            return
        elif event.kind is EventKind.RETRY:
            wait = f" in {duration(event.delay_s)}" if event.delay_s > 0 else ""
            yield "retry", State.PAUSED, f"attempt {event.attempt}{wait} after {type(event.error).__name__}"
        elif event.kind is EventKind.FALLBACK:
            yield "fallback", State.PAUSED, f"after {type(event.error).__name__}"
        elif event.kind is EventKind.PAUSED and _is_asking(event):
            yield "paused", State.PAUSED, "waits for an answer"
        elif event.kind is EventKind.CANCELLED and not node.children:
            yield "cancelled", State.CANCELLED, str(event.error) if isinstance(event.error, CancelSignal) else ""

    def _finished(
        self, view: RunView, event: Event, trail: Sequence[Node], result: StepResult, listed: bool
    ) -> Iterator[Text]:
        node = trail[-1]
        if not listed:
            host = next(above for above in reversed(trail) if above.listed)
            host.unlisted += 1
            if node.state in BAD and host.admitted < ROWS_PER_CONTAINER + _FAILURES:
                host.admitted += 1
            elif self._everything and _is_milestone(host.unlisted):
                text = f"… {host.unlisted:,} more steps so far"
                if host.progress is not None:
                    text += f", {host.progress.gauge(event.at).counted()}"
                yield self._text(view, event.at, "", State.RUNNING, len(trail) - 1, text)
                return
            else:
                return
        if self._everything:
            detail = ", ".join(self._took(node, result))
            if node.reason and not _failed_inside(result):
                detail = f"{detail}: {node.reason}"
            yield self._line(view, event.at, node.state.value, node.state, trail, detail)
        if self._options.log_outputs and result.success and listed:
            yield self._line(view, event.at, "output", State.RUNNING, trail, shortened(result.output))

    def _took(self, node: Node, result: StepResult) -> Iterator[str]:
        yield duration(result.latency_s)
        if node.attempts > 1:
            yield count(node.attempts, "attempt")
        if node.iterations:
            yield count(node.iterations, "iteration")
        if node.fallback:
            yield "fallback"
        if node.chunks:
            yield count(node.chunks, "chunk")
        yield from spent_in(result.usage)
        if node.unlisted:
            yield f"{count(node.unlisted, 'step')} not listed"
        if self._options.detailed:
            metadata = result.metadata
            yield from (f"{key}={shortened(metadata[key], 80)}" for key in DECISIONS if key in metadata)

    # -- the form of a line --------------------------------------------------------------------------------------------

    def _line(self, view: RunView, at: float, word: str, state: State, trail: Sequence[Node], detail: str) -> Text:
        steps = [index for index, node in enumerate(trail) if not node.is_group]
        above = steps[-2] if len(steps) > 1 else 0
        groups = [clean(node.segment) for node in trail[above + 1 : -1]]
        label = "/".join([*groups, clean(trail[-1].name or trail[-1].segment)])
        return self._text(view, at, word, state, max(0, len(steps) - 2), label, detail)

    def _text(
        self, view: RunView, at: float, word: str, state: State, depth: int, label: str, detail: str = ""
    ) -> Text:
        line = Text(f"{max(0.0, at - view.started):8.2f}s  ", style="", end="\n")
        line.stylize("dim")
        if view.tagged:
            line.append(f"[{view.run_id[-6:]}] ", style="dim")
        line.append(f"{word:<9} ", style=LOOKS[state].style)
        line.append(f"{'  ' * depth}{label}")
        if detail:
            line.append(f"  {detail}", style="red" if state is State.FAILED else "dim")
        return line

    def ending(self, view: RunView, at: float, report: Report, pipeline: str) -> Iterator[Text]:
        """Yield the last lines of a run."""
        figures = ", ".join((report.headline.partition(" ")[2], *report.figures))
        word = report.headline.partition(" ")[0]
        yield self._text(view, at, word, report.state, 0, clean(pipeline), figures)
        for label, text in report.details:
            yield Text(f"{'':11}{label:<9} {text}", style="dim" if label == "run" else "")


def _is_listed(trail: Sequence[Node]) -> bool:
    """Decide, once for each node, whether its lines are printed: those of the first children of each container are."""
    for above, node in pairwise(trail):
        if node.listed is None:
            limit = _STEPS_IN_A_ROW if ":" in node.segment else ROWS_PER_CONTAINER
            node.listed = bool(above.listed) and above.admitted < limit
            above.admitted += node.listed
    return bool(trail[-1].listed)


def _is_milestone(number: int) -> bool:
    """Tell 100, 200, 400 and so on: the longer it takes, the less is said."""
    times, rest = divmod(number, _FIRST_MILESTONE)
    return rest == 0 and times & (times - 1) == 0


def _is_asking(event: Event) -> bool:
    """Tell the step that asks from those it is in, which pause with it."""
    return isinstance(event.error, PauseSignal) and event.error.path in ("", event.path)


def _failed_inside(result: StepResult) -> bool:
    return any(not child.success for child in result.children)


def _named(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"
