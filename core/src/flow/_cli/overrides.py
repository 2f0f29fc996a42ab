"""Options that change the flow of an app: its tracers, limits, store and cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from .._discovery import PluginKind
from .._events import Event
from .._flow import Flow
from .._protocols import Tracer
from .._usage import UsageLimits
from .session import Session


def overridden(
    flow: Flow[Any, Any],
    session: Session,
    *,
    trace: Sequence[str] | None,
    limits: UsageLimits | None,
    events: Callable[[Event], Any] | None = None,
    **changes: Any,
) -> tuple[Flow[Any, Any], Session]:
    """Return the flow with what the options say, and the session, which knows whether a tracer tells how it goes.

    :param limits: those of the command line, which go before the flow's own.
    :param events: a further listener.
    :param changes: further arguments of `Flow`; those that are ``None`` change nothing.
    """
    tracers, watched = _tracers(flow, trace or [], live=session.wants_progress)
    if limits is not None:
        given = limits.model_dump(exclude_none=True)
        changes["usage_limits"] = (flow.usage_limits or UsageLimits()).model_copy(update=given)
    flow = flow.evolve(
        tracers=tracers,
        hooks=[*flow._hooks, *([events] if events is not None else [])],
        local_tracer=None,  # one of those
        **{name: value for name, value in changes.items() if value is not None},
    )
    return flow, attrs.evolve(session, watched=watched)


def limits_of(cost: float | None, tokens: int | None, known: UsageLimits | None = None) -> UsageLimits | None:
    """Return the limits that the options name, added to those that are `known`; ``None`` when they name none."""
    given = {"total_cost_usd_limit": cost, "total_tokens_limit": tokens}
    changes = {name: value for name, value in given.items() if value is not None}
    return (known or UsageLimits()).model_copy(update=changes) if changes else None


def _tracers(flow: Flow[Any, Any], names: Sequence[str], *, live: bool) -> tuple[list[str | Tracer], bool]:
    """Return the tracers of the flow, those asked for, and live progress if wanted; and whether the console's is on."""
    tracers = [*flow._tracers, *(name for name in dict.fromkeys(names) if name not in flow._tracers)]
    active = [*tracers, *flow.kernel.settings.tracers]
    if flow.kernel.plugins.find(PluginKind.TRACERS, "console") is None:
        return tracers, False
    if "console" in active or "default" in active:
        return tracers, True
    # A tracer that the app made itself may well be the console's: two would share one screen.
    if live and all(isinstance(tracer, str) for tracer in active):
        return [*tracers, "console"], True
    return tracers, False
