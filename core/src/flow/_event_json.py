"""Events as JSON: what a log of events holds, and the schema that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from pydantic_core import to_jsonable_python

from ._events import EVENT_SCHEMA, Event, EventKind
from ._results import DECISIONS, RunResult, StepResult
from ._usage import Usage
from .errors import ErrorCategory, FlowError
from .events import PAYLOADS
from .privacy import MASK, is_secret_name, mask, shortened

_TEXT, _NUMBER, _COUNT, _FLAG = {"type": "string"}, {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
_OPTIONAL_NUMBER, _OPTIONAL_COUNT = {"type": ["number", "null"]}, {"type": ["integer", "null"]}
_TEXTS = {"type": "array", "items": _TEXT}
_ANYTHING: dict[str, Any] = {}


def _object(properties: Mapping[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    names = list(properties) if required is None else list(required)
    return {"type": "object", "properties": dict(properties), "required": names, "additionalProperties": False}


_ERROR = _object(
    {"type": _TEXT, "code": _TEXT, "category": _TEXT, "path": _TEXT, "message": _TEXT, "hint": _TEXT}, required=["type"]
)
_OPTIONAL_ERROR = {"anyOf": [_ERROR, {"type": "null"}]}
_USAGE = _object({"cost_usd": _NUMBER, "input_tokens": _COUNT, "output_tokens": _COUNT, "requests": _COUNT})
_STEP_RESULT = {
    "success": _FLAG,
    "attempts": _COUNT,
    "latency_s": _NUMBER,
    "usage": _USAGE,
    "replayed": _FLAG,
    "cached": _FLAG,
    "error": _OPTIONAL_ERROR,
    "metadata": {"type": "object"},
    "feedback": _TEXT,
    "output": _ANYTHING,
}
_RUN_RESULT = {
    "status": _TEXT,
    "pipeline": _TEXT,
    "latency_s": _NUMBER,
    "steps": _COUNT,
    "usage": _USAGE,
    "error": _OPTIONAL_ERROR,
    "failed_path": {"type": ["string", "null"]},
    "pending": _TEXTS,
    "output": _ANYTHING,
}
_CHUNK = {"seq": _COUNT, "done": _FLAG, "size": _COUNT, "restart": _FLAG, "text": _TEXT}
_CONTENT = frozenset({"data", "output", "feedback", "text"})
"""Fields that are there only when content is asked for."""

_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "attempt": _COUNT,
    "category": _TEXT,
    "error": _OPTIONAL_ERROR,
    "data": _ANYTHING,
    "delay_s": _NUMBER,
    "status": _TEXT,
    "took_s": _NUMBER,
    "outcome": _TEXT,
    "done": _OPTIONAL_COUNT,
    "total": _OPTIONAL_COUNT,
    "unit": _TEXT,
    "limit": _TEXT,
    "policy": _TEXT,
    "threshold": _NUMBER,
    "spent": _NUMBER,
    "allowed": _NUMBER,
    "name": _TEXT,
    "before": _TEXT,
    "after": _TEXT,
    "reason": _TEXT,
    "retry_after": _OPTIONAL_NUMBER,
    "lag_s": _NUMBER,
    "memory": _NUMBER,
    "queue": _COUNT,
    "off": _TEXTS,
    "on": _TEXTS,
    "dropped": _COUNT,
}
"""The schema of each field of a payload, by its name; results and chunks are written out in its place."""

_WRITTEN_OUT: Mapping[tuple[EventKind, str], Mapping[str, Any]] = {
    (EventKind.STEP_FINISHED, "result"): _STEP_RESULT,
    (EventKind.RUN_FINISHED, "result"): _RUN_RESULT,
    (EventKind.CHUNK, "chunk"): _CHUNK,
}


def event_schema() -> dict[str, Any]:
    """Return the JSON schema of an event as `Event.to_dict` and ``flow run --events`` write it.

    >>> schema = event_schema()
    >>> schema["properties"]["schema"], len(schema["allOf"]) == len(EventKind)
    ({'const': 1}, True)
    """
    common = {
        "schema": {"const": EVENT_SCHEMA},
        "kind": {"enum": [kind.value for kind in EventKind]},
        "run_id": _TEXT,
        "trace_id": _TEXT,
        "at": {**_NUMBER, "description": "Epoch seconds."},
        "path": _TEXT,
        "step": _TEXT,
        "step_kind": _TEXT,
        "payload": {"type": "object"},
    }
    required = ["schema", "kind", "run_id", "trace_id", "at", "payload"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An event of a flow run",
        **_object(common, required),
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind.value}}},
                "then": {"properties": {"payload": _payload_schema(kind)}},
            }
            for kind in EventKind
        ],
    }


def _payload_schema(kind: EventKind) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in attrs.fields(PAYLOADS[kind]):
        properties |= _WRITTEN_OUT.get((kind, field.name)) or {field.name: _FIELDS[field.name]}
    return _object(properties, required=[])


Wording = Callable[[str], str]
"""Says what may be shown of a message, which may repeat inputs and outputs."""


def as_json_values(event: Event, *, content: bool, wording: Wording | None = None) -> dict[str, Any]:
    """Return an event as plain values.

    :param content: inputs, outputs and chunks appear, and the texts of errors as they are but for secrets.
    :param wording: without content, what may be shown of the texts of errors; nothing when ``None``.
    """
    words = mask if content else wording
    values: dict[str, Any] = {
        "schema": EVENT_SCHEMA,
        "kind": event.kind.value,
        "run_id": event.run_id,
        "trace_id": event.trace_id,
        "at": event.at,
    }
    of_the_step = {"path": event.path, "step": event.step, "step_kind": event.step_kind}
    values |= {name: value for name, value in of_the_step.items() if value}
    values["payload"] = _payload(event, content, words)
    return values


def _payload(event: Event, content: bool, words: Wording | None) -> dict[str, Any]:
    payload = event.payload
    found: dict[str, Any] = {}
    for field in attrs.fields(type(payload)):
        value = payload.__getattribute__(field.name)
        if field.name == "result":
            found |= _result(value, words)
        elif field.name == "chunk":
            found |= _chunk(value)
        elif field.name == "error":
            found["error"] = _error(value, words)
        else:
            found[field.name] = value
    return {name: _plain(value) for name, value in found.items() if content or name not in _CONTENT}


def _result(result: Any, words: Wording | None) -> dict[str, Any]:
    if isinstance(result, StepResult):
        told = result._metadata or {}
        feedback = {} if result.feedback is None else {"feedback": mask(result.feedback)}
        return {
            "success": result.success,
            "attempts": result.attempts,
            "latency_s": result.latency_s,
            "usage": _usage(result.usage),
            "replayed": result.replayed,
            "cached": result.cached,
            "error": _error(result.error, words),
            "metadata": {name: value for name, value in told.items() if name in DECISIONS},
            **feedback,
            "output": result.output,
        }
    if isinstance(result, RunResult):
        return {
            "status": result.status.value,
            "pipeline": result.pipeline,
            "latency_s": result.latency_s,
            "steps": sum(1 for _ in result.walk()),
            "usage": _usage(result.usage),
            "error": _error(result.error, words),
            "failed_path": result.failed_path,
            "pending": [question.path for question in result.pending],
            "output": result._output,
        }
    return {}


def _usage(usage: Usage) -> dict[str, Any]:
    return attrs.asdict(usage)


def _chunk(chunk: Any) -> dict[str, Any]:
    if chunk is None:
        return {}
    restart = bool(chunk.meta and chunk.meta.get("restart"))
    return {"seq": chunk.seq, "done": chunk.done, "size": len(chunk.text), "restart": restart, "text": chunk.text}


def _error(error: BaseException | None, words: Wording | None) -> dict[str, Any] | None:
    if error is None:
        return None
    told: dict[str, Any] = {"type": type(error).__name__}
    if isinstance(error, FlowError):
        category: ErrorCategory = error.category
        told |= {"code": error.code, "category": category.value}
        told |= {"path": error.path} if error.path else {}
    if words is not None:
        told["message"] = words(error.message if isinstance(error, FlowError) else str(error))
        if isinstance(error, FlowError) and error.hint:
            told["hint"] = words(error.hint)
    return told


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it, with what looks like a secret masked."""
    try:
        plain = to_jsonable_python(value, serialize_unknown=True, inf_nan_mode="null", bytes_mode="base64")
    except (ValueError, RecursionError):  # a value inside itself
        return shortened(value)
    return _masked(plain)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {name: MASK if is_secret_name(name) else _masked(item) for name, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value
