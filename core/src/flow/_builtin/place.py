"""The ``PLACE`` layer: steps with a `PlaceOn` policy run on an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._policies import PlaceOn
from .._protocols import Layer, Wrapper
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from .._kernel import Binder


@hookimpl
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Ship the inner layers of a placed step to its engine, which is opened once per kernel."""
    place = binder.policy(step, PlaceOn)
    if place is None:
        return None
    return Wrapper(Layer.PLACE, binder.kernel.open_engine(place.url).place(step, binder))
