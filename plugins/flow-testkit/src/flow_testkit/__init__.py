"""Tests for flow: fixtures, fakes, a black-box tester and conformance suites to subclass.

    >>> from flow import Step
    >>> from flow_testkit import StubAgent, assert_step_sequence, run_one
    >>> result = run_one(Step("draft", StubAgent(["hello"])) >> Step("shout", str.upper), "a greeting")
    >>> assert_step_sequence(result, ["draft", "shout"])
    >>> result.output
    'HELLO'

This door is lazy: pytest loads the plugin in every session on this machine, also in those that have nothing to do
with flow, and pays for the import of three small modules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flow_testkit.agents import SimulatedError, StubAgent, simulate_error
    from flow_testkit.assertions import assert_step_sequence
    from flow_testkit.clock import FakeClock
    from flow_testkit.observer import RecordingObserver
    from flow_testkit.running import KernelFactory, arun_one, gather_result, run_one
    from flow_testkit.suites import (
        CacheBackendSuite,
        PolicySuite,
        StateBackendSuite,
        StepTypeSuite,
        Suite,
        TracerSuite,
        ValidatorSuite,
    )
    from flow_testkit.tester import FlowTester, Outcome

_HOMES = {
    "agents": "SimulatedError StubAgent simulate_error",
    "assertions": "assert_step_sequence",
    "clock": "FakeClock",
    "observer": "RecordingObserver",
    "running": "KernelFactory arun_one gather_result run_one",
    "suites": "CacheBackendSuite PolicySuite StateBackendSuite StepTypeSuite Suite TracerSuite ValidatorSuite",
    "tester": "FlowTester Outcome",
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "CacheBackendSuite",
    "FakeClock",
    "FlowTester",
    "KernelFactory",
    "Outcome",
    "PolicySuite",
    "RecordingObserver",
    "SimulatedError",
    "StateBackendSuite",
    "StepTypeSuite",
    "StubAgent",
    "Suite",
    "TracerSuite",
    "ValidatorSuite",
    "arun_one",
    "assert_step_sequence",
    "gather_result",
    "run_one",
    "simulate_error",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'flow_testkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flow_testkit.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
