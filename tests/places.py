"""A working directory with an app and a store, in which ``flow`` is started as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs


@attrs.frozen
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@attrs.frozen
class Place:
    """A working directory with ``app.py``, and the URL of a store."""

    home: Path
    url: str

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start ``flow`` with these arguments and the store; it ends with the block."""
        with subprocess.Popen(
            [sys.executable, "-m", "flow", *arguments],
            cwd=self.home,
            env={**os.environ, "FLOW_STATE": self.url, "COLUMNS": "80"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()  # nothing happens to one that has ended

    def flow(self, *arguments: str, text: str = "") -> Done:
        """Run ``flow`` to its end; `text` is its standard input."""
        with self.start(*arguments) as process:
            out, err = process.communicate(text, timeout=60)
        return Done(process.returncode, out, err)

    @property
    def ledger(self) -> list[str]:
        """What steps have done: the lines that they have added to a file of that name."""
        return (self.home / "ledger").read_text().splitlines()
