"""A memory of plugins that could not be loaded, so that they can be listed as failed without being imported again."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST = 200  # entries; the oldest are forgotten


class FailureMemory:
    """Reasons by key, in the user's cache directory. What cannot be read or written is as good as empty."""

    @functools.cached_property
    def _reasons(self) -> Mapping[str, str]:
        try:
            content = json.loads(_path().read_bytes())
        except (OSError, ValueError, RuntimeError):
            return {}
        return content if isinstance(content, dict) else {}

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def recall(self, key: str) -> str:
        """Return why `key` failed when it was last loaded; empty when it did not."""
        return str(self._reasons.get(key, ""))

    def remember(self, key: str, reason: str) -> None:
        """Note why `key` failed."""
        if self.recall(key) != reason:
            self._write(dict([*self._reasons.items(), (key, reason)][-_MOST:]))

    def forget(self, key: str) -> None:
        """Note that `key` works."""
        if key in self._reasons:
            self._write({name: reason for name, reason in self._reasons.items() if name != key})

    def _write(self, reasons: Mapping[str, str]) -> None:
        self._reasons = reasons
        with contextlib.suppress(
            OSError, RuntimeError
        ):  # a user without a writable home directory is no reason to fail
            path = _path()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent)  # readable by the owner only
            with os.fdopen(handle, "w") as file:
                json.dump(reasons, file)
            Path(name).replace(path)


def _path() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "flow" / "plugin-failures.json"
