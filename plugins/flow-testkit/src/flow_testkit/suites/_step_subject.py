"""What a step type's author tells the suite: how to make steps, and what they can do."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from flow import BaseStep, Pipeline, Step
from flow_testkit.suites._probes import Probe, broken
from flow_testkit.suites._suite import UNSET, Suite


class StepSubject(Suite):
    """The attributes and factories of `StepTypeSuite`; its tests are in the classes beside this one.

    :cvar sample_input: what the step of `make_step` runs on.
    :cvar expected_output: what it returns for that; not compared when it is left out.
    :cvar has_children: the kind holds other steps; `make_step_around` is needed.
    :cvar runs_agent: the kind runs an agent without being a container; `make_step_with` is needed.
    :cvar child_output: what a step inside must return for this kind to make sense of it; its input when left out.
    :cvar nested_input: what a step of this kind inside another one runs on, if not on `sample_input`.
    :cvar propagates_failure: a step inside that fails makes this one fail.
    :cvar shares_context: what a step inside writes to the context reaches the run.
    :cvar is_deterministic: equal inputs give equal outputs.
    :cvar is_storable: outputs can be kept in a journal.
    """

    sample_input: ClassVar[Any] = "sample"
    expected_output: ClassVar[Any] = UNSET
    has_children: ClassVar[bool] = False
    runs_agent: ClassVar[bool] = False
    child_output: ClassVar[Any] = UNSET
    nested_input: ClassVar[Any] = UNSET
    propagates_failure: ClassVar[bool] = True
    shares_context: ClassVar[bool] = True
    is_deterministic: ClassVar[bool] = True
    is_storable: ClassVar[bool] = True

    def make_step(self) -> BaseStep[Any, Any]:
        """Return a step that succeeds on `sample_input`: a new, equal one on every call."""
        self._not_written("make_step(self)", "return shout(times=2)")

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        """Return a step that runs `child` at least once on `sample_input`."""
        self._not_written(
            "make_step_around(self, child)", 'return repeat("twice", child, times=2)  # has_children needs it'
        )

    def make_step_with(self, agent: Any) -> BaseStep[Any, Any]:
        """Return a step that runs `agent` at least once on `sample_input`."""
        if not self.has_children:
            self._not_written("make_step_with(self, agent)", 'return Judge("judge", agent)  # runs_agent needs it')
        return self.make_step_around(Step("probe", agent))

    def with_probe(self, **behaviour: Any) -> tuple[BaseStep[Any, Any], Probe]:
        """Return a step that runs a probe; skips the test when the kind runs no agent."""
        if not (self.has_children or self.runs_agent):
            pytest.skip("runs nothing of the user: has_children and runs_agent are False")
        probe = Probe(**{"output": self.child_output, **behaviour})
        return self.make_step_with(probe), probe

    def with_failing_probe(self, **behaviour: Any) -> tuple[BaseStep[Any, Any], Probe]:
        """Return a step that fails because of a probe; skips the test when the kind handles failures itself."""
        made = self.with_probe(error=broken, **behaviour)
        if not self.propagates_failure:
            pytest.skip("handles failures inside it: propagates_failure is False")
        return made
