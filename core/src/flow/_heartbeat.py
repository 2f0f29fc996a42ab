"""The lease of a run while it is executed: who holds it, renewed as long as the event loop turns."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from ._lease import retire_owner
from .errors import LeaseLost, StateError

if TYPE_CHECKING:
    from ._protocols import StateBackend
    from ._run import Run

logger = logging.getLogger("flow")


class Tenure:
    """One execution of a stored run: its owner, its epoch, and the timer that renews its lease.

    A run whose lease was taken over is interrupted; its next write would be refused anyway.
    """

    __slots__ = ("_lease_s", "_run", "_store", "_task", "_timer", "epoch", "owner")

    def __init__(self, store: StateBackend, owner: str, epoch: int, lease_s: float) -> None:
        self.owner = owner
        self.epoch = epoch
        self._store = store
        self._lease_s = lease_s
        self._run: Run | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, run: Run) -> None:
        """Renew the lease from now on, three times as often as it would end."""
        self._run = run
        self._wait()

    def end(self) -> None:
        """Stop renewing; what this execution has claimed is free for others."""
        self._run = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        retire_owner(self.owner)

    async def leave(self, run_id: str) -> None:
        """Give the run back and end, also when this is cancelled meanwhile."""
        try:
            await self.give_back(run_id)
        finally:
            self.end()

    async def give_back(self, run_id: str, **changes: Any) -> None:
        """Tell the store that the run is free although it did not end; when it cannot be told, the lease ends it.

        :param changes: fields of the run that are put back to what they were.
        """
        try:
            await self._store.update_run(run_id, self.epoch, **changes, owner=None)
        except StateError as error:
            logger.warning("run %s could not be given back and waits for its lease to end: %s", run_id, error)

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._lease_s / 3, self._beat)

    def _beat(self) -> None:
        if self._run is not None:
            self._task = asyncio.create_task(self._renew(self._run), name=f"flow-lease:{self._run.run_id}")

    async def _renew(self, run: Run) -> None:
        try:
            await self._store.renew_run(run.run_id, self.epoch, self._lease_s)
        except LeaseLost as lost:
            run.interrupt(lost)
            return
        except StateError as error:
            logger.warning("the lease of run %s could not be renewed, which is tried again: %s", run.run_id, error)
        if self._run is not None:
            self._wait()
