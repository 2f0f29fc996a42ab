"""What a paused run asks: shown, answered by options, or answered by somebody at the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from .._answers import Questions
from .._flow import Flow
from .._results import Pending
from ..errors import AnswerInvalid, ConfigurationError
from .run_input import read_text
from .wording import cut, lines_of, moment, one_line, quoted

_DEEPEST = 4
_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a JSON list",
    "object": "a JSON object",
}
_FORMATS = {"date": "a date such as 2025-12-31", "date-time": "a time such as 2025-12-31T12:00:00Z", "uuid": "a UUID"}


# -- showing


def describe(question: Pending) -> Iterator[str]:
    """Yield the lines that show a question: its path, its text, what answers it and until when."""
    first, *more = lines_of(question.message)
    yield f"{one_line(question.path)}: {first}"
    yield from (f"  {line}" for line in more)
    if question.schema:
        yield f"  answer: {answer_in_words(question.schema)}"
    if question.deadline is not None:
        yield f"  until:  {moment(question.deadline)}"


def answer_in_words(schema: Mapping[str, Any]) -> str:
    """Say what a JSON schema asks for, as far as one line can.

    >>> answer_in_words({"enum": ["spam", "ham"]})
    'spam or ham'
    >>> answer_in_words({"properties": {"score": {"type": "integer"}}, "required": ["score"]})
    'JSON such as {"score": a whole number}'
    """
    return cut(one_line(_words(schema, schema.get("$defs", {}), 0)), 300)


def _words(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> str:
    if "$ref" in schema:
        schema = definitions.get(str(schema["$ref"]).rpartition("/")[2], {})
    if depth > _DEEPEST or not schema:
        return "anything" if not schema else "..."
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if choices:
        return " or ".join(item if isinstance(item, str) and not depth else json.dumps(item) for item in choices)
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_words(option, definitions, depth + 1) for option in options))
    if "properties" in schema:
        return _object(schema, definitions, depth)
    if schema.get("type") == "array" and schema.get("items"):
        return f"a JSON list of {_words(schema['items'], definitions, depth + 1)}"
    return _FORMATS.get(schema.get("format", ""), "") or _WORDS.get(str(schema.get("type")), "anything")


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> str:
    required = schema.get("required", ())
    fields = [
        f'"{name}"{"" if name in required else " (optional)"}: {_words(field, definitions, depth + 1)}'
        for name, field in schema["properties"].items()
    ]
    return f"{'' if depth else 'JSON such as '}{{{', '.join(fields)}}}"


# -- answers from options


def read_answers(texts: Sequence[str], questions: Mapping[str, Pending], run_id: str) -> dict[str, Any]:
    """Return the answers of ``--answer`` by path: ``PATH=TEXT``, or the whole text when one question waits.

    A text may be ``@FILE`` or ``-``. Raises `ConfigurationError` when it is not clear what is answered.
    """
    answers: dict[str, str] = {}
    for text in texts:
        path, answer = _addressed(text, questions, run_id, is_alone=len(texts) == 1)
        if path in answers:
            raise ConfigurationError(f"the question at {path} is answered twice")
        answers[path] = answer
    if sum(answer == "-" for answer in answers.values()) > 1:
        raise ConfigurationError("only one answer can come from standard input")
    return {path: read_text(answer, "--answer").removesuffix("\n") for path, answer in answers.items()}


def _addressed(text: str, questions: Mapping[str, Pending], run_id: str, *, is_alone: bool) -> tuple[str, str]:
    for path in questions:
        if text.startswith(f"{path}="):
            return path, text[len(path) + 1 :]
    if len(questions) == 1 and is_alone:
        return next(iter(questions)), text
    raise ConfigurationError(
        f"run {run_id} waits for {_count(questions)}, and --answer {one_line(text, 40)!r} begins with no path of one",
        hint=f"Say which question is meant: {' '.join(quoted(f'--answer={path}=TEXT') for path in questions)}",
    )


def _count(questions: Mapping[str, Pending]) -> str:
    return "1 answer" if len(questions) == 1 else f"{len(questions)} answers"


# -- answers from the terminal


def can_ask() -> bool:
    """Tell whether somebody sits at a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(questions: Mapping[str, Pending], flow: Flow[Any, Any]) -> dict[str, Any]:
    """Ask the questions at the terminal and return the answers by path; one that gets an empty line stays open."""
    known = Questions(flow.pipeline)
    typer.echo("An empty line leaves a question open.", err=True)
    answers: dict[str, Any] = {}
    for path, question in questions.items():
        for line in describe(question):
            typer.echo(line, err=True)
        answer = _valid_answer(known, question)
        if answer is not None:
            answers[path] = answer
    return answers


def _valid_answer(known: Questions, question: Pending) -> str | None:
    while True:
        typer.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            typer.echo(err=True)  # the cursor stands behind the prompt
        answer = line.removesuffix("\n")
        if not answer:
            return None
        try:
            known.check(question, answer)
        except AnswerInvalid as invalid:
            typer.echo(f"{one_line(invalid.message)}; answer again", err=True)
        else:
            return answer
