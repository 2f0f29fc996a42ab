"""Metrics over real HTTP, read with the official parsers."""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_prometheus import PrometheusTracer
from flow_prometheus._server import MetricsServer
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from flow import Flow, Step

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


async def echo(data: Any) -> Any:
    return data


@pytest.fixture
def server(registry: CollectorRegistry) -> Iterator[MetricsServer]:
    server = MetricsServer(registry, "127.0.0.1", 0)
    yield server
    server.close()


def values(families: Iterable[Metric], name: str) -> list[tuple[dict[str, str], float]]:
    return [(s.labels, s.value) for family in families for s in family.samples if s.name == name]


async def test_running_program_is_scraped(scrape: Callable[..., Any], registry: CollectorRegistry) -> None:
    tracer = PrometheusTracer(registry, port=0)
    assert tracer.url is None
    await Flow((Step("a", echo) >> Step("b", echo)).evolve(name="triage"), tracers=[tracer]).run_many(range(3))
    assert tracer.url is not None
    answer = scrape(tracer.url)
    await tracer.aclose()
    assert answer.status == 200
    assert answer.content_type.startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    assert values(families, "flow_runs_finished_total") == [({"pipeline": "triage", "status": "completed"}, 3.0)]
    assert values(families, "flow_runs_in_progress") == [({"pipeline": "triage"}, 0.0)]
    steps = values(families, "flow_steps_total")
    assert steps == [({"pipeline": "triage", "step": step, "outcome": "completed"}, 3.0) for step in ("a", "b")]
    buckets = values(families, "flow_step_duration_seconds_bucket")
    assert [count for labels, count in buckets if labels["le"] == "+Inf"] == [3.0, 3.0]


async def test_openmetrics_is_spoken_to_who_asks_for_it(
    scrape: Callable[..., Any], registry: CollectorRegistry
) -> None:
    tracer = PrometheusTracer(registry, port=0)
    await Flow(Step("a", echo), tracers=[tracer]).run_async("data")
    answer = scrape(str(tracer.url), Accept=f"{OPENMETRICS}, text/plain;q=0.5")
    await tracer.aclose()
    assert answer.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    families = list(openmetrics_families(answer.text))
    assert {f.name: f.type for f in families}["flow_runs_finished"] == "counter"
    assert {f.name: f.unit for f in families}["flow_step_duration_seconds"] == "seconds"
    labels = {"pipeline": "pipeline", "status": "completed"}
    assert values(families, "flow_runs_finished_total") == [(labels, 1.0)]


def test_one_metric_can_be_asked_for(
    scrape: Callable[..., Any], registry: CollectorRegistry, server: MetricsServer
) -> None:
    Flow(Step("a", echo), tracers=[PrometheusTracer(registry)]).run("data")
    answer = scrape(f"{server.url}?name[]=flow_runs_finished_total")
    assert [family.name for family in text_string_to_metric_families(answer.text)] == ["flow_runs_finished"]


