"""Hands spans to an OTLP receiver over HTTP, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import attrs
import orjson

from flow import ConfigurationError, ErrorCategory, FlowError
from flow.cli import one_line, without_secrets

_TIMEOUT_S = 10.0
_LONGEST_ANSWER = 100_000


class NotDelivered(FlowError):
    """A receiver could not be reached or did not take what it was sent."""

    code = "lens.not_delivered"
    category = ErrorCategory.NETWORK


@attrs.frozen
class Receiver:
    """Where spans are sent: the whole URL, such as ``http://127.0.0.1:4318/v1/traces``."""

    url: str
    headers: Mapping[str, str] = attrs.field(factory=dict)
    timeout_s: float = _TIMEOUT_S

    def __attrs_post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            wrong = parts.scheme not in ("http", "https") or not parts.hostname
        except ValueError:
            wrong = True
        if wrong:
            raise ConfigurationError(
                f"--endpoint: {one_line(self.url, 80)!r} is no http address",
                hint="Name the whole address, such as http://127.0.0.1:4318/v1/traces",
            )

    @property
    def name(self) -> str:
        """The address as it may be printed."""
        return without_secrets(self.url)

    def send(self, request: Mapping[str, Any]) -> int:
        """Send one message; returns how many of its spans the receiver has refused. Raises `NotDelivered`."""
        headers = {"Content-Type": "application/json", "User-Agent": "flow-lens", **self.headers}
        message = Request(self.url, orjson.dumps(request), headers, method="POST")  # noqa: S310  http, see above
        try:
            with urlopen(message, timeout=self.timeout_s) as response:  # noqa: S310
                return _refused(response.read(_LONGEST_ANSWER))
        except HTTPError as error:
            with error:
                told = one_line(error.read(400).decode("utf-8", "replace"), 200)
            raise NotDelivered(
                f"{self.name} answered {error.code} {HTTPStatus(error.code).phrase}{f': {told}' if told else ''}",
                hint="Is this the address for traces in OTLP over HTTP? It often ends with /v1/traces",
            ) from error
        except (URLError, HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise NotDelivered(
                f"{self.name} cannot be reached: {one_line(str(reason), 200)}",
                hint="Is a collector listening there? Exporting again sends the same ids",
            ) from error


def _refused(answer: bytes) -> int:
    """Return how many spans an answer says were refused; one that is no JSON says nothing."""
    try:
        values = json.loads(answer or b"{}")
        return int(values.get("partialSuccess", {}).get("rejectedSpans", 0))
    except (ValueError, TypeError, AttributeError):
        return 0


def headers_of(texts: list[str]) -> dict[str, str]:
    """Return headers from texts such as ``name=value``.

    >>> headers_of(["api-key=abc"])
    {'api-key': 'abc'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not text.isprintable() or not text.isascii():
            raise ConfigurationError("--header: this is no header", hint="Write it like --header api-key=SECRET")
        found[name.strip()] = value.strip()
    return found
