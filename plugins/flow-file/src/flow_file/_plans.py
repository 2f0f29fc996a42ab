"""The four kinds of lines, and what is checked before one is written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from flow import RunRecord, lease_clock, lease_is_over
from flow.errors import RunOwned, StateError
from flow_file._head import FORMAT, Head
from flow_file._journal import fenced, known
from flow_file._leases import Lease
from flow_file._records import change_fields, run_fields

if TYPE_CHECKING:
    from flow_file._journal import Journal, Plan


def lease_of(seconds: float) -> Lease:
    """Return a lease from now on."""
    return Lease(lease_clock() + seconds, time.time() + seconds)


def create(run: RunRecord, lease_s: float) -> Plan:
    """The first line: the run."""

    def plan(head: Head, journal: Journal) -> tuple[str, int, dict[str, Any]]:
        if head.run is not None:
            raise StateError(f"run {run.run_id!r} exists already", hint="Resume it, or choose another run_id")
        lease = lease_of(lease_s) if run.owner is not None else Lease()
        fields = run_fields(attrs.evolve(run, lease_until=lease.until_wall))
        return "run", run.epoch, {"format": FORMAT, "boot": journal.disk.boot(), "until": lease.until, "run": fields}

    return plan


def claim(owner: str, lease_s: float) -> Plan:
    """Somebody executes the run from now on."""

    def plan(head: Head, journal: Journal) -> tuple[str, int, dict[str, Any]]:
        run, now = known(head, journal.run_id), journal.lease(head)
        if run.owner != owner and not lease_is_over(run.owner, now.until, now.until_wall):
            raise RunOwned(f"run {run.run_id!r} is executed by {run.owner}", hint="Wait until it has ended")
        lease = lease_of(lease_s)
        fields = {"owner": owner, "boot": journal.disk.boot(), "until": lease.until, "lease_until": lease.until_wall}
        return "claim", run.epoch + 1, fields

    return plan


def steps(epoch: int, records: Sequence[Mapping[str, Any]]) -> Plan:
    """Steps have finished: one line for all that must be there together."""

    def plan(head: Head, journal: Journal) -> tuple[str, int, dict[str, Any]]:
        fenced(head, epoch, journal.run_id)
        return "steps", epoch, {"steps": records}

    return plan


def change(epoch: int, changes: Mapping[str, Any]) -> Plan:
    """Something about the run has changed."""

    def plan(head: Head, journal: Journal) -> tuple[str, int, dict[str, Any]]:
        fenced(head, epoch, journal.run_id)
        return "change", epoch, {"changes": change_fields(changes, journal.run_id)}

    return plan
