"""Spans and metrics in memory, a collector on loopback, and a step type whose children run side by side."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import grpc
import pytest
from flow_otel import OtelTracer
from flow_testkit import KernelFactory
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flow import BaseStep, Flow, PauseSignal, RunResult, Scope, StepResult, hookimpl


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine that runs the tests says of telemetry is left out."""
    import os

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


# -- side by side -----------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Both(BaseStep[Any, Any]):
    """Runs its branches at the same time."""

    kind = "both"
    branches: Mapping[str, Any] = attrs.field(factory=dict, hash=False)

    def children(self) -> Mapping[str, Any]:
        return self.branches


@attrs.frozen(kw_only=True)
class Times(BaseStep[Any, Any]):
    """Runs its body several times."""

    kind = "times"
    body: Any = None
    count: int = 2

    def children(self) -> Mapping[str, Any]:
        return {"body": self.body}


class Kinds:
    """Binds `Both` and `Times`."""

    @hookimpl
    def flow_bind_step(self, step: Any, binder: Any) -> Any:
        if isinstance(step, Both):
            return self._both(step, {label: binder.bind(child) for label, child in step.children().items()})
        return self._times(step, binder.bind(step.body)) if isinstance(step, Times) else None

    def _both(self, step: Both, branches: Mapping[str, Any]) -> Any:
        async def both(data: Any, scope: Scope) -> StepResult:
            scopes = {label: scope.branch(label) for label in branches}
            tasks = [asyncio.create_task(run(data, scopes[label])) for label, run in branches.items()]
            done = await asyncio.gather(*tasks, return_exceptions=True)
            signals = [item for item in done if isinstance(item, PauseSignal)]
            if signals:
                raise PauseSignal.join(signals)
            for item in done:
                if isinstance(item, BaseException):
                    raise item
            failed = next((item for item in done if not item.success), None)
            if failed is not None:
                return StepResult.failed(step, failed.feedback or "", failed.error)
            return StepResult.ok(step, [item.output for item in done])

        return both

    def _times(self, step: Times, execute: Any) -> Any:
        async def times(data: Any, scope: Scope) -> StepResult:
            for number in range(step.count):
                result = await execute(data, scope.child(f"i{number}"))
                if not result.success:
                    return StepResult.failed(step, result.feedback, result.error)
                data = result.output
            return StepResult.ok(step, data, metadata={"iterations": step.count})

        return times


@pytest.fixture
def both() -> type[Both]:
    return Both


@pytest.fixture
def times() -> type[Times]:
    return Times


# -- in memory --------------------------------------------------------------------------------------------------------


class Traced:
    """Runs pipelines with a tracer whose spans and metrics stay in memory."""

    def __init__(self, *, metrics: bool = False, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader]) if metrics else None
        self.tracer = OtelTracer(self.provider, meters, **options)
        self.kernel = KernelFactory()(plugins=[Kinds()])

    def flow(self, pipeline: Any, **options: Any) -> Flow[Any, Any]:
        return Flow(pipeline, tracers=[self.tracer], kernel=self.kernel, **options)

    async def run(self, pipeline: Any, data: Any = "data", **options: Any) -> RunResult[Any]:
        return await self.flow(pipeline, **options).run_async(data)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order in which they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def span(self, name: str) -> ReadableSpan:
        """The one span of a name."""
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, f"{len(found)} spans are called {name!r}: {[span.name for span in self.spans]}"
        return found[0]

    @property
    def run_span(self) -> ReadableSpan:
        """The last span of a run."""
        return [span for span in self.spans if span.name.startswith("invoke_workflow ")][-1]

    def parent(self, name: str) -> str | None:
        """The name of the span around the one of a name."""
        parent = self.span(name).parent
        if parent is None:
            return None
        return next((span.name for span in self.spans if span.context.span_id == parent.span_id), "outside")

    def events(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        """The events of the one span of a name."""
        return [(event.name, dict(event.attributes or {})) for event in self.span(name).events]

    @property
    def told(self) -> str:
        """Everything that would leave the process, as one text."""
        return "\n".join(span.to_json() for span in self.spans)

    def points(self, metric: str) -> list[tuple[dict[str, Any], Any]]:
        """The points of a metric: attributes, and the value of a counter or the point of a histogram."""
        found: list[tuple[dict[str, Any], Any]] = []
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for item in scope.metrics:
                    if item.name == metric:
                        points: Any = item.data.data_points
                        found += [(dict(point.attributes), vars(point).get("value", point)) for point in points]
        return found


@pytest.fixture
def traced() -> type[Traced]:
    """Makes what runs pipelines with a tracer whose spans and metrics stay in memory."""
    return Traced


# -- a collector ------------------------------------------------------------------------------------------------------


class Received:
    """What a collector was sent, decoded."""

    def __init__(self) -> None:
        self.traces: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self.metrics: list[metrics_service_pb2.ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.endpoint = ""

    @property
    def spans(self) -> list[Any]:
        return [span for request in self.traces for resource in request.resource_spans
                for scope in resource.scope_spans for span in scope.spans]  # fmt: skip

    @property
    def scopes(self) -> list[Any]:
        return [scope.scope for request in self.traces for resource in request.resource_spans
                for scope in resource.scope_spans]  # fmt: skip

    @property
    def resource(self) -> dict[str, Any]:
        return attributes(self.traces[0].resource_spans[0].resource)

    @property
    def metric_names(self) -> set[str]:
        return {metric.name for request in self.metrics for resource in request.resource_metrics
                for scope in resource.scope_metrics for metric in scope.metrics}  # fmt: skip

    def span(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found


def attributes(item: Any) -> dict[str, Any]:
    """Return the attributes of a message as plain values."""
    return {pair.key: plain(pair.value) for pair in item.attributes}


def plain(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@pytest.fixture
def attributes_of() -> Any:
    return attributes


class _HttpCollector(BaseHTTPRequestHandler):
    received: Received
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.headers.append({name.lower(): value for name, value in self.headers.items()})
        assert self.headers["Content-Type"] == "application/x-protobuf"
        reply: Any
        if self.path == "/v1/traces":
            self.received.traces.append(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
            reply = trace_service_pb2.ExportTraceServiceResponse()
        else:
            assert self.path == "/v1/metrics"
            self.received.metrics.append(metrics_service_pb2.ExportMetricsServiceRequest.FromString(body))
            reply = metrics_service_pb2.ExportMetricsServiceResponse()
        content = reply.SerializeToString()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@contextlib.contextmanager
def http_collector(status: int = 200) -> Iterator[Received]:
    received = Received()
    handler = type("Handler", (_HttpCollector,), {"received": received, "status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    received.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, received: Received) -> None:
        self._received = received

    def Export(self, request: Any, context: Any) -> Any:
        self._received.headers.append(dict(context.invocation_metadata()))
        self._received.traces.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, received: Received) -> None:
        self._received = received

    def Export(self, request: Any, context: Any) -> Any:
        self._received.metrics.append(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


@contextlib.contextmanager
def grpc_collector() -> Iterator[Received]:
    received = Received()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(received), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(received), server)
    received.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield received
    finally:
        server.stop(0).wait()


@pytest.fixture(scope="session")
def collectors() -> dict[str, Any]:
    """What makes a collector that is spoken to by each protocol."""
    return {"http/protobuf": http_collector, "grpc": grpc_collector}


@pytest.fixture
def over_http() -> Iterator[Received]:
    """A collector that is spoken to by HTTP."""
    with http_collector() as received:
        yield received


@pytest.fixture
def refusing() -> Iterator[Received]:
    """A collector that takes nothing."""
    with http_collector(status=404) as received:
        yield received
