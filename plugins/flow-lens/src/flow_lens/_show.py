"""``flow lens show``: one run, its facts and its steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from flow.cli import (
    ago,
    duration,
    is_orphaned,
    lines_of,
    metadata_of,
    one_line,
    questions_of,
)
from flow.privacy import mask
from flow_lens._axis import axis_of
from flow_lens._content import UNKNOWN, Contents, as_text, decoded, in_one_line
from flow_lens._screen import Line, Screen, fitted, labelled, line
from flow_lens._step_table import StepTable, Wanted
from flow_lens._trace import Trace, TraceStep
from flow_lens._words import counted, failures, money, status_of, tokens, took, tries


@attrs.frozen(eq=False)
class Show:
    """One run as lines.

    :ivar next: the command that continues the run, when there is one.
    """

    trace: Trace
    screen: Screen
    contents: Contents
    wanted: Wanted = attrs.field(factory=Wanted)
    next: str | None = None

    # -- the run

    def heading(self) -> Line:
        """Return the line that names the run and says how it stands."""
        run = self.trace.run
        name, status = self.screen.say(one_line(run.pipeline, 40)), one_line(run.status.replace("_", " "))
        sign = self.screen.sign(run.status)
        return line(sign, " ", (name, "title"), " ", (status, sign[1]), "  ", (run.run_id, "dim"))

    def facts(self) -> Iterator[Line]:
        """Yield what is known of the run, a label in front of each line."""
        yield self.heading()
        yield from labelled(self._facts(), self.screen)

    def _facts(self) -> Iterator[tuple[str, str]]:
        run = self.trace.run
        since = f" ({ago(run.created_at)})" if self.screen.terminal else ""
        yield "started", f"{self.screen.moment(run.created_at)}{since}"
        yield "took", self._time()
        if run.usage:
            requests = f", {counted(run.usage.requests, 'request')}" if run.usage.requests else ""
            yield (
                "spent",
                f"{money(run.usage.cost_usd) or '$0'}, {tokens(run.usage.total_tokens) or 0} tokens{requests}",
            )
        if run.status == "running":
            gone = ", which is gone: flow recover continues the run" if is_orphaned(run) else ""
            yield "owner", f"{one_line(run.owner or 'nobody')}{gone}"
        if run.deadline_at is not None:
            yield "deadline", self.screen.moment(run.deadline_at)
        for name, value in metadata_of(run).items():
            yield one_line(name, 20), one_line(mask(f"{value}"), 300)
        if run.error:
            for index, text in enumerate(lines_of(self.contents.told(run.error, *self._failed()))):
                yield ("" if index else "error"), text
        if run.status == "paused":
            yield from self._questions()
        if self.next is not None:
            yield "continue", self.next
        yield from self._content_of_the_run()

    def _time(self) -> str:
        run = self.trace.run
        executed = axis_of(self.trace).length
        if run.epoch <= 1:
            return duration(executed)
        elapsed = duration(max(run.updated_at - run.created_at, 0.0))
        return f"{duration(executed)} in {counted(run.epoch, 'execution')}, {elapsed} from beginning to end"

    def _failed(self) -> list[TraceStep]:
        return [step for step in self.trace.walk() if step.failed][-3:]

    def _questions(self) -> Iterator[tuple[str, str]]:
        for question in questions_of(self.trace.run).values():
            about = self.trace.by_path.get(question.path)
            message = self.contents.told(question.message, *([about] if about else []))
            first, *more = lines_of(message)
            yield "asks", f"{one_line(question.path)}: {first}"
            yield from (("", text) for text in more)
            if question.deadline is not None:
                yield "", f"until {self.screen.moment(question.deadline)}"

    def _content_of_the_run(self) -> Iterator[tuple[str, str]]:
        if self.wanted.context:
            yield from _several("context", _whole(decoded(self.trace.run.context)))
        if self.wanted.inputs:
            yield "input", in_one_line(self.contents.run_input())
        if self.wanted.outputs and (output := self.contents.run_output()) is not UNKNOWN:
            yield "output", in_one_line(output)

    # -- its steps

    def lines(self) -> Iterator[Line]:
        """Yield everything: the facts and the steps."""
        yield from self.facts()
        if self.screen.terminal:
            yield ()
        yield from self.steps()

    def steps(self) -> Iterator[Line]:
        """Yield a line per step, and below it what else is known."""
        return self._table.lines()

    @property
    def _table(self) -> StepTable:
        return StepTable(self.trace, self.screen, self.contents, self.wanted)

    # -- a run that goes on

    def passed(self, step: TraceStep) -> Iterator[Line]:
        """Yield the line of a step that has just ended, its figures in front so that they are below each other."""
        status = status_of(step, self.trace.run)
        more = [text for text in (tries(step), money(step.usage.cost_usd)) if text]
        figures = self.screen.say(f"  {'  '.join(more)}" if more else "")
        path = self.screen.say(one_line(step.path))
        shown = line((f"{took(step):>9}  ", "dim"), self.screen.sign(status), " ", path, (figures, "dim"))
        yield fitted(shown, self.screen.width) if self.screen.terminal else shown
        yield from labelled(self._table.remarks(step), self.screen, " " * 13)

    def ending(self) -> Iterator[Line]:
        """Yield how the run has ended: its state, and what it asks or why it failed."""
        yield self.heading()
        known = ("took", "spent", "error", "asks", "owner")
        yield from labelled((row for row in self._facts() if row[0] in known), self.screen)

    # -- one step

    def one(self, step: TraceStep) -> Iterator[Line]:
        """Yield everything about one step; content is whole where it was asked for."""
        status = status_of(step, self.trace.run)
        yield line(self.screen.sign(status), " ", (self.screen.say(one_line(step.path)), "title"), " ", status)
        yield from labelled(self._about(step), self.screen)

    def _about(self, step: TraceStep) -> Iterator[tuple[str, str]]:
        yield "run", self.trace.run.run_id
        yield "name", one_line(step.name)
        yield "kind", one_line(step.kind or "unknown")
        if step.started_at:
            after = duration(max(step.started_at - self.trace.run.created_at, 0))
            yield "started", f"{self.screen.moment(step.started_at)} ({after} after the run)"
        yield "took", took(step)
        yield "attempts", str(step.attempts)
        if step.usage:
            usage = step.usage
            yield "spent", f"{money(usage.cost_usd) or '$0'}, {usage.input_tokens:,} + {usage.output_tokens:,} tokens"
        if step.children:
            yield "inside", counted(sum(inner.is_step for inner in step.walk()) - step.is_step, "step")
        for name, value in self.contents.metadata_of(step).items():
            yield (
                one_line(name or "metadata", 20),
                one_line(value, 300) if isinstance(value, str) else in_one_line(value),
            )
        yield from failures(step, self.contents)
        if step.answer is not None:
            yield "answered", self.screen.moment(step.answer.at)
        yield from self._content_of(step)

    def _content_of(self, step: TraceStep) -> Iterator[tuple[str, str]]:
        if self.wanted.inputs:
            yield from _several("input", _whole(self.contents.input_of(step)))
        if self.wanted.outputs:
            if step.answer is not None:
                yield from _several("answer", _whole(decoded(step.answer.text)))
            yield from _several("output", _whole(self.contents.output_of(step)))


def _whole(value: Any) -> list[str]:
    """Return a value in full, secrets masked, in the lines it has."""
    if value is UNKNOWN:
        return ["not known"]
    if isinstance(value, str):
        return lines_of(mask(value))
    return lines_of(as_text(value, indent=2))


def _several(label: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    return ((label if not index else "", text) for index, text in enumerate(lines))
