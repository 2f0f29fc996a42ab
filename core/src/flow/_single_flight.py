"""Equal computations at the same time are made once: the first makes it, the others wait for what it gives."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import attrs


class NoResult(enum.Enum):
    """Why a computation gives the others nothing."""

    FAILED = enum.auto()
    """It failed, paused or was cancelled: one of the others tries."""
    NOT_SHARED = enum.auto()
    """What it gave cannot be handed on: the others compute themselves, all at once."""


Outcome: TypeAlias = bytes | NoResult


@attrs.define(eq=False)
class Flight:
    """A computation that is being made.

    :ivar outcome: what the others get.
    """

    outcome: Outcome = NoResult.FAILED
    _landed: asyncio.Event = attrs.field(factory=asyncio.Event)
    _waits_for: list[Flight] = attrs.field(factory=list)

    async def wait(self) -> Outcome:
        """Wait until the computation is over; to be cancelled meanwhile does not matter to it."""
        mine = _inside.get()
        for flight in mine:
            flight._waits_for.append(self)
        try:
            await self._landed.wait()
        finally:
            for flight in mine:
                flight._waits_for.remove(self)
        return self.outcome

    def needs_us(self) -> bool:
        """Tell whether this computation waits for one that we are part of: then waiting for it would never end."""
        mine = _inside.get()
        return bool(mine) and any(flight in mine for flight in self._reached(set()))

    def _reached(self, seen: set[int]) -> Iterator[Flight]:
        if id(self) not in seen:
            seen.add(id(self))
            yield self
            for flight in self._waits_for:
                yield from flight._reached(seen)


_inside: ContextVar[tuple[Flight, ...]] = ContextVar("flow_flights", default=())
# By the identity of the store and the loop, both of which live as long as the computation does.
_flights: dict[tuple[int, int, bytes], Flight] = {}


def _address(store: Any, key: bytes) -> tuple[int, int, bytes]:
    return id(store), id(asyncio.get_running_loop()), key


def flight_of(store: Any, key: bytes) -> Flight | None:
    """Return the computation of `key` that is being made for `store` in this event loop."""
    return _flights.get(_address(store, key))


@contextmanager
def leading(store: Any, key: bytes) -> Iterator[Flight]:
    """Make the computation of `key`: the others wait for it until the block is left, however that happens."""
    address, flight = _address(store, key), Flight()
    _flights[address] = flight
    token = _inside.set((*_inside.get(), flight))
    try:
        yield flight
    finally:
        _inside.reset(token)
        del _flights[address]
        flight._landed.set()
