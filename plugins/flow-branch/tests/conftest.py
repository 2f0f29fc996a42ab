"""Fixtures of the tests of flow-branch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_testkit import KernelFactory

from flow import Flow, StateBackend


@pytest.fixture
def flow(flow_kernel: KernelFactory) -> Callable[..., Flow[Any, Any]]:
    """Make a flow that sees the kernel's own plugins and this package: ``flow(pipeline, **options of Flow)``."""
    kernel = flow_kernel("flow-branch")
    return lambda pipeline, **options: Flow(pipeline, **{"kernel": kernel, **options})


@pytest.fixture
def store(flow_kernel: KernelFactory) -> StateBackend:
    """A state store in memory: ``flow(pipeline, state=store)``."""
    return flow_kernel().open_state("memory://")
