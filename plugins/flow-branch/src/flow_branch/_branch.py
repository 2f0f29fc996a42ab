"""The branch step: which pipelines there are, and what chooses between them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias, TypeVar, Union

import attrs

from flow import BaseStep, ConfigurationError, Pipeline

from ._policy import RoutingPolicy, label_of

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)

Key: TypeAlias = str | bool | int | enum.Enum
Body: TypeAlias = BaseStep[Any, Any] | Pipeline[Any, Any]

DEFAULT = "default"


def _pipelines(branches: Mapping[Any, Body]) -> dict[Any, Pipeline[Any, Any]]:
    return {key: Pipeline.of(body) for key, body in branches.items()}


def _pipeline_or_none(body: Body | None) -> Pipeline[Any, Any] | None:
    return None if body is None else Pipeline.of(body)


def _check_branches(step: Branch[Any, Any], attribute: attrs.Attribute[Any], branches: Mapping[Any, Any]) -> None:
    labels: dict[str, Any] = {}
    for key in branches:
        if not isinstance(key, (str, bool, int, enum.Enum)):
            raise ConfigurationError(f"branch {step.name!r}: a key is a str, bool, int or Enum, got {key!r:.60}")
        label = label_of(key)
        if not label or "/" in label:
            raise ConfigurationError(f"branch {step.name!r}: {label!r} cannot be part of a path")
        if (label == DEFAULT and step.default is not None) or (label == "fallback" and step.fallback is not None):
            raise ConfigurationError(f"branch {step.name!r}: the key {key!r} is called like the step's own {label}")
        if label in labels:
            raise ConfigurationError(
                f"branch {step.name!r}: the keys {labels[label]!r} and {key!r} are both called {label!r}"
            )
        labels[label] = key


@attrs.frozen(kw_only=True)
class Branch(BaseStep[InT, OutT]):
    """Runs the pipeline that `choose` names for the data and the context.

    An empty pipeline passes its input through. What the chosen pipeline writes to the context is kept.

    :param choose: ``choose(data, context)`` returns a key; sync or async.
    :param policy: turns the key that `choose` returned into the key of a branch, and may change while running.
    :param branches: the pipelines by key.
    :param default: the pipeline for keys that no branch has; without it such a key fails the step.
    """

    kind: ClassVar[str] = "branch"

    choose: Callable[..., Any]
    policy: RoutingPolicy | None = None
    branches: Mapping[Any, Pipeline[Any, Any]] = attrs.field(
        converter=_pipelines, validator=_check_branches, hash=False
    )
    default: Pipeline[Any, Any] | None = attrs.field(default=None, converter=_pipeline_or_none)

    def children(self) -> Mapping[str, Pipeline[Any, Any]]:
        """Return the pipelines by label, the default last."""
        found = {label_of(key): pipeline for key, pipeline in self.branches.items()}
        return found if self.default is None else {**found, DEFAULT: self.default}

    def declared_types(self) -> tuple[Any, Any]:
        """Return what all branches take, if that is the same type, and the union of what they return."""
        types = [pipeline.declared_types() for pipeline in self.children().values()]
        return _common([takes for takes, _ in types]), _union([gives for _, gives in types])


def _common(types: list[Any]) -> Any:
    return types[0] if types and all(item == types[0] for item in types) else Any


def _union(types: list[Any]) -> Any:
    return Any if not types or Any in types else Union[tuple(types)]  # noqa: UP007  of a computed list


def branch_on(
    name: str,
    condition_callable: Callable[..., Any],
    branches: Mapping[Any, Body],
    default_branch_pipeline: Body | None = None,
    **settings: Any,
) -> Branch[Any, Any]:
    """Make a step that runs one of `branches`, chosen by what the condition returns.

    :param condition_callable: takes ``(data, context)``, or ``(context, data)`` when its first parameter is called
        ``context`` or ``ctx``; returns a str, bool, int or Enum; may be async.
    :param branches: steps or pipelines by key.
    :param default_branch_pipeline: what runs for a key that is not there; without it the step fails, naming the key
        and the choices.
    :param settings: settings every step has, such as ``retries=2``.

    The result's metadata says which key was evaluated: ``executed_branch_key``.
    """
    return Branch(name=name, choose=condition_callable, branches=branches, default=default_branch_pipeline, **settings)


def route_by_policy(
    name: str,
    policy: RoutingPolicy | Mapping[Any, Any] | Callable[[Any], Any],
    branches: Mapping[Any, Body],
    *,
    key: Callable[..., Any],
    default_branch_pipeline: Body | None = None,
    **settings: Any,
) -> Branch[Any, Any]:
    """Make a step whose routes are configuration: `policy` is asked on every run which branch a key takes.

    :param policy: a `RoutingPolicy`, a mapping from key to branch, or a callable; it may change while runs go on.
    :param key: ``key(data, context)`` returns what is routed by, such as a tenant.

    >>> from flow import Flow, Step
    >>> routes = {"acme": "fast"}
    >>> step = route_by_policy("route", routes, {
    ...     "fast": Step("fast", lambda ticket: "fast lane"), "slow": Step("slow", lambda ticket: "slow lane"),
    ... }, key=lambda ticket, context: ticket["tenant"])
    >>> Flow(step).run({"tenant": "acme"}).output
    'fast lane'
    >>> routes["acme"] = "slow"
    >>> Flow(step).run({"tenant": "acme"}).output
    'slow lane'
    """
    return Branch(
        name=name,
        choose=key,
        policy=policy if isinstance(policy, RoutingPolicy) else RoutingPolicy(policy),
        branches=branches,
        default=default_branch_pipeline,
        **settings,
    )
