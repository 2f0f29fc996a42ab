"""What sort of failure an exception is, of Python or of a library; how long a service asks to wait."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from flow import (
    CircuitOpen,
    ErrorCategory,
    ErrorContext,
    PauseSignal,
    PluginFailed,
    StepFailed,
    StepTimeout,
    UsageLimitExceeded,
    ValidationFailed,
)
from flow._classification import retry_after_of
from flow.errors import ContextConflict, FlowError

NOW = 1_700_000_000.0


def category_of(error: BaseException) -> ErrorCategory:
    return ErrorContext.from_exception(error).category


def foreign(module: str, *names: str, base: type[Exception] = Exception, **attributes: Any) -> Exception:
    """An exception that looks like one of another library: its own name first, then those it derives from."""
    cls = base
    for name in reversed(names):
        cls = type(name, (cls,), {"__module__": module})
    error = cls("it failed")
    error.__dict__.update(attributes)
    return error


class Response:
    def __init__(self, status: int, **headers: str) -> None:
        self.status_code = status
        self.headers = {name.replace("_", "-").title(): value for name, value in headers.items()}


# -- by type


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (TimeoutError(), ErrorCategory.TIMEOUT),
        (ConnectionResetError(), ErrorCategory.NETWORK),
        (socket.gaierror("no such host"), ErrorCategory.NETWORK),
        (OSError(errno.EHOSTUNREACH, "no route"), ErrorCategory.NETWORK),
        (OSError(errno.ENOSPC, "disk full"), ErrorCategory.RESOURCE),
        (OSError("something"), ErrorCategory.EXTERNAL_SERVICE),
        (MemoryError(), ErrorCategory.RESOURCE),
        (PermissionError(), ErrorCategory.AUTHENTICATION),
        (ssl.SSLCertVerificationError("expired"), ErrorCategory.CONFIGURATION),
        (TypeError(), ErrorCategory.CONFIGURATION),
        (ModuleNotFoundError(), ErrorCategory.CONFIGURATION),
        (KeyError("k"), ErrorCategory.DATA),
        (json.JSONDecodeError("bad", "{", 1), ErrorCategory.DATA),
        (asyncio.CancelledError(), ErrorCategory.CANCELLED),
        (asyncio.QueueFull(), ErrorCategory.RESOURCE),
        (PauseSignal("?"), ErrorCategory.CONTROL_FLOW),
        (ValueError("x"), ErrorCategory.UNKNOWN),
        (RuntimeError("429 too many requests"), ErrorCategory.UNKNOWN),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_exception_of_python_is_known_by_its_type(error: BaseException, category: ErrorCategory) -> None:
    assert category_of(error) is category


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (StepTimeout("late"), ErrorCategory.TIMEOUT),
        (ValidationFailed("no"), ErrorCategory.VALIDATION),
        (PluginFailed("no"), ErrorCategory.PLUGIN),
        (ContextConflict("two"), ErrorCategory.DATA),
        (UsageLimitExceeded("spent"), ErrorCategory.USAGE),
        (CircuitOpen("open", retry_after=3), ErrorCategory.EXTERNAL_SERVICE),
        (StepFailed("bad"), ErrorCategory.UNKNOWN),
        (StepFailed("bad", cause=TypeError()), ErrorCategory.CONFIGURATION),
    ],
    ids=lambda value: value.code if isinstance(value, FlowError) else None,
)
def test_an_error_of_flow_says_it_itself(error: BaseException, category: ErrorCategory) -> None:
    assert category_of(error) is category


@pytest.mark.parametrize(
    ("module", "names", "category"),
    [
        ("httpx", ("ReadTimeout", "TimeoutException", "TransportError"), ErrorCategory.TIMEOUT),
        ("httpx", ("PoolTimeout", "TimeoutException", "TransportError"), ErrorCategory.RESOURCE),
        ("httpx", ("ConnectError", "NetworkError", "TransportError"), ErrorCategory.NETWORK),
        ("httpx2", ("UnsupportedProtocol", "TransportError"), ErrorCategory.CONFIGURATION),
        ("httpcore._exceptions", ("ReadError", "NetworkError"), ErrorCategory.NETWORK),
        ("aiohttp.client_exceptions", ("ServerDisconnectedError", "ClientConnectionError"), ErrorCategory.NETWORK),
        ("aiohttp.client_exceptions", ("ServerTimeoutError", "ClientConnectionError"), ErrorCategory.TIMEOUT),
        ("requests.exceptions", ("ReadTimeout", "Timeout", "RequestException"), ErrorCategory.TIMEOUT),
        ("requests.exceptions", ("ConnectTimeout", "ConnectionError", "RequestException"), ErrorCategory.TIMEOUT),
        ("requests.exceptions", ("SSLError", "ConnectionError", "RequestException"), ErrorCategory.CONFIGURATION),
        ("urllib3.exceptions", ("ReadTimeoutError", "TimeoutError", "HTTPError"), ErrorCategory.TIMEOUT),
        ("openai", ("APITimeoutError", "APIConnectionError", "APIError"), ErrorCategory.TIMEOUT),
        ("openai", ("APIConnectionError", "APIError"), ErrorCategory.NETWORK),
        ("openai", ("OpenAIError",), ErrorCategory.CONFIGURATION),
        ("anthropic", ("OverloadedError", "InternalServerError", "APIStatusError"), ErrorCategory.EXTERNAL_SERVICE),
        ("google.auth.exceptions", ("RefreshError", "GoogleAuthError"), ErrorCategory.AUTHENTICATION),
        ("google.api_core.exceptions", ("ResourceExhausted", "TooManyRequests"), ErrorCategory.RATE_LIMIT),
        ("pydantic_ai.exceptions", ("ContentFilterError", "UnexpectedModelBehavior"), ErrorCategory.DATA),
        ("pydantic_ai.exceptions", ("UsageLimitExceeded", "AgentRunError"), ErrorCategory.USAGE),
        ("pydantic_ai.exceptions", ("UserError",), ErrorCategory.CONFIGURATION),
        ("their_library", ("Timeout",), ErrorCategory.UNKNOWN),
    ],
)
def test_an_exception_of_a_library_is_known_by_name(
    module: str, names: tuple[str, ...], category: ErrorCategory
) -> None:
    assert category_of(foreign(module, *names)) is category


def test_the_most_specific_known_type_decides() -> None:
    assert category_of(foreign("mine", "Mine", base=TimeoutError)) is ErrorCategory.TIMEOUT
    assert category_of(foreign("openai", "RateLimitError", "APIError", base=OSError)) is ErrorCategory.RATE_LIMIT


# -- by status


@pytest.mark.parametrize(
    ("status", "category", "final"),
    [
        (400, ErrorCategory.DATA, True),
        (401, ErrorCategory.AUTHENTICATION, True),
        (402, ErrorCategory.USAGE, True),
        (403, ErrorCategory.AUTHENTICATION, True),
        (404, ErrorCategory.CONFIGURATION, True),
        (408, ErrorCategory.TIMEOUT, False),
        (409, ErrorCategory.RESOURCE, False),
        (418, ErrorCategory.CONFIGURATION, True),
        (422, ErrorCategory.DATA, True),
        (429, ErrorCategory.RATE_LIMIT, False),
        (500, ErrorCategory.EXTERNAL_SERVICE, False),
        (501, ErrorCategory.CONFIGURATION, True),
        (502, ErrorCategory.EXTERNAL_SERVICE, False),
        (503, ErrorCategory.EXTERNAL_SERVICE, False),
        (504, ErrorCategory.TIMEOUT, False),
        (529, ErrorCategory.EXTERNAL_SERVICE, False),
    ],
)
@pytest.mark.parametrize(
    "shape",
    [
        lambda status: foreign("openai", "APIStatusError", "APIError", status_code=status),
        lambda status: foreign("requests.exceptions", "HTTPError", base=OSError, response=Response(status)),
        lambda status: foreign("aiohttp.client_exceptions", "ClientResponseError", "ClientError", status=status),
        lambda status: foreign("google.genai.errors", "ServerError", "APIError", code=status, status="UNAVAILABLE"),
        lambda status: urllib.error.HTTPError("http://x", status, "no", Message(), None),
        lambda status: foreign("mine", "Mine", status_code=status),
    ],
    ids=["openai", "requests", "aiohttp", "google", "urllib", "own"],
)
def test_a_status_says_what_went_wrong(shape: Any, status: int, category: ErrorCategory, final: bool) -> None:
    from flow import Failure, Step

    context = ErrorContext.from_exception(shape(status))
    assert (context.category, context.status) == (category, status)
    failure = Failure(
        step=Step("a", str), path="0:a", error=context.error, category=category, attempt=1, status=context.status
    )
    assert failure.is_final is final


@pytest.mark.parametrize(
    "error",
    [
        foreign("mine", "Mine", status_code=200),
        foreign("mine", "Mine", status="open"),
        foreign("mine", "Mine", status_code=True),
        foreign("mine", "Mine", code=503),
        foreign("aiohttp.client_exceptions", "ClientConnectionError", status=0),
    ],
)
def test_what_is_no_status_of_a_failure_is_ignored(error: BaseException) -> None:
    assert ErrorContext.from_exception(error).status is None


def test_a_spent_quota_is_not_a_rate_limit() -> None:
    assert category_of(foreign("openai", "RateLimitError", status_code=429, code="insufficient_quota")) is (
        ErrorCategory.USAGE
    )


def test_a_property_that_raises_tells_nothing() -> None:
    class Awkward(Exception):
        @property
        def response(self) -> Any:
            raise RuntimeError("the request has not been sent")

    assert category_of(Awkward("x")) is ErrorCategory.UNKNOWN


# -- groups and causes


def test_a_group_has_the_category_that_all_of_it_share() -> None:
    inner = ExceptionGroup("inner", [TimeoutError(), StepTimeout("late")])
    assert category_of(ExceptionGroup("all", [TimeoutError(), inner])) is ErrorCategory.TIMEOUT
    assert category_of(ExceptionGroup("mixed", [TimeoutError(), KeyError()])) is ErrorCategory.UNKNOWN


@pytest.mark.parametrize(
    ("error", "cause", "category"),
    [
        (RuntimeError("call failed"), TimeoutError(), ErrorCategory.TIMEOUT),
        (RuntimeError("call failed"), foreign("mine", "Mine", status_code=503), ErrorCategory.EXTERNAL_SERVICE),
        (KeyError("k"), TimeoutError(), ErrorCategory.DATA),  # it says something itself
        (RuntimeError("wrapped"), TypeError(), ErrorCategory.UNKNOWN),  # whoever wraps a mistake says it is none
    ],
)
def test_an_unknown_exception_is_what_caused_it(
    error: BaseException, cause: BaseException, category: ErrorCategory
) -> None:
    error.__cause__ = cause
    assert category_of(error) is category


def test_what_happened_while_another_was_handled_is_no_cause() -> None:
    error = RuntimeError("x")
    error.__context__ = TimeoutError()
    assert category_of(error) is ErrorCategory.UNKNOWN


def test_a_circle_of_causes_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    context = ErrorContext.from_exception(first)
    assert (context.category, context.status, context.retry_after) == (ErrorCategory.UNKNOWN, None, None)


def test_urllib_and_urllib3_wrap_what_happened() -> None:
    assert category_of(urllib.error.URLError(TimeoutError())) is ErrorCategory.TIMEOUT
    assert category_of(urllib.error.URLError("no host given")) is ErrorCategory.NETWORK
    reason = foreign("urllib3.exceptions", "ReadTimeoutError", "TimeoutError", "HTTPError")
    assert category_of(foreign("urllib3.exceptions", "MaxRetryError", "HTTPError", reason=reason)) is (
        ErrorCategory.TIMEOUT
    )


# -- how long a service asks to wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry_after": formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry_after_ms": "250", "retry_after": "1"}, 0.25),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_from_the_response(headers: dict[str, str], seconds: float | None) -> None:
    response = Response(429, **headers)
    for error in (
        foreign("httpx", "HTTPStatusError", response=response),
        foreign("aiohttp.client_exceptions", "ClientResponseError", status=429, headers=response.headers),
    ):
        assert retry_after_of(error, NOW) == seconds


def test_retry_after_is_found_on_errors_that_know_it_and_on_causes() -> None:
    assert retry_after_of(CircuitOpen("open", retry_after=4.5)) == 4.5
    outer = foreign("pydantic_ai.exceptions", "ModelHTTPError", status_code=429, headers=None)
    outer.__cause__ = foreign("openai", "RateLimitError", response=Response(429, retry_after="9"))
    assert ErrorContext.from_exception(outer).retry_after == 9.0
    assert ErrorContext.from_exception(ExceptionGroup("all", [outer])).retry_after == 9.0


# -- a real client against a real server


class Busy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("Retry-After", "12")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def busy_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_what_the_client_of_python_raises_is_understood(busy_server: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(busy_server, timeout=10)
    with caught.value as error:
        context = ErrorContext.from_exception(error)
    assert (context.category, context.status, context.retry_after) == (ErrorCategory.EXTERNAL_SERVICE, 503, 12.0)


def test_a_refused_connection_is_a_failure_of_the_network() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(urllib.error.URLError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{unused.getsockname()[1]}/", timeout=10)
    assert category_of(caught.value) is ErrorCategory.NETWORK
