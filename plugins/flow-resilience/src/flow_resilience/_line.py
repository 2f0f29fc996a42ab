"""A line of callers who wait for their turn, first come first served, on any loop of the process."""

from __future__ import annotations

import asyncio
from collections import deque


class Place:
    """One caller's place in a line."""

    __slots__ = ("called", "_future", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self.called = False
        """True when it is this caller's turn, also when the caller does not know it yet."""

    async def turn(self) -> None:
        """Wait until called."""
        await self._future

    def call(self) -> bool:
        """Tell the caller that it is its turn; False when its loop is gone, and it with it."""
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop is closed
            return False
        self.called = True
        return True

    def _wake(self) -> None:
        if not self._future.done():  # it is when the caller was cancelled in the meantime
            self._future.set_result(None)


class Line:
    """Callers in the order in which they came. Its owner holds a lock around each call."""

    __slots__ = ("places",)

    def __init__(self) -> None:
        self.places: deque[Place] = deque()

    def join(self) -> Place:
        """Go to the end of the line."""
        place = Place()
        self.places.append(place)
        return place

    def leave(self, place: Place) -> bool:
        """Leave the line from anywhere; True when the place was the first."""
        if place not in self.places:
            return False
        first = self.places[0] is place
        self.places.remove(place)
        return first

    def call_first(self) -> None:
        """Call the first caller, who stays at the head of the line; those whose loop is gone are dropped."""
        while self.places and not self.places[0].called and not self.places[0].call():
            self.places.popleft()

    def take_first(self) -> bool:
        """Call the first caller and take it out of the line; False when nobody waits."""
        while self.places:
            if self.places.popleft().call():
                return True
        return False
