"""What the user gives a run on the command line: its input and context values, read as the pipeline declares them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from .._pipeline import Pipeline
from .._serialize import build_adapter
from .._types import type_name
from ..errors import ConfigurationError


def read_input(text: str | None, pipeline: Pipeline[Any, Any], *, as_json: bool = False) -> Any:
    """Return the input that `text` means: itself, the file of ``@file``, or standard input for ``-``.

    It is parsed as JSON when the first step declares a type that is not written as text, or when `as_json` asks for
    it; it stays bytes when the first step takes bytes. Raises `ConfigurationError` for what cannot be read.
    """
    first = pipeline.steps[0] if pipeline.steps else None
    declared = first.declared_types()[0] if first is not None else Any
    if text is None:
        if first is not None and first.validate in ("in", "both") and not _allows_nothing(declared):
            hint = "Give it one: --input TEXT, --input @FILE, or --input - for standard input"
            raise ConfigurationError(
                f"step {first.name!r} takes {type_name(declared)}, and there is no input", hint=hint
            )
        return None
    content, source = _content(text, "--input")
    if declared is bytes and not as_json:
        return content
    decoded = _decoded(content, source)
    if not as_json and is_text(declared):
        return decoded
    wants = "--json-input asks for JSON"
    if first is not None and not as_json:
        wants = f"Step {first.name!r} takes {type_name(declared)}"
    return _parsed(decoded, source, wants)


def read_text(text: str, option: str) -> str:
    """Return the text that `option` means: itself, the file of ``@file``, or standard input for ``-``."""
    return _decoded(*_content(text, option))


def read_values(pairs: Iterable[str], model: type[BaseModel]) -> dict[str, Any]:
    """Return the context values of ``key=value`` arguments: JSON where it is, text where it is not or is declared."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ConfigurationError(
                f"--context takes key=value, got {pair!r}", hint="Such as: --context topic=history"
            )
        declared = model.model_fields[key].annotation if key in model.model_fields else Any
        is_open = build_adapter(declared) is None  # anything goes, so the text alone decides
        values[key] = _json_or_text(text) if is_open or not is_text(declared) else text
    return values


def is_text(declared: Any) -> bool:
    """Tell whether values of a declared type are written as plain text: strings, dates, paths, anything undeclared.

    >>> is_text(str), is_text(str | None), is_text(int), is_text(list[str])
    (True, True, False, False)
    """
    adapter = build_adapter(declared)
    if adapter is None:
        return True
    try:
        schema = adapter.json_schema()
    except PydanticInvalidForJsonSchema:  # some class of the user's
        return False
    return _allows_string(schema, schema.get("$defs", {}))


def _allows_string(schema: dict[str, Any], definitions: dict[str, Any]) -> bool:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema.get("type") == "string" or any(_allows_string(part, definitions) for part in schema.get("anyOf", ()))


def _allows_nothing(declared: Any) -> bool:
    adapter = build_adapter(declared)
    try:
        return adapter is None or adapter.validate_python(None) is None
    except ValidationError:
        return False


def _content(text: str, option: str) -> tuple[bytes, str]:
    if text == "-":
        return sys.stdin.buffer.read(), "standard input"
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape"), option
    try:
        return Path(text[1:]).read_bytes(), text[1:]
    except OSError as error:
        hint = f"@ means a file; a text that begins with @ can be piped to: {option} -"
        raise ConfigurationError(f"{text[1:]!r} cannot be read: {error.strerror}", hint=hint) from error


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source} is not UTF-8 text: byte {error.start} is {error.reason}") from error


def _parsed(text: str, source: str, hint: str) -> Any:
    if not text.strip():
        raise ConfigurationError(f"{source} is empty where JSON is expected", hint=hint)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        beginning = " ".join(text.split())
        message = f"{source} is not JSON: {where}, in {beginning:.60}{'…' if len(beginning) > 60 else ''}"
        raise ConfigurationError(message, hint=hint) from error
    except RecursionError as error:
        raise ConfigurationError(f"{source} is JSON that is nested too deeply") from error


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
