"""Renewals of leases: a small file beside the journal, overwritten in place, so that no journal grows with time.

A lease begins in the journal, with the line that makes somebody the owner. Its renewals are kept here until the run
is given free, in a file of the epoch's own: a process that was stopped and goes on cannot overwrite its successor's.
They are not synced. When the power fails their owner is gone too, and a file that is damaged or lost only means that
the lease in the journal counts.
"""

from __future__ import annotations

import contextlib
from typing import Any

import attrs
import orjson

from flow_file._disk import Disk
from flow_file._lines import is_intact, seal
from flow_file._place import Place

_SIZE = 256  # the content always has this length: writing it is one write inside one block


@attrs.frozen
class Lease:
    """Until when a run is claimed: on flow's lease clock, and in epoch seconds."""

    until: float = 0.0
    until_wall: float = 0.0


@attrs.frozen
class Leases:
    """The renewed leases of a store."""

    disk: Disk
    place: Place

    def write(self, run_id: str, epoch: int, tenure: bytes, lease: Lease) -> None:
        """Keep a renewal of what began with the line that has the checksum `tenure`."""
        line = seal({"of": tenure.decode(), "until": lease.until, "lease_until": lease.until_wall})
        self.disk.overwrite(_name(run_id, epoch), self.place.folders().leases, line.ljust(_SIZE - 1) + b"\n")

    def read(self, run_id: str, epoch: int, tenure: bytes) -> Lease | None:
        """Return the renewal, if there is one; that of a deleted run with the same id is none."""
        try:
            fd = self.disk.open(_name(run_id, epoch), self.place.folders().leases)
        except FileNotFoundError:
            return None
        try:
            text = self.disk.read(fd, 0, _SIZE).rstrip()
        finally:
            self.disk.close(fd)
        if not is_intact(text):
            return None
        fields: dict[str, Any] = orjson.loads(text)
        return Lease(fields["until"], fields["lease_until"]) if fields["of"] == tenure.decode() else None

    def remove(self, run_id: str, epoch: int) -> None:
        """Forget the renewals of this epoch; what cannot be removed does no harm."""
        with contextlib.suppress(OSError):
            self.disk.remove(_name(run_id, epoch), self.place.folders().leases)


def _name(run_id: str, epoch: int) -> str:
    return f"{run_id}.{epoch}"  # run ids have no dot
