"""Pipelines and flows as steps of others: results, paths and context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flow import Flow, PipelineContext, RunResult, Step, StepFailed, StepRun, UsageLimits

Run = Callable[..., RunResult[Any]]


class Outer(PipelineContext):
    topic: str = "outer"
    shared: int = 1
    notes: list[str] = []


class Inner(PipelineContext):
    shared: int = 0
    own: str = "inner"


class Demanding(PipelineContext):
    shared: int = 0
    must_have: str


async def bump(value: int, *, context: Any) -> int:
    context.shared += 1
    return value + context.shared


async def bad(value: Any, *, context: Any) -> Any:
    context.shared = 99
    raise ValueError("no")


def test_the_output_is_handed_over_and_the_steps_are_children(run: Run) -> None:
    sub = (Step("a", str.strip) >> Step("b", str.upper)).as_step("sub")
    result = run(sub >> Step("c", len), " x ")
    assert result.output == 1
    step = result.step_history[0]
    assert (step.name, step.kind, step.output) == ("sub", "pipeline", "X")
    assert [child.path for child in step.children] == ["0:sub/0:a", "0:sub/1:b"]


def test_sub_workflows_nest_without_limit(run: Run) -> None:
    pipeline: Any = Step("a", str.upper)
    for depth in range(20):
        pipeline = (pipeline >> Step("s", str.strip)).as_step(f"level{depth}")
    result = run(pipeline, "x")
    assert result.output == "X"
    assert max(item.path.count("/") for item in result.walk()) == 20


def test_an_inherited_context_flows_both_ways(run: Run) -> None:
    result = run((Step("a", bump) >> Step("b", bump)).as_step("sub"), 0, context_model=Outer)
    assert (result.output, result.final_pipeline_context.shared) == (5, 3)


def test_a_flow_with_its_own_context_gets_and_returns_the_fields_of_the_same_name(run: Run) -> None:
    seen = {}

    async def look(value: int, *, context: Inner) -> int:
        seen.update(context.model_dump())
        context.shared += 10
        context.own = "changed"
        return value

    sub = Flow(Step("look", look), context_model=Inner).as_step("sub")
    context = run(sub, 5, context_model=Outer, initial_context={"initial_prompt": "mine"}).final_pipeline_context
    assert (seen["shared"], seen["own"], seen["initial_prompt"]) == (1, "inner", "mine")
    assert (context.shared, context.initial_prompt, context.topic) == (11, "mine", "outer")


def test_dictionaries_are_updated_and_nothing_is_taken_back_as_none(run: Run) -> None:
    class Holder(PipelineContext):
        found: dict[str, int] | None = None
        best: str | None = None

    class Smaller(PipelineContext):
        found: dict[str, int] | None = None
        best: str | None = None

    async def change(_: Any, *, context: Smaller) -> None:
        context.found = {"b": 2}
        context.best = None

    sub = Flow(Step("change", change), context_model=Smaller).as_step("sub")
    context = run(sub, 0, context_model=Holder, initial_context={"found": {"a": 1}, "best": "x"}).final_pipeline_context
    assert (context.found, context.best) == ({"a": 1, "b": 2}, "x")


def test_a_missing_field_fails_the_step_naming_field_and_model(run: Run) -> None:
    sub = Flow(Step("a", bump), context_model=Demanding).as_step("sub")
    result = run(Step("before", bump) >> sub, 0, context_model=Outer)
    assert result.status == "failed"
    assert "the context Demanding of sub-workflow 'sub' needs must_have, which Outer does not have" in str(result.error)
    assert [item.success for item in result.step_history] == [True, False]


def test_without_inheritance_neither_side_sees_the_other(run: Run) -> None:
    sub = Flow(Step("a", bump), context_model=Inner).as_step("sub", inherit_context=False)
    result = run(sub, 0, context_model=Outer)
    assert (result.output, result.final_pipeline_context.shared) == (1, 1)


def test_a_failing_sub_workflow_names_the_inner_step_and_leaves_no_trace(run: Run) -> None:
    sub = (Step("a", bump) >> Step("bad", bad) >> Step("never", bump)).as_step("sub")
    result = run(sub, 0, context_model=Outer)
    assert isinstance(result.error, StepFailed)
    assert result.failed_path == "0:sub/1:bad"
    assert result.step_history[0].feedback == "step '0:sub/1:bad' failed: Agent failed with ValueError: no"
    assert [child.name for child in result.step_history[0].children] == ["a", "bad"]
    assert result.final_pipeline_context.shared == 1


def test_resources_and_limits_are_shared_and_usage_counts_outside(run: Run) -> None:
    resources = object()

    async def spend(value: int, *, run: StepRun, resources: Any) -> int:
        run.usage.add(cost_usd=0.1)
        assert resources is expected
        return value

    expected = resources
    sub = Flow(Step("s", spend)).as_step("sub")
    result = run(sub >> sub, 0, resources=resources, usage_limits=UsageLimits(total_cost_usd_limit=0.15))
    assert (result.status, result.total_cost_usd) == ("limit_exceeded", 0.2)


def test_a_sub_workflow_may_be_retried_as_a_whole(run: Run) -> None:
    calls = []

    async def flaky(value: int) -> int:
        calls.append(value)
        if len(calls) == 1:
            raise ValueError("once")
        return value

    result = run((Step("a", bump) >> Step("f", flaky)).as_step("sub").evolve(retries=1), 0, context_model=Outer)
    assert (result.success, result.step_history[0].attempts) == (True, 2)
    assert result.final_pipeline_context.shared == 2
    assert len(result.step_history[0].children) == 2


@pytest.mark.parametrize("name", ["", "a/b"])
def test_names_are_checked(name: str) -> None:
    with pytest.raises(Exception, match="name"):
        (Step("a", bump) >> Step("b", bump)).as_step(name)


def test_asking_for_types_does_not_double_with_every_level(run: Run) -> None:
    asked = 0

    class Asked(Step[Any, Any]):
        def declared_types(self) -> tuple[Any, Any]:
            nonlocal asked
            asked += 1
            return super().declared_types()

    pipeline: Any = Asked("a", str.upper)
    for depth in range(15):
        pipeline = Flow(pipeline).as_step(f"level{depth}")
    pipeline.declared_types()
    assert asked == 1
