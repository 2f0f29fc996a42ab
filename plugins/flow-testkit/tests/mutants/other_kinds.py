"""Caches, tracers, validators and policies that are wrong in one way each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import attrs
from flow_testkit import CacheBackendSuite, PolicySuite, TracerSuite, ValidatorSuite

from flow import (
    BaseStep,
    BaseValidator,
    Binder,
    Event,
    Execute,
    Layer,
    Run,
    Scope,
    StepResult,
    Tracer,
    ValidationResult,
    Wrap,
    Wrapper,
    hookimpl,
)

# -- caches


class ForgetsNothing:
    """Ignores the time to live."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    async def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> None:
        self.values.setdefault(key, bytes(value))

    async def aclose(self) -> None:
        self.values.clear()


class TestForgetsNothingAndKeepsTheFirst(CacheBackendSuite):
    def make_cache(self) -> Any:
        return ForgetsNothing()


class TakesEmptyForAMiss(ForgetsNothing):
    async def get(self, key: bytes) -> bytes | None:
        return self.values.get(key.lower()) or None

    async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> None:
        self.values[key.lower()] = value


class TestTakesEmptyForAMiss(CacheBackendSuite):
    survives_reopen = False

    def make_cache(self) -> Any:
        return TakesEmptyForAMiss()


# -- tracers


class Raises(Tracer):
    def on_event(self, event: Event) -> None:
        if event.result is not None:
            raise ValueError("the tracer is broken")


class TestRaises(TracerSuite):
    def make_tracer(self) -> Tracer:
        return Raises()


class Meddles(Tracer):
    def wrap_step(self, step: BaseStep[Any, Any], binder: Binder) -> Wrap | None:
        def wrap(execute: Execute) -> Execute:
            async def watched(data: Any, scope: Scope) -> StepResult:
                try:
                    return await execute(data, scope)
                except BaseException as error:  # noqa: BLE001  what is wrong with it
                    return StepResult.failed(step, str(error), error)

            return watched

        return wrap


class TestMeddles(TracerSuite):
    def make_tracer(self) -> Tracer:
        return Meddles()


class Tells(Tracer):
    def on_event(self, event: Event) -> None:
        print(event.kind, event.data)


class TestTells(TracerSuite):
    def make_tracer(self) -> Tracer:
        return Tells()


class OneAtATime(Tracer):
    def __init__(self) -> None:
        self.current: Run | None = None

    @contextmanager
    def around_run(self, run: Run) -> Iterator[None]:
        assert self.current is None
        self.current = run
        yield
        self.current = None


class TestOneAtATime(TracerSuite):
    def make_tracer(self) -> Tracer:
        return OneAtATime()


class KeepsObjects(Tracer):
    @contextmanager
    def around_run(self, run: Run) -> Iterator[None]:
        run.metadata["ticket"] = run.run_id
        yield


class TestKeepsObjects(TracerSuite):
    def make_tracer(self) -> Tracer:
        return KeepsObjects()


class RepeatsAttempts(Tracer):
    def wrap_attempt(self, step: Any, binder: Binder) -> Wrap | None:
        def wrap(execute: Execute) -> Execute:
            async def again(data: Any, scope: Scope) -> StepResult:
                with suppress(Exception):
                    await execute(data, scope)
                return await execute(data, scope)

            return again

        return wrap


class TestRepeatsAttempts(TracerSuite):
    def make_tracer(self) -> Tracer:
        return RepeatsAttempts()


# -- validators


class Nameless(BaseValidator):
    async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
        return ValidationResult(is_valid=len(output) < 3)


class TestNamelessAndSilent(ValidatorSuite):
    accepts = ("ab", [1])
    rejects = ("abc",)

    def make_validator(self) -> BaseValidator:
        return Nameless()


class Sorts(BaseValidator):
    name = "sorts"

    async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
        if isinstance(output, list):
            output.sort()
        return ValidationResult(is_valid=bool(output), feedback="it is empty", validator_name=self.name)


class TestSorts(ValidatorSuite):
    accepts = ([2, 1],)
    rejects = ([],)

    def make_validator(self) -> BaseValidator:
        return Sorts()


class TestListsNothing(ValidatorSuite):
    def make_validator(self) -> BaseValidator:
        return Sorts()


# -- policies


@attrs.frozen
class Slots:
    limit: int = 50


class SoundPolicy:
    @hookimpl
    def flow_wrap_step(self, step: Any, binder: Binder) -> Wrapper | None:
        policy = binder.policy(step, Slots)
        if policy is None:
            return None
        slots = asyncio.Semaphore(policy.limit)

        def wrap(execute: Execute) -> Execute:
            async def guarded(data: Any, scope: Scope) -> StepResult:
                async with slots:
                    return await execute(data, scope)

            return guarded

        return Wrapper(Layer.GUARD, wrap)


class TestSoundPolicy(PolicySuite):
    plugins = (SoundPolicy(),)

    def make_policy(self) -> Slots:
        return Slots()


class LosesSlots(SoundPolicy):
    """Gives a slot back only when the call has returned, and wraps every step."""

    @hookimpl
    def flow_wrap_step(self, step: Any, binder: Binder) -> Wrapper | None:
        policy = binder.policy(step, Slots) or Slots()
        slots = asyncio.Semaphore(policy.limit)

        def wrap(execute: Execute) -> Execute:
            async def guarded(data: Any, scope: Scope) -> StepResult:
                await slots.acquire()
                result = await execute(data, scope)
                slots.release()
                return result

            return guarded

        return Wrapper(Layer.GUARD, wrap)


class TestLosesSlots(PolicySuite):
    plugins = (LosesSlots(),)

    def make_policy(self) -> Slots:
        return Slots(1)


@attrs.define
class Loose:
    options: Mapping[str, int] = attrs.field(factory=dict)


class TestHasNoEffectAndIsLoose(PolicySuite):
    plugins = (SoundPolicy(),)

    def make_policy(self) -> Loose:
        return Loose()


class SwallowingPolicy(SoundPolicy):
    @hookimpl
    def flow_wrap_step(self, step: Any, binder: Binder) -> Wrapper | None:
        if binder.policy(step, Slots) is None:
            return None

        def wrap(execute: Execute) -> Execute:
            async def guarded(data: Any, scope: Scope) -> StepResult:
                try:
                    return await execute(data, scope)
                except BaseException:  # noqa: BLE001  what is wrong with it
                    return StepResult.ok(step, "all is well")

            return guarded

        return Wrapper(Layer.GUARD, wrap)


class TestSwallowingPolicy(PolicySuite):
    plugins = (SwallowingPolicy(),)

    def make_policy(self) -> Slots:
        return Slots()
