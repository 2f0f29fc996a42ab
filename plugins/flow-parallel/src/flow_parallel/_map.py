"""The map step: one pipeline over many items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import attrs

from flow import BaseStep, MergePolicy, Pipeline

from ._parallel import Body, OnFailure, check_concurrency, check_merge, check_on_failure
from ._types import list_type, returned_type, slot_type

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)


def _as_pipeline(body: Body) -> Pipeline[Any, Any]:
    return Pipeline.of(body)


@attrs.frozen(kw_only=True)
class MapOver(BaseStep[InT, OutT]):
    """Runs `body` on every item, a bounded number at a time; items are taken when there is room for them.

    :param items: what is mapped over: the step's input when ``None``, a context field by name, or
        ``items(data, context)``. A list, an iterator or an async iterator.
    :param max_concurrency: the most items that are worked on at the same time.
    :param on_failure: ``"fail_fast"`` cancels the rest and fails; ``"collect"`` puts a failed item's `StepResult`
        into its slot, and fails only when all items failed.
    :param merge: what happens when items changed one context field differently.
    :param reduce: ``reduce(accumulated, output)`` folds the outputs in the order of the items; the output is then what
        it returned last, starting from `initial`, and not a list.
    """

    kind: ClassVar[str] = "map"

    body: Pipeline[Any, Any] = attrs.field(converter=_as_pipeline)
    items: str | Callable[..., Any] | None = None
    max_concurrency: int = attrs.field(default=16, validator=check_concurrency)
    on_failure: OnFailure = attrs.field(default="fail_fast", validator=check_on_failure)
    merge: MergePolicy = attrs.field(default="error", validator=check_merge)
    reduce: Callable[..., Any] | None = None
    initial: Any = attrs.field(default=None, hash=False)

    def children(self) -> Mapping[str, Pipeline[Any, Any]]:
        """Return the body."""
        return {"body": self.body}

    def declared_types(self) -> tuple[Any, Any]:
        """Return what the items become; what they come from may be an iterator, so nothing is said about it."""
        if self.reduce is not None:
            return Any, returned_type(self.reduce)
        _, gives = self.body.declared_types()
        return Any, list_type(slot_type(gives) if self.on_failure == "collect" else gives)


def map_over(
    name: str,
    body: Body,
    items: str | Callable[..., Any] | None = None,
    *,
    max_concurrency: int = 16,
    on_failure: OnFailure = "fail_fast",
    merge: MergePolicy = "error",
    **settings: Any,
) -> MapOver[Any, Any]:
    """Make a step that runs `body` on every item and returns the outputs in the order of the items.

    Failed items are told by index in the metadata: ``failed_items``.

    >>> from flow import Flow, Step
    >>> squares = map_over("squares", Step("square", lambda n: n * n), items=lambda data, context: range(data))
    >>> Flow(squares).run(4).output
    [0, 1, 4, 9]
    """
    return MapOver(
        name=name,
        body=body,
        items=items,
        max_concurrency=max_concurrency,
        on_failure=on_failure,
        merge=merge,
        **settings,
    )


def map_reduce(
    name: str,
    body: Body,
    *,
    reduce: Callable[..., Any],
    initial: Any,
    items: str | Callable[..., Any] | None = None,
    max_concurrency: int = 16,
    **settings: Any,
) -> MapOver[Any, Any]:
    """Make a step that runs `body` on every item and folds the outputs, in the order of the items, as they arrive.

    >>> from flow import Flow, Step
    >>> total = map_reduce("total", Step("length", len), reduce=lambda sum, length: sum + length, initial=0)
    >>> Flow(total).run(["a", "bcd"]).output
    4
    """
    return MapOver(
        name=name,
        body=body,
        items=items,
        max_concurrency=max_concurrency,
        reduce=reduce,
        initial=initial,
        **settings,
    )
