"""Durable runs in plain files: one append-only journal of JSON lines per run.

`FileState` is the store behind ``file:///absolute/directory``.

    >>> import tempfile
    >>> from flow import Flow, Step
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     Flow(Step("upper", str.upper), state=f"file://{directory}").run("hello").output
    'HELLO'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flow.hookspecs import hookimpl

if TYPE_CHECKING:
    from flow import StateBackend
    from flow_file._state import FileState

__all__ = ["FileState", "flow_open_state"]


@hookimpl
def flow_open_state(url: str, settings: Mapping[str, Any]) -> StateBackend | None:
    """Open ``file:///absolute/directory``, with ``?synchronous=off`` if wanted; nothing is made or read yet."""
    if not url.startswith("file:"):
        return None
    from flow_file._state import FileState
    from flow_file._url import read_url

    directory, synchronous = read_url(url)
    return FileState(directory, synchronous=synchronous)


def __getattr__(name: str) -> Any:
    if name != "FileState":
        raise AttributeError(f"module 'flow_file' has no attribute {name!r}")
    from flow_file._state import FileState

    globals()[name] = FileState
    return FileState


def __dir__() -> list[str]:
    return list(__all__)
