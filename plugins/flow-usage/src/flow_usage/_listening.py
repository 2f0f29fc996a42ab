"""Who listens to what a run spends: one listener per run for each account, policy or kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from flow import Run, Scope, Usage

ListenerT = TypeVar("ListenerT", bound=Callable[[Scope, Usage], None])


def listener(run: Run, key: object, make: Callable[[], ListenerT]) -> ListenerT:
    """Return the listener of `run` that is known by `key`, made when it is first asked for."""
    if run.spending is None:
        run.spending = {}
    if key not in run.spending:
        run.spending[key] = make()
    return cast(ListenerT, run.spending[key])
