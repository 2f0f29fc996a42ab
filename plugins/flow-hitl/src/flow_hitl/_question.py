"""Asking: the message, the answer or the pause, and the record in the context."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import PydanticJsonSchemaWarning
from pydantic_core import SchemaError, to_jsonable_python

from flow import ConfigurationError, PauseSignal, Scope, StepFailed, StepTimeout, bind_callable

from . import _clock
from ._steps import MISSING, HumanInTheLoop
from ._template import Template

Render: TypeAlias = Callable[[Any, Any], Awaitable[str]]

HISTORY = "hitl_history"
_BYTES_AS_BASE64 = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


@attrs.frozen
class Reply:
    """An answer: what was asked, what is returned, and whether it is only the default."""

    message: str
    value: Any
    is_default: bool = False


class Question:
    """The question of one bound step."""

    def __init__(self, step: HumanInTheLoop[Any, Any]) -> None:
        self._step = step
        self._render = _renderer(step)
        self._adapter = _adapter(step)
        self._schema = None if self._adapter is None else _json_schema(step, self._adapter)
        self._default = self._checked_default()

    async def reply(self, data: Any, scope: Scope) -> Reply:
        """Return the answer to the question and note it in the context; raises `PauseSignal` while there is none.

        When the time to answer is over the default is returned, or `StepTimeout` raised.
        """
        run, path = scope.run, scope.path
        if scope.attempt > 1 and not self._step.children():  # else it is what follows from the answer that has failed
            self._forget(scope)
        asked = run.questions.get(path)
        message = asked.message if asked is not None else await self._ask(data, scope)
        if path in run.answers:
            reply = Reply(message, run.answers[path])
        else:
            deadline = self._deadline() if asked is None else asked.deadline
            if deadline is None or _clock.now() < deadline:
                raise PauseSignal(message, schema=self._schema, deadline=deadline)
            reply = Reply(message, self._default_answer(scope), is_default=True)
        self._note(reply, scope)
        return reply

    async def _ask(self, data: Any, scope: Scope) -> str:
        message = await self._render(data, scope.context)
        if scope.feedback is not None:  # such as an answer that was refused
            message = f"{message}\n(another attempt, after: {scope.feedback})"
        return message

    def _deadline(self) -> float | None:
        return None if self._step.answer_within is None else _clock.now() + self._step.answer_within

    def _default_answer(self, scope: Scope) -> Any:
        if self._default is not MISSING:
            return copy.deepcopy(self._default)  # runs may change what they get
        self._forget(scope)
        seconds = "in time" if self._step.answer_within is None else f"within {self._step.answer_within:g} s"
        raise StepTimeout(f"nobody answered the question at {scope.path!r} {seconds}", path=scope.path)

    def _forget(self, scope: Scope) -> None:
        """Make the next attempt ask anew: this answer, or this silence, has failed."""
        scope.run.questions.pop(scope.path, None)
        scope.run.answers.pop(scope.path, None)

    def _checked_default(self) -> Any:
        default = self._step.default
        if default is MISSING or self._adapter is None:
            return default
        try:
            return self._adapter.validate_python(default)
        except ValidationError as error:
            reasons = "; ".join(item["msg"] for item in error.errors(include_url=False))
            raise ConfigurationError(
                f"step {self._step.name!r}: the default {default!r:.60} is no answer: {reasons}"
            ) from error

    def _note(self, reply: Reply, scope: Scope) -> None:
        """Add the answer to the history in the context, if its model has one, as plain JSON without secrets."""
        context = scope.context
        model: Any = type(context)
        if not issubclass(model, BaseModel) or HISTORY not in model.model_fields:
            return
        entry = {"path": scope.path, "message": reply.message, "answer": self._as_json(reply.value)}
        if reply.is_default:
            entry["default"] = True
        if model.model_config.get("frozen"):
            context.hitl_history.append(entry)
        else:  # an assignment is checked, and converted to the declared type of the items
            context.hitl_history = [*context.hitl_history, entry]

    def _as_json(self, answer: Any) -> Any:
        if self._adapter is not None:
            return self._adapter.dump_python(answer, mode="json")
        return to_jsonable_python(answer, bytes_mode="base64", inf_nan_mode="strings", serialize_unknown=True)


def _renderer(step: HumanInTheLoop[Any, Any]) -> Render:
    message = step.message
    template = Template.parse("{{ data }}" if message is None else message) if not callable(message) else None
    function = bind_callable(message, what="message") if callable(message) else None

    async def render(data: Any, context: Any) -> str:
        try:
            if template is not None:
                text = template.render(data, context)
            else:
                assert function is not None  # noqa: S101  there is one or the other
                text = await function(data, context)
        except StepFailed as error:
            raise StepFailed(f"step {step.name!r}: {error.message}", hint=error.hint) from error
        if not isinstance(text, str):
            raise StepFailed(f"step {step.name!r}: the message must be a text, got {type(text).__name__}")
        return text.encode("utf-8", "backslashreplace").decode()  # half a character cannot be stored

    return render


# What Pydantic raises for what is no type, in one release or another.
_NO_TYPES = (
    PydanticSchemaGenerationError,
    PydanticUserError,
    SchemaError,
    AttributeError,
    LookupError,
    NameError,
    TypeError,
)


def _adapter(step: HumanInTheLoop[Any, Any]) -> TypeAdapter[Any] | None:
    if step.input_schema is None:
        return None
    try:
        try:
            return TypeAdapter(step.input_schema, config=_BYTES_AS_BASE64)
        except PydanticUserError:  # models and dataclasses bring their own configuration and refuse ours
            return TypeAdapter(step.input_schema)
    except _NO_TYPES as error:
        raise _no_schema(step, error) from error


def _json_schema(step: HumanInTheLoop[Any, Any], adapter: TypeAdapter[Any]) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # a default that is no JSON is left out of it
            return adapter.json_schema()
    except (PydanticInvalidForJsonSchema, PydanticUserError, LookupError) as error:
        raise _no_schema(step, error) from error


def _no_schema(step: HumanInTheLoop[Any, Any], error: Exception) -> ConfigurationError:
    reason = str(error).partition("\n")[0]
    return ConfigurationError(
        f"step {step.name!r}: input_schema {step.input_schema!r:.60} is no type of answers: {reason}",
        hint="Use a Pydantic model, a dataclass, Literal[...], bool, int, str, or lists and dictionaries of them",
    )
