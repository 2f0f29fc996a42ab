"""A loop whose clock jumps to the next timer when all tasks wait, so that back-off takes no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class SkippingLoop(asyncio.SelectorEventLoop):
    """Only for programs without threads: what comes from outside is not waited for."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run_skipping(work: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """Run a coroutine to its end; return what it returns and the seconds that it waited."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        loop = runner.get_loop()
        started = loop.time()
        return runner.run(work), round(loop.time() - started, 6)
