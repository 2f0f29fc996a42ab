"""The refine step: a generator and a critic that take turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import attrs
from pydantic import BaseModel, ConfigDict

from flow import BaseStep, Pipeline

from ._loop import Body, OnExhausted, as_pipeline, check_bound, check_on_exhausted

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)


class Refinement(BaseModel):
    """A critic's verdict: whether the artifact is good enough, and if not, what to do about it.

    >>> Refinement(is_complete=False, feedback="shorter, please").feedback
    'shorter, please'
    """

    model_config = ConfigDict(extra="forbid")

    is_complete: bool
    feedback: str | None = None


@attrs.frozen(kw_only=True)
class Refine(BaseStep[InT, OutT]):
    """Lets `generator` make an artifact and `critic` judge it until the critic is content.

    :param generator: gets ``{"original_input": data, "feedback": None}`` first, then the critic's feedback.
    :param critic: gets the artifact and returns a `Refinement`.
    :param max_refinements: the most turns.
    :param on_exhausted: at the bound, ``"return"`` returns the last artifact, ``"fail"`` fails the step.
    """

    kind: ClassVar[str] = "refine"

    generator: Pipeline[Any, Any] = attrs.field(converter=as_pipeline)
    critic: Pipeline[Any, Any] = attrs.field(converter=as_pipeline)
    max_refinements: int = attrs.field(default=5, validator=check_bound)
    on_exhausted: OnExhausted = attrs.field(default="return", validator=check_on_exhausted)

    def children(self) -> Mapping[str, Pipeline[Any, Any]]:
        """Return generator and critic."""
        return {"generator": self.generator, "critic": self.critic}

    def declared_types(self) -> tuple[Any, Any]:
        """Return what the generator returns; what it gets is made of the input, whose type is not known."""
        return Any, self.generator.declared_types()[1]


def refine_until(
    name: str,
    generator_pipeline: Body,
    critic_pipeline: Body,
    max_refinements: int = 5,
    *,
    on_exhausted: OnExhausted = "return",
    **settings: Any,
) -> Refine[Any, Any]:
    """Make a step that returns the last artifact of a generator, refined until a critic is content.

    :param critic_pipeline: returns `Refinement` (or a mapping with its fields).
    :param max_refinements: the most turns, at least 1.

    The last feedback is the result's ``feedback``; metadata holds ``iterations`` and ``exit_reason``.

    >>> from flow import Flow, Step
    >>> async def write(task):
    ...     return task["original_input"] + ("!" if task["feedback"] else "")
    >>> async def judge(text):
    ...     return Refinement(is_complete=text.endswith("!"), feedback="more spirit")
    >>> Flow(refine_until("greet", Step("write", write), Step("judge", judge))).run("hello").output
    'hello!'
    """
    return Refine(
        name=name,
        generator=generator_pipeline,
        critic=critic_pipeline,
        max_refinements=max_refinements,
        on_exhausted=on_exhausted,
        **settings,
    )
