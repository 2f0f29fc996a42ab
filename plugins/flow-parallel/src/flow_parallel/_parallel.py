"""The parallel step: named branches that run side by side on the same input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import attrs

from flow import BaseStep, ConfigurationError, MergePolicy, Pipeline, Step

from ._types import common_type, outputs_type, returned_type, slot_type

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)

Body: TypeAlias = BaseStep[Any, Any] | Pipeline[Any, Any]
OnFailure: TypeAlias = Literal["fail_fast", "collect"]

ROUTER = "router"


def check_concurrency(step: BaseStep[Any, Any], attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a fan-out without a bound."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"step {step.name!r}: max_concurrency must be a whole number of at least 1, got {value!r}"
        )


def check_on_failure(step: BaseStep[Any, Any], attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse anything but the two ways to treat failures."""
    if value not in ("fail_fast", "collect"):
        raise ConfigurationError(f"step {step.name!r}: on_failure is 'fail_fast' or 'collect', got {value!r}")


def check_merge(step: BaseStep[Any, Any], attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a merge policy that nobody knows."""
    if value not in ("error", "first", "last") and not callable(value):
        raise ConfigurationError(
            f"step {step.name!r}: merge is 'error', 'first', 'last' or a callable, got {value!r:.60}"
        )


def _check_branches(step: Parallel[Any, Any], attribute: attrs.Attribute[Any], branches: Mapping[Any, Any]) -> None:
    for label in branches:
        if not isinstance(label, str) or not label or "/" in label:
            raise ConfigurationError(f"step {step.name!r}: a branch is named by a text without '/', got {label!r:.60}")
        if (label == ROUTER and step.router is not None) or (label == "fallback" and step.fallback is not None):
            raise ConfigurationError(f"step {step.name!r}: a branch is called like the step's own {label}")


def _pipelines(branches: Mapping[str, Body]) -> dict[str, Pipeline[Any, Any]]:
    return {label: Pipeline.of(body) for label, body in branches.items()}


@attrs.frozen(kw_only=True)
class Parallel(BaseStep[InT, OutT]):
    """Runs branches side by side, each on an isolated view of the context, and joins what they return.

    :param branches: the pipelines by label; the output is ``{label: output}`` in this order.
    :param max_concurrency: the most branches that run at the same time.
    :param on_failure: ``"fail_fast"`` cancels the rest and fails; ``"collect"`` puts a failed branch's `StepResult`
        into its slot, and fails only when all branches failed.
    :param merge: what happens when branches changed one context field differently: an error, the first or last branch
        in declared order, or a function.
    :param router: a step whose output names the branches that run.
    :param join: ``join(outputs)`` makes the output of the step from those of the branches.
    """

    kind: ClassVar[str] = "parallel"

    branches: Mapping[str, Pipeline[Any, Any]] = attrs.field(
        converter=_pipelines, validator=_check_branches, hash=False
    )
    max_concurrency: int = attrs.field(default=8, validator=check_concurrency)
    on_failure: OnFailure = attrs.field(default="fail_fast", validator=check_on_failure)
    merge: MergePolicy = attrs.field(default="error", validator=check_merge)
    router: BaseStep[Any, Any] | None = None
    join: Callable[..., Any] | None = None

    def children(self) -> Mapping[str, Body]:
        """Return the branches, and the router last."""
        return dict(self.branches) if self.router is None else {**self.branches, ROUTER: self.router}

    def declared_types(self) -> tuple[Any, Any]:
        """Return what all branches take, if that is the same type, and what they return by label."""
        types = {label: pipeline.declared_types() for label, pipeline in self.branches.items()}
        takes = common_type([takes for takes, _ in types.values()])
        if self.join is not None:
            return takes, returned_type(self.join)
        collects = self.on_failure == "collect"
        slots = {label: slot_type(gives) if collects else gives for label, (_, gives) in types.items()}
        return takes, outputs_type(slots, total=self.router is None)


def parallel(
    name: str,
    branches: Mapping[str, Body],
    *,
    max_concurrency: int = 8,
    on_failure: OnFailure = "fail_fast",
    merge: MergePolicy = "error",
    router: Any = None,
    join: Callable[..., Any] | None = None,
    **settings: Any,
) -> Parallel[Any, Any]:
    """Make a step that runs `branches` side by side on the same input.

    :param router: an agent, step or pipeline that gets the input and returns the names of the branches to run.
    :param join: ``join(outputs)``, or ``join(outputs, context)``; sync or async.
    :param settings: settings every step has, such as ``retries=2``.

    Metadata: ``executed_branches``, ``failed_branches``, and with a router ``selected_branches``.
    """
    if isinstance(router, Pipeline):
        router = router.as_step(ROUTER)
    elif router is not None and not isinstance(router, BaseStep):
        router = Step(ROUTER, router)
    return Parallel(
        name=name,
        branches=branches,
        max_concurrency=max_concurrency,
        on_failure=on_failure,
        merge=merge,
        router=router,
        join=join,
        **settings,
    )
