"""The blocking facade: a coroutine run to its end on a loop of its own."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from .errors import RunningLoopError

T = TypeVar("T")


def run_sync(work: Coroutine[Any, Any, T], name: str, instead: str) -> T:
    """Run a coroutine to its end on a loop of its own; inside a running loop, say which method to await."""
    if _in_loop():
        work.close()
        raise RunningLoopError(
            f"Flow.{name}() cannot be called inside a running event loop", hint=f"Write: await flow.{instead}(...)"
        )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work)


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@cache
def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]


def run_program(work: Coroutine[Any, Any, T]) -> T:
    """Run what a command does to its end; raises `RunningLoopError` inside a running event loop."""
    return run_sync(work, "run", "run_async")
