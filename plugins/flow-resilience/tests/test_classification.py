"""Classification by registered types and patterns, and what a real client raises against a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from flow_resilience import Classification

from flow import ConfigurationError, ErrorCategory, ErrorContext, Flow, RecoveryStrategy, RunResult, Step

Run = Callable[..., RunResult[Any]]


class Base(Exception):
    pass


class Special(Base):
    pass


RULES = Classification(
    types={Base: ErrorCategory.NETWORK, Special: ErrorCategory.DATA, Exception: ErrorCategory.RESOURCE}
)


@pytest.mark.parametrize(
    ("rules", "error", "category"),
    [
        (RULES, Special(), ErrorCategory.DATA),
        (RULES, Base(), ErrorCategory.NETWORK),
        (RULES, KeyError(), ErrorCategory.RESOURCE),
        (Classification(types={KeyError: "network"}), ValueError(), None),
        (Classification(patterns={"quota": "rate_limit"}), RuntimeError("no quota left"), ErrorCategory.RATE_LIMIT),
        (Classification(patterns={"quota": "rate_limit"}), TypeError("no quota left"), None),  # its type says enough
        (
            Classification(types={Base: "data"}, patterns={".": "network"}),
            Base("text"),
            ErrorCategory.DATA,
        ),
        (Classification(patterns={"a": "data", "b": "network"}), RuntimeError("ba"), ErrorCategory.DATA),
    ],
)
def test_types_come_before_patterns(rules: Classification, error: Exception, category: ErrorCategory | None) -> None:
    assert rules.of(error) is category


@pytest.mark.parametrize("where", ["step", "flow"])
def test_a_strategy_sees_the_category(where: str, run: Run) -> None:
    calls = []

    async def call(data: Any) -> Any:
        calls.append(data)
        raise Base("x")

    policies = [
        Classification(types={Base: ErrorCategory.NETWORK}),
        RecoveryStrategy(name="s", applies_to_categories={ErrorCategory.NETWORK}, max_retries=2),
    ]
    run(
        Step("call", call, policies=policies if where == "step" else ()),
        policies=policies if where == "flow" else (),
    )
    assert len(calls) == 3


def test_a_classification_may_make_a_failure_final(run: Run) -> None:
    calls = []

    async def call(data: Any) -> Any:
        calls.append(data)
        raise Base("x")

    run(Step("call", call, retries=5, policies=[Classification(types={Base: "configuration"})]))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"types": {"KeyError": "network"}}, {"patterns": {"(": "network"}}, {"patterns": {1: "network"}}],
)
def test_what_cannot_be_registered_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="Classification: "):
        Classification(**wrong)


# -- httpx


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    failures: list[tuple[int, str]] = []

    def do_GET(self) -> None:
        status, retry_after = self.failures.pop(0) if self.failures else (200, "")
        self.send_response(status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
            Server.failures = []


async def get(url: str) -> str:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        return (await client.get(url)).raise_for_status().text


@pytest.mark.parametrize(
    ("failure", "attempts", "status"),
    [((503, "0"), 2, "completed"), ((429, "0"), 2, "completed"), ((404, ""), 1, "failed"), ((401, ""), 1, "failed")],
)
async def test_a_real_client_is_understood(
    failure: tuple[int, str], attempts: int, status: str, server: str, flow: Callable[..., Flow[Any, Any]]
) -> None:
    Server.failures = [failure]
    result = await flow(Step("get", get, retries=3)).run_async(server)
    assert (result.status, result.step_history[0].attempts) == (status, attempts)


async def test_a_refused_connection_is_a_failure_of_the_network() -> None:
    with pytest.raises(httpx.ConnectError) as caught:
        await get("http://127.0.0.1:1/")
    assert ErrorContext.from_exception(caught.value).category is ErrorCategory.NETWORK


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (httpx.ReadTimeout("x"), ErrorCategory.TIMEOUT),
        (httpx.PoolTimeout("x"), ErrorCategory.RESOURCE),
        (httpx.RemoteProtocolError("x"), ErrorCategory.NETWORK),
        (httpx.LocalProtocolError("x"), ErrorCategory.CONFIGURATION),
        (httpx.UnsupportedProtocol("x"), ErrorCategory.CONFIGURATION),
        (httpx.InvalidURL("x"), ErrorCategory.CONFIGURATION),
        (httpx.TooManyRedirects("x"), ErrorCategory.EXTERNAL_SERVICE),
        (httpx.DecodingError("x"), ErrorCategory.DATA),
    ],
    ids=repr,
)
def test_each_error_of_the_client_has_a_category(error: Exception, category: ErrorCategory) -> None:
    assert ErrorContext.from_exception(error).category is category
