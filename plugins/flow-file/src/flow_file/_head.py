"""What the lines of a journal come to: the run, who owns it, and where the next line goes.

This is a function of the bytes of the file from its beginning and of nothing else, so all processes agree on it. A
file only grows at its end, and one write is one piece of it. So the order of the lines decides who owns a run:

- the first line is the run; a later one of its kind is void,
- a claim counts when its epoch is the next one: of two that were made at the same time, the first in the file,
- any other line counts when it bears the epoch of the last claim before it. What a process writes that was stopped
  and does not know of its successor yet is void, wherever it lands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from flow import RunRecord
from flow_file._lines import Line, could_begin, find_all, parse
from flow_file._records import changed, run_record

FORMAT = 1

See = Callable[[Line], None]


class Damaged(Exception):
    """The bytes at `offset` were on disk once and are not what was written."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


class Newer(Exception):
    """The journal was written by a later version."""


@attrs.define
class Head:
    """The state of a run after the lines up to an offset.

    :ivar until: the end of the lease that came with the last claim, on flow's lease clock.
    :ivar tenure: the checksum of the line with which the present owner became one.
    :ivar boot: what `Disk.boot` said when the run was claimed.
    :ivar end: the offset after the last line that can be relied on.
    :ivar last: the offset at which that line begins, and ``sum`` its checksum.
    :ivar safe: everything before this offset survives a loss of power.
    :ivar torn: after ``end`` there are remains of a write that did not finish, which the next line says to pass over.
    """

    run: RunRecord | None = None
    until: float = 0.0
    tenure: bytes = b""
    boot: str = ""
    end: int = 0
    last: int = 0
    sum: bytes = b""
    safe: int = 0
    torn: bool = False

    def copy(self) -> Head:
        """Return a head to go on with, which may be thrown away."""
        return Head(
            self.run, self.until, self.tenure, self.boot, self.end, self.last, self.sum, self.safe, self.torn
        )  # fmt: skip

    def read(self, data: bytes, boot: str, see: See | None = None) -> None:
        """Take in the bytes of the file from ``end`` to its present end; `see` gets the lines that count.

        Raises `Damaged` when something is wrong that no interrupted write explains, `Newer` for a later format.
        """
        base, start = self.end, 0
        self.torn = False
        while start < len(data):
            stop = data.find(b"\n", start)
            line = parse(data[start:stop]) if stop >= 0 else None
            if line is None:
                resumed = self._pass_over(data, start, stop, base, boot)
                if resumed is None:
                    return
                start = resumed
                continue
            self._take(line, base + start, see)
            start = stop + 1

    def _take(self, line: Line, offset: int, see: See | None) -> None:
        if self.counts(line.kind, line.epoch):
            if line.kind != "steps":
                self.apply(line.kind, line.fields(), line.sum)
            if see is not None:
                see(line)
        self.passed(line.text, line.sum, offset)
        self.safe = max(self.safe, line.safe)

    def passed(self, text: bytes, sum_: bytes, offset: int) -> None:
        """Note that this line is at `offset`."""
        self.last, self.sum, self.end = offset, sum_, offset + len(text) + 1

    def counts(self, kind: str, epoch: int) -> bool:
        """Tell whether a line of this kind and epoch would count here."""
        if kind == "run" or self.run is None:
            return kind == "run" and self.run is None
        return epoch == self.run.epoch + 1 if kind == "claim" else epoch == self.run.epoch

    def apply(self, kind: str, fields: dict[str, Any], sum_: bytes) -> None:
        """Take in what a line says that counts."""
        if kind == "run":
            if fields["format"] > FORMAT:
                raise Newer
            self.run = run_record(fields["run"])
            self.until, self.boot, self.tenure = fields["until"], fields["boot"], sum_
        elif kind == "claim" and self.run is not None:
            self.run = changed(self.run, {"owner": fields["owner"]})
            self.run = attrs.evolve(self.run, epoch=fields["epoch"], lease_until=fields["lease_until"])
            self.until, self.boot, self.tenure = fields["until"], fields["boot"], sum_
        elif kind == "change" and self.run is not None:
            self.run = changed(self.run, fields["changes"])
            if self.run.owner is None:
                self.run = attrs.evolve(self.run, lease_until=0.0)
                self.until = 0.0

    def _pass_over(self, data: bytes, start: int, stop: int, base: int, boot: str) -> int | None:
        """Return where to go on after the remains of a write, or ``None`` when they are the end of the file."""
        offset = base + start
        later = find_all(data, start)
        for position, line in later:
            if line.resumes == offset:
                return position
        if any(line.safe > offset for _, line in later):
            raise Damaged(offset)
        if not could_begin(data[start:]):
            raise Damaged(offset)
        # While the machine is up every finished write is there; only one that was cut off leaves a line without an end.
        if stop >= 0 and boot and boot == self.boot:
            raise Damaged(offset)
        self.torn = True
        return None
