"""What the collector tells about a store, how much it asks of it, and what it does when there is no answer."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from flow_prometheus import StoreCollector
from flow_prometheus._labels import Labels
from flow_prometheus._scan import Reader, Snapshot
from flow_testkit import StubAgent, simulate_error
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from flow import Flow, Kernel, PauseSignal, RunRecord, RunStatus, Settings, StateBusy, Step, Usage

Total = Callable[..., float]
LONG_AGO = 0.0
STATUSES = ["running", "dead", *(status.value for status in RunStatus)]


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def names(registry: CollectorRegistry) -> set[str]:
    return {sample.name for metric in registry.collect() for sample in metric.samples}


def test_runs_are_counted_by_pipeline_and_status(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    store.runs = [stored("completed"), stored("completed"), stored("failed"), stored("dead", "billing")]
    registry.register(StoreCollector(store))
    assert total("flow_store_up") == 1
    assert total("flow_store_runs", pipeline="triage", status="completed") == 2
    assert total("flow_store_runs", pipeline="triage", status="failed") == 1
    assert total("flow_store_runs", pipeline="billing", status="dead") == 1
    assert total("flow_store_runs") == total("flow_store_runs_examined") == 4
    assert total("flow_store_truncated") == 0


def test_cost_and_tokens_are_added_up(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    store.runs = [stored("completed", usage=Usage(0.25, 10, 5, 1)), stored("failed", usage=Usage(0.5, 1, 2, 3))]
    registry.register(StoreCollector(store))
    assert total("flow_store_cost_usd", pipeline="triage") == 0.75
    assert total("flow_store_tokens", pipeline="triage", direction="input") == 11
    assert total("flow_store_tokens", pipeline="triage", direction="output") == 7
    assert total("flow_store_requests", pipeline="triage") == 4


def test_last_success_is_that_of_the_run_that_ended_last(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    store.runs = [stored(updated_at=5000.0), stored(updated_at=4000.0), stored("failed", "other", updated_at=9000.0)]
    registry.register(StoreCollector(store))
    assert total("flow_store_last_success_timestamp_seconds", pipeline="triage") == 5000.0
    found = registry.get_sample_value("flow_store_last_success_timestamp_seconds", {"pipeline": "other"})
    assert found is None


def test_ages_are_those_of_the_oldest(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    now = time.time()
    lease = {"owner": "elsewhere 1@1/1", "lease_until": now + 60}
    store.runs = [
        stored("running", created_at=now - 50, **lease),
        stored("running", created_at=now - 500, **lease),
        stored("paused", created_at=now - 9000, updated_at=now - 70),
        stored("paused", created_at=now - 8000, updated_at=now - 700),
    ]
    registry.register(StoreCollector(store))
    assert total("flow_store_oldest_run_age_seconds", status="running") == pytest.approx(500, abs=30)
    assert total("flow_store_oldest_run_age_seconds", status="paused") == pytest.approx(700, abs=30)
    assert total("flow_store_runs_orphaned") == 0


def test_paused_runs_wait_for_somebody_until_their_time_is_over(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    later = time.time() + 600
    store.runs = [stored("paused"), stored("paused", wake_at=later), stored("paused", wake_at=LONG_AGO)]
    registry.register(StoreCollector(store))
    assert total("flow_store_runs_waiting", pipeline="triage") == 2
    assert total("flow_store_runs_overdue", pipeline="triage") == 1


def test_running_runs_without_a_process_are_orphans(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    soon = time.time() + 60
    store.runs = [
        stored("running", owner="elsewhere:aaaaaaaa:1 1@1/1", lease_until=soon),
        stored("running", owner="elsewhere:aaaaaaaa:1 1@1/1", lease_until=LONG_AGO),
        stored("running", owner=None, lease_until=soon),
    ]
    registry.register(StoreCollector(store))
    assert total("flow_store_runs_orphaned", pipeline="triage") == 2


async def test_runs_of_a_flow_are_seen(registry: CollectorRegistry, total: Total) -> None:
    kernel = Kernel(Settings(), only=[])
    backend = kernel.open_state("memory://")
    for name, agent in (
        ("good", StubAgent(["text"], usage=Usage(0.25, 3, 4, 1))),
        ("bad", simulate_error(error=ValueError("no"))),
        ("ask", simulate_error(error=PauseSignal("ok?"))),
    ):
        pipeline = Flow(Step("a", agent)).pipeline.evolve(name=name)
        await Flow(pipeline, state=backend, kernel=kernel).run_async("data")
    registry.register(StoreCollector(backend))
    collected = await asyncio.to_thread(lambda: total("flow_store_runs"))
    assert collected == 3
    assert total("flow_store_runs", pipeline="good", status="completed") == 1
    assert total("flow_store_runs", pipeline="bad", status="failed") == 1
    assert total("flow_store_runs_waiting", pipeline="ask") == 1
    assert total("flow_store_cost_usd", pipeline="good") == 0.25


async def test_it_can_be_asked_inside_a_running_loop(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    store.runs = [stored()]
    registry.register(StoreCollector(store))
    assert total("flow_store_runs") == 1


def test_pipelines_beyond_the_limit_are_other(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    store.runs = [stored("completed", f"p{number}") for number in range(10)]
    registry.register(StoreCollector(store, max_series=3))
    assert total("flow_store_runs", pipeline="other") == 7
    assert total("flow_store_runs") == 10


@pytest.mark.parametrize(
    ("generate", "parse"),
    [(generate_latest, text_string_to_metric_families), (generate_openmetrics, openmetrics_families)],
)
def test_official_parsers_read_it(
    generate: Any, parse: Any, registry: CollectorRegistry, store: Any, stored: Callable[..., RunRecord]
) -> None:
    store.runs = [stored("paused", 'a "name"\n\ud800'), stored("completed", usage=Usage(1.0))]
    registry.register(StoreCollector(store))
    families = {family.name: family for family in parse(generate(registry).decode())}
    assert families["flow_store_runs"].type == "gauge"
    assert {s.labels["pipeline"] for s in families["flow_store_runs"].samples} == {'a "name"\\n\\ud800', "triage"}


# -- how much is read


def test_registering_reads_nothing(registry: CollectorRegistry, store: Any) -> None:
    registry.register(StoreCollector(store))
    assert store.asked == []


def test_two_stores_of_one_registry_need_two_namespaces(registry: CollectorRegistry, store: Any) -> None:
    registry.register(StoreCollector(store))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(StoreCollector(store))
    registry.register(StoreCollector(store, namespace="archive"))
    assert {"flow_store_up", "archive_store_up"} <= names(registry)


def test_store_is_not_read_again_before_the_interval_is_over(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord], clock: Clock
) -> None:
    registry.register(StoreCollector(store, min_interval=15, clock=clock))
    assert total("flow_store_runs") == 0
    asked, store.runs = len(store.asked), [stored()]
    clock.now += 14
    assert total("flow_store_runs") == 0
    assert len(store.asked) == asked
    clock.now += 2
    assert total("flow_store_runs") == 1


def test_slow_store_is_read_a_tenth_of_the_time(
    registry: CollectorRegistry, store: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = store.list_runs

    async def slow(**question: Any) -> Any:
        clock.now += 20 / 9  # for each of the nine statuses
        return await fast(**question)

    monkeypatch.setattr(store, "list_runs", slow)
    registry.register(StoreCollector(store, min_interval=15, clock=clock))
    names(registry)
    asked = len(store.asked)
    clock.now += 9 * 20 - 1
    names(registry)
    assert len(store.asked) == asked
    clock.now += 2
    names(registry)
    assert len(store.asked) > asked


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), min_size=9, max_size=9), st.integers(1, 40))
def test_no_more_runs_are_read_than_allowed_and_what_is_missing_is_told(counts: list[int], most: int) -> None:
    backend = Kernel(Settings(), only=[]).open_state("memory://")

    async def fill_and_read() -> Snapshot:
        for status, count in zip(STATUSES, counts, strict=True):
            for number in range(count):
                run = RunRecord(run_id=f"{status}-{number}", pipeline="p", fingerprint="f", status=status)
                await backend.create_run(run)
        return await Reader(most, Labels(5, "pipelines")).read(backend)

    snapshot = asyncio.run(fill_and_read())
    read = snapshot.pipelines["p"].runs if snapshot.pipelines else Counter[str]()
    assert snapshot.examined == read.total() <= most
    for status, count in zip(STATUSES, counts, strict=True):
        assert read[status] <= count
        assert snapshot.truncated[status] is (read[status] < count)


def test_oldest_is_found_among_more_runs_than_are_read(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    now = time.time()
    store.runs = [stored("paused", created_at=now - age, updated_at=now - age) for age in range(1, 5001)]
    registry.register(StoreCollector(store, max_runs=1000))
    assert total("flow_store_truncated", status="paused") == 1
    assert total("flow_store_runs", status="paused") == 500
    assert total("flow_store_oldest_run_age_seconds", status="paused") == pytest.approx(5000, abs=30)
    assert store.records_read < 550


def test_pages_that_move_count_no_run_twice(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    store.runs = [stored() for _ in range(1200)]
    fast = store.list_runs

    async def busy(**question: Any) -> Any:
        page = await fast(**question)
        store.runs += [stored() for _ in range(10)] if question["status"] == "completed" else []
        return page

    store.list_runs = busy
    registry.register(StoreCollector(store))
    assert total("flow_store_runs") == 1200


# -- what cannot be read


def test_store_that_fails_is_a_metric_and_a_line_in_the_log(
    registry: CollectorRegistry,
    total: Total,
    store: Any,
    stored: Callable[..., RunRecord],
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    store.runs = [stored()]
    collector = StoreCollector(store, clock=clock)
    registry.register(collector)
    for failure in (StateBusy("somebody holds it"), RuntimeError("a bug"), None, StateBusy("again")):
        store.failure = failure
        clock.now += 1000
        assert total("flow_store_up") == (failure is None)
        assert collector.error is failure
        assert ("flow_store_runs" in names(registry)) is (failure is None)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "the store cannot be read: somebody holds it",
        "the store can be read again",
        "the store cannot be read: again",
    ]


def test_failed_reading_is_not_repeated_at_once(
    registry: CollectorRegistry, total: Total, store: Any, clock: Clock
) -> None:
    store.failure = StateBusy("somebody holds it")
    registry.register(StoreCollector(store, clock=clock))
    for _ in range(5):
        assert total("flow_store_up") == 0
    assert len(store.asked) == 1


def test_url_that_leads_nowhere_is_a_metric_without_its_password(
    registry: CollectorRegistry, total: Total, caplog: pytest.LogCaptureFixture
) -> None:
    registry.register(StoreCollector("nosuch://me:geheim@host/runs"))
    assert total("flow_store_up") == 0
    assert "nosuch://me:***@host/runs cannot be read" in caplog.text
    assert "geheim" not in caplog.text


def test_passwords_in_errors_stay_out_of_the_log(
    registry: CollectorRegistry, total: Total, store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store.failure = OSError("no route to postgres://me:geheim@host/runs")
    registry.register(StoreCollector(store))
    assert total("flow_store_up") == 0
    assert "no route to postgres://me:****@host/runs" in caplog.text
    assert "geheim" not in caplog.text


class Stuck:
    """A store that answers when it is let."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked = threading.Event()
        self.let = threading.Event()
        self.readings = 0

    async def list_runs(self, **question: Any) -> Any:
        if question["status"] == "dead":
            self.readings += 1
            self.asked.set()
            await asyncio.to_thread(self.let.wait, 10)
        return await self._store.list_runs(**question)


