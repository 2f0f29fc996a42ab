"""Whole programs that are traced to a collector on loopback: what it was sent, decoded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from flow_testkit import FlowTester, Outcome
from opentelemetry.proto.trace.v1.trace_pb2 import Status

APP = """
    from flow import Flow, Pipeline, Step

    class Poet:
        async def run(self, data, run):
            run.usage.add(cost_usd=0.5, input_tokens=12, output_tokens=3)
            return f"a poem about {data}"

    failing = [True]

    def flaky(data):
        if failing.pop():
            failing.append(False)
            raise ConnectionError("reset by peer")
        return data

    inner = Step("poet", Poet()) >> Step("call", flaky, retries=1)
    pipeline = Pipeline([inner.as_step("write"), Step("shout", str.upper)], name="verses")
"""
MAIN = """
    from opentelemetry import trace

    from app import pipeline
    from flow import Flow

    flow = Flow(pipeline, tracers=["otel"], state="memory://")
    print(flow.run("the sea at night").status)
    with trace.get_tracer("mine").start_as_current_span("my own"):
        pass
"""


PATIENT = "[otel]\nflush_timeout = 60\n"
"""Settings of programs whose collector is there: it is not the machine's speed that is tested."""


@pytest.fixture
def program(tmp_path: Path) -> FlowTester:
    tester = FlowTester(tmp_path)
    tester.write("app.py", APP)
    tester.write("main.py", MAIN)
    tester.write("flow.toml", PATIENT)
    return tester


@attrs.frozen
class Sent:
    """What one program has sent and printed."""

    received: Any
    outcome: Outcome


@pytest.fixture(scope="module", params=["http/protobuf", "grpc"])
def sent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, collectors: Any) -> Iterator[Sent]:
    """What the program sends by each protocol, when it is set up with variables alone."""
    tester = FlowTester(tmp_path_factory.mktemp("program"))
    tester.write("app.py", APP)
    tester.write("main.py", MAIN)
    tester.write("flow.toml", PATIENT)
    with collectors[request.param]() as received:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": request.param,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=letmein",
            "OTEL_SERVICE_NAME": "poetry",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        yield Sent(received, tester.run_python("main.py", env=variables).assert_success())


def test_spans_arrive_as_they_were_made(sent: Sent, attributes_of: Any) -> None:
    collector = sent.received
    assert (sent.outcome.stdout.strip(), sent.outcome.stderr) == ("completed", "")
    assert sorted(span.name for span in collector.spans) == [
        "attempt 1",
        "attempt 2",
        "invoke_agent poet",
        "invoke_workflow verses",
        "my own",
        "pipeline write",
        "step call",
        "step shout",
    ]
    run, write, call = (collector.span(name) for name in ("invoke_workflow verses", "pipeline write", "step call"))
    assert run.parent_span_id == b""
    assert write.parent_span_id == collector.span("step shout").parent_span_id == run.span_id
    assert call.parent_span_id == collector.span("invoke_agent poet").parent_span_id == write.span_id
    assert collector.span("attempt 1").parent_span_id == collector.span("attempt 2").parent_span_id == call.span_id
    assert collector.span("my own").parent_span_id == b""
    assert {span.trace_id for span in collector.spans} == {run.trace_id, collector.span("my own").trace_id}
    told = attributes_of(run)
    assert told["gen_ai.operation.name"] == "invoke_workflow"
    assert told["gen_ai.workflow.name"] == "verses"
    assert told["flow.run.status"] == "completed"
    told = attributes_of(collector.span("invoke_agent poet"))
    assert (told["gen_ai.usage.input_tokens"], told["flow.usage.cost_usd"]) == (12, 0.5)
    assert told["flow.step.path"] == "0:write/0:poet"
    assert attributes_of(call)["flow.step.attempts"] == 2
    assert [event.name for event in call.events] == ["flow.retry"]
    assert collector.span("attempt 1").status.code == Status.STATUS_CODE_ERROR
    assert collector.span("attempt 1").events[0].name == "exception"
    assert run.start_time_unix_nano <= write.start_time_unix_nano <= write.end_time_unix_nano <= run.end_time_unix_nano


def test_the_resource_and_the_headers_are_those_of_the_variables(sent: Sent) -> None:
    collector = sent.received
    assert collector.resource["service.name"] == "poetry"
    assert collector.resource["deployment.environment.name"] == "test"
    assert collector.headers[0]["x-key"] == "letmein"
    assert {scope.name for scope in collector.scopes} == {"flow_otel", "mine"}


def test_metrics_arrive(sent: Sent, attributes_of: Any) -> None:
    collector = sent.received
    assert collector.metric_names >= {
        "gen_ai.invoke_workflow.duration",
        "gen_ai.invoke_agent.duration",
        "flow.step.duration",
        "flow.step.attempts",
        "flow.usage.tokens",
        "flow.usage.cost",
    }
    metrics = [metric for request in collector.metrics for resource in request.resource_metrics
               for scope in resource.scope_metrics for metric in scope.metrics]  # fmt: skip
    (run,) = [metric for metric in metrics if metric.name == "gen_ai.invoke_workflow.duration"]
    (point,) = run.histogram.data_points
    assert list(point.explicit_bounds) == [1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200]
    assert attributes_of(point) == {"gen_ai.workflow.name": "verses", "flow.run.status": "completed"}


