"""The ledger: a file that processes append to, one line per thing that happened, in the order in which it happened.

It plays the world outside: what a step has done there cannot be taken back when its process dies.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXECUTED, ACKNOWLEDGED, VOIDED, FOUND = "executed", "acknowledged", "voided", "found"
ASKED, ANSWERING, RESUMED, REFUSED, ENDED = "asked", "answering", "resumed", "refused", "ended"


class Ledger:
    """The ledger as one life of a run writes it.

    :param life: names this execution of the run.
    :param tap: a file descriptor that gets each line too, for somebody who waits for it.
    """

    def __init__(self, path: str | Path, life: str = "", tap: int | None = None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._tap = tap
        self.life = life or str(os.getpid())

    def note(self, kind: str, **what: Any) -> None:
        """Append one line; it is there when this returns, whatever happens to the process."""
        line = json.dumps({"kind": kind, "life": self.life, "at": time.monotonic(), **what}).encode() + b"\n"
        os.write(self._file, line)
        if self._tap is not None:
            os.write(self._tap, line)

    def close(self) -> None:
        os.close(self._file)


def entries(path: str | Path) -> list[dict[str, Any]]:
    """Everything in the ledger."""
    return list(read_lines(Path(path).read_bytes()))


def read_lines(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        yield json.loads(line)
