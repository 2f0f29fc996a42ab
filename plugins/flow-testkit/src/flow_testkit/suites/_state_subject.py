"""What a state backend's author tells the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from flow import RunRecord, StateBackend
from flow_testkit.suites._clocks import MovableClocks
from flow_testkit.suites._records import run_record
from flow_testkit.suites._suite import Suite, awaited

OWNER, RIVAL = "host-a:1", "host-b:2"
HOUR = 3600.0
AT_ONCE = 0.0
"""The length of a lease that is over before anybody can ask."""


class StateSubject(Suite):
    """The attributes and factories of `StateBackendSuite`; its tests are in the classes beside this one.

    :cvar survives_reopen: a backend that is made later in the same test, or while another is open, finds the same runs.
    :cvar has_leases: a run is executed by one owner at a time, and writes of earlier owners are refused.
    """

    survives_reopen: ClassVar[bool] = True
    has_leases: ClassVar[bool] = True
    _clocks: MovableClocks | None = None

    def make_state(self) -> StateBackend | str | Awaitable[StateBackend]:
        """Return a backend or its URL; in one test, every call opens the same store anew."""
        self._not_written("make_state(self)", 'return f"sqlite:///{self.tmp_path}/runs.db"')

    def let_time_pass(self, seconds: float) -> None:
        """Let `seconds` pass at once, on `lease_clock` and on the wall clock of this process.

        Override it for a backend that measures leases with another clock, such as that of a server.
        """
        self.clocks.pass_by(seconds)

    @property
    def clocks(self) -> MovableClocks:
        """The clocks of this process; what a test does to them ends with it."""
        if self._clocks is None:
            self._clocks = MovableClocks(self._request.getfixturevalue("monkeypatch"))
        return self._clocks

    async def open_state(self) -> StateBackend:
        """Open a backend, to be closed by whoever asked for it."""
        made = self.make_state()
        return self.kernel.open_state(made) if isinstance(made, str) else await awaited(made)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[StateBackend]:
        """Open a backend and close it in the end."""
        backend = await self.open_state()
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


async def begun(state: StateBackend, run_id: str = "run-1", **fields: Any) -> int:
    """Create a run that `OWNER` has claimed for an hour, and return its epoch."""
    await state.create_run(run_record(run_id, **fields))
    return await state.claim_run(run_id, OWNER, HOUR)


async def loaded(state: StateBackend, run_id: str = "run-1") -> RunRecord:
    """Return the record of a run that has to be there."""
    run = await state.load_run(run_id)
    if run is None:
        pytest.fail(f"the run {run_id!r} is not in the store")
    return run


async def listed(state: StateBackend, **options: Any) -> list[str]:
    """Return the ids of the runs in a listing."""
    return [run.run_id for run in await state.list_runs(**options)]


async def journal(state: StateBackend, run_id: str = "run-1") -> list[str]:
    """Return the paths in the journal of a run."""
    return [record.path for record in await state.load_steps(run_id)]