def test_no_content_is_on_the_wire(sent: Sent) -> None:
    requests = (*sent.received.traces, *sent.received.metrics)
    assert not [text for text in (b"the sea", b"poem") for item in requests if text in item.SerializeToString()]


def test_content_is_on_the_wire_where_it_is_asked_for(program: FlowTester, over_http: Any) -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": over_http.endpoint,
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
    }
    program.run_python("main.py", env=variables).assert_success()
    assert b"a poem about the sea" in b"".join(request.SerializeToString() for request in over_http.traces)


def test_a_resumed_run_is_linked_across_processes(program: FlowTester, over_http: Any, attributes_of: Any) -> None:
    program.write(
        "resume.py",
        """
        import sys

        from flow import Flow, Pipeline, Step
        from flow_testkit import KernelFactory
        import store

        def work(data):
            if sys.argv[1] == "fail":
                raise ValueError("no")
            return data

        flow = Flow(Step("first", str.upper) >> Step("work", work), tracers=["otel"], state=store.FileStore())
        run = flow.run("data", run_id="r1") if sys.argv[1] == "fail" else flow.resume("r1")
        print(run.status)
        """,
    )
    # A store in a file, of the kernel's own in memory: this package is tested without those of other packages.
    program.write(
        "store.py",
        """
        import pathlib, pickle

        from flow import Kernel, Settings

        PATH = pathlib.Path("runs.bin")

        class FileStore:
            def __init__(self):
                self._inner = Kernel(Settings(), only=[]).open_state("memory://")
                if PATH.exists():
                    vars(self._inner).update(pickle.loads(PATH.read_bytes()))

            def __getattr__(self, name):
                method = getattr(self._inner, name)

                async def call(*args, **kwargs):
                    result = await method(*args, **kwargs)
                    PATH.write_bytes(pickle.dumps(vars(self._inner)))
                    return result

                return call
        """,
    )
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": over_http.endpoint, "OTEL_METRICS_EXPORTER": "none"}
    program.run_python("resume.py", "fail", env=variables).assert_success()
    program.run_python("resume.py", "resume", env=variables).assert_success()
    first, second = (span for span in over_http.spans if span.name == "invoke_workflow pipeline")
    (link,) = second.links
    assert (link.trace_id, link.span_id) == (first.trace_id, first.span_id)
    assert attributes_of(link) == {"flow.link.reason": "resumed"}
    replayed = [attributes_of(span) for span in over_http.spans if span.name == "step first"]
    assert [told.get("flow.step.replayed") for told in replayed] == [None, True]


# -- how it is set up -------------------------------------------------------------------------------------------------


def test_the_command_line_traces_with_settings(program: FlowTester, over_http: Any) -> None:
    program.write(
        "flow.toml",
        f"""
        [otel]
        endpoint = "{over_http.endpoint}/"
        service_name = "from the settings"
        resource = {{ team = "poets" }}
        headers = {{ x-key = "from the settings" }}
        metrics = "none"
        flush_timeout = 60
        """,
    )
    wrong = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SERVICE_NAME": "from a variable"}
    outcome = program.run("run", "app.py", "--input", "tea", "--trace", "otel", env=wrong)
    outcome.assert_success().no_traceback()
    assert over_http.resource["service.name"] == "from the settings"
    assert over_http.resource["team"] == "poets"
    assert over_http.headers[0]["x-key"] == "from the settings"
    assert over_http.metrics == []


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER must be one of otlp, console, none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL must be one of http/protobuf, grpc"),
    ],
)
def test_a_wrong_variable_is_wrong_use(program: FlowTester, name: str, value: str, error: str) -> None:
    outcome = program.run("run", "app.py", "--input", "tea", "--trace", "otel", env={name: value})
    outcome.assert_failed(code=2, error=error).no_traceback()


def test_a_missing_package_is_named_with_the_command_that_installs_it(program: FlowTester) -> None:
    program.write("grpc.py", 'raise ImportError("No module named grpc")')
    env = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "PYTHONPATH": str(program.path)}
    outcome = program.run("run", "app.py", "--input", "tea", "--trace", "otel", env=env)
    outcome.assert_failed(code=2, error="pip install 'flow-otel[grpc]'").no_traceback()


def test_spans_may_be_printed(program: FlowTester) -> None:
    env = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"}
    outcome = program.run_python("main.py", env=env).assert_success()
    assert outcome.stdout.strip() == "completed"
    assert '"name": "invoke_workflow verses"' in outcome.stderr


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}],
    ids=["disabled", "none"],
)
def test_it_may_be_switched_off(program: FlowTester, over_http: Any, variables: dict[str, str]) -> None:
    env = {**variables, "OTEL_EXPORTER_OTLP_ENDPOINT": over_http.endpoint}
    outcome = program.run_python("main.py", env=env).assert_success()
    assert (outcome.stdout.strip(), outcome.stderr) == ("completed", "")
    assert over_http.headers == []


