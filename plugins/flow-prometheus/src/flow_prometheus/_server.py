"""Metrics over HTTP: a small server in threads of its own, which several tracers may share."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("flow.prometheus")

PATH = "/metrics"
_MOST_REQUESTS = 16
"""Scrapes at the same time; a connection beyond them is closed."""
_WAKES_EVERY_S = 0.1
"""Seconds after which the server notices at the latest that it is closed."""
_PATIENCE_S = 10.0
"""Seconds in which a client must have sent its request and taken the answer."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Answers ``GET /metrics`` with the metrics of a registry, in the format that the client asks for.

    :param host: name or address of the interface.
    :param port: 0 for any free one; `url` says which.

    Raises `OSError` when it cannot listen there.

    >>> from urllib.request import urlopen
    >>> server = MetricsServer(CollectorRegistry(), "127.0.0.1", 0)
    >>> urlopen(server.url).status
    200
    >>> server.close()
    """

    daemon_threads = True
    allow_reuse_port = False  # or two programs would take turns in answering
    request_queue_size = 64

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        family, address = _resolved(host, port)
        self.address_family = family
        self._free = threading.BoundedSemaphore(_MOST_REQUESTS)
        self._host = host
        super().__init__((address, port), _Handler)
        self.set_app(_application(_exposed(registry)))
        self._thread = threading.Thread(
            target=self.serve_forever, args=[_WAKES_EVERY_S], name="flow-prometheus", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.server_port}{PATH}"

    def close(self) -> None:
        """Stop answering and give the port free."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def server_bind(self) -> None:
        """Bind without asking name servers what this machine is called, as the library does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self._host, self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless there are too many already."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note that a client went away, or sent what is no HTTP: nothing that a program should print."""
        logger.debug("a request for metrics ended early: %r", sys.exception())


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:
        """Print no line for each scrape."""


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, str(address[0])


def _exposed(registry: CollectorRegistry) -> CollectorRegistry:
    """Return what is served for `registry`: in the client's multiprocess mode, the sums over all processes."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return registry
    merged = CollectorRegistry()
    MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
    return merged


def _application(registry: CollectorRegistry) -> WSGIApplication:
    metrics = make_wsgi_app(registry)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "").rstrip("/")
        if path not in ("", PATH):
            return _text(start_response, "404 Not Found", f"There is nothing here; the metrics are at {PATH}\n")
        if not path:
            return _text(start_response, "200 OK", f"Metrics of flow: {PATH}\n")
        try:
            return metrics(environ, start_response)  # type: ignore[no-any-return]
        except Exception:
            logger.exception("the metrics cannot be collected")
            return _text(start_response, "500 Internal Server Error", "The metrics cannot be collected: see the log\n")

    return application


def _text(start_response: StartResponse, status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]


class Serving:
    """One tracer's share in a server."""

    def __init__(self, key: _Key, server: MetricsServer) -> None:
        self._key = key
        self._server = server

    @property
    def url(self) -> str:
        """Where the metrics are."""
        return self._server.url

    def leave(self) -> None:
        """Give the share back; the last one stops the server. To be called once."""
        with _lock:
            server, shares = _servers[self._key]
            if shares > 1:
                _servers[self._key] = server, shares - 1
                return
            del _servers[self._key]
        server.close()


_Key = tuple[int, str, int]
_servers: dict[_Key, tuple[MetricsServer, int]] = {}
_lock = threading.Lock()


def served(registry: CollectorRegistry, host: str, port: int) -> Serving:
    """Return a share in the server of `registry` at `port`, which is started for the first one.

    Raises `OSError` when it cannot listen there.
    """
    key = (id(registry), host, port)
    with _lock:
        server, shares = _servers.get(key) or (MetricsServer(registry, host, port), 0)
        _servers[key] = server, shares + 1
    return Serving(key, server)
