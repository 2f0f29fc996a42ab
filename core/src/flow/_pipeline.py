"""Pipelines: immutable sequences of steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

import attrs

from ._step import BaseStep
from .errors import ConfigurationError

if TYPE_CHECKING:
    from ._graph import ValidationReport
    from ._subflow import SubWorkflow

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)
_In = TypeVar("_In")
_Mid = TypeVar("_Mid")
_Out = TypeVar("_Out")


def _as_steps(steps: Iterable[BaseStep[Any, Any] | Pipeline[Any, Any]]) -> tuple[BaseStep[Any, Any], ...]:
    if isinstance(steps, (BaseStep, Pipeline)):
        return tuple(_flatten(steps))
    return tuple(step for item in steps for step in _flatten(item))


def _flatten(item: Any) -> Iterator[BaseStep[Any, Any]]:
    if isinstance(item, BaseStep):
        yield item
    elif isinstance(item, Pipeline):
        yield from item.steps
    else:
        raise TypeError(f"a pipeline is made of steps and pipelines, got {_describe(item)}")


def _describe(item: Any) -> str:
    hint = "; wrap it: Step(name, function) or @step" if callable(item) else ""
    return f"{type(item).__name__} {item!r:.60}{hint}"


@attrs.frozen
class Pipeline(Generic[InT, OutT]):
    """An immutable sequence of steps; the output of each is the input of the next.

    Iterate it, take its ``len``, index it by position or by name.

    >>> from flow import Step
    >>> pipeline = Step("upper", str.upper) >> Step("strip", str.strip)
    >>> len(pipeline), pipeline["strip"].name, [step.name for step in pipeline]
    (2, 'strip', ['upper', 'strip'])
    """

    kind: ClassVar[str] = "pipeline"

    steps: tuple[BaseStep[Any, Any], ...] = attrs.field(default=(), converter=_as_steps)
    name: str = attrs.field(default="pipeline", kw_only=True)

    @classmethod
    def from_step(cls, step: BaseStep[_In, _Out]) -> Pipeline[_In, _Out]:
        """Make a pipeline of one step."""
        return Pipeline((step,))

    @classmethod
    def of(cls, item: BaseStep[_In, _Out] | Pipeline[_In, _Out]) -> Pipeline[_In, _Out]:
        """Return `item` as a pipeline: step types use it for their bodies and branches."""
        return item if isinstance(item, Pipeline) else Pipeline((item,))

    def __iter__(self) -> Iterator[BaseStep[Any, Any]]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, key: int | str) -> BaseStep[Any, Any]:
        if isinstance(key, int):
            return self.steps[key]
        found = [(index, step) for index, step in enumerate(self.steps) if step.name == key]
        if len(found) == 1:
            return found[0][1]
        if not found:
            raise KeyError(
                f"no step is called {key!r}; there are: {', '.join(step.name for step in self.steps) or 'none'}"
            )
        positions = ", ".join(str(index) for index, _ in found)
        raise KeyError(f"{len(found)} steps are called {key!r}, at positions {positions}; index by position")

    @overload
    def __rshift__(self: Pipeline[_In, _Mid], other: BaseStep[_Mid, _Out]) -> Pipeline[_In, _Out]: ...
    @overload
    def __rshift__(self: Pipeline[_In, _Mid], other: Pipeline[_Mid, _Out]) -> Pipeline[_In, _Out]: ...
    def __rshift__(self, other: Any) -> Pipeline[Any, Any]:
        return chain(self, other)

    def children(self) -> Mapping[str, BaseStep[Any, Any]]:
        """Return the steps by path segment, such as ``"0:fetch"``."""
        return {f"{index}:{step.name}": step for index, step in enumerate(self.steps)}

    def declared_types(self) -> tuple[Any, Any]:
        """Return what the first step takes and the last one returns."""
        if not self.steps:
            return Any, Any
        first = self.steps[0].declared_types()  # asked once where it is the last one too: nesting would double it
        return first[0], (first if len(self.steps) == 1 else self.steps[-1].declared_types())[1]

    def evolve(self, **changes: Any) -> Pipeline[InT, OutT]:
        """Return a copy with some fields changed."""
        return attrs.evolve(self, **changes)

    def as_step(self, name: str, *, inherit_context: bool = True) -> SubWorkflow[InT, OutT]:
        """Return this pipeline as one step; its output is the pipeline's, its steps are the step's children."""
        from ._subflow import SubWorkflow

        return SubWorkflow(name=name, pipeline=self, inherit_context=inherit_context)

    @property
    def fingerprint(self) -> str:
        """A hash of the structure: equal for equal pipelines, in every process; functions count by their name."""
        from ._structure import fingerprint

        return fingerprint(self)

    def validate_graph(self, *, raise_on_error: bool = False) -> ValidationReport:
        """Look for mistakes without running anything: missing agents, types that do not fit, unknown kinds.

        With `raise_on_error` an invalid pipeline raises `ConfigurationError` that lists the findings.
        """
        from ._graph import validate_graph

        return validate_graph(self, raise_on_error=raise_on_error)

    def to_mermaid(self) -> str:
        """Return the pipeline as a Mermaid diagram; needs a renderer plugin, and says which when it is missing."""
        return self._render("mermaid")

    def to_dot(self) -> str:
        """Return the pipeline as a Graphviz DOT graph; needs a renderer plugin, and says which when it is missing."""
        return self._render("dot")

    def _render(self, format: str) -> str:
        from ._dsl import find_renderer

        return str(find_renderer(format)(self))


def chain(left: Any, right: Any) -> Pipeline[Any, Any]:
    """Put `right` after `left`; both may be steps or pipelines."""
    if not isinstance(right, (BaseStep, Pipeline)):
        raise TypeError(f"only a step or a pipeline can follow >>, got {_describe(right)}")
    steps = (*_flatten(left), *_flatten(right))
    named = next((p.name for p in (left, right) if isinstance(p, Pipeline) and p.name != "pipeline"), "pipeline")
    return Pipeline(steps, name=named)


def require_pipeline(value: Any) -> Pipeline[Any, Any]:
    """Return `value` as a pipeline or say what was expected."""
    if isinstance(value, (BaseStep, Pipeline)):
        return Pipeline.of(value)
    raise ConfigurationError(f"a Flow runs a step or a pipeline, got {_describe(value)}")
