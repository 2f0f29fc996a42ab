"""Fixtures of the tests of flow-hitl."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_hitl import _clock
from flow_testkit import KernelFactory

from flow import Flow, StateBackend


class Watch:
    """The time of day as the questions see it: moved by hand, and far in the past as everybody else sees it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(_clock, "now", lambda: watch.now)
    return watch


@pytest.fixture
def store(flow_kernel: KernelFactory) -> StateBackend:
    """A state store in memory that several flows share, as processes share a file."""
    return flow_kernel().open_state("memory://")


@pytest.fixture
def flow(flow_kernel: KernelFactory, store: StateBackend) -> Callable[..., Flow[Any, Any]]:
    """Make a flow that sees the kernel's own plugins and this package: ``flow(pipeline, **options of Flow)``.

    All flows of a test share one store, so that one can go on with the runs of another.
    """
    kernel = flow_kernel("flow-hitl")
    return lambda pipeline, **options: Flow(pipeline, **{"kernel": kernel, "state": store, **options})
