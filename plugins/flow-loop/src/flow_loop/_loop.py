"""The loop step: a body, the condition that ends it, and the mappers between iterations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import attrs

from flow import BaseStep, ConfigurationError, Pipeline, Step

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)

Body: TypeAlias = BaseStep[Any, Any] | Pipeline[Any, Any]
OnExhausted: TypeAlias = Literal["fail", "return"]


def as_pipeline(body: Body) -> Pipeline[Any, Any]:
    """Take a step for a pipeline of one."""
    return Pipeline.of(body)


def check_bound(step: BaseStep[Any, Any], attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a loop that may go on for ever: the bound is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"step {step.name!r}: {attribute.name} must be a whole number of at least 1, got {value!r}",
            hint="A loop is bounded, whatever its condition says",
        )


def check_on_exhausted(step: BaseStep[Any, Any], attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse anything but the two ways in which a loop may end at its bound."""
    if value not in ("fail", "return"):
        raise ConfigurationError(f"step {step.name!r}: {attribute.name} is 'fail' or 'return', got {value!r}")


@attrs.frozen(kw_only=True)
class Loop(BaseStep[InT, OutT]):
    """Repeats `body` until `exit_condition` holds, at most `max_loops` times.

    :param body: what is repeated; the output of an iteration is the input of the next.
    :param exit_condition: ``exit_condition(output, context)`` after each iteration; true ends the loop.
    :param on_exhausted: at the bound, ``"fail"`` fails the step, ``"return"`` returns the last output.
    :param initial_input: ``initial_input(data, context)`` makes the input of the first iteration.
    :param iteration_input: ``iteration_input(output, context, i)`` makes the input of iteration `i` + 1.
    :param loop_output: ``loop_output(output, context)`` makes the output of the loop.
    """

    kind: ClassVar[str] = "loop"

    body: Pipeline[Any, Any] = attrs.field(converter=as_pipeline)
    exit_condition: Callable[..., Any]
    max_loops: int = attrs.field(default=10, validator=check_bound)
    on_exhausted: OnExhausted = attrs.field(default="fail", validator=check_on_exhausted)
    initial_input: Callable[..., Any] | None = None
    iteration_input: Callable[..., Any] | None = None
    loop_output: Callable[..., Any] | None = None

    def children(self) -> Mapping[str, Pipeline[Any, Any]]:
        """Return the body."""
        return {"body": self.body}

    def declared_types(self) -> tuple[Any, Any]:
        """Return what the body takes and returns, as far as no mapper stands between."""
        takes, gives = self.body.declared_types()
        if self.loop_output is not None:
            gives = Step("output", self.loop_output).declared_types()[1]
        return takes if self.initial_input is None else Any, gives


def loop_until(
    name: str,
    loop_body_pipeline: Body,
    exit_condition_callable: Callable[..., Any],
    max_loops: int = 10,
    *,
    initial_input_mapper: Callable[..., Any] | None = None,
    iteration_input_mapper: Callable[..., Any] | None = None,
    loop_output_mapper: Callable[..., Any] | None = None,
    on_exhausted: OnExhausted = "fail",
    **settings: Any,
) -> Loop[Any, Any]:
    """Make a step that repeats a pipeline until a condition holds.

    :param exit_condition_callable: takes ``(output, context)``, or ``(context, output)`` when its first parameter is
        called ``context`` or ``ctx``; may be async, like the mappers.
    :param max_loops: the most iterations, at least 1.
    :param on_exhausted: ``"fail"`` or ``"return"`` the last output when the bound is reached.
    :param settings: settings every step has, such as ``timeout=60``.

    The result's metadata holds ``iterations`` and ``exit_reason``: ``condition``, ``max_loops`` or ``body_failed``.
    """
    return Loop(
        name=name,
        body=loop_body_pipeline,
        exit_condition=exit_condition_callable,
        max_loops=max_loops,
        on_exhausted=on_exhausted,
        initial_input=initial_input_mapper,
        iteration_input=iteration_input_mapper,
        loop_output=loop_output_mapper,
        **settings,
    )
