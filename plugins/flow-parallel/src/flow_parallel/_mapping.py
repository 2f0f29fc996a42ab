"""How a map runs: items in, outputs in the same order out, or folded as they arrive."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sized,
)
from contextlib import aclosing, suppress
from typing import Any

from flow import Binder, Execute, FlowError, PauseSignal, Scope, StepFailed, StepResult, bind_callable

from ._map import MapOver
from ._merging import bind_merge
from ._workers import Stop, run_bounded

_AHEAD = 4  # how many times the concurrency a fold lets fast items run ahead of a slow one


def bind_map(step: MapOver[Any, Any], binder: Binder) -> Execute:
    """Return the execute of a map."""
    body = binder.bind(step.body)
    items_of = bind_callable(step.items, what="items function") if callable(step.items) else None

    async def run(data: Any, scope: Scope) -> StepResult:
        items = await _items(step, items_of, data, scope)
        limit = min(step.max_concurrency, len(items)) if isinstance(items, Sized) else step.max_concurrency
        if scope.run.observers is not None:
            await scope.progress(0, len(items) if isinstance(items, Sized) else None)
        outcome: _Collected = _Folded(step, limit) if step.reduce is not None else _Collected(step)

        async def work(numbered: tuple[int, Any]) -> None:
            index, item = numbered
            await outcome.wait_for_room(index)
            place = scope.branch(str(index))
            try:
                result = await body(item, place)
            except PauseSignal:
                await outcome.give_up()
                raise
            await outcome.add(index, result, place)

        with suppress(Stop):  # the failed result says the rest
            await run_bounded(_numbered(items), work, limit)
        return outcome.finish(scope)

    return run


class _Collected:
    """The outcomes of the items, by index."""

    def __init__(self, step: MapOver[Any, Any]) -> None:
        self.step = step
        self.outputs: dict[int, Any] = {}
        self.failed: dict[int, StepResult] = {}
        self.touched: dict[int, Scope] = {}

        self.finished = 0

    async def wait_for_room(self, index: int) -> None:
        """Hold an item back until there is room for its output."""

    async def give_up(self) -> None:
        """An item has paused: the others finish, for the journal, but there will be no output."""

    async def add(self, index: int, result: StepResult, place: Scope) -> None:
        """Take the result of an item; raises `Stop` when it ends the fan-out."""
        self.finished += 1
        if result.success:
            self.outputs[index] = result.output
            if place.touched:
                self.touched[index] = place
            return
        result.name = str(index)
        self.outputs[index] = self.failed[index] = result
        if self.step.on_failure == "fail_fast" or result.halts_run:
            raise Stop

    def output(self) -> Any:
        """Return the output of the step."""
        return [self.outputs[index] for index in sorted(self.outputs)]

    def finish(self, scope: Scope) -> StepResult:
        """Return the result of the step."""
        failed = sorted(self.failed)
        metadata = {"failed_items": failed}
        halting = next((i for i in failed if self.failed[i].halts_run), None)
        if failed and (self.step.on_failure == "fail_fast" or len(failed) == self.finished or halting is not None):
            first = self.failed[failed[0] if halting is None else halting]
            feedback = f"item {first.name} failed at {first.path!r}: {first.feedback}"
            if len(failed) > 1:
                feedback += f" (failed items: {', '.join(map(str, failed[:20]))}{', …' if len(failed) > 20 else ''})"
            return StepResult.failed(self.step, feedback, first.error, metadata=metadata)
        try:
            scope.merge(
                {str(index): self.touched[index] for index in sorted(self.touched)}, bind_merge(self.step.merge)
            )
        except FlowError as error:
            return StepResult.failed(self.step, str(error), error, metadata=metadata)
        return StepResult.ok(self.step, self.output(), metadata=metadata)


class _Folded(_Collected):
    """Folds outputs in the order of the items; an output waits only until those before it are there."""

    def __init__(self, step: MapOver[Any, Any], limit: int) -> None:
        super().__init__(step)
        assert step.reduce is not None  # noqa: S101  the caller asked already
        self.reduce = bind_callable(step.reduce, what="reduce function")
        self.accumulated = copy.deepcopy(step.initial)  # a reducer may write to it, and the step runs again
        self.next = 0
        self.window = limit * _AHEAD
        self.moved = asyncio.Condition()
        self.given_up = False

    async def wait_for_room(self, index: int) -> None:
        """Hold an item back while a slow one before it makes outputs pile up."""
        async with self.moved:
            await self.moved.wait_for(lambda: self.given_up or index < self.next + self.window)

    async def give_up(self) -> None:
        """Hold nothing back any more: what would have to be folded next never comes."""
        async with self.moved:
            self.given_up = True
            self.outputs.clear()
            self.moved.notify_all()

    async def add(self, index: int, result: StepResult, place: Scope) -> None:
        """Take the result of an item and fold what is in order now."""
        await super().add(index, result, place)
        async with self.moved:
            if self.given_up:
                self.outputs.clear()
            while self.next in self.outputs:
                output = self.outputs.pop(self.next)
                if self.next not in self.failed:
                    self.accumulated = await self.reduce(self.accumulated, output)
                self.next += 1
            self.moved.notify_all()

    def output(self) -> Any:
        """Return what was accumulated."""
        return self.accumulated


async def _items(
    step: MapOver[Any, Any], items_of: Callable[..., Awaitable[Any]] | None, data: Any, scope: Scope
) -> Iterable[Any] | AsyncIterable[Any]:
    """Find what is mapped over; raises `StepFailed` when it is not there or cannot be iterated."""
    if items_of is not None:
        items = await items_of(data, scope.context)
    elif not isinstance(step.items, str):
        items = data
    else:
        context = scope.context
        if step.items not in type(context).model_fields:
            raise StepFailed(
                f"the context has no field {step.items!r}; it has: {', '.join(type(context).model_fields)}"
            )
        items = getattr(context, step.items)  # a field of the user's own model
    if scope.attempt > 1 and items is data and isinstance(items, (Iterator, AsyncIterator)):
        raise StepFailed(
            f"the items come from a {type(items).__name__}, which the first attempt has consumed",
            hint="Map over a list, or give items= a function that begins anew",
        )
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, (Iterable, AsyncIterable)):
        raise StepFailed(f"a map needs an iterable of items, got {type(items).__name__}")
    return items


async def _numbered(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[tuple[int, Any]]:
    index = 0
    try:
        if not isinstance(items, AsyncIterable):
            for item in items:
                yield index, item
                index += 1
        elif not isinstance(items, AsyncGenerator):
            async for item in items:
                yield index, item
                index += 1
        else:
            async with aclosing(items):
                async for item in items:
                    yield index, item
                    index += 1
    except FlowError:
        raise
    except Exception as error:
        raise StepFailed(f"taking item {index} raised {type(error).__name__}: {error}", cause=error) from error
