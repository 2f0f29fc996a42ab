"""The suite for state backends."""

from __future__ import annotations

from flow_testkit.suites._state_flows import StateFlowTests
from flow_testkit.suites._state_leases import StateFenceTests, StateLeaseTests
from flow_testkit.suites._state_listing import StateListTests, StatePruneTests
from flow_testkit.suites._state_runs import StateReopenTests, StateRunTests
from flow_testkit.suites._state_sharing import StateConcurrencyTests, StateModelTests, StateSharingTests
from flow_testkit.suites._state_steps import StateStepTests


class StateBackendSuite(
    StateRunTests,
    StateReopenTests,
    StateListTests,
    StatePruneTests,
    StateLeaseTests,
    StateFenceTests,
    StateStepTests,
    StateConcurrencyTests,
    StateSharingTests,
    StateModelTests,
    StateFlowTests,
):
    """What every state backend must do. Subclass it and write `make_state`.

    ::

        class TestSqliteState(StateBackendSuite):
            def make_state(self):
                return f"sqlite:///{self.tmp_path}/runs.db"

    A backend whose runs end with it declares ``survives_reopen = False``, one that does not fence writers
    ``has_leases = False``.
    """
