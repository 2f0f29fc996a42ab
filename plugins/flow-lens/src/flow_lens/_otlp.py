"""Stored runs as OpenTelemetry spans, in the JSON form of OTLP.

The ids of spans are derived from the ids of runs and the paths of steps: who exports a run again gets the same ids. In
this form ids are hexadecimal and 64-bit integers are strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from flow.cli import metadata_of, questions_of
from flow_lens import _names as names
from flow_lens._content import UNKNOWN, Contents, as_text
from flow_lens._trace import COMPLETED, GROUP, Trace, TraceStep
from flow_lens._words import status_of

SPANS_AT_ONCE = 1_000
_INTERNAL, _ERROR = 1, 2
_FAILED = frozenset({"failed", "dead", "limit_exceeded", "deadline_exceeded"})
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_ERROR_CLASS = re.compile(r"([A-Za-z_][\w.]*): ")
_LONGEST_CONTENT = 8_000


def requests_of(trace: Trace, *, content: bool = False, service: str = "flow") -> Iterator[dict[str, Any]]:
    """Yield the ``ExportTraceServiceRequest`` messages that hold the spans of a run, as plain values.

    :param content: with the inputs and outputs of steps, secrets masked.
    :param service: the ``service.name`` of the resource.

    >>> from flow import RunRecord
    >>> run = RunRecord(run_id="one", pipeline="p", fingerprint="f", status="completed", created_at=1.5, updated_at=2.0)
    >>> [request] = requests_of(Trace(run=run))
    >>> span = request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    >>> span["name"], span["startTimeUnixNano"], len(span["traceId"]), len(span["spanId"])
    ('invoke_workflow p', '1500000000', 32, 16)
    """
    resource = {"attributes": _attributes({"service.name": service})}
    scope = {
        "name": "flow_lens",
        "version": version("flow-lens"),
        "attributes": _attributes({names.SCOPE_NAMES_VERSION: names.NAMES_VERSION}),
    }
    for spans in _in_pieces(spans_of(trace, content=content)):
        yield {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]}


def spans_of(trace: Trace, *, content: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the span of a run and one for each of its recorded steps."""
    spans = _Spans(trace, Contents(trace, content))
    yield spans.of_run()
    waiting = [(step, spans.root) for step in reversed(trace.steps)]
    while waiting:
        step, parent = waiting.pop()
        own = parent
        if step.kind != GROUP:
            own = spans.span_id(step.path)
            yield spans.of_step(step, own, parent)
        waiting += [(child, own) for child in reversed(step.children)]


