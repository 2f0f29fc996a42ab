"""The file system as a resource: every read has a price, and there is a budget."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from flow_resilience import Bulkhead, CircuitBreaker

from audit.models import AuditRequest
from flow import ErrorCategory, RecoveryAction, RecoveryStrategy, Run, StepRun, UsageLimitExceeded, UsageLimits

# Network drives and busy machines fail now and then. What still fails at the third attempt is left to the fallback.
BUSY_DISK = RecoveryStrategy(
    name="busy disk",
    error_types=frozenset({OSError}),
    max_retries=2,
    retry_delay_seconds=0.05,
    fallback_actions=[RecoveryAction.FALLBACK],
)

# One distribution that cannot be read says little about the disk. Eight of them, each tried three times, say enough:
# on a mount whose server is gone every read takes as long as the system waits for it, so no more are made. That a file
# may not be read (`PermissionError` has a category of its own) or holds nonsense does not count.
FAILING_DISK = CircuitBreaker(
    "disk",
    failures=24,
    window=300,
    open_for=300,
    counts={ErrorCategory.EXTERNAL_SERVICE, ErrorCategory.TIMEOUT},
)

# However many audits go on in this process: a slow disk gets no faster by more readers, and each one that hangs on a
# dead mount keeps a thread, which the steps that read nothing may need.
FEW_READERS = Bulkhead(4, name="disk")

READING = (BUSY_DISK, FAILING_DISK, FEW_READERS)
"""What steps carry that read one distribution."""


class Disk:
    """Reads files. Each read counts as one request of the run that asks, up to the budget that was asked for.

    Steps name it as ``resources``, so a test can hand in one that fails, and nothing else in the program knows. It is
    a policy of the flow as well, which tells it of the runs that go on: what a resumed run had read before counts.
    """

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    @contextmanager
    def around_run(self, run: Run) -> Iterator[None]:
        """Know `run`, and what it has spent, while it goes on."""
        self._runs[run.run_id] = run
        try:
            yield
        finally:
            del self._runs[run.run_id]

    def within(self, request: AuditRequest, run: StepRun) -> Reader:
        """Return what a step reads with: it charges `run`, and refuses what is beyond the budget of `request`."""
        return Reader(self, request, run)

    def reads(self, run: StepRun) -> int:
        """Return how many files a run has read, in all processes that have worked on it."""
        return self._runs[run.run_id].usage.requests

    def load(self, path: Path) -> bytes:
        """Read a file without counting it."""
        return path.read_bytes()

    def charge(self, run: StepRun, limits: UsageLimits, remark: str) -> None:
        """Count one read; raises `UsageLimitExceeded`, which ends the whole run, instead of exceeding a limit."""
        with self._lock:  # steps read at the same time, each in a thread
            spent = self._runs[run.run_id].usage
            breach = limits.breach(attrs.evolve(spent, requests=spent.requests + 1))
            if breach is not None:
                raise UsageLimitExceeded(f"{breach}; {remark}", usage=spent, limits=limits, path=run.path)
            run.usage.add(requests=1)


@attrs.frozen(eq=False)
class Reader:
    """The disk as one step sees it."""

    disk: Disk
    request: AuditRequest
    run: StepRun

    def read(self, path: Path) -> bytes:
        """Return the content of a file; raises `UsageLimitExceeded` when the budget is spent."""
        self._charge()
        return self.disk.load(path)

    def digest(self, path: Path, algorithm: str) -> bytes:
        """Return the hash of a file's content, at the price of one read."""
        self._charge()
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).digest()

    def _charge(self) -> None:
        limits = UsageLimits(requests_limit=self.request.budget)
        self.disk.charge(self.run, limits, f"what was found until then is in {self.request.partial}")
