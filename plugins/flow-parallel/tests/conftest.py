"""Fixtures of the tests of flow-parallel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import pytest
from flow_testkit import KernelFactory

from flow import BaseStep, Flow, PauseSignal, Scope, StateBackend, StepResult, hookimpl


@pytest.fixture
def flow(flow_kernel: KernelFactory) -> Callable[..., Flow[Any, Any]]:
    """Make a flow that sees the kernel's own plugins and this package: ``flow(pipeline, **options of Flow)``."""
    kernel = flow_kernel("flow-parallel", plugins=[AskPlugin()])
    return lambda pipeline, **options: Flow(pipeline, **{"kernel": kernel, **options})


@pytest.fixture
def store(flow_kernel: KernelFactory) -> StateBackend:
    """A state store in memory: ``flow(pipeline, state=store)``."""
    return flow_kernel().open_state("memory://")


@attrs.frozen(kw_only=True)
class Ask(BaseStep[Any, Any]):
    kind: ClassVar[str] = "ask"


class AskPlugin:
    """Runs steps that wait for an answer to the question that is their name."""

    @hookimpl
    def flow_bind_step(self, step: Any, binder: Any) -> Any:
        if not isinstance(step, Ask):
            return None

        async def run(data: Any, scope: Scope) -> StepResult:
            if scope.path in scope.run.answers:
                return StepResult.ok(step, scope.run.answers[scope.path])
            raise PauseSignal(f"{step.name} {data}?")

        return run


@pytest.fixture
def ask() -> Callable[[str], BaseStep[Any, Any]]:
    """Make a step that waits for an answer: ``ask("label")`` asks ``"label <data>?"``."""
    return lambda name: Ask(name=name)