class _Spans:
    """Makes the spans of one run."""

    def __init__(self, trace: Trace, contents: Contents) -> None:
        self._trace = trace
        self._contents = contents
        self._trace_id = _hashed("trace", trace.run.trace_id or trace.run.run_id)[:32]
        self.root = self.span_id("")

    def span_id(self, path: str) -> str:
        """Return the id of the span of a step; that of the run for no path."""
        return _hashed("span", self._trace.run.run_id, path)[:16]

    def of_run(self) -> dict[str, Any]:
        """Return the span of the run: from its beginning to its last change."""
        run = self._trace.run
        # A fork holds steps that are older than itself.
        begun = min([run.created_at, *(step.started_at for step in self._trace.steps if step.started_at)])
        ended = max([run.updated_at, run.created_at, *(step.ended_at for step in self._trace.steps)])
        metadata = metadata_of(run)
        attributes = {
            names.OPERATION: names.INVOKE_WORKFLOW,
            names.WORKFLOW_NAME: run.pipeline,
            names.RUN_ID: run.run_id,
            names.RUN_STATUS: run.status,
            names.CONVERSATION_ID: metadata.get(names.CONVERSATION_ID) or metadata.get("conversation_id"),
            names.TOTAL_COST: run.usage.cost_usd or None,
            names.TOTAL_INPUT_TOKENS: run.usage.input_tokens or None,
            names.TOTAL_OUTPUT_TOKENS: run.usage.output_tokens or None,
        }
        span = self._span(self.root, "", f"{names.INVOKE_WORKFLOW} {run.pipeline}", begun, ended)
        message = None if run.error is None else self._contents.told(run.error, *self._trace.steps[-1:])
        if run.status in _FAILED:
            attributes[names.ERROR_TYPE] = _error_class(run.error) or run.status
            span["status"] = _error(message)
        span["attributes"] = _attributes(attributes)
        span["links"] = list(_links(run.metadata))
        span["events"] = list(self._pauses(ended))
        return span

    def _pauses(self, at: float) -> Iterator[dict[str, Any]]:
        run = self._trace.run
        for question in questions_of(run).values() if run.status == "paused" else ():
            told = {names.STEP_PATH: question.path, names.PAUSE_QUESTION: self._contents.told(question.message)}
            yield _event(names.PAUSE_EVENT, question.since or at, told)

    def of_step(self, step: TraceStep, span_id: str, parent: str) -> dict[str, Any]:
        """Return the span of a step."""
        span = self._span(span_id, parent, step.name or step.label, step.started_at, step.ended_at)
        attributes = {
            names.STEP_PATH: step.path,
            names.STEP_NAME: step.name,
            names.STEP_KIND: step.kind or None,
            names.STEP_STATUS: status_of(step, self._trace.run),
            names.STEP_ATTEMPTS: step.attempts,
            names.STEP_FALLBACK: step.metadata.get("fallback_triggered"),
            names.STEP_ITERATIONS: step.metadata.get("iterations"),
            names.STEP_BRANCH: step.metadata.get("executed_branch_key"),
            **_usage(step),
            **self._content(step),
        }
        if step.failed:
            message = self._contents.told(step.error or step.feedback or "failed", step)
            attributes[names.ERROR_TYPE] = _error_class(step.error) or "failed"
            span["status"] = _error(message)
            told = {names.EXCEPTION_TYPE: _error_class(step.error), names.EXCEPTION_MESSAGE: message}
            span["events"] = [_event(names.EXCEPTION_EVENT, step.ended_at, told)]
        span["attributes"] = _attributes(attributes)
        return span

    def _content(self, step: TraceStep) -> dict[str, Any]:
        if not self._contents.shown:
            return {}
        values = {
            names.STEP_INPUT: self._contents.input_of(step),
            names.STEP_OUTPUT: self._contents.output_of(step) if step.status == COMPLETED else UNKNOWN,
        }
        return {name: as_text(value)[:_LONGEST_CONTENT] for name, value in values.items() if value is not UNKNOWN}

    def _span(self, span_id: str, parent: str, name: str, begun: float, ended: float) -> dict[str, Any]:
        span: dict[str, Any] = {"traceId": self._trace_id, "spanId": span_id}
        if parent:
            span["parentSpanId"] = parent
        return {
            **span,
            "name": name,
            "kind": _INTERNAL,
            "startTimeUnixNano": _nanoseconds(begun),
            "endTimeUnixNano": _nanoseconds(max(begun, ended)),
        }


def _usage(step: TraceStep) -> dict[str, Any]:
    """Return what a step has spent itself, so that sums over a trace are right, and what was spent in it."""
    own, total = step.own_usage, step.usage
    found = {
        names.COST: own.cost_usd if own.cost_usd > 1e-12 else None,  # sums of prices are not exact in binary
        names.INPUT_TOKENS: own.input_tokens or None,
        names.OUTPUT_TOKENS: own.output_tokens or None,
    }
    if step.children and total:
        found |= {
            names.TOTAL_COST: total.cost_usd or None,
            names.TOTAL_INPUT_TOKENS: total.input_tokens or None,
            names.TOTAL_OUTPUT_TOKENS: total.output_tokens or None,
        }
    return found


def _links(metadata: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield a link to the span that was made while the run was executed, if one was."""
    known = _TRACEPARENT.fullmatch(metadata.get("traceparent", ""))
    if known:
        yield {
            "traceId": known[1],
            "spanId": known[2],
            "attributes": _attributes({names.LINK_REASON: "executed"}),
        }


def _event(name: str, at: float, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "timeUnixNano": _nanoseconds(at), "attributes": _attributes(attributes)}


def _error(message: str | None) -> dict[str, Any]:
    return {"code": _ERROR, **({"message": message} if message else {})}


def _error_class(error: str | None) -> str | None:
    found = _ERROR_CLASS.match(error or "")
    return found[1] if found else None


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}


def _nanoseconds(at: float) -> str:
    seconds, rest = divmod(at, 1.0)
    return str(int(seconds) * 1_000_000_000 + int(rest * 1_000_000_000))


def _hashed(*parts: str) -> str:
    return sha256("\0".join(("flow", *parts)).encode()).hexdigest()


def _in_pieces(spans: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    piece: list[dict[str, Any]] = []
    for span in spans:
        piece.append(span)
        if len(piece) == SPANS_AT_ONCE:
            yield piece
            piece = []
    if piece:
        yield piece
