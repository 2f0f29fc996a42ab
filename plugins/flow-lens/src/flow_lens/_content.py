"""Stored content: shown on request with secrets masked, otherwise withheld where messages repeat it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import attrs
import orjson

from flow.cli import one_line
from flow.privacy import MASK, is_secret_name, mask, texts_in, withhold
from flow_lens._paths import place_of
from flow_lens._trace import COMPLETED, Trace, TraceStep

_DEEPEST = 60
_LONGEST_LINE = 300


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()
"""Stands for a value that the store does not hold, since ``None`` may be one."""


def masked(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with its secrets masked.

    >>> masked({"user": "ada", "password": "hunter2", "note": "Bearer abcdef0123456789"})
    {'user': 'ada', 'password': '****', 'note': 'Bearer ****'}
    """
    if isinstance(value, str):
        return mask(value)
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {
            mask(str(name)): MASK if is_secret_name(name) else masked(item, depth + 1) for name, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [masked(item, depth + 1) for item in value]
    return value


def decoded(text: bytes | None) -> Any:
    """Return the value of stored JSON text, `UNKNOWN` for none; text that cannot be read comes as text."""
    if text is None:
        return UNKNOWN
    try:
        return orjson.loads(text)
    except ValueError:
        return text.decode("utf-8", "backslashreplace")


def as_text(value: Any, indent: int | None = None) -> str:
    """Return a JSON value as JSON text, secrets masked."""
    return json.dumps(masked(value), indent=indent, ensure_ascii=False)


def in_one_line(value: Any) -> str:
    """Return a JSON value as the beginning of its JSON text, secrets masked, safe to be printed."""
    return "not known" if value is UNKNOWN else one_line(as_text(value), _LONGEST_LINE)


@attrs.define(eq=False, slots=False)
class Contents:
    """Inputs and outputs of one run.

    :ivar shown: content was asked for; otherwise messages are cleared of what they repeat of it.
    """

    trace: Trace
    shown: bool = False

    def run_input(self) -> Any:
        """Return the input of the run."""
        return decoded(self.trace.run.input)

    def run_output(self) -> Any:
        """Return what the run returned, `UNKNOWN` unless it has completed."""
        last = self.trace.steps[-1] if self.trace.steps else None
        if self.trace.run.status != COMPLETED or last is None:
            return UNKNOWN
        return self.output_of(last)

    def output_of(self, step: TraceStep) -> Any:
        """Return what a step returned; one that handed its input on returned that."""
        while step.status == COMPLETED and step.output is None and step.is_step:
            before = self._giver(step)
            if not isinstance(before, TraceStep):
                return decoded(before)
            step = before
        return decoded(step.output)

    def input_of(self, step: TraceStep) -> Any:
        """Return what a step was given, `UNKNOWN` where the journal does not tell.

        The first step of the run was given its input, a later one of a sequence what the one before it returned.
        """
        giver = self._giver(step)
        return self.output_of(giver) if isinstance(giver, TraceStep) else decoded(giver)

    def _giver(self, step: TraceStep) -> TraceStep | bytes | None:
        """Return the step whose output a step was given, or the input of the run."""
        outer, _, segment = step.path.rpartition("/")
        if segment == "fallback":  # it gets what the step was given that has failed
            failed = self.trace.by_path.get(outer)
            return None if failed is None else self._giver(failed)
        placed = place_of(step.path)
        if placed is None:
            return None
        sequence, place = placed
        if place > 0:
            before = self._in_sequence.get((sequence, place - 1))
            return before if before is not None and before.status == COMPLETED else None
        if not sequence:
            return self.trace.run.input
        around = self.trace.by_path.get(sequence)
        return self._giver(around) if around is not None and around.kind == "pipeline" else None

    @cached_property
    def _in_sequence(self) -> Mapping[tuple[str, int], TraceStep]:
        return {placed: step for step in self.trace.walk() if (placed := place_of(step.path)) is not None}

    # -- messages

    def told(self, message: str, *about: TraceStep) -> str:
        """Return a message with secrets masked and, unless content is shown, without what it repeats of content.

        :param about: the steps whose inputs, outputs and answers it may repeat; those of the run count always.
        """
        if self.shown:
            return mask(message)
        values = [self.input_of(step) for step in about] + [self.output_of(step) for step in about]
        values += [decoded(step.answer.text) for step in about if step.answer is not None]
        return withhold(message, [*self._texts_of_the_run, *_texts(values)])

    @cached_property
    def _texts_of_the_run(self) -> Sequence[str]:
        return _texts([self.run_input(), self.run_output(), decoded(self.trace.run.context)])

    def metadata_of(self, step: TraceStep) -> Any:
        """Return the decisions of a step, texts among them as `told` has them."""
        return _mapped(masked(step.metadata), lambda text: self.told(text, step))


def _texts(values: Sequence[Any]) -> Sequence[str]:
    return texts_in(*[value for value in values if value is not UNKNOWN])


def _mapped(value: Any, told: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return told(value)
    if isinstance(value, dict):
        return {name: _mapped(item, told) for name, item in value.items()}
    return [_mapped(item, told) for item in value] if isinstance(value, list) else value
