"""Prompts and outputs as attributes; only asked for when the user wants them, and never with secrets that are known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from flow import Scope
from flow.privacy import mask, shortened, texts_in
from flow_otel import _names as names

_RESULTS = 50


def text_of(value: Any, limit: int) -> str:
    """Return a value as text of at most `limit` characters, secrets masked.

    >>> text_of("Bearer abcdef0123456789", 40), text_of({"password": "hunter2", "n": 1}, 40)
    ('Bearer ****', "{'password': ****, 'n': 1}")
    """
    if not isinstance(value, str):
        return shortened(value, limit)
    text = mask(value[: limit * 3])
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def attributes_of(operation: str | None, data: Any, output: Any, limit: int) -> dict[str, str]:
    """Return what goes in and comes out under the names that the conventions have for an operation.

    >>> attributes_of(None, "question", 42, 100)
    {'flow.step.input': 'question', 'flow.step.output': '42'}
    """
    given = text_of(data, limit)
    returned = None if output is None else text_of(output, limit)
    if operation in (names.INVOKE_AGENT, names.INVOKE_WORKFLOW):
        found = {names.INPUT_MESSAGES: _message("user", given)}
        return found if returned is None else {**found, names.OUTPUT_MESSAGES: _message("assistant", returned)}
    of_tool = operation == names.EXECUTE_TOOL
    found = {names.TOOL_ARGUMENTS if of_tool else names.STEP_INPUT: given}
    if returned is not None:
        found[names.TOOL_RESULT if of_tool else names.STEP_OUTPUT] = returned
    return found


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)


def contents_around(scope: Scope, *values: Any) -> list[str]:
    """Return the texts that a message of a failure in `scope` must not repeat.

    Those are the given values, the context, and what the steps before and around it have returned.
    """
    # Not scope.context: asking for it makes a view, which the step's result would then tell of.
    return texts_in(*values, *islice(_outputs(scope), _RESULTS), scope.run.context)


def _outputs(scope: Scope) -> Iterator[Any]:
    around: Scope | None = scope
    while around is not None:
        for result in reversed(around.history):
            yield result.output
        around = around.parent
