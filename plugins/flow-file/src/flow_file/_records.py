"""Records as JSON objects. Payloads are JSON text already and stay what they are: one string each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flow import RunRecord, StepRecord, Usage
from flow.errors import StateError

_NO_USAGE = Usage()
_PAYLOADS = ("input", "context", "pending")
_FIELDS = frozenset(field.name for field in attrs.fields(RunRecord))
_CHANGEABLE = _FIELDS - {"run_id", "epoch", "lease_until"}


def step_fields(record: StepRecord) -> dict[str, Any]:
    """Return a step as an object, without what has its default."""
    fields: dict[str, Any] = {
        "path": record.path,
        "parent": record.parent,
        "name": record.name,
        "kind": record.kind,
        "status": record.status,
        "attempts": record.attempts,
        "started_at": record.started_at,
        "latency_s": record.latency_s,
    }
    if record.output is not None:
        fields["output"] = _text(record.output, record.path)
    if not record.typed:
        fields["typed"] = False
    if record.changes is not None:
        fields["changes"] = _text(record.changes, record.path)
    if record.metadata is not None:
        fields["metadata"] = _text(record.metadata, record.path)
    if record.usage != _NO_USAGE:
        fields["usage"] = _usage_fields(record.usage)
    if record.feedback is not None:
        fields["feedback"] = record.feedback
    if record.error is not None:
        fields["error"] = record.error
    return fields


def step_record(fields: Mapping[str, Any]) -> StepRecord:
    """Return the record of a step; keys that a later version has added are left out."""
    get = fields.get
    usage = get("usage")
    return StepRecord(
        path=fields["path"],
        parent=fields["parent"],
        name=fields["name"],
        kind=fields["kind"],
        status=fields["status"],
        output=_bytes(get("output")),
        typed=get("typed", True),
        changes=_bytes(get("changes")),
        metadata=_bytes(get("metadata")),
        usage=_NO_USAGE if usage is None else Usage(**usage),
        attempts=fields["attempts"],
        started_at=fields["started_at"],
        latency_s=fields["latency_s"],
        feedback=get("feedback"),
        error=get("error"),
    )


def run_fields(run: RunRecord) -> dict[str, Any]:
    """Return a run as an object."""
    fields = attrs.asdict(run, recurse=False)
    return _plain(fields, run.run_id)


def run_record(fields: Mapping[str, Any]) -> RunRecord:
    """Return the record of a run; keys that a later version has added are left out."""
    return RunRecord(**_rich({name: value for name, value in fields.items() if name in _FIELDS}))


def change_fields(changes: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """Return changes of a run as an object; `StateError` for what is no field of a run or not to be changed."""
    unknown = sorted(set(changes) - _CHANGEABLE)
    if unknown:
        raise StateError(f"run {run_id!r}: nobody can change {', '.join(unknown)!r:.200}")
    return _plain(dict(changes), run_id)


def changed(run: RunRecord, fields: Mapping[str, Any]) -> RunRecord:
    """Return the run with the changes of such an object."""
    return attrs.evolve(run, **_rich({name: value for name, value in fields.items() if name in _CHANGEABLE}))


def _plain(fields: dict[str, Any], what: str) -> dict[str, Any]:
    for name in _PAYLOADS:
        if fields.get(name) is not None:
            fields[name] = _text(fields[name], f"{name} of run {what!r}")
    if "usage" in fields:
        fields["usage"] = _usage_fields(fields["usage"])
    if "metadata" in fields:
        fields["metadata"] = dict(fields["metadata"])
    return fields


def _rich(fields: dict[str, Any]) -> dict[str, Any]:
    for name in _PAYLOADS:
        if name in fields:
            fields[name] = _bytes(fields[name])
    if "usage" in fields:
        fields["usage"] = Usage(**fields["usage"])
    return fields


def _usage_fields(usage: Usage) -> dict[str, Any]:
    return {
        "cost_usd": usage.cost_usd,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "requests": usage.requests,
    }


def _text(payload: Any, what: str) -> str:
    try:
        return str(payload, "utf-8")
    except (TypeError, UnicodeDecodeError) as error:
        raise StateError(f"{what}: a payload has to be JSON text in UTF-8: {error}") from error


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
