"""Steps that ask do what every step type must do, once they are answered."""

from __future__ import annotations

from typing import Any

from flow_hitl import HumanInTheLoop, approval, human_in_the_loop
from flow_testkit import StepTypeSuite

from flow import BaseStep, Binder, Execute, Layer, Pipeline, Scope, Step, StepResult, Wrapper, hookimpl


class Answering:
    """A person who answers before being asked: no run pauses."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    @hookimpl
    def flow_wrap_step(self, step: BaseStep[Any, Any], binder: Binder) -> Wrapper | None:
        if not isinstance(step, HumanInTheLoop):
            return None

        def wrap(execute: Execute) -> Execute:
            async def answered(data: Any, scope: Scope) -> StepResult:
                scope.run.answers[scope.path] = self.answer
                return await execute(data, scope)

            return answered

        return Wrapper(Layer.TRACE, wrap)


class TestHumanInTheLoop(StepTypeSuite):
    plugins = (Answering("ham"),)
    expected_output = "ham"

    def make_step(self) -> BaseStep[Any, Any]:
        return human_in_the_loop("label", "Is {{ data }} spam?", str, timeout=60, default="spam")


class TestApproved(StepTypeSuite):
    plugins = (Answering(True),)
    expected_output = "sample"

    def make_step(self) -> BaseStep[Any, Any]:
        return approval("publish", "Publish {{ data }}?")


class TestRejected(StepTypeSuite):
    plugins = (Answering(False),)
    expected_output = "SAMPLE"
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return self.make_step_around(Step("upper", str.upper))

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return approval("publish", on_reject=child)
