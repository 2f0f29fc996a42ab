"""The hooks, which every kernel loads: what they do is imported when a step or flow carries policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flow import hookimpl

if TYPE_CHECKING:
    from flow import Binder, ErrorCategory, Wrapper


@hookimpl
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Guard the steps that carry a breaker, a bulkhead or a rate limit."""
    if not (step.policies or binder.services.policies):
        return None
    from ._guard import guard

    return guard(step, binder)


@hookimpl
def flow_classify_error(error: BaseException, step: Any) -> ErrorCategory | None:
    """Ask the classifications that the step carries, its own before those of the flow."""
    if not step.policies:
        return None
    from ._classify import category_of

    return category_of(error, step)
