"""Branches do what every step type must do."""

from __future__ import annotations

from typing import Any

from flow_branch import branch_on, route_by_policy
from flow_testkit import StepTypeSuite

from flow import BaseStep, Pipeline, Step


def chosen(data: Any, context: Any) -> str:
    return "chosen"


class TestBranch(StepTypeSuite):
    expected_output = "SAMPLE"
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return self.make_step_around(Step("upper", str.upper))

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return branch_on("choice", chosen, {"other": Pipeline(()), "chosen": child})


class TestDefaultBranch(StepTypeSuite):
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return self.make_step_around(Step("upper", str.upper))

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return branch_on("choice", chosen, {}, default_branch_pipeline=child)


POLICY = {"chosen": "taken"}


class TestRoutedByPolicy(StepTypeSuite):
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return self.make_step_around(Step("upper", str.upper))

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return route_by_policy("route", POLICY, {"taken": child}, key=chosen)
