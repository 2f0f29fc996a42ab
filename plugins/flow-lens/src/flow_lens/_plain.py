"""Runs and steps as plain values, for ``--json`` and for JSON lines."""

from __future__ import annotations

from typing import Any

import attrs

from flow import RunRecord
from flow.cli import iso, run_as_dict
from flow.privacy import mask
from flow_lens._content import UNKNOWN, Contents, decoded, masked
from flow_lens._trace import Trace, TraceStep
from flow_lens._words import causes_of, status_of


def run_in_json(run: RunRecord) -> dict[str, Any]:
    """Return what a program may want to know about a run, secrets masked; without its content."""
    values = run_as_dict(run)
    told = {"error": masked(values["error"]), "metadata": masked(values["metadata"])}
    return {**values, **told, "pending": [masked(question) for question in values["pending"]]}


def trace_in_json(
    trace: Trace, contents: Contents, *, inputs: bool = False, outputs: bool = False, context: bool = False
) -> dict[str, Any]:
    """Return a run with its steps, containers before what is inside.

    :param inputs: with what each step was given, where that is known.
    :param outputs: with what each step returned, and answers.
    """
    run = run_in_json(trace.run)
    run["error"] = None if run["error"] is None else contents.told(run["error"], *trace.steps)
    for question in run.get("pending") or ():
        question["message"] = contents.told(question["message"])
    if inputs:
        _put(run, "input", contents.run_input())
    if outputs:
        _put(run, "output", contents.run_output())
    if context:
        _put(run, "context", decoded(trace.run.context))
    return {**run, "steps": [step_in_json(step, contents, inputs, outputs) for step in trace.executed]}


def step_in_json(step: TraceStep, contents: Contents, inputs: bool = False, outputs: bool = False) -> dict[str, Any]:
    """Return one step, without those inside it."""
    error, *causes = causes_of(step, contents) or [""]
    values = {
        "path": step.path,
        "name": step.name,
        "kind": step.kind,
        "status": status_of(step, contents.trace.run),
        "attempts": step.attempts,
        "started_at": iso(step.started_at),
        "took_s": step.took_s,
        "usage": attrs.asdict(step.usage),
        "cost_usd": step.usage.cost_usd,
        "tokens": step.usage.total_tokens,
        "error": error or None,
        "caused_by": causes,
        "feedback": None if step.feedback is None else contents.told(step.feedback, step),
        "metadata": contents.metadata_of(step),
        "answered_at": None if step.answer is None else iso(step.answer.at),
    }
    if inputs:
        _put(values, "input", contents.input_of(step))
    if outputs:
        _put(values, "output", contents.output_of(step))
        if step.answer is not None:
            _put(values, "answer", decoded(step.answer.text))
    return values


def _put(values: dict[str, Any], name: str, content: Any) -> None:
    """Add content unless it is unknown: a key that is missing tells more than a null."""
    if content is not UNKNOWN:
        values[name] = mask(content) if isinstance(content, str) else masked(content)