def test_metrics_may_go_alone(program: FlowTester, over_http: Any) -> None:
    env = {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": over_http.endpoint}
    program.run_python("main.py", env=env).assert_success()
    assert over_http.spans == []
    assert "flow.step.duration" in over_http.metric_names


@pytest.mark.parametrize(("sampler", "count"), [("always_off", 0), ("always_on", 8)])
def test_the_sampler_is_that_of_the_variable(program: FlowTester, over_http: Any, sampler: str, count: int) -> None:
    env = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_EXPORTER_OTLP_ENDPOINT": over_http.endpoint}
    program.run_python("main.py", env=env).assert_success()
    assert len(over_http.spans) == count


def test_what_the_program_has_installed_goes_first(program: FlowTester, over_http: Any) -> None:
    program.write(
        "installed.py",
        """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from app import pipeline
        from flow import Flow

        flow = Flow(pipeline, tracers=["otel"])
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        flow.run("tea")
        print(len(exporter.get_finished_spans()))
        """,
    )
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": over_http.endpoint}
    assert program.run_python("installed.py", env=env).assert_success().stdout == "7\n"
    assert over_http.headers == []


def test_several_flows_share_what_was_set_up(program: FlowTester, over_http: Any) -> None:
    program.write(
        "several.py",
        """
        import asyncio

        from app import pipeline
        from flow import Flow

        async def main():
            for _ in range(3):
                async with Flow(pipeline, tracers=["otel"]) as flow:
                    await flow.run_async("tea")

        asyncio.run(main())
        print("over")
        """,
    )
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": over_http.endpoint}
    assert program.run_python("several.py", env=env).assert_success().stderr == ""
    assert len([span for span in over_http.spans if span.name == "invoke_workflow verses"]) == 3
    assert len(over_http.traces) == 3  # each was sent when its flow was closed


# -- a collector that is not there ------------------------------------------------------------------------------------


def test_a_collector_that_is_not_there_neither_delays_nor_chatters(program: FlowTester) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_METRICS_EXPORTER": "none"}
    started = time.monotonic()
    outcome = program.run_python("main.py", env=env).assert_success()
    assert outcome.stdout.strip() == "completed"
    assert time.monotonic() - started < 30
    (line,) = outcome.stderr.strip().splitlines()
    assert line.startswith("spans cannot be delivered to http://127.0.0.1:1: ")
    assert "refused" in line


def test_a_collector_that_refuses_is_told_once(program: FlowTester, refusing: Any) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": refusing.endpoint, "OTEL_METRICS_EXPORTER": "none"}
    outcome = program.run_python("main.py", env=env).assert_success()
    (line,) = outcome.stderr.strip().splitlines()
    assert line.startswith(f"spans cannot be delivered to {refusing.endpoint}: ")
    assert "404" in line


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_ends_as_usual(program: FlowTester, over_http: Any) -> None:
    program.write(
        "forked.py",
        """
        import os, warnings

        warnings.simplefilter("ignore")  # of forking with threads, which is what this is about
        from app import pipeline
        from flow import Flow

        flow = Flow(pipeline, tracers=["otel"])
        flow.run("tea")
        child = os.fork()
        flow.run("tea")
        if child:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
    )
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": over_http.endpoint, "OTEL_METRICS_EXPORTER": "none"}
    assert program.run_python("forked.py", env=env).assert_success().stdout == "0\n"
    assert len([span for span in over_http.spans if span.name == "invoke_workflow verses"]) == 3


# -- connecting a program before its first run ------------------------------------------------------------------------


def test_a_program_is_connected_before_its_first_run(program: FlowTester, over_http: Any) -> None:
    program.write(
        "connected.py",
        """
        from app import pipeline
        from flow import Flow
        from flow_otel import init_telemetry
        from opentelemetry import trace

        init_telemetry(service_name="connected")
        init_telemetry(service_name="too late")
        with trace.get_tracer("mine").start_as_current_span("request"):
            Flow(pipeline, tracers=["otel"]).run("tea")
        """,
    )
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": over_http.endpoint, "OTEL_METRICS_EXPORTER": "none"}
    program.run_python("connected.py", env=env).assert_success()
    assert over_http.resource["service.name"] == "connected"
    (mine,) = (span for span in over_http.spans if span.name == "request")
    (run,) = (span for span in over_http.spans if span.name == "invoke_workflow verses")
    assert run.parent_span_id == mine.span_id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("endpont='http://c:1'", "the otel table: unknown setting endpont. Did you mean endpoint?"),
        ("protocol='http'", "protocol must be one of http/protobuf, grpc"),
        ("content=True", "content is up to each tracer, not to the process"),
    ],
)
def test_a_program_that_is_connected_wrongly_is_told_at_once(program: FlowTester, options: str, message: str) -> None:
    program.write("wrong.py", f"from flow_otel import init_telemetry\n\ninit_telemetry({options})\n")
    assert message in program.run_python("wrong.py").assert_failed(code=1).stderr
