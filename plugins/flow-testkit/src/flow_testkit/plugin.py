"""The pytest plugin: four fixtures, and the guard of the conformance suites.

It imports neither flow nor the rest of the kit before a test needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flow_testkit.clock import FakeClock
    from flow_testkit.observer import RecordingObserver
    from flow_testkit.running import KernelFactory
    from flow_testkit.tester import FlowTester

pytest.register_assert_rewrite("flow_testkit.suites", "flow_testkit.tester")


@pytest.fixture
def flow_kernel() -> KernelFactory:
    """A factory of kernels that see only what is named: ``flow_kernel("loop")``, ``flow_kernel(plugins=[module])``."""
    from flow_testkit.running import KernelFactory

    return KernelFactory()


@pytest.fixture
def recording_observer() -> RecordingObserver:
    """An observer that keeps the events of a run: ``Flow(..., hooks=[recording_observer])``."""
    from flow_testkit.observer import RecordingObserver

    return RecordingObserver()


@pytest.fixture
def fake_clock() -> FakeClock:
    """An event-loop clock that skips waiting: ``fake_clock.run(coroutine)``, ``fake_clock.elapsed``."""
    from flow_testkit.clock import FakeClock

    return FakeClock()


@pytest.fixture
def flow_tester(tmp_path: Path) -> FlowTester:
    """A directory and a clean environment in which the ``flow`` command runs as a program of its own."""
    from flow_testkit.tester import FlowTester

    return FlowTester(tmp_path)


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, obj: object
) -> Generator[None, Any, pytest.Item | pytest.Collector | list[Any] | None]:
    """Fail for a suite class that pytest would pass over."""
    found = yield
    # A suite cannot be there unless this module is: sessions without suites never import flow.
    if found is None and isinstance(obj, type) and "flow_testkit.suites" in sys.modules:
        from flow_testkit.suites import _guard

        return _guard.uncollected(collector, obj)
    return found  # type: ignore[no-any-return]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail for a suite class whose standard tests were tampered with, or that holds no test at all."""
    report = yield
    if isinstance(collector, pytest.Class) and "flow_testkit.suites" in sys.modules:
        from flow_testkit.suites import _guard

        report.result += _guard.problems(collector, report.result)
    return report
