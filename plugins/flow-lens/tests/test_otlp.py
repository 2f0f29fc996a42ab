"""Exported spans have the right parents, times and states, in the JSON form of OTLP, and a receiver gets them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import orjson
import pytest
from flow_lens import Trace, requests_of, spans_of
from flow_lens._otlp import SPANS_AT_ONCE
from flow_lens._sending import NotDelivered, Receiver, headers_of
from hypothesis import given
from hypothesis import strategies as st

from flow import ConfigurationError, StepRecord

Make = Callable[..., StepRecord]
MakeTrace = Callable[..., Trace]


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values())) for item in span["attributes"]}


@pytest.fixture
def trace(make_step: Make, trace_of: MakeTrace) -> Trace:
    return trace_of(
        make_step("0:a", took=2, cost=0.5, output=b'"the secret plan of a"'),
        make_step("1:loop/i1/0:x", at=2, cost=0.25, parent="1:loop"),
        make_step("1:loop/i1/1:y", at=3, parent="1:loop"),
        make_step("1:loop", at=2, took=2, cost=0.25, kind="loop", metadata=b'{"iterations": 1}'),
        make_step("2:bad", at=4, status="failed", output=None, error="OSError: disk; caused by IOError: x"),
        status="failed",
        error="step '2:bad' failed",
        metadata={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
    )


def test_parents_are_the_enclosing_steps(trace: Trace) -> None:
    spans = list(spans_of(trace))
    by_path = {attributes(span).get("flow.step.path", ""): span for span in spans}
    root = by_path[""]
    assert "parentSpanId" not in root
    assert by_path["0:a"]["parentSpanId"] == root["spanId"]
    assert by_path["1:loop/i1/0:x"]["parentSpanId"] == by_path["1:loop"]["spanId"]  # iterations are no spans
    assert len({span["spanId"] for span in spans}) == len(spans) == 6
    assert {span["traceId"] for span in spans} == {root["traceId"]}


def test_ids_and_times_have_the_form_of_otlp(trace: Trace) -> None:
    for span in spans_of(trace):
        assert bytes.fromhex(span["traceId"])
        assert len(span["traceId"]) == 32
        assert len(bytes.fromhex(span["spanId"])) == 8
        assert span["kind"] == 1
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        assert isinstance(span["startTimeUnixNano"], str)
    first = list(spans_of(trace))[1]
    assert (first["startTimeUnixNano"], first["endTimeUnixNano"]) == ("1700000000000000000", "1700000002000000000")


def test_exporting_twice_gives_the_same(trace: Trace) -> None:
    assert list(requests_of(trace)) == list(requests_of(trace))


def test_another_run_has_other_ids(make_step: Make, trace_of: MakeTrace) -> None:
    ids = [next(iter(spans_of(trace_of(make_step("0:a"), run_id=run_id))))["spanId"] for run_id in ("one", "two")]
    assert len(set(ids)) == 2


def test_failures_have_a_status_a_class_and_an_event(trace: Trace) -> None:
    *_, failed = spans_of(trace)
    assert failed["status"] == {"code": 2, "message": "OSError: disk; caused by IOError: x"}
    assert attributes(failed)["error.type"] == "OSError"
    (event,) = failed["events"]
    assert event["name"] == "exception"
    assert attributes(event)["exception.type"] == "OSError"
    root, completed, *_ = spans_of(trace)
    assert root["status"]["code"] == 2
    assert "status" not in completed


def test_costs_add_up_over_a_trace(trace: Trace) -> None:
    own = [attributes(span).get("flow.usage.cost_usd", 0.0) for span in spans_of(trace)]
    assert sum(own) == pytest.approx(0.75)


def test_the_span_of_the_execution_is_linked(trace: Trace) -> None:
    root = next(iter(spans_of(trace)))
    assert root["name"] == "invoke_workflow essay"
    assert (root["links"][0]["traceId"], root["links"][0]["spanId"]) == ("a" * 32, "b" * 16)


@pytest.mark.parametrize("text", ["", "00-zz-yy-01", "nonsense"])
def test_a_traceparent_that_is_none_is_no_link(text: str, trace_of: MakeTrace) -> None:
    assert next(iter(spans_of(trace_of(metadata={"traceparent": text}))))["links"] == []


def test_content_is_exported_only_on_request(trace: Trace) -> None:
    assert "secret plan" not in orjson.dumps(list(requests_of(trace))).decode()
    assert "secret plan" in orjson.dumps(list(requests_of(trace, content=True))).decode()


def test_long_runs_are_sent_in_pieces(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(*[make_step(f"0:each/{number}/0:x", parent="0:each") for number in range(SPANS_AT_ONCE)])
    sizes = [len(request["resourceSpans"][0]["scopeSpans"][0]["spans"]) for request in requests_of(trace)]
    assert sizes == [SPANS_AT_ONCE, 2]


def test_questions_of_a_paused_run_are_events(trace_of: MakeTrace) -> None:
    pending = orjson.dumps([{"path": "1:ok", "message": "Publish?", "since": 1_700_000_005.0}])
    root = next(iter(spans_of(trace_of(status="paused", pending=pending))))
    assert root["events"][0]["name"] == "flow.pause"
    assert root["events"][0]["timeUnixNano"] == "1700000005000000000"
    assert "status" not in root


@given(st.floats(0, 4e9), st.floats(0, 1e6))
def test_any_time_is_a_64_bit_integer_in_order(begun: float, took: float) -> None:
    from flow_lens._otlp import _nanoseconds

    assert 0 <= int(_nanoseconds(begun)) <= int(_nanoseconds(begun + took)) < 1 << 63


# -- sending


@attrs.define
class Collector:
    """A receiver on loopback and what it got."""

    url: str
    got: list[tuple[str, dict[str, str], dict[str, Any]]] = attrs.field(factory=list)
    answer: tuple[int, bytes] = (200, b"{}")


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append(
                (self.path, {name.lower(): value for name, value in self.headers.items()}, json.loads(body))
            )
            code, text = found.answer
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def test_a_receiver_gets_the_messages(collector: Collector, trace: Trace) -> None:
    receiver = Receiver(collector.url, {"api-key": "abc"})
    assert [receiver.send(request) for request in requests_of(trace)] == [0]
    ((path, headers, message),) = collector.got
    assert path == "/v1/traces"
    assert headers["content-type"] == "application/json"
    assert headers["api-key"] == "abc"
    spans = message["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [span["name"] for span in spans] == ["invoke_workflow essay", "a", "loop", "x", "y", "bad"]
    assert attributes(message["resourceSpans"][0]["resource"]) == {"service.name": "flow"}


def test_the_command_sends_runs_and_says_how_many(
    collector: Collector, lens: Callable[..., Any], fill: Any, make_step: Make
) -> None:
    asyncio.run(fill("run-1", make_step("0:a")))
    asyncio.run(fill("run-2", make_step("0:a")))
    options = ("export", "--format", "otlp", "--endpoint", collector.url, "--header", "api-key=geheim")
    done = lens(*options)
    assert (done.code, done.out, done.err) == (0, "", f"2 runs sent to {collector.url}\n")
    assert [headers["api-key"] for _, headers, _ in collector.got] == ["geheim", "geheim"]
    collector.answer = (200, b'{"partialSuccess": {"rejectedSpans": 1}}')
    refused = lens(*options)
    assert refused.code == 1
    assert "2 spans refused" in refused.err


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (b'{"partialSuccess": {"rejectedSpans": "3"}}', 3),
        (b"{}", 0),
        (b"", 0),
        (b"<html>", 0),
        (b"[]", 0),
        (b"null", 0),
    ],
)
def test_refused_spans_are_counted(answer: bytes, refused: int, collector: Collector) -> None:
    collector.answer = (200, answer)
    assert Receiver(collector.url).send({}) == refused


@pytest.mark.parametrize(
    ("code", "says"), [(404, "404 Not Found: no such \\x1b[31m page"), (503, "503 Service Unavailable")]
)
def test_what_a_receiver_answers_instead_is_told(code: int, says: str, collector: Collector) -> None:
    collector.answer = (code, b"no such \x1b[31m page")
    with pytest.raises(NotDelivered) as error:
        Receiver(collector.url).send({})
    assert says in error.value.message


def test_a_receiver_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(NotDelivered) as error:
        Receiver("http://me:geheim@127.0.0.1:1/v1/traces", timeout_s=5).send({})
    assert "http://me:***@127.0.0.1:1/v1/traces cannot be reached" in error.value.message


@pytest.mark.parametrize("url", ["", "127.0.0.1:4318", "file:///etc/passwd", "ftp://host/", "http://", "http://[::1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Receiver(url)


@pytest.mark.parametrize("text", ["novalue", "=x", "a=b\nc: d", "ü=1"])
def test_a_header_that_is_none_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        headers_of([text])
    assert text not in str(error.value)
