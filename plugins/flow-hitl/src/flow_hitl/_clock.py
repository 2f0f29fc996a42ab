"""The time of day: the one place this package reads it, so that tests can replace it."""

from __future__ import annotations

import time


def now() -> float:
    """Return the time in epoch seconds."""
    return time.time()
