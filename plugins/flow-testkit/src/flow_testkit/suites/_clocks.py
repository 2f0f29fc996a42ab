"""Time in the hands of a test: the clocks that leases depend on, and an owner that is no more."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache

import pytest

from flow import lease_clock

_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # only Linux has it
_THE_LEASE_CLOCK = "monotonic" if _BOOT_CLOCK is None else "clock_gettime"


class MovableClocks:
    """The lease clock and the wall clock of this process, moved as a test says.

    Whoever calls `lease_clock` or ``time.time`` sees it. The clocks of event loops go on as they do.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._passed = 0.0
        self._wall = 0.0
        patch.setattr(time, _THE_LEASE_CLOCK, self._moved_lease_clock())
        patch.setattr(time, "time", self._moved_wall_clock(time.time))

    def pass_by(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        before = lease_clock()
        self._passed += seconds
        self._wall += seconds
        if lease_clock() < before + seconds:
            raise RuntimeError("the lease clock of flow reads a clock that this version of the suite does not know")

    def set_wall(self, seconds: float) -> None:
        """Let somebody set the wall clock forward, or backward; no time passes."""
        self._wall += seconds

    def _moved_lease_clock(self) -> Callable[..., float]:
        real: Callable[..., float] = vars(time)[_THE_LEASE_CLOCK]

        def moved(*clock: int) -> float:
            return real(*clock) + (self._passed if clock in ((), (_BOOT_CLOCK,)) else 0.0)

        return moved

    def _moved_wall_clock(self, real: Callable[[], float]) -> Callable[[], float]:
        return lambda: real() + self._wall


# Its store is asked for nothing but to begin a run: the process ends with the owner in its hands.
_BEGINS_AND_DIES = """
import os
from flow import Flow, Kernel, Settings, Step

class Dies:
    async def load_pipeline(self, fingerprint):
        return b""
    async def create_run(self, run, lease_s=0.0, *, sync=True):
        print(run.owner, flush=True)
        os._exit(0)

Flow(Step("step", str.upper), state=Dies(), kernel=Kernel(Settings(), only=())).run("")
"""


@cache
def owner_that_is_gone() -> str:
    """Return the owner of a run whose process is gone: of a real one that began a run and died."""
    command = [sys.executable, "-c", _BEGINS_AND_DIES]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)  # noqa: S603  (all of it ours)
    owner = ended.stdout.strip()
    if ended.returncode or not owner:
        raise RuntimeError(f"the process that should have become an owner failed:\n{ended.stderr}")
    return owner
