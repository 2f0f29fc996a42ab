"""The suite for state backends."""

from __future__ import annotations

from flow_testkit.suites._state_runs import StateLeaseTests, StateRunTests
from flow_testkit.suites._state_steps import StateFlowTests, StateStepTests


class StateBackendSuite(StateRunTests, StateLeaseTests, StateStepTests, StateFlowTests):
    """What every state backend must do. Subclass it and write `make_state`.

    ::

        class TestSqliteState(StateBackendSuite):
            def make_state(self):
                return f"sqlite:///{self.tmp_path}/runs.db"

    A backend whose runs end with it declares ``survives_reopen = False``, one that does not fence writers
    ``has_leases = False``.
    """
