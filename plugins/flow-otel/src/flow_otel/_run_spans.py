"""The span of a run: current while the run lasts, linked to the execution before it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, StatusCode, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flow import Run
from flow.privacy import texts_in
from flow_otel import _names as names
from flow_otel._content import attributes_of
from flow_otel._endings import totals_of
from flow_otel._failures import fail
from flow_otel._options import Options
from flow_otel._runs import Outcome, RunState, outcome_of
from flow_otel._steps import Sinks

_TRACEPARENT: Final = "traceparent"
_FORKED_FROM: Final = "forked_from"
_CONVERSATIONS: Final = (names.CONVERSATION_ID, "conversation_id")

_propagator = TraceContextTextMapPropagator()


@contextmanager
def around_run(run: Run, sinks: Sinks) -> Iterator[None]:
    """Trace a run, and keep in its metadata where it was traced: a later execution links to it."""
    state, started = RunState(), time.perf_counter()
    span = _begin(sinks.tracer, run)
    around = set_span_in_context(span)
    token = attach(around)
    _listen(run, state, span, sinks)
    raised: BaseException | None = None
    try:
        yield
    except BaseException as error:
        raised = error
        raise
    finally:
        sinks.runs.pop(run.run_id, None)
        detach(token)
        outcome = outcome_of(run, raised)
        _end(span, run, state, outcome, sinks.options)
        if sinks.instruments is not None:
            sinks.instruments.run(run.pipeline, time.perf_counter() - started, outcome, around)


def _begin(tracer: Tracer, run: Run) -> Span:
    told: dict[str, Any] = {
        names.OPERATION: names.INVOKE_WORKFLOW,
        names.WORKFLOW_NAME: run.pipeline,
        names.RUN_ID: run.run_id,
    }
    conversation = next((run.metadata[key] for key in _CONVERSATIONS if key in run.metadata), None)
    if conversation is not None:
        told[names.CONVERSATION_ID] = conversation
    if _FORKED_FROM in run.metadata:
        told[names.RUN_FORKED_FROM] = run.metadata[_FORKED_FROM]
    if run.resumed:
        told[names.RUN_RESUMED] = True
    return tracer.start_span(f"{names.INVOKE_WORKFLOW} {run.pipeline}", attributes=told, links=_links(run))


def _links(run: Run) -> list[Link]:
    """Return a link to the span of the execution before this one, when the stored run tells of one."""
    known = run.metadata.get(_TRACEPARENT)
    if known is None:
        return []
    around = _propagator.extract({_TRACEPARENT: known}, Context())
    earlier = get_current_span(around).get_span_context()
    if not earlier.is_valid or earlier.span_id == get_current_span().get_span_context().span_id:
        return []  # it is broken, or another tracer of this execution has left it
    return [Link(earlier, {names.LINK_REASON: "resumed" if run.resumed else "given"})]


def _listen(run: Run, state: RunState, span: Span, sinks: Sinks) -> None:
    """Begin to listen to what a run spends and streams, and leave in it where it is traced."""
    if span.is_recording():
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, set_span_in_context(span))
        run.metadata[_TRACEPARENT] = carrier[_TRACEPARENT]
    if run.spending is None:
        run.spending = {}
    run.spending[state] = state.spent
    if run.streaming is None:
        run.streaming = {}
    run.streaming[state] = state.streamed
    sinks.runs[run.run_id] = state


def _end(span: Span, run: Run, state: RunState, outcome: Outcome, options: Options) -> None:
    if span.is_recording():
        span.set_attribute(names.RUN_STATUS, outcome.status.value)
        if run.usage:
            span.set_attributes(totals_of(run.usage))
        if outcome.failed:
            _fail(span, state, outcome, options)
        if options.content:
            output = run.result.output if run.result is not None and run.result.success else None
            span.set_attributes(attributes_of(names.INVOKE_WORKFLOW, state.input, output, options.content_limit))
    span.end()


def _fail(span: Span, state: RunState, outcome: Outcome, options: Options) -> None:
    if outcome.error is not None:
        fail(span, outcome.error, state, lambda: texts_in(state.input), options.content)
    else:
        span.set_attribute(names.ERROR_TYPE, outcome.status.value)
        span.set_status(StatusCode.ERROR, outcome.status.value)
