"""A memory of plugins that could not be imported, so that they can be listed as failed without importing them again."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

_MOST = 200  # entries; the oldest are forgotten


class FailureMemory:
    """Reasons by module, in the user's cache directory. What cannot be read or written is as good as empty."""

    def __init__(self) -> None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self._path = Path(cache, "flow", "plugin-failures.json")

    @functools.cached_property
    def _reasons(self) -> Mapping[str, str]:
        try:
            content = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def recall(self, module: Path) -> str:
        """Return why `module`, as it is now, failed when it was last imported; empty when it did not."""
        return str(self._reasons.get(_key(module), ""))

    def remember(self, module: Path, reason: str) -> None:
        """Note why `module` failed."""
        if self.recall(module) != reason:
            self._write(dict([*self._reasons.items(), (_key(module), reason)][-_MOST:]))

    def forget(self, module: Path) -> None:
        """Note that `module` works."""
        if self._reasons and (key := _key(module)) in self._reasons:
            self._write({name: reason for name, reason in self._reasons.items() if name != key})

    def _write(self, reasons: Mapping[str, str]) -> None:
        self._reasons = reasons
        with contextlib.suppress(OSError):  # a read-only home directory must not break anything
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent)  # readable by the owner only
            with os.fdopen(handle, "w") as file:
                json.dump(reasons, file)
            os.replace(name, self._path)


def _key(module: Path) -> str:
    try:
        return f"{module}@{module.stat().st_mtime_ns}"
    except OSError:
        return str(module)
