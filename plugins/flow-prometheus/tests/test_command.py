"""``flow metrics`` prints or serves, ends as it is told to, and says what is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flow_testkit import FlowTester
from prometheus_client.parser import text_string_to_metric_families

PLUGIN = """
from flow import RunRecord, StateBusy, Usage, hookimpl

class Canned:
    def __init__(self, runs): self._runs = runs
    async def list_runs(self, *, status=None, limit=20, offset=0, **others):
        if self._runs is None:
            raise StateBusy("somebody holds the store")
        return [run for run in self._runs if run.status == status][offset : offset + limit]
    async def aclose(self): pass

@hookimpl
def flow_open_state(url, settings):
    if not url.startswith("canned://"):
        return None
    if "broken" in url:
        return Canned(None)
    statuses = ["completed", "completed", "failed", "paused"]
    return Canned([
        RunRecord(run_id=f"r{n}", pipeline="triage", fingerprint="f", status=s, usage=Usage(0.25), created_at=n, updated_at=n)
        for n, s in enumerate(statuses)
    ])
"""  # noqa: E501


@pytest.fixture
def tester(flow_tester: FlowTester) -> FlowTester:
    flow_tester.write_plugin("flow_canned", PLUGIN, entry_points={"flow.state": {"canned": "flow_canned"}})
    return flow_tester


@contextmanager
def serving(tester: FlowTester, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts ``flow metrics`` and waits for the line that says where it serves."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLOW_", "PYTHON"))}
    environment |= {"PYTHONPATH": str(tester.plugins), "PYTHONUTF8": "1", "HOME": str(tester.path)}
    program = subprocess.Popen(
        [sys.executable, "-m", "flow", "metrics", "--port", "0", *arguments],
        cwd=tester.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stderr is not None
        yield program, program.stderr.readline()
    finally:
        program.kill()
        program.communicate()


def test_once_prints_the_exposition(tester: FlowTester) -> None:
    outcome = tester.run("metrics", "--state", "canned://x", "--once").assert_success()
    families = {family.name: family for family in text_string_to_metric_families(outcome.stdout)}
    runs = {s.labels["status"]: s.value for s in families["flow_store_runs"].samples}
    assert runs == {"completed": 2, "failed": 1, "paused": 1}
    assert families["flow_store_up"].samples[0].value == 1
    assert outcome.stderr == ""


def test_json_is_the_same_as_an_object(tester: FlowTester) -> None:
    printed = tester.run("metrics", "--json", env={"FLOW_STATE": "canned://x"}).assert_success().json()
    assert printed["store"] == "canned://x"
    metrics = {metric["name"]: metric for metric in printed["metrics"]}
    assert metrics["flow_store_cost_usd"]["samples"] == [{"labels": {"pipeline": "triage"}, "value": 1.0}]
    assert metrics["flow_store_runs"]["type"] == "gauge"


def test_store_is_that_of_the_settings(tester: FlowTester) -> None:
    tester.write("flow.toml", 'state = "canned://x"')
    tester.run("metrics", "--once").assert_success().fnmatch_lines('flow_store_runs{*status="failed"} 1.0')


def test_bound_on_the_runs_is_passed_on(tester: FlowTester) -> None:
    outcome = tester.run("metrics", "--state", "canned://x", "--once", "--max-runs", "2").assert_success()
    outcome.fnmatch_lines(["flow_store_runs_examined 2.0", 'flow_store_truncated{status="completed"} 1.0'])


def test_store_that_cannot_be_read_is_exit_code_4_and_a_metric(tester: FlowTester) -> None:
    outcome = tester.run("metrics", "--state", "canned://broken", "--once").assert_failed(code=4).no_traceback()
    outcome.fnmatch_lines("flow_store_up 0.0")
    assert outcome.stderr == "canned://broken cannot be read: somebody holds the store\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "no state store is named"),
        (["--state", "memory://"], "memory:// ends with the program that fills it"),
        (["--state", "nosuch://x"], "no installed plugin provides the state URL scheme 'nosuch'"),
        (["--state", "runs.db"], "'runs.db' is not a state URL"),
        (["--state", "canned://x", "--port", "70000"], "Invalid value for '--port'"),
        (["--state", "canned://x", "--interval", "-1"], "Invalid value for '--interval'"),
        (["--state", "canned://x", "--max-runs", "0"], "Invalid value for '--max-runs'"),
        (["--state", "canned://x", "--host", "no.such.host.invalid"], "'no.such.host.invalid' is no host"),
        (["--state", "canned://x", "--host", "192.0.2.1", "--port", "0"], "port 0 of 192.0.2.1 cannot be used"),
    ],
)
def test_wrong_use_is_told_without_a_traceback(arguments: list[str], error: str, tester: FlowTester) -> None:
    tester.run("metrics", *arguments).assert_failed(code=2, error=error).no_traceback()


def test_port_that_is_taken_is_told_with_a_way_out(tester: FlowTester) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        outcome = tester.run("metrics", "--state", "canned://x", "--port", port)
    outcome.assert_failed(code=2, error=f"port {port} of 127.0.0.1 is in use").no_traceback()
    assert "--port 0 for any free one" in outcome.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_it_is_interrupted(
    number: signal.Signals, code: int, tester: FlowTester, scrape: Callable[..., Any]
) -> None:
    with serving(tester, "--state", "canned://x", "--interval", "0") as (program, line):
        assert line.startswith("metrics of canned://x at http://127.0.0.1:")
        url = line.split(" at ")[1].split()[0]
        for _ in range(2):
            answer = scrape(url)
            assert answer.status == 200
            assert 'flow_store_runs{pipeline="triage",status="completed"} 2.0' in answer.text
        assert scrape(url, Accept="application/openmetrics-text").text.endswith("# EOF\n")
        program.send_signal(number)
        out, err = program.communicate(timeout=30)
    assert (program.returncode, out, err) == (code, "", "")


def test_endpoint_outlives_a_store_that_cannot_be_read(tester: FlowTester, scrape: Callable[..., Any]) -> None:
    with serving(tester, "--state", "canned://broken") as (program, line):
        answer = scrape(line.split(" at ")[1].split()[0])
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=30)
    assert answer.status == 200
    samples = [text for text in answer.text.splitlines() if not text.startswith("#")]
    assert samples == ["flow_store_up 0.0"]
    assert "canned://broken cannot be read: somebody holds the store" in err
    assert program.returncode == 130


def test_help_teaches(tester: FlowTester) -> None:
    outcome = tester.run("metrics", "--help").assert_success()
    for words in ("flow metrics --once |", "flow_store_up 0", "--max-runs", "Exit codes: 0", "130 interrupted"):
        assert words in outcome.stdout
