"""What the tests share: registries of their own, values by name and labels, scrapes over HTTP, stores in memory."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
from prometheus_client import CollectorRegistry

from flow import RunRecord

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As the background jobs of a shell have it; programs that tests start and interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def total(registry: CollectorRegistry) -> Callable[..., float]:
    """Adds up the samples of a name that have the given labels."""

    def add_up(name: str, **labels: str) -> float:
        samples = [sample for metric in registry.collect() for sample in metric.samples if sample.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    return add_up


@attrs.frozen
class Answer:
    status: int
    content_type: str
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@pytest.fixture
def scrape() -> Callable[..., Answer]:
    """Asks a server as Prometheus does."""

    def ask(url: str, **headers: str) -> Answer:
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return Answer(response.status, response.headers["Content-Type"], response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers["Content-Type"], error.read())

    return ask


class RecordedStore:
    """A store of which only the list can be read; `asked` holds the arguments of each question."""

    def __init__(self, runs: Sequence[RunRecord] = ()) -> None:
        self.runs = list(runs)
        self.asked: list[dict[str, Any]] = []
        self.records_read = 0
        self.failure: Exception | None = None

    async def list_runs(
        self, *, status: str | None = None, limit: int = 20, offset: int = 0, **others: Any
    ) -> Sequence[RunRecord]:
        self.asked.append({"status": status, "limit": limit, "offset": offset})
        if self.failure is not None:
            raise self.failure
        newest_first = sorted(self.runs, key=lambda run: run.created_at, reverse=True)
        page = [run for run in newest_first if status in (None, run.status)][offset : offset + limit]
        self.records_read += len(page)
        return page


@pytest.fixture
def store() -> RecordedStore:
    return RecordedStore()


@pytest.fixture
def stored() -> Callable[..., RunRecord]:
    """Makes records of runs, each newer than the one before."""
    made = 0

    def make(status: str = "completed", pipeline: str = "triage", **fields: Any) -> RunRecord:
        nonlocal made
        made += 1
        known = {"run_id": f"run-{made}", "fingerprint": "f", "created_at": 1000.0 + made, "updated_at": 2000.0 + made}
        return RunRecord(**{**known, "status": status, "pipeline": pipeline, **fields})

    return make
