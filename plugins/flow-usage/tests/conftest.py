"""Fixtures of the tests of flow-usage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flow_testkit import FakeClock, KernelFactory
from flow_usage import SharedBudget

from flow import Flow


@pytest.fixture(autouse=True)
def no_budgets_of_other_tests() -> Iterator[None]:
    """Let each test begin without budgets, which live as long as the process."""
    SharedBudget.forget()
    yield
    SharedBudget.forget()


@pytest.fixture
def flow(flow_kernel: KernelFactory) -> Callable[..., Flow[Any, Any]]:
    """Make a flow that sees the kernel's own plugins and this package: ``flow(pipeline, **options of Flow)``."""
    kernel = flow_kernel("flow-usage")
    return lambda pipeline, **options: Flow(pipeline, **{"kernel": kernel, **options})


@pytest.fixture
def clock() -> FakeClock:
    """A clock that skips waits."""
    return FakeClock()
