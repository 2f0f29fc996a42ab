"""What a state backend's author tells the suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest

from flow import StateBackend
from flow_testkit.suites._suite import Suite, awaited

OWNER, RIVAL = "host-a:1", "host-b:2"


class StateSubject(Suite):
    """The attributes and factories of `StateBackendSuite`; its tests are in the classes beside this one.

    :cvar survives_reopen: a backend made later in the same test finds the runs of the one before.
    :cvar has_leases: a run is executed by one owner at a time, and writes of earlier owners are refused.
    """

    survives_reopen: ClassVar[bool] = True
    has_leases: ClassVar[bool] = True

    def make_state(self) -> StateBackend | str | Awaitable[StateBackend]:
        """Return a backend or its URL; in one test, every call opens the same store anew."""
        self._not_written("make_state(self)", 'return f"sqlite:///{self.tmp_path}/runs.db"')

    async def let_leases_expire(self, seconds: float) -> None:
        """Let `seconds` pass for the backend; override it when the backend's clock is in the test's hands."""
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[StateBackend]:
        """Open a backend and close it in the end."""
        made = self.make_state()
        backend = self.kernel.open_state(made) if isinstance(made, str) else await awaited(made)
        try:
            yield backend
        finally:
            await backend.aclose()

    def _require_leases(self) -> None:
        if not self.has_leases:
            pytest.skip("does not fence writers: has_leases is False")

    def _require_reopening(self) -> None:
        if not self.survives_reopen:
            pytest.skip("keeps nothing when it is closed: survives_reopen is False")
