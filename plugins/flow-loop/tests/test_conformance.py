"""Loops and refinements do what every step type must do."""

from __future__ import annotations

from typing import Any

from flow_loop import Refinement, loop_until, refine_until
from flow_testkit import StepTypeSuite

from flow import BaseStep, Pipeline, Step


def at_once(output: Any, context: Any) -> bool:
    return True


async def content(artifact: Any) -> Refinement:
    return Refinement(is_complete=True)


async def original(task: Any) -> Any:
    return task["original_input"]


class TestLoop(StepTypeSuite):
    expected_output = "SAMPLE"
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return self.make_step_around(Step("upper", str.upper))

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return loop_until("again", child, at_once)


class TestRefine(StepTypeSuite):
    expected_output = "sample"
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return self.make_step_around(Step("original", original))

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return refine_until("refine", child, Step("content", content))
