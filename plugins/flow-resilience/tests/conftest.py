"""Fixtures of the tests of flow-resilience."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flow_resilience import CircuitBreaker
from flow_testkit import FakeClock, KernelFactory

from flow import Flow, RunResult

Run = Callable[..., RunResult[Any]]


@pytest.fixture(autouse=True)
def no_circuits_of_other_tests() -> Iterator[None]:
    """Let each test begin without circuits, which live as long as the process."""
    CircuitBreaker.forget()
    yield
    CircuitBreaker.forget()


@pytest.fixture
def flow(flow_kernel: KernelFactory) -> Callable[..., Flow[Any, Any]]:
    """Make a flow that sees the kernel's own plugins and this package: ``flow(pipeline, **options of Flow)``."""
    kernel = flow_kernel("flow-resilience")
    return lambda pipeline, **options: Flow(pipeline, **{"kernel": kernel, **options})


@pytest.fixture
def clock() -> FakeClock:
    """A clock that skips waits."""
    return FakeClock()


@pytest.fixture
def run(flow: Callable[..., Flow[Any, Any]], clock: FakeClock) -> Run:
    """Run a pipeline on the skipping clock: ``run(pipeline, data, **options of Flow)``."""
    return lambda pipeline, data="in", **options: clock.run(flow(pipeline, **options).run_async(data))
