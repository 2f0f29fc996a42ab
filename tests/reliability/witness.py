"""Stores around stores: one notes what was acknowledged, one fails or ends the process at a chosen write."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from flow import RunRecord, StateBackend, StateError, StepRecord
from tests.reliability.ledger import ACKNOWLEDGED, REFUSED, RESUMED, VOIDED, Ledger
from tests.reliability.stores import RESTARTED

DIED = 86
"""The exit code of a process that ended at a chosen write."""


class Layered:
    """Hands everything on to the store inside."""

    def __init__(self, store: StateBackend) -> None:
        self.inner = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Witness(Layered):
    """Notes each step as acknowledged when the store has said that it is stored."""

    def __init__(self, store: StateBackend, ledger: Ledger) -> None:
        super().__init__(store)
        self._ledger = ledger

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        for record in records:
            if record.status == RESTARTED:  # noted before: what is found stored later on counts again
                self._ledger.note(VOIDED, path=record.parent)
        await self.inner.append_steps(run_id, epoch, records, sync=sync)
        for record in records:
            if record.status != RESTARTED:
                self._ledger.note(ACKNOWLEDGED, path=record.path, status=record.status, sync=sync)

    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        await self.inner.update_run(run_id, epoch, sync=sync, **changes)
        if changes.get("status") == "running":
            self._ledger.note(RESUMED)


@attrs.frozen
class Fault:
    """What happens at the `number`-th durable write: the process ends before or after it, or the write fails."""

    number: int
    how: str  # "before", "after" or "fail"
    only: str = ""
    """Count only writes of this name."""


class Vanished(BaseException):
    """The process is gone, as far as the store can tell: nothing that is written from now on arrives."""


class Gone(StateError):
    """What else the process would have written after it was gone: branches that ran beside the one that vanished."""


class Faulty(Layered):
    """Counts durable writes, and does something at one of them.

    :ivar writes: the names of the writes so far.
    """

    def __init__(self, store: StateBackend, fault: Fault | None = None, ledger: Ledger | None = None) -> None:
        super().__init__(store)
        self.writes: list[str] = []
        self._fault = fault
        self._ledger = ledger
        self._gone = False
        self.renewed = asyncio.Event()

    async def create_run(self, run: RunRecord, lease_s: float = 0.0, *, sync: bool = True) -> None:
        await self._write("create", lambda: self.inner.create_run(run, lease_s))

    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        return await self._write("claim", lambda: self.inner.claim_run(run_id, owner, lease_s))

    async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
        try:
            await self._write("renew", lambda: self.inner.renew_run(run_id, epoch, lease_s))
        finally:
            self.renewed.set()

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        await self._write("append", lambda: self.inner.append_steps(run_id, epoch, records, sync=sync))

    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        await self._write("update", lambda: self.inner.update_run(run_id, epoch, sync=sync, **changes))

    async def save_pipeline(self, fingerprint: str, structure: bytes) -> None:
        await self._write("describe", lambda: self.inner.save_pipeline(fingerprint, structure))

    async def delete_run(self, run_id: str) -> bool:
        return await self._write("delete", lambda: self.inner.delete_run(run_id))

    async def _write(self, name: str, write: Callable[[], Awaitable[Any]]) -> Any:
        if self._gone:
            raise Gone(f"the process is gone, and so is this: {name}")
        self.writes.append(name)
        fault = self._fault
        counted = [done for done in self.writes if not fault or not fault.only or done == fault.only]
        if fault is None or len(counted) != fault.number or counted[-1] != name:
            return await write()
        self._fault = None
        if fault.how == "fail":
            if self._ledger is not None:
                self._ledger.note(REFUSED, write=name)
            raise StateError(f"write {fault.number} ({name}) failed: the disk is full")
        if fault.how == "vanish":
            self._gone = True
            raise Vanished
        if fault.how == "before":
            os._exit(DIED)
        await write()
        os._exit(DIED)
