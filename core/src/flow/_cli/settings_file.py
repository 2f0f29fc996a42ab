"""Edits ``block = [...]`` in a settings file where it stands: comments and layout stay as they are."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import tomlkit

from .._settings import did_you_mean, read_toml
from ..errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def block(path: Path, name: str) -> bool:
    """Add `name` to what the file at `path` blocks, creating the file if need be; false when it was there already."""
    document, names = _open(path)
    if name in names:
        return False
    names.append(name)
    _write(path, document)
    return True


def unblock(path: Path, name: str) -> None:
    """Take `name` out of what the file at `path` blocks; raises `SettingsError` when it is not there."""
    document, names = _open(path)
    if name not in names:
        hint = did_you_mean(name, names) or f"It blocks {', '.join(sorted(names)) or 'nothing'}"
        raise SettingsError(f"{path} does not block {name}", hint=hint)
    while name in names:
        names.remove(name)
    _write(path, document)


def _open(path: Path) -> tuple[tomlkit.TOMLDocument, Any]:
    """Return the document and its list of blocked names, which is added when it is missing."""
    if not path.exists():
        document = tomlkit.document()
    else:
        read_toml(path)  # says where the file is wrong, if it is
        document = tomlkit.parse(path.read_bytes())
    table: Any = document
    for key in ("tool", "flow", "plugins") if path.name == "pyproject.toml" else ("plugins",):
        table = table.setdefault(key, tomlkit.table())
    return document, table.setdefault("block", tomlkit.array())


def _write(path: Path, document: tomlkit.TOMLDocument) -> None:
    """Replace the file in one step, so that an interruption leaves the old or the new one."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_bytes(document.as_string().encode())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
