"""The time that budgets go by: seconds that never go back."""

from __future__ import annotations

import asyncio
import time


def now() -> float:
    """Return the time of the running loop, which a test may simulate; without a loop, that of the process.

    They are the same clock on the loops of asyncio and of uvloop, so that what is shared by several loops agrees.
    """
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:  # a worker thread spends, or somebody asks for a state from code that is not async
        return time.monotonic()
