"""Answers to paused runs: matched with the questions that wait, checked against their declared types, kept as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import orjson
from pydantic import TypeAdapter, ValidationError

from ._pipeline import Pipeline
from ._protocols import RunRecord, StepRecord
from ._results import Pending, RunStatus
from ._serialize import build_adapter, codec_for
from ._step import BaseStep
from ._structure import fingerprint
from .errors import AnswerInvalid, ConfigurationError, NotPaused, SerializationError, StateCorrupt


@attrs.frozen
class Answer:
    """A checked answer: `value` is what the step gets, `stored` its JSON text unless it must not be written down."""

    path: str
    value: Any
    name: str
    step: str
    stored: bytes | None


class Questions:
    """The steps of a pipeline that may wait for an answer, and the types of what they take."""

    def __init__(self, pipeline: Pipeline[Any, Any]) -> None:
        self._steps = {fingerprint(step): step for step in _walk(pipeline) if step.answer_type() is not None}

    def check(self, question: Pending, value: Any) -> Answer:
        """Return `value` as the declared type of the answer; raises `AnswerInvalid` when it does not fit."""
        step = self._steps.get(question.step)
        declared = step.answer_type() if step is not None else None
        adapter = build_adapter(declared)
        if adapter is not None:
            value = _validated(adapter, value, question)
        return Answer(
            path=question.path,
            value=value,
            name=step.name if step is not None else "",
            step=question.step,
            stored=_stored(declared, value, question.path),
        )

    def restore(self, records: Sequence[StepRecord]) -> dict[str, Any]:
        """Return the answers that earlier executions have accepted, by path."""
        found = {}
        for record in records:
            assert record.output is not None  # noqa: S101  written by `answer_record`
            step = self._steps.get(orjson.loads(record.metadata or b"{}").get("step", ""))
            codec = codec_for(step.answer_type() if step is not None else Any)
            found[record.parent] = codec.loads(record.output, path=record.parent)
        return found


def questions_of(record: RunRecord) -> dict[str, Pending]:
    """Return what a stored run asks, by path; raises `StateCorrupt` when that cannot be read."""
    try:
        return {item["path"]: Pending(**item) for item in orjson.loads(record.pending or b"[]")}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateCorrupt(
            f"run {record.run_id!r}: what it asks cannot be read: {type(error).__name__}: {error}",
            hint="The store is damaged",
        ) from error


def match_answers(record: RunRecord, answer: Any, answers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Put answers to the paths that wait for them; raises `NotPaused` when nothing waits for one of them."""
    if answer is None and not answers:
        return {}
    if answer is not None and answers:
        raise ConfigurationError("give answer or answers, not both")
    if record.status != RunStatus.PAUSED:
        raise NotPaused(f"run {record.run_id!r} is {record.status} and waits for no answer")
    waiting = list(questions_of(record))
    if not waiting:
        raise StateCorrupt(f"run {record.run_id!r} is paused and asks nothing", hint="The store is damaged")
    if not answers:
        if len(waiting) != 1:
            raise ConfigurationError(
                f"run {record.run_id!r} waits for {len(waiting)} answers",
                hint=f"Say which one this is, by its path: {', '.join(waiting)}",
            )
        return {waiting[0]: answer}
    unknown = sorted(set(answers) - set(waiting))
    if unknown:
        raise NotPaused(f"nothing waits at {', '.join(unknown)}; questions wait at {', '.join(waiting)}")
    return dict(answers)


def _validated(adapter: TypeAdapter[Any], value: Any, question: Pending) -> Any:
    """Check a value, or a text that holds it as JSON, as it comes from a command line or a form."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        refused = error
    if isinstance(value, (str, bytes)):
        try:
            return adapter.validate_json(value)
        except ValidationError as error:
            if error.errors()[0]["type"] != "json_invalid":
                refused = error
    reasons = "; ".join(
        f"{'.'.join(map(str, item['loc']))}: {item['msg']}" if item["loc"] else item["msg"]
        for item in refused.errors(include_url=False)
    )
    raise AnswerInvalid(
        f"this is no answer to the question at {question.path!r}: {reasons}",
        path=question.path,
        hint="The run still waits; answer again",
    ) from refused


def _stored(declared: Any, value: Any, path: str) -> bytes | None:
    """Return the answer as JSON, or ``None`` when that would not give it back, as for secrets, which are masked."""
    codec = codec_for(Any if declared is None else declared)
    try:
        text = codec.dumps(value, path=path)
        return text if codec.loads(text, path=path) == value else None
    except SerializationError as error:
        if declared not in (None, Any):
            return None
        raise AnswerInvalid(
            f"the answer at {path!r} cannot be stored: {error.message}", path=path, hint="Answer with plain JSON values"
        ) from error


def _walk(item: BaseStep[Any, Any] | Pipeline[Any, Any]) -> Iterator[BaseStep[Any, Any]]:
    if isinstance(item, BaseStep):
        yield item
        if isinstance(item.fallback, (BaseStep, Pipeline)):
            yield from _walk(item.fallback)
    for child in item.children().values():
        yield from _walk(child)
