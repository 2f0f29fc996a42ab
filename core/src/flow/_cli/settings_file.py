"""Edits ``block = [...]`` in a settings file where it stands: comments and layout stay as they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

from .._settings import did_you_mean, read_toml
from ..errors import SettingsError

_TOKEN = re.compile(r"""("(?:[^"\\\n]|\\.)*"|'[^'\n]*')|\#[^\n]*|\]""")
_BLOCK = re.compile(r"^[ \t]*block[ \t]*=[ \t]*\[", re.MULTILINE)
_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)


def block(path: Path, name: str) -> bool:
    """Add `name` to what the file at `path` blocks, creating the file if need be; false when it was there already."""
    text = _read(path)
    names = _blocked(path)
    if name in names:
        return False
    _write(path, _with(text, _table(path), name), {*names, name})
    return True


def unblock(path: Path, name: str) -> None:
    """Take `name` out of what the file at `path` blocks; raises `SettingsError` when it is not there."""
    names = _blocked(path)
    if name not in names:
        hint = did_you_mean(name, names) or f"It blocks {', '.join(sorted(names)) or 'nothing'}"
        raise SettingsError(f"{path} does not block {name}", hint=hint)
    _write(path, _without(_read(path), _table(path), name), {*names} - {name})


def _table(path: Path) -> str:
    return "tool.flow.plugins" if path.name == "pyproject.toml" else "plugins"


def _read(path: Path) -> str:
    return path.read_bytes().decode().replace("\r\n", "\n") if path.exists() else ""


def _blocked(path: Path) -> list[str]:
    return _list_in(read_toml(path), _table(path)) if path.exists() else []


def _list_in(document: dict[str, Any], table: str) -> list[str]:
    inner: Any = document
    for key in table.split("."):
        inner = inner.get(key, {})
    names: list[str] = inner.get("block", [])
    return names


def _section(text: str, table: str) -> tuple[int, int] | None:
    """Return where the lines of `table` begin and end, or ``None`` when the table has no header."""
    header = re.search(rf"^[ \t]*\[[ \t]*{re.escape(table)}[ \t]*\][^\n]*(?:\n|\Z)", text, re.MULTILINE)
    if header is None:
        return None
    following = _HEADER.search(text, header.end())
    return header.end(), following.start() if following else len(text)


def _with(text: str, table: str, name: str) -> str:
    quoted, section = json.dumps(name), _section(text, table)
    if section is None:
        gap = "\n\n" if text.strip() else ""
        return f"{text.rstrip()}{gap}[{table}]\nblock = [{quoted}]\n"
    start, end = section
    found = _BLOCK.search(text, start, end)
    if found is None:
        line_end = "" if text[:start].endswith("\n") else "\n"
        return f"{text[:start]}{line_end}block = [{quoted}]\n{text[start:]}"
    before, after = text[: found.end()], text[found.end() :]
    if lines := re.match(r"[ \t]*(?:#[^\n]*)?(\n[ \t]*)(?=[\"'])", after):
        return f"{before}{lines[1]}{quoted},{after}"
    separator = "" if after.lstrip().startswith("]") else ", "
    return f"{before}{quoted}{separator}{after}"


def _without(text: str, table: str, name: str) -> str:
    start, end = _section(text, table) or (0, 0)
    found = _BLOCK.search(text, start, end)
    for token in _TOKEN.finditer(text, found.end() if found else len(text)):
        if token[0] == "]":
            break
        if token[1] and tomllib.loads(f"name = {token[1]}")["name"] == name:
            rest = re.compile(r"[ \t]*,?[ \t]*").match(text, token.end())
            after = text[rest.end() if rest else token.end() :]
            line = text[: token.start()].rpartition("\n")[2]
            if not line.strip() and after.startswith("\n"):  # it had the line for itself
                return text[: token.start() - len(line)] + after[1:]
            return text[: token.start()] + after
    return text


def _write(path: Path, text: str, names: set[str]) -> None:
    """Replace the file in one step, but only if nothing else than the list has changed."""
    original = _read(path)
    if not _is_intended(original, text, _table(path), names):
        listed = ", ".join(json.dumps(name) for name in sorted(names))
        hint = f"Write block = [{listed}] into its table {_table(path)} yourself"
        raise SettingsError(f"{path} is laid out in a way that cannot be edited safely", hint=hint)
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    newline = "\r\n" if target.exists() and b"\r\n" in target.read_bytes() else "\n"
    try:
        temporary.write_text(text, encoding="utf-8", newline=newline)
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _is_intended(old: str, new: str, table: str, names: set[str]) -> bool:
    try:
        before, after = tomllib.loads(old), tomllib.loads(new)
    except tomllib.TOMLDecodeError:
        return False
    if set(_list_in(after, table)) != names:
        return False
    for document in (before, after):
        inner = document
        for key in table.split("."):
            inner = inner.setdefault(key, {})
        inner.pop("block", None)
    return before == after
