"""A container that is right, and what is wrong with it in ways that authors of step types get wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
from flow_testkit import StepTypeSuite

from flow import BaseStep, Binder, Execute, Flow, Pipeline, Scope, Step, StepResult, StepRun, hookimpl


@attrs.frozen(kw_only=True)
class Around(BaseStep[Any, Any]):
    kind: ClassVar[str] = "around"
    body: BaseStep[Any, Any] | Pipeline[Any, Any]

    def children(self) -> Mapping[str, BaseStep[Any, Any] | Pipeline[Any, Any]]:
        return {"body": self.body}


class Sound:
    """The plugin as it should be; mutants change one thing each."""

    @hookimpl
    def flow_bind_step(self, step: Any, binder: Binder) -> Execute | None:
        return self.bind(step, binder) if isinstance(step, Around) else None

    def bind(self, step: Around, binder: Binder) -> Execute:
        execute = binder.bind(step.body, "body")

        async def run(data: Any, scope: Scope) -> StepResult:
            return self.finish(step, await self.call(execute, data, scope), scope)

        return run

    async def call(self, execute: Execute, data: Any, scope: Scope) -> StepResult:
        return await execute(data, scope)

    def finish(self, step: Around, result: StepResult, scope: Scope) -> StepResult:
        if not result.success:
            return StepResult.failed(step, result.feedback or "failed", result.error)
        return StepResult.ok(step, result.output)


class Subject(StepTypeSuite):
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return self.make_step_around(Step("upper", str.upper))

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return Around(name="around", body=child)


class TestSound(Subject):
    plugins = (Sound(),)


class SwallowsSignals(Sound):
    async def call(self, execute: Execute, data: Any, scope: Scope) -> StepResult:
        try:
            return await execute(data, scope)
        except BaseException as error:  # noqa: BLE001  what is wrong with it
            return StepResult("around", "around", False, feedback=str(error), error=error)


class TestSwallowsSignals(Subject):
    plugins = (SwallowsSignals(),)


class CountsUsageTwice(Sound):
    def finish(self, step: Around, result: StepResult, scope: Scope) -> StepResult:
        scope.spend(result.usage)
        return super().finish(step, result, scope)


class TestCountsUsageTwice(Subject):
    plugins = (CountsUsageTwice(),)


class LosesUsage(Sound):
    """Runs the child as a run of its own."""

    def bind(self, step: Around, binder: Binder) -> Execute:
        flow = Flow(step.body, kernel=binder.kernel)

        async def run(data: Any, scope: Scope) -> StepResult:
            inner = await flow.run_async(data)
            if not inner.success:
                return StepResult.failed(step, str(inner.error), inner.error)
            return StepResult.ok(step, inner.output)

        return run


class TestLosesUsage(Subject):
    plugins = (LosesUsage(),)


class CallsDirectly(Sound):
    def bind(self, step: Around, binder: Binder) -> Execute:
        async def run(data: Any, scope: Scope) -> StepResult:
            for child in Pipeline.of(step.body):
                assert isinstance(child, Step)
                if callable(child.agent):
                    data = child.agent(data)
                else:
                    data = await child.agent.run(data, context=scope.context, run=StepRun(scope))
            return StepResult.ok(step, data)

        return run


class TestCallsDirectly(Subject):
    plugins = (CallsDirectly(),)


class BindsWhileRunning(Sound):
    def bind(self, step: Around, binder: Binder) -> Execute:
        async def run(data: Any, scope: Scope) -> StepResult:
            return self.finish(step, await binder.bind(step.body, "body")(data, scope), scope)

        return run


class TestBindsWhileRunning(Subject):
    plugins = (BindsWhileRunning(),)


class KeepsState(Sound):
    def __init__(self) -> None:
        self.calls = itertools.count()

    def finish(self, step: Around, result: StepResult, scope: Scope) -> StepResult:
        result.output = f"{result.output}{next(self.calls)}"
        return super().finish(step, result, scope)


class TestKeepsState(Subject):
    plugins = (KeepsState(),)


class LeavesTasks(Sound):
    async def call(self, execute: Execute, data: Any, scope: Scope) -> StepResult:
        return await asyncio.shield(asyncio.ensure_future(execute(data, scope)))


class TestLeavesTasks(Subject):
    plugins = (LeavesTasks(),)


class PathsOfItsOwn(Sound):
    def __init__(self) -> None:
        self.calls = itertools.count()

    async def call(self, execute: Execute, data: Any, scope: Scope) -> StepResult:
        return await execute(data, scope.child(f"call-{next(self.calls)}"))


class TestPathsOfItsOwn(Subject):
    plugins = (PathsOfItsOwn(),)


class MixesRuns(Sound):
    async def call(self, execute: Execute, data: Any, scope: Scope) -> StepResult:
        self.scope = scope
        await asyncio.sleep(0)
        return await execute(data, self.scope)


class TestMixesRuns(Subject):
    plugins = (MixesRuns(),)


class HidesFailures(Sound):
    def finish(self, step: Around, result: StepResult, scope: Scope) -> StepResult:
        return StepResult.ok(step, result.output)


class TestHidesFailures(Subject):
    plugins = (HidesFailures(),)


class LosesTheCause(Sound):
    def finish(self, step: Around, result: StepResult, scope: Scope) -> StepResult:
        return result if result.success else StepResult.failed(step, "it did not work")


class TestLosesTheCause(Subject):
    plugins = (LosesTheCause(),)


class BindsEverything(Sound):
    @hookimpl
    def flow_bind_step(self, step: Any, binder: Binder) -> Execute | None:
        if isinstance(step, Around):
            return self.bind(step, binder)

        async def run(data: Any, scope: Scope) -> StepResult:
            return StepResult.ok(step, data)

        return run if step.kind == "flow-testkit-stranger" else None


class TestBindsEverything(Subject):
    plugins = (BindsEverything(),)


@attrs.frozen(kw_only=True)
class Secretive(Around):
    options: dict[str, str] = attrs.field(factory=dict)

    def children(self) -> Mapping[str, BaseStep[Any, Any] | Pipeline[Any, Any]]:
        return {}


class TestHidesChildrenAndIsNotHashable(Subject):
    plugins = (Sound(),)

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return Secretive(name="around", body=child, options={"a": "b"})
