"""The steps that ask: a question with an answer of any type, and an approval."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final, TypeAlias, TypeVar, overload

import attrs
from pydantic import BeforeValidator

from flow import BaseStep, ConfigurationError, Pipeline

from ._template import Template

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)
T = TypeVar("T")

Body: TypeAlias = BaseStep[Any, Any] | Pipeline[Any, Any]
Message: TypeAlias = str | Callable[..., Any] | None


class _Missing(enum.Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING
"""Stands for a default that was not given: ``None`` may be one."""

ON_REJECT = "on_reject"

_YES = frozenset({"true", "yes", "y", "approve", "approved"})
_NO = frozenset({"false", "no", "n", "reject", "rejected"})


def _decision(answer: Any) -> bool:
    """Read a decision as people type it."""
    if isinstance(answer, bool):
        return answer
    text = answer.strip().casefold() if isinstance(answer, str) else None
    if text not in _YES | _NO:
        raise ValueError("answer true or false, yes or no, approve or reject")
    return text in _YES


Decision: TypeAlias = Annotated[bool, BeforeValidator(_decision)]
"""What answers an approval."""


def _check_message(step: BaseStep[Any, Any], attribute: attrs.Attribute[Any], message: Any) -> None:
    if isinstance(message, str):
        try:
            Template.parse(message)
        except ConfigurationError as error:
            raise ConfigurationError(f"step {step.name!r}: {error.message}", hint=error.hint) from None
    elif message is not None and not callable(message):
        raise ConfigurationError(
            f"step {step.name!r}: the message is a text or a function of (data, context), got {message!r:.60}"
        )


def _check_seconds(step: BaseStep[Any, Any], attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
        raise ConfigurationError(f"step {step.name!r}: timeout is a number of seconds above 0, got {value!r}")


def _check_default(step: HumanInTheLoop[Any, Any], attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not MISSING and step.answer_within is None:
        raise ConfigurationError(
            f"step {step.name!r} has a default but no timeout, so the default would never apply",
            hint="Say after how many seconds it does: timeout=3600",
        )


def _pipeline_or_none(body: Body | None) -> Pipeline[Any, Any] | None:
    return None if body is None else Pipeline.of(body)


@attrs.frozen(kw_only=True)
class HumanInTheLoop(BaseStep[InT, OutT]):
    """Asks a question, pauses the run, and returns the answer.

    :param message: the question, with ``{{ data }}`` and ``{{ context.field }}`` filled in; a function of
        ``(data, context)`` that returns it; or ``None``: the input itself is shown.
    :param input_schema: the type of the answer: anything Pydantic can check. ``None`` takes any plain value.
    :param answer_within: seconds from the first time the question was asked until `default` applies.
    :param default: the answer when nobody has given one in time; without it the step fails with `StepTimeout`.
    """

    kind: ClassVar[str] = "hitl"

    message: Message = attrs.field(default=None, validator=_check_message)
    input_schema: Any = attrs.field(default=None, hash=False)
    answer_within: float | None = attrs.field(default=None, validator=_check_seconds)
    default: Any = attrs.field(default=MISSING, validator=_check_default, hash=False)

    def answer_type(self) -> Any:
        """Return the type of the answer."""
        return Any if self.input_schema is None else self.input_schema

    def declared_types(self) -> tuple[Any, Any]:
        """Return any input, and the type of the answer as output."""
        return Any, self.answer_type()


@attrs.frozen(kw_only=True)
class Approval(HumanInTheLoop[InT, OutT]):
    """Asks for a yes or a no, and hands its input on when the answer is yes.

    :param on_reject: what runs with the input when the answer is no; without it a no fails the step.
    """

    kind: ClassVar[str] = "approval"
    hands_on: ClassVar[bool] = True

    input_schema: Any = attrs.field(default=Decision, hash=False, init=False)
    on_reject: Pipeline[Any, Any] | None = attrs.field(default=None, converter=_pipeline_or_none)

    def children(self) -> Mapping[str, Pipeline[Any, Any]]:
        """Return what runs after a no."""
        return {} if self.on_reject is None else {ON_REJECT: self.on_reject}

    def declared_types(self) -> tuple[Any, Any]:
        """Return nothing known: the input is handed on, whatever it is."""
        return Any, Any

    def stored_type(self) -> Any:
        """Return what `on_reject` declares: of an input that is handed on no copy is stored."""
        return Any if self.on_reject is None else self.on_reject.declared_types()[1]


@overload
def human_in_the_loop(
    name: str,
    message_for_user: Message,
    input_schema: type[T],
    timeout: float | None = None,
    default: Any = MISSING,
    **settings: Any,
) -> HumanInTheLoop[Any, T]: ...
@overload
def human_in_the_loop(
    name: str,
    message_for_user: Message = None,
    *,
    input_schema: type[T],
    timeout: float | None = None,
    default: Any = MISSING,
    **settings: Any,
) -> HumanInTheLoop[Any, T]: ...
@overload
def human_in_the_loop(
    name: str,
    message_for_user: Message = None,
    input_schema: Any = None,
    timeout: float | None = None,
    default: Any = MISSING,
    **settings: Any,
) -> HumanInTheLoop[Any, Any]: ...
def human_in_the_loop(
    name: str,
    message_for_user: Message = None,
    input_schema: Any = None,
    timeout: float | None = None,
    default: Any = MISSING,
    **settings: Any,
) -> HumanInTheLoop[Any, Any]:
    """Make a step that asks a person and returns the answer; until it comes the run is paused.

    :param message_for_user: the question. ``{{ data }}``, ``{{ data.field }}`` and ``{{ context.field }}`` are filled
        in; a function of ``(data, context)``, sync or async, may make it; without one the input itself is shown.
    :param input_schema: the type of the answer, such as a Pydantic model, ``bool`` or ``Literal["spam", "ham"]``:
        an answer that does not fit is refused with `AnswerInvalid`, and the run stays paused.
    :param timeout: seconds people have to answer, counted from the first time they were asked.
    :param default: the answer when nobody has answered in time; without it the step fails with `StepTimeout`.
    :param settings: settings every step has, such as ``retries=2``: after a failed attempt it asks again.

    Raises `ConfigurationError` for a message with a broken placeholder, and for a default without a timeout.

    >>> from flow import Flow
    >>> flow = Flow(human_in_the_loop("age", "How old is {{ data }}?", int), state="memory://")
    >>> paused = flow.run("Ada")
    >>> paused.pending[0].message, paused.pending[0].schema
    ('How old is Ada?', {'type': 'integer'})
    >>> flow.resume(paused.run_id, "36").output
    36
    """
    return HumanInTheLoop(
        name=name,
        message=message_for_user,
        input_schema=input_schema,
        answer_within=timeout,
        default=default,
        **settings,
    )


def approval(
    name: str,
    message_for_user: Message = None,
    *,
    on_reject: Body | None = None,
    timeout: float | None = None,
    default: Any = MISSING,
    **settings: Any,
) -> Approval[Any, Any]:
    """Make a step that asks a person for a yes or a no, and hands its input on when the answer is yes.

    :param message_for_user: the question, as for `human_in_the_loop`.
    :param on_reject: the step or pipeline that gets the input when the answer is no; its output is the step's.
        Without it a no fails the step.
    :param timeout: seconds people have to answer, counted from the first time they were asked.
    :param default: the decision when nobody has answered in time; without it the step fails with `StepTimeout`.
    :param settings: settings every step has.

    The decision is in the metadata of the result: ``approved``.

    >>> from flow import Flow
    >>> flow = Flow(approval("publish", "Publish {{ data }}?"), state="memory://")
    >>> flow.resume(flow.run("the draft").run_id, "yes").output
    'the draft'
    >>> flow.resume(flow.run("the draft").run_id, "no").error.message
    "rejected: 'Publish the draft?'"
    """
    return Approval(
        name=name,
        message=message_for_user,
        on_reject=on_reject,
        answer_within=timeout,
        default=default,
        **settings,
    )
