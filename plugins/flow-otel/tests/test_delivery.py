"""What traces a run never disturbs it: exporters, processors and collectors that fail, are slow, or are not there."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from flow_otel import OtelTracer
from flow_otel._courier import Courier, Patience
from flow_otel._delivery import Delivery, guarded
from flow_otel._setup import Ours
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler

from flow import Flow, Pipeline, Step


async def echo(data: Any) -> Any:
    return data


class Broken(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise RuntimeError("the disk is full")


class BrokenAtTheStart(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("broken processor")


class BrokenAtTheEnd(SpanProcessor):
    def on_end(self, span: Any) -> None:
        raise RuntimeError("broken processor")


class BrokenSampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken sampler")

    def get_description(self) -> str:
        return "broken"


def flow_over(provider: TracerProvider) -> Flow[Any, Any]:
    steps = Pipeline([Step("one", echo), Step("two", echo, retries=1)]).as_step("sub") >> Step("three", str.upper)
    return Flow(steps, tracers=[OtelTracer(provider)])


async def test_an_exporter_that_raises_does_not_disturb() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Broken()))
    assert (await flow_over(provider).run_async("data")).output == "DATA"


@pytest.mark.parametrize("processor", [BrokenAtTheStart, BrokenAtTheEnd])
async def test_a_processor_that_raises_is_told_once(processor: Any, caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider()
    provider.add_span_processor(processor())
    assert (await flow_over(provider).run_async("data")).output == "DATA"
    told = [record for record in caplog.records if record.name == "flow.otel"]
    assert [record.getMessage()[:32] for record in told] == ["a step could not be traced; runs"]


async def test_a_sampler_that_raises_does_not_disturb(caplog: pytest.LogCaptureFixture) -> None:
    assert (await flow_over(TracerProvider(sampler=BrokenSampler())).run_async("data")).output == "DATA"
    assert "could not be traced" in caplog.text


# -- the way to the collector -----------------------------------------------------------------------------------------


def outcomes(delivery: Delivery, *results: Any) -> None:
    for result in results:
        delivery.attempt(lambda result=result: result, failed=False)  # type: ignore[misc]


def test_trouble_is_told_when_it_begins_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outcomes(Delivery("spans", "http://c:4318"), True, False, False, False, True, True, False)
    begins = "spans cannot be delivered to http://c:4318: no reason was given; runs go on, and this is not repeated"
    is_over = "spans are delivered to http://c:4318 again"
    told = [record.getMessage().removesuffix(" until it works again") for record in caplog.records]
    assert told == [begins, is_over, begins]


def test_an_exporter_that_raises_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    delivery = Delivery("spans", "here")
    exporter = guarded(Broken(), delivery, SpanExportResult.FAILURE)
    assert exporter.export(()) is SpanExportResult.FAILURE
    assert "spans cannot be delivered to here: RuntimeError: the disk is full;" in caplog.text


def test_what_the_exporter_logs_is_the_reason_and_is_not_repeated(
    refusing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = OTLPSpanExporter(endpoint=f"{refusing.endpoint}/v1/traces")
    guarded(exporter, Delivery("spans", refusing.endpoint), SpanExportResult.FAILURE)
    for _ in range(3):
        assert exporter.export(()) is SpanExportResult.FAILURE
    (record,) = caplog.records
    assert record.name == "flow.otel"
    assert "404" in record.getMessage()
    exporter.shutdown()


def test_what_other_exporters_log_is_left_alone(refusing: Any, caplog: pytest.LogCaptureFixture) -> None:
    guarded(OTLPSpanExporter(), Delivery("spans", "elsewhere"), SpanExportResult.FAILURE)
    exporter = OTLPSpanExporter(endpoint=f"{refusing.endpoint}/v1/traces")
    exporter.export(())
    assert [record.name for record in caplog.records] == ["opentelemetry.exporter.otlp.proto.http.trace_exporter"]
    exporter.shutdown()


def test_more_than_the_collector_takes_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()

    class Slow(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            gate.wait(10)
            return SpanExportResult.SUCCESS

    provider = TracerProvider(shutdown_on_exit=False)
    exporter = guarded(Slow(), Delivery("spans", "here"), SpanExportResult.FAILURE)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=4, max_export_batch_size=4))
    for number in range(50):
        provider.get_tracer("x").start_span(str(number)).end()
    gate.set()
    provider.shutdown()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["more is traced than the collector takes: what does not fit into the queue is dropped"]


# -- patience ---------------------------------------------------------------------------------------------------------


class Stuck:
    """A provider whose collector does not answer."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls: list[str] = []

    def force_flush(self) -> None:
        self.calls.append("flush")
        self.gate.wait(10)

    def shutdown(self) -> None:
        self.calls.append("shutdown")


async def test_closing_waits_for_a_limited_time_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    stuck = Stuck()
    ours = Ours(stuck, None, [Delivery("spans", "http://c:4318")], 0.1)  # type: ignore[arg-type]  # it is asked for these two methods only
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    beside = asyncio.create_task(turn())
    started = time.perf_counter()
    await ours.flush()
    assert time.perf_counter() - started < 2
    assert turns > 3
    beside.cancel()
    assert "spans cannot be delivered to http://c:4318: there was no answer within 0.1 seconds" in caplog.text
    started = time.perf_counter()
    ours.shut_down()  # what was not answered is not waited for again
    assert time.perf_counter() - started < 2
    stuck.gate.set()


async def test_nobody_waits_long_for_what_is_in_vain() -> None:
    stuck, delivery = Stuck(), Delivery("spans", "here")
    delivery.hear("connection refused, trying again in 1 s")
    started = time.perf_counter()
    await Ours(stuck, None, [delivery], 60).flush()  # type: ignore[arg-type]
    assert time.perf_counter() - started < 10
    stuck.gate.set()


def test_a_sign_of_trouble_is_not_told_when_it_works_after_all(caplog: pytest.LogCaptureFixture) -> None:
    delivery = Delivery("spans", "here")

    def export() -> bool:
        delivery.hear("trying again in 1 s")
        return True

    assert delivery.attempt(export, failed=False)
    assert not delivery.troubled
    assert caplog.records == []


async def test_what_is_flushed_in_time_is_waited_for() -> None:
    stuck = Stuck()
    stuck.gate.set()
    ours = Ours(stuck, None, [], 10)  # type: ignore[arg-type]
    await ours.flush()
    ours.shut_down()
    assert stuck.calls == ["flush", "shutdown"]


def test_work_that_raises_does_not_end_the_courier(caplog: pytest.LogCaptureFixture) -> None:
    courier = Courier()
    patience = Patience(5, 5, lambda: False)
    assert courier.wait_for(lambda: 1 / 0, patience)
    assert courier.wait_for(lambda: None, patience)
    assert "could not be delivered" in caplog.text


def test_a_reason_is_one_line_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    delivery = Delivery("spans", "here")
    delivery.hear("refused:\n\x1b[31mkey sk-live-0123456789abcdef " + "x" * 1000)
    delivery.give_up("")
    message = caplog.records[0].getMessage()
    assert "refused: ?[31mkey **** xxx" in message
    assert len(message) < 480
