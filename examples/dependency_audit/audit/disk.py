"""The file system as a resource: every read has a price, and there is a budget."""

from __future__ import annotations

import copy
import hashlib
import threading
from pathlib import Path
from typing import Self

from flow import StepRun, Usage, UsageLimitExceeded, UsageLimits


class Disk:
    """Reads files. Each read counts as one request of the run that asks, up to the limit.

    Steps name it as ``resources``, so a test can hand in one that fails, and nothing else in the program knows.
    """

    def __init__(self) -> None:
        self.limits = UsageLimits()
        self.reads = 0
        self._lock = threading.Lock()

    def within(self, budget: int, *, spent: int = 0) -> Self:
        """Return this disk with a budget of its own, of which `spent` reads are gone already."""
        disk = copy.copy(self)
        disk.limits = UsageLimits(requests_limit=budget)
        disk.reads = spent
        disk._lock = threading.Lock()
        return disk

    @property
    def exhausted(self) -> bool:
        """True when one more read would exceed the limit."""
        return self.limits.breach(Usage(requests=self.reads + 1)) is not None

    def read(self, path: Path, run: StepRun) -> bytes:
        """Return the content of a file; raises `UsageLimitExceeded` instead of reading beyond the limit."""
        self._charge(run)
        return self.load(path)

    def digest(self, path: Path, algorithm: str, run: StepRun) -> bytes:
        """Return the hash of a file's content, at the price of one read."""
        self._charge(run)
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).digest()

    def load(self, path: Path) -> bytes:
        """Read a file without counting it."""
        return path.read_bytes()

    def _charge(self, run: StepRun) -> None:
        with self._lock:  # steps of many runs read at the same time, each in a thread
            wanted = Usage(requests=self.reads + 1)
            breach = self.limits.breach(wanted)
            if breach is not None:
                raise UsageLimitExceeded(breach, usage=Usage(requests=self.reads), limits=self.limits, path=run.path)
            self.reads = wanted.requests
        run.usage.add(requests=1)
