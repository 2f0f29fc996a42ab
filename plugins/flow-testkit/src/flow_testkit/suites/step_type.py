"""The suite for step types."""

from __future__ import annotations

from flow_testkit.suites._step_nesting import StepChildTests, StepDurabilityTests
from flow_testkit.suites._step_running import StepFailureTests, StepRunTests
from flow_testkit.suites._step_value import StepValueTests


class StepTypeSuite(StepValueTests, StepRunTests, StepFailureTests, StepChildTests, StepDurabilityTests):
    """What every step type must do. Subclass it and write `make_step`; see `StepSubject` for the rest.

    ::

        class TestShout(StepTypeSuite):
            expected_output = "SAMPLE!!"

            def make_step(self):
                return shout(times=2)

    A kind with steps inside declares ``has_children = True`` and writes ``make_step_around(self, child)``; a kind that
    runs an agent itself declares ``runs_agent = True`` and writes ``make_step_with(self, agent)``.
    """