def test_scrape_does_not_wait_for_ever(
    registry: CollectorRegistry,
    total: Total,
    store: Any,
    stored: Callable[..., RunRecord],
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.runs = [stored()]
    stuck = Stuck(store)
    collector = StoreCollector(stuck, timeout=0.01)  # type: ignore[arg-type]
    registry.register(collector)
    assert total("flow_store_up") == 0
    assert total("flow_store_up") == 0
    assert stuck.readings == 1
    assert caplog.text.count("the store is still being read after 0.01 s") == 1
    reading = collector._under_way
    stuck.let.set()
    assert reading is not None
    assert reading.wait(10)
    assert total("flow_store_up") == 1
    assert total("flow_store_runs") == 1


def test_what_was_read_before_is_shown_while_a_reading_takes_long(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord], clock: Clock
) -> None:
    store.runs = [stored()]
    stuck = Stuck(store)
    stuck.let.set()
    collector = StoreCollector(stuck, clock=clock, min_interval=10, timeout=5)  # type: ignore[arg-type]
    registry.register(collector)
    assert total("flow_store_runs") == 1
    stuck.let.clear()
    collector._timeout = 0.01
    clock.now += 20
    assert total("flow_store_runs") == 1
    clock.now += 20
    assert total("flow_store_up") == 0
    stuck.let.set()


def test_scrapes_at_the_same_time_share_a_reading(
    registry: CollectorRegistry, total: Total, store: Any, stored: Callable[..., RunRecord]
) -> None:
    store.runs = [stored()]
    stuck = Stuck(store)
    registry.register(StoreCollector(stuck))  # type: ignore[arg-type]
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(total("flow_store_runs"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert stuck.asked.wait(10)
    stuck.let.set()
    for thread in threads:
        thread.join()
    assert found == [1.0] * 8
    assert stuck.readings == 1
