"""A thread that flushes and shuts down, so that nobody waits for a collector longer than they want to.

The SDK's own time limits are not kept by all of its parts. The thread is a daemon: a program that ends does not wait
for it. It is started early, since none can be started any more while a program ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias

logger = logging.getLogger("flow.otel")

_GLANCE_S = 0.05
"""How often somebody who waits looks whether it is in vain."""

Work: TypeAlias = Callable[[], Any]


class Patience:
    """How long somebody waits: for `seconds`, and for `in_trouble_s` when there are signs that it is in vain.

    :param is_in_vain: says whether there are.
    """

    def __init__(self, seconds: float, in_trouble_s: float, is_in_vain: Callable[[], bool]) -> None:
        self._began = time.monotonic()
        self._seconds = seconds
        self._in_trouble_s = min(seconds, in_trouble_s)
        self._is_in_vain = is_in_vain

    def is_over(self) -> bool:
        """True when there is no more waiting."""
        waited = time.monotonic() - self._began
        return waited >= self._seconds or (waited >= self._in_trouble_s and self._is_in_vain())


class Courier:
    """Does work in a thread of its own, one piece after another."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[tuple[Work, Callable[[], None]]]
        self._begin_anew()
        if sys.platform != "win32":
            # Threads stay behind when a process is forked, and at its end none can be started: not since Python 3.12.
            os.register_at_fork(after_in_child=self._begin_anew)

    def wait_for(self, work: Work, patience: Patience) -> bool:
        """Do `work` and wait as long as `patience` allows; False when it takes longer."""
        done = threading.Event()
        self._order(work, done.set)
        while not done.wait(_GLANCE_S):
            if patience.is_over():
                return False
        return True

    async def await_for(self, work: Work, patience: Patience) -> bool:
        """Do `work` and wait as long as `patience` allows, while the loop goes on; False when it takes longer."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        self._order(work, tell)
        while not done.is_set():
            try:
                async with asyncio.timeout(_GLANCE_S):
                    await done.wait()
            except TimeoutError:
                if patience.is_over():
                    return False
        return True

    def _order(self, work: Work, done: Callable[[], None]) -> None:
        self._orders.put((work, done))

    def _begin_anew(self) -> None:
        self._orders = SimpleQueue()
        threading.Thread(target=_carry, args=(self._orders,), name="flow-otel", daemon=True).start()


def _carry(orders: SimpleQueue[tuple[Work, Callable[[], None]]]) -> None:
    while True:
        work, done = orders.get()
        try:
            work()
        except Exception:
            logger.exception("what was traced could not be delivered")
        done()