def test_answers_are_compressed_for_who_asks(server: MetricsServer) -> None:
    request = urllib.request.Request(server.url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(response.read()) == b""


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/metrics/", 200), ("/etc/passwd", 404), ("/metricsx", 404)])
def test_other_paths_say_where_the_metrics_are(
    path: str, status: int, scrape: Callable[..., Any], server: MetricsServer
) -> None:
    answer = scrape(server.url.removesuffix("/metrics") + path)
    assert answer.status == status
    assert path == "/metrics/" or b"/metrics" in answer.body


def test_collector_that_fails_is_an_answer_and_in_the_log(
    scrape: Callable[..., Any], registry: CollectorRegistry, server: MetricsServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def collect(self) -> Iterable[Metric]:
            raise RuntimeError("broken")

    broken = Broken()
    registry.register(broken)
    assert scrape(server.url).status == 500
    assert "the metrics cannot be collected" in caplog.text
    registry.unregister(broken)
    assert scrape(server.url).status == 200


def test_clients_that_send_no_http_harm_nobody(
    scrape: Callable[..., Any], server: MetricsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    address = ("127.0.0.1", server.server_port)
    with socket.create_connection(address) as client:
        client.sendall(b"\x16\x03\x01 no http\r\n\r\n")
        client.recv(1000)
    with socket.create_connection(address) as client:
        client.sendall(b"GET /met")
    assert scrape(server.url).status == 200
    assert capfd.readouterr() == ("", "")


def test_connections_beyond_the_limit_are_closed(scrape: Callable[..., Any], server: MetricsServer) -> None:
    address = ("127.0.0.1", server.server_port)
    idle = [socket.create_connection(address) for _ in range(16)]
    with socket.create_connection(address, timeout=10) as further:
        assert further.recv(1) == b""
    for client in idle:
        client.close()
    assert eventually(lambda: scrape(server.url).status == 200)  # the threads notice that their clients have left


def eventually(succeeds: Callable[[], bool]) -> bool:
    for _ in range(1000):
        with contextlib.suppress(OSError):
            return succeeds()
    return False


def test_ipv6_url_can_be_typed() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        server = MetricsServer(CollectorRegistry(), "::1", 0)
    except OSError:
        pytest.skip("this machine has no ::1")
    try:
        assert server.url == f"http://[::1]:{server.server_port}/metrics"
        assert urllib.request.urlopen(server.url, timeout=10).status == 200
    finally:
        server.close()


# -- who serves


def taken_port() -> tuple[socket.socket, int]:
    listening = socket.create_server(("127.0.0.1", 0))
    return listening, listening.getsockname()[1]


async def test_port_that_is_taken_is_a_warning_and_no_failed_run(
    registry: CollectorRegistry, total: Callable[..., float], caplog: pytest.LogCaptureFixture
) -> None:
    listening, port = taken_port()
    with listening:
        tracer = PrometheusTracer(registry, port=port)
        flow = Flow(Step("a", echo), tracers=[tracer])
        results = await flow.run_many(range(3))
    assert all(result.success for result in results)
    assert total("flow_runs_finished_total") == 3
    assert tracer.url is None
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert f"metrics are not served at port {port} of 127.0.0.1: Address already in use" in caplog.text
    await tracer.aclose()


async def test_host_that_is_none_is_a_warning(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    tracer = PrometheusTracer(registry, port=0, host="no.such.host.invalid")
    assert (await Flow(Step("a", echo), tracers=[tracer]).run_async("data")).success
    assert "metrics are not served at port 0 of no.such.host.invalid" in caplog.text


async def test_tracers_share_a_server_and_the_last_one_closes_it(
    scrape: Callable[..., Any], registry: CollectorRegistry
) -> None:
    first, second = (PrometheusTracer(registry, port=0) for _ in range(2))
    for tracer in (first, second):
        await Flow(Step("a", echo), tracers=[tracer]).run_async("data")
    assert first.url == second.url
    await first.aclose()
    assert first.url is None
    url = str(second.url)
    assert scrape(url).status == 200
    await second.aclose()
    await second.aclose()
    with pytest.raises(OSError, match="refused"):
        scrape(url)


async def test_tracer_serves_again_after_it_was_closed(scrape: Callable[..., Any], registry: CollectorRegistry) -> None:
    tracer = PrometheusTracer(registry, port=0)
    flow = Flow(Step("a", echo), tracers=[tracer])
    for _ in range(2):
        await flow.run_async("data")
        assert scrape(str(tracer.url)).status == 200
        await tracer.aclose()


def test_port_in_the_settings_lets_a_program_serve(tmp_path: Path) -> None:
    (tmp_path / "flow.toml").write_text('tracers = ["prometheus"]\n[prometheus]\nport = 0\n')
    program = """
import urllib.request
from flow import Flow, Step
from flow_prometheus import _server
flow = Flow(Step("upper", str.upper))
print(flow.run("hello").output)
((server, shares),) = _server._servers.values()
text = urllib.request.urlopen(server.url).read().decode()
print([line for line in text.splitlines() if line.startswith("flow_runs_finished_total")])
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = '[\'flow_runs_finished_total{pipeline="pipeline",status="completed"} 1.0\']'
    assert ended.stdout.splitlines() == ["HELLO", expected]
    assert ended.stderr == ""


def test_processes_in_multiprocess_mode_are_added_up(tmp_path: Path) -> None:
    work = "from flow import Flow, Step; Flow(Step('a', str), tracers=['prometheus']).run('x')"
    show = """
import urllib.request
from prometheus_client import REGISTRY
from flow_prometheus._server import MetricsServer
text = urllib.request.urlopen(MetricsServer(REGISTRY, "127.0.0.1", 0).url).read().decode()
print([line for line in text.splitlines() if line.startswith("flow_runs_finished_total")])
"""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for program in (work, work):
        subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True)
    ended = subprocess.run(
        [sys.executable, "-c", show], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout == '[\'flow_runs_finished_total{pipeline="pipeline",status="completed"} 2.0\']\n'


def test_metrics_of_others_are_served_too(
    scrape: Callable[..., Any], registry: CollectorRegistry, server: MetricsServer
) -> None:
    Counter("orders", "of the program itself", registry=registry).inc()
    assert "orders_total 1.0" in scrape(server.url).text
