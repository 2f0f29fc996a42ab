"""Checks on what a step produced: validators judge it, validation plugins may replace or redirect it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, overload

import attrs
from pydantic import BaseModel, ConfigDict, Field

from ._converters import as_tuple


class ValidationResult(BaseModel):
    """A validator's verdict."""

    model_config = ConfigDict(extra="forbid")

    is_valid: bool
    feedback: str | None = None
    validator_name: str = ""
    score: float | None = None
    metadata: Mapping[str, Any] = Field(default_factory=dict)


class BaseValidator(ABC):
    """Judges an output. Subclass it, give it a ``name`` and implement `validate`.

    >>> class NotEmpty(BaseValidator):
    ...     name = "not_empty"
    ...     async def validate(self, output, *, context=None):
    ...         return ValidationResult(is_valid=bool(output), feedback="it is empty", validator_name=self.name)
    """

    name: ClassVar[str] = ""

    @abstractmethod
    async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
        """Return the verdict on `output`; an exception counts as a refusal."""


class FunctionValidator(BaseValidator):
    """A validator made of a function by ``@validator``."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.name = name  # type: ignore[misc]  # a class constant for subclasses, an instance's name here

    async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
        """Call the function and read its answer."""
        verdict = self.function(output)
        if inspect.isawaitable(verdict):
            verdict = await verdict
        if isinstance(verdict, ValidationResult):
            return verdict
        valid, feedback = verdict if isinstance(verdict, tuple) else (verdict, None)
        if not isinstance(valid, bool):
            raise TypeError(f"a validator function returns bool or (bool, feedback), got {type(valid).__name__}")
        return ValidationResult(is_valid=valid, feedback=feedback, validator_name=self.name)


@overload
def validator(function: Callable[..., Any], /) -> FunctionValidator: ...
@overload
def validator(*, name: str) -> Callable[[Callable[..., Any]], FunctionValidator]: ...
def validator(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Make a validator of a function that returns ``bool`` or ``(bool, feedback)``; it may be async.

    >>> @validator
    ... def short(text):
    ...     return len(text) < 10, "too long"
    >>> short.name
    'short'
    """

    def decorate(target: Callable[..., Any]) -> FunctionValidator:
        return FunctionValidator(target, name or target.__name__)

    return decorate if function is None else decorate(function)


class PluginOutcome(BaseModel):
    """What a validation plugin decided.

    :param redirect_to: an agent that is to produce the output instead, within the same attempt.
    :param new_solution: a value that replaces the output.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    success: bool
    feedback: str | None = None
    redirect_to: Any = None
    new_solution: Any = None


class ValidationPlugin(ABC):
    """Checks an output and may replace it or send the work elsewhere. Subclass it and implement `check`.

    Plugins of a step run by ``priority``, the highest first.
    """

    name: ClassVar[str] = ""
    priority: ClassVar[int] = 0

    @abstractmethod
    async def check(self, output: Any, *, context: Any = None) -> PluginOutcome:
        """Return the outcome for `output`; an exception counts as a refusal."""


@attrs.frozen(kw_only=True)
class AgentProcessors:
    """Functions that change what goes into an agent and what comes out of it, sync or async, called with the value."""

    prompt_processors: Sequence[Callable[[Any], Any]] = attrs.field(default=(), converter=as_tuple)
    output_processors: Sequence[Callable[[Any], Any]] = attrs.field(default=(), converter=as_tuple)
