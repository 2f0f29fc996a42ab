"""Conformance suites: subclass one, say how to make your thing, and see whether it does what all of its sort must do.

A suite is a class of tests. Capabilities are class attributes; a test that a declared capability rules out is skipped
with the reason. Standard tests cannot be overridden or deleted unnoticed: a plugin that cannot pass one marks it with
``@pytest.mark.xfail(reason=...)``.
"""

from __future__ import annotations

from flow_testkit.suites._suite import Suite
from flow_testkit.suites.cache import CacheBackendSuite
from flow_testkit.suites.policy import PolicySuite
from flow_testkit.suites.state import StateBackendSuite
from flow_testkit.suites.step_type import StepTypeSuite
from flow_testkit.suites.tracer import TracerSuite
from flow_testkit.suites.validator import ValidatorSuite

__all__ = [
    "CacheBackendSuite",
    "PolicySuite",
    "StateBackendSuite",
    "StepTypeSuite",
    "Suite",
    "TracerSuite",
    "ValidatorSuite",
]
