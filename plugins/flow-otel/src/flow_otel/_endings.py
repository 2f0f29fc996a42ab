"""What is told on the span of a step when it ends: everything but the success of a plain one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import attrs
from opentelemetry.trace import Span, set_span_in_context

from flow import PauseSignal, RunStatus, Scope, StepResult, Usage
from flow_otel import _names as names
from flow_otel._content import attributes_of, contents_around, text_of
from flow_otel._failures import category_of, fail
from flow_otel._metrics import Instruments
from flow_otel._options import Options
from flow_otel._plans import Plan
from flow_otel._runs import Note, RunState, leaves, status_of

_STOPPED = (RunStatus.PAUSED, RunStatus.CANCELLED, RunStatus.INTERRUPTED)
_LONGEST_DECISION = 100
_DECISIONS = {
    "recovery": names.STEP_RECOVERY,
    "retry_refused": names.STEP_RETRY_REFUSED,
    "iterations": names.STEP_ITERATIONS,
    "executed_branch_key": names.STEP_BRANCH,
}


@attrs.define(eq=False)
class Ending:
    """One step that has ended."""

    plan: Plan
    span: Span
    scope: Scope
    state: RunState
    data: Any
    started: float
    """By ``time.perf_counter``."""
    seconds: float
    instruments: Instruments | None
    options: Options

    def returned(self, result: StepResult) -> None:
        """Tell what a step returned, and end its span."""
        self._noted()
        error = result.error if not result.success else self._breach(result)
        if self.span.is_recording():
            self.span.set_attributes(_facts(self.plan, result))
            if self.plan.step.children():
                self.span.set_attributes(_totals(result.usage if result.replayed else self.scope.usage))
            if self.options.content:
                output = result.output if result.success else None
                self._set_content(output)
        category = self._failed(error) if error is not None else None
        if self.instruments is not None and not result.replayed:  # what is replayed was counted when it ran
            self._measured(error, category)
            self.instruments.result(self._labels, self.plan, result)
        self.span.end()

    def raised(self, error: BaseException) -> None:
        """Tell what a step raised, and end its span: a failure, or that it was paused or stopped."""
        self._noted()
        status = status_of(error)
        if status in _STOPPED:
            self.span.set_attribute(names.STEP_STATUS, status.value)
            for signal in leaves(error):
                if isinstance(signal, PauseSignal) and not signal.path:  # the kernel names the step behind this one
                    self._asked(signal)
            self._measured(None, None)
        else:
            self._measured(error, self._failed(error))
        if self.options.content and self.span.is_recording():
            self._set_content(None)
        self.span.end()

    # -- what is told -----------------------------------------------------------------------------------------------

    @property
    def _labels(self) -> dict[str, str]:
        return self.plan.labels(self.scope.run.pipeline)

    def _noted(self) -> None:
        note = self.state.notes.pop(self.scope.path, None)
        if note is None:
            return
        if self.instruments is not None and note.usage:
            self.instruments.spent(self._labels, note.usage)
        if not self.span.is_recording():
            return
        if note.chunks:
            self.span.add_event(names.CHUNKS_EVENT, _chunks(note, self.started))
        if note.usage:
            self.span.set_attributes(_spent(note.usage, self.plan.usage_names))

    def _breach(self, result: StepResult) -> BaseException | None:
        """Return the error with which the kernel is going to replace a success that has cost too much."""
        return self.scope.breach() if self.scope.usage and not result.replayed else None

    def _failed(self, error: BaseException) -> str:
        category = category_of(error, self.plan.classify)
        if self.span.is_recording():
            self.span.set_attribute(names.ERROR_CATEGORY, category)
            fail(self.span, error, self.state, self._contents, self.options.content)
        return category

    def _contents(self) -> list[str]:
        return contents_around(self.scope, self.data, self.state.input)

    def _measured(self, error: BaseException | None, category: str | None) -> None:
        if self.instruments is None:
            return
        labels = self._labels
        self.instruments.step(labels, self.plan, self.seconds, error, set_span_in_context(self.span))
        if category is not None:
            self.instruments.failure(labels, category)

    def _asked(self, signal: PauseSignal) -> None:
        told: dict[str, Any] = {names.STEP_PATH: self.scope.path}
        if signal.deadline is not None:
            told[names.PAUSE_DEADLINE] = signal.deadline
        if self.options.content:
            told[names.PAUSE_QUESTION] = text_of(signal.message, self.options.content_limit)
        self.span.add_event(names.PAUSE_EVENT, told)

    def _set_content(self, output: Any) -> None:
        self.span.set_attributes(attributes_of(self.plan.operation, self.data, output, self.options.content_limit))


def ending_of_attempt(
    span: Span, scope: Scope, state: RunState, data: Any, error: BaseException | None, *, content: bool
) -> None:
    """Tell how an attempt ended, and end its span."""
    if error is not None:
        status = status_of(error)
        if status in _STOPPED:
            span.set_attribute(names.STEP_STATUS, status.value)
        else:
            state.failed_at[scope.path] = time.perf_counter()
            if span.is_recording():
                fail(span, error, state, lambda: contents_around(scope, data, state.input), content)
    span.end()


def _facts(plan: Plan, result: StepResult) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if result.attempts > 1:
        told[names.STEP_ATTEMPTS] = result.attempts
    if plan.step.cache is not None:
        told[names.STEP_CACHED] = result.cached
    if result.replayed:
        told[names.STEP_REPLAYED] = True
    if not plan.plain:
        told |= _decisions(result.metadata)
    return told


def _decisions(metadata: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for key, name in _DECISIONS.items():
        decided = metadata.get(key)
        if isinstance(decided, (bool, int)):
            told[name] = decided
        elif isinstance(decided, str):
            told[name] = text_of(decided, _LONGEST_DECISION)
    if metadata.get("fallback_triggered"):
        told[names.STEP_FALLBACK] = True
    return told


def _spent(usage: Usage, tokens: tuple[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if usage.input_tokens or usage.output_tokens:
        told = dict(zip(tokens, (usage.input_tokens, usage.output_tokens), strict=True))
    return {**told, names.COST: usage.cost_usd} if usage.cost_usd else told


def _totals(usage: Usage) -> dict[str, Any]:
    return totals_of(usage) if usage else {}


def totals_of(usage: Usage) -> dict[str, Any]:
    """Return what was spent inside a span, under names that no reader adds up over a trace."""
    return {
        names.TOTAL_INPUT_TOKENS: usage.input_tokens,
        names.TOTAL_OUTPUT_TOKENS: usage.output_tokens,
        names.TOTAL_COST: usage.cost_usd,
    }


def _chunks(note: Note, started: float) -> dict[str, Any]:
    told: dict[str, Any] = {names.CHUNKS_COUNT: note.chunks}
    if note.characters or not note.octets:
        told[names.CHUNKS_CHARACTERS] = note.characters
    if note.octets:
        told[names.CHUNKS_BYTES] = note.octets
    if note.first_chunk is not None:
        told[names.CHUNKS_FIRST] = max(0.0, note.first_chunk - started)
    return told
