"""The index: a file that spares a listing from reading all journals. It is never needed, only useful.

Lines are added to it: ``{"sum":…,"open":RUN_ID}`` before somebody takes hold of a run (and once more after), when only
the journal can tell what is with it; ``{"sum":…,"size":N,"run":{…}}`` after a run was given free, when its journal has
`N` bytes; ``{"sum":…,"gone":RUN_ID}`` after it was deleted. So a process that dies in between leaves a run that is
open in the index, and a listing looks into its journal. Nothing here is synced: whoever begins to list compares the
index with names and sizes of the journals, and looks into each that differs.
"""

from __future__ import annotations

import threading

from flow import RunRecord
from flow_file._disk import Disk
from flow_file._lines import seal
from flow_file._place import INDEX, Place
from flow_file._records import run_fields

_LARGE = 1024  # payloads of more bytes stay out of the index
_PAYLOADS = ("input", "context", "pending")


class Index:
    """Adds to the index; any thread may."""

    def __init__(self, place: Place, disk: Disk) -> None:
        self._place = place
        self._disk = disk
        self._fd: int | None = None
        self._lock = threading.Lock()

    def opened(self, run_id: str) -> None:
        """From now on only the journal says what is with the run."""
        self._add(seal({"open": run_id}))

    def settled(self, run: RunRecord, size: int) -> None:
        """Nobody owns the run, and its journal has this size."""
        self._add(settled_line(run, size))

    def gone(self, run_id: str) -> None:
        """The run was deleted."""
        self._add(seal({"gone": run_id}))

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        with self._lock:
            fd, self._fd = self._fd, None
            if fd is not None:
                self._disk.close(fd)

    def _add(self, line: bytes) -> None:
        with self._lock:
            self._disk.append(self._file(), line + b"\n")

    def _file(self) -> int:
        if self._fd is not None and not self._disk.look(self._fd).st_nlink:  # a shorter one has taken its place
            self._disk.close(self._fd)
            self._fd = None
        if self._fd is None:
            self._fd, _ = self._disk.create(INDEX, self._place.make().root)
        return self._fd


def settled_line(run: RunRecord, size: int) -> bytes:
    """Return the line of a run that nobody owns; without its payloads when they are large."""
    payloads = sum(len(payload) for payload in (run.input, run.context, run.pending) if payload is not None)
    fields = run_fields(run)
    if payloads > _LARGE:
        for name in _PAYLOADS:
            del fields[name]
    return seal({"size": size, "run": fields})
