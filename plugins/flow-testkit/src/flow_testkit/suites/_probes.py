"""What the suites put into pipelines: agents whose every call is known, and a plugin that sees every dispatch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import attrs

from flow import BaseStep, Binder, Pipeline, Step, StepRun, Usage, Wrapper, hookimpl
from flow_testkit.agents import spend
from flow_testkit.suites._suite import UNSET


class Probe:
    """An agent that returns its input unless told otherwise, and counts its calls.

    :param output: what it returns instead.
    :param error: makes the exception that it raises.
    :param times: how many calls raise; all when ``None``.
    :param usage: what every call spends.
    :param writes: the key in the context's scratchpad that every call sets.
    :param blocks: whether a call waits until it is cancelled; ``started`` is set when one does.
    """

    # Not an attrs class: of those the fingerprint of a pipeline takes all fields, and the count is no part of it.
    def __init__(
        self,
        *,
        output: Any = UNSET,
        error: Callable[[], BaseException] | None = None,
        times: int | None = None,
        usage: Usage | None = None,
        writes: str | None = None,
        blocks: bool = False,
    ) -> None:
        self.output = output
        self.error = error
        self.times = times
        self.usage = usage
        self.writes = writes
        self.blocks = blocks
        self.calls = 0
        self.started = asyncio.Event()

    async def run(self, data: Any, *, context: Any, run: StepRun) -> Any:
        """Do what was asked for, in the order: count, spend, write, wait, raise, return."""
        self.calls += 1
        calls = self.calls
        await asyncio.sleep(0)  # lets other runs in between, if there are any
        if self.usage is not None:
            spend(run, self.usage)
        if self.writes is not None:
            context.scratchpad[self.writes] = True
        if self.blocks:
            self.started.set()
            await asyncio.Event().wait()
        if self.error is not None and (self.times is None or calls <= self.times):
            raise self.error()
        return data if self.output is UNSET else self.output


class ProbeFailed(Exception):
    """What a failing `Probe` raises: an exception that nobody else knows."""


def broken() -> ProbeFailed:
    """Return the exception of a failing probe."""
    return ProbeFailed("the probe is broken")


async def echo(data: Any) -> Any:
    """Return the input, a turn of the loop later: runs at the same time must meet."""
    await asyncio.sleep(0)
    return data


@attrs.frozen(kw_only=True)
class Stranger(BaseStep[Any, Any]):
    """A step of a kind that no plugin runs."""

    kind: ClassVar[str] = "flow-testkit-stranger"


class DispatchSpy:
    """A plugin that takes part in every bind-time hook, answers nothing, and counts."""

    def __init__(self) -> None:
        self.dispatches = 0
        self.binders: dict[int, Binder] = {}

    @hookimpl(tryfirst=True)
    def flow_bind_step(self, step: BaseStep[Any, Any] | Pipeline[Any, Any], binder: Binder) -> None:
        """Count, and keep the binder."""
        self.dispatches += 1
        self.binders[id(step)] = binder

    @hookimpl
    def flow_wrap_step(self, step: BaseStep[Any, Any], binder: Binder) -> Wrapper | None:
        """Count."""
        self.dispatches += 1
        return None


def ask(implementation: Any, **arguments: Any) -> Any:
    """Call one hook implementation with those of the hook's arguments that it names."""
    return implementation.function(*(arguments[name] for name in implementation.argnames))


PLACES = ("alone", "in a pipeline", "in a sub-workflow", "two levels deep")


def placed(step: BaseStep[Any, Any], place: str) -> tuple[Pipeline[Any, Any], str]:
    """Return a pipeline that has `step` at one of `PLACES`, and the path it gets there."""
    before = Step("before", echo)
    if place == "alone":
        return Pipeline((step,)), f"0:{step.name}"
    if place == "in a pipeline":
        return before >> step, f"1:{step.name}"
    if place == "in a sub-workflow":
        return Pipeline((Pipeline((step,)).as_step("sub"),)), f"0:sub/0:{step.name}"
    inner = (before >> step).as_step("inner")
    return Pipeline(((before >> inner).as_step("outer"),)), f"0:outer/1:inner/1:{step.name}"
