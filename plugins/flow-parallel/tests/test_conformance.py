"""Fan-out does what every step type must do."""

from __future__ import annotations

from typing import Any

from flow_parallel import map_over, map_reduce, parallel
from flow_testkit import StepTypeSuite

from flow import BaseStep, Pipeline, Step

Body = BaseStep[Any, Any] | Pipeline[Any, Any]


async def echo(data: Any) -> Any:
    return data


class TestParallel(StepTypeSuite):
    expected_output = {"upper": "SAMPLE", "through": "sample"}
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return parallel("fan", {"upper": Step("upper", str.upper), "through": Pipeline(())})

    def make_step_around(self, child: Body) -> BaseStep[Any, Any]:
        return parallel("fan", {"child": child, "through": Step("echo", echo)})


class TestParallelThatCollects(StepTypeSuite):
    has_children = True
    propagates_failure = False

    def make_step(self) -> BaseStep[Any, Any]:
        return self.make_step_around(Step("upper", str.upper))

    def make_step_around(self, child: Body) -> BaseStep[Any, Any]:
        return parallel("fan", {"child": child, "through": Step("echo", echo)}, on_failure="collect")


class TestRouter(StepTypeSuite):
    expected_output = {"chosen": "sample"}
    has_children = True
    child_output = ["chosen"]

    def make_step(self) -> BaseStep[Any, Any]:
        return self.make_step_around(Step("choose", lambda data: ["chosen"]))

    def make_step_around(self, child: Body) -> BaseStep[Any, Any]:
        return parallel("fan", {"chosen": Step("echo", echo), "other": Pipeline(())}, router=child)


class TestMap(StepTypeSuite):
    sample_input = ["sample"]
    nested_input = [["sample"]]
    expected_output = ["SAMPLE"]
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return map_over("each", Step("upper", str.upper))

    def make_step_around(self, child: Body) -> BaseStep[Any, Any]:
        return map_over("each", child)


def append(outputs: list[Any], output: Any) -> list[Any]:
    return [*outputs, output]


class TestMapReduce(StepTypeSuite):
    sample_input = ["sample"]
    nested_input = [["sample"]]
    expected_output = ["SAMPLE"]
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return self.make_step_around(Step("upper", str.upper))

    def make_step_around(self, child: Body) -> BaseStep[Any, Any]:
        return map_reduce("each", child, reduce=append, initial=[])
