"""The step-type suite fits kinds that run steps side by side, several times, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
from flow_testkit import StepTypeSuite

from flow import BaseStep, Binder, Execute, Pipeline, Scope, Step, StepResult, hookimpl

Child = BaseStep[Any, Any] | Pipeline[Any, Any]


@attrs.frozen(kw_only=True)
class Both(BaseStep[Any, Any]):
    """Runs its branches side by side; the output is a dictionary."""

    kind: ClassVar[str] = "both"
    branches: Mapping[str, Child] = attrs.field(hash=False)
    collect: bool = False

    def children(self) -> Mapping[str, Child]:
        return self.branches


@attrs.frozen(kw_only=True)
class Repeat(BaseStep[Any, Any]):
    """Runs its body a number of times."""

    kind: ClassVar[str] = "repeat"
    body: Child
    times: int

    def children(self) -> Mapping[str, Child]:
        return {"body": self.body}


@attrs.frozen(kw_only=True)
class Each(BaseStep[Any, Any]):
    """Runs its body for each item, all at the same time."""

    kind: ClassVar[str] = "each"
    body: Child

    def children(self) -> Mapping[str, Child]:
        return {"body": self.body}


async def side_by_side(work: Mapping[str, tuple[Execute, Any]], scope: Scope) -> dict[str, StepResult]:
    """Run each in a scope of its own; the first signal stops the others and goes on as itself."""
    scopes = {name: scope.branch(name) for name in work}
    tasks = {name: asyncio.ensure_future(execute(data, scopes[name])) for name, (execute, data) in work.items()}
    try:
        results = dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
    except BaseException:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        raise
    scope.merge({name: scopes[name] for name, result in results.items() if result.success})
    return results


class Plugin:
    @hookimpl
    def flow_bind_step(self, step: Any, binder: Binder) -> Execute | None:
        if isinstance(step, Both):
            return self.bind_both(step, binder)
        if isinstance(step, Repeat):
            return self.bind_repeat(step, binder)
        return self.bind_each(step, binder) if isinstance(step, Each) else None

    def bind_both(self, step: Both, binder: Binder) -> Execute:
        executes = {name: binder.bind(child) for name, child in step.branches.items()}
        named = {name: binder.bind(child, f"0:{child.name}") for name, child in step.branches.items()}
        executes |= {name: named[name] for name, child in step.branches.items() if isinstance(child, BaseStep)}

        async def run(data: Any, scope: Scope) -> StepResult:
            results = await side_by_side({name: (execute, data) for name, execute in executes.items()}, scope)
            failed = [result for result in results.values() if not result.success]
            if failed and not (step.collect and len(failed) < len(results)):
                return StepResult.failed(step, failed[0].feedback or "failed", failed[0].error)
            return StepResult.ok(step, {name: result.output for name, result in results.items()})

        return run

    def bind_each(self, step: Each, binder: Binder) -> Execute:
        execute = binder.bind(step.body, f"0:{step.body.name}")

        async def run(data: Any, scope: Scope) -> StepResult:
            results = await side_by_side({str(i): (execute, item) for i, item in enumerate(data)}, scope)
            failed = [result for result in results.values() if not result.success]
            if failed:
                return StepResult.failed(step, failed[0].feedback or "failed", failed[0].error)
            return StepResult.ok(step, [result.output for result in results.values()])

        return run

    def bind_repeat(self, step: Repeat, binder: Binder) -> Execute:
        execute = binder.bind(step.body, f"0:{step.body.name}")

        async def run(data: Any, scope: Scope) -> StepResult:
            for iteration in range(step.times):
                result = await execute(data, scope.child(f"i{iteration}"))
                if not result.success:
                    return StepResult.failed(step, result.feedback or "failed", result.error)
                data = result.output
            return StepResult.ok(step, data, metadata={"iterations": step.times})

        return run


class Subject(StepTypeSuite):
    plugins = (Plugin(),)
    has_children = True


class TestBoth(Subject):
    expected_output = {"left": "SAMPLE", "right": "Sample"}

    def make_step(self) -> BaseStep[Any, Any]:
        return Both(name="both", branches={"left": Step("upper", str.upper), "right": Step("title", str.title)})

    def make_step_around(self, child: Child) -> BaseStep[Any, Any]:
        return Both(name="both", branches={"left": child, "right": Step("title", str.title)})


class TestBothCollecting(TestBoth):
    propagates_failure = False

    def make_step_around(self, child: Child) -> BaseStep[Any, Any]:
        return Both(name="both", branches={"left": child, "right": Step("title", str.title)}, collect=True)


class TestRepeat(Subject):
    expected_output = "sample!!!"

    def make_step(self) -> BaseStep[Any, Any]:
        return Repeat(name="repeat", body=Step("shout", "{}!".format), times=3)

    def make_step_around(self, child: Child) -> BaseStep[Any, Any]:
        return Repeat(name="repeat", body=child, times=3)


class TestEach(Subject):
    sample_input = ["a", "b", "c"]
    expected_output = ["A", "B", "C"]
    nested_input = [["a"], ["b", "c"], []]

    def make_step(self) -> BaseStep[Any, Any]:
        return Each(name="each", body=Step("upper", str.upper))

    def make_step_around(self, child: Child) -> BaseStep[Any, Any]:
        return Each(name="each", body=child)
