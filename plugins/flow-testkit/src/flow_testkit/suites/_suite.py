"""What all suites share: the kernel they run on, and a place for files."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar, cast

import pytest

from flow import BaseStep, Flow, Kernel, Pipeline, Settings

T = TypeVar("T")

UNSET: Any = type("Unset", (), {"__repr__": lambda _: "UNSET"})()
PATIENCE_S = 10.0
"""What a test waits for something that should come at once."""


class Suite:
    """The base of the conformance suites.

    :cvar plugins: modules with hook implementations that no installed distribution declares.
    :cvar only: the distributions or plugins that the kernel may see; all installed ones when ``None``.
    """

    plugins: ClassVar[Sequence[object]] = ()
    only: ClassVar[Sequence[str] | None] = None
    _kernel: ClassVar[Kernel]

    @pytest.fixture(autouse=True)
    def _requested(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    @property
    def tmp_path(self) -> Path:
        """A directory for this test alone, made when it is first asked for."""
        path: Path = self._request.getfixturevalue("tmp_path")
        return path

    def make_kernel(self, *further: object) -> Kernel:
        """Return the kernel for a test: no settings of the user, and `further` objects with hook implementations."""
        return Kernel(Settings(), only=self.only, plugins=(*self.plugins, *further))

    @property
    def kernel(self) -> Kernel:
        """The kernel of this class: one for all its tests, as a program has one for all its flows."""
        cls = type(self)
        if "_kernel" not in vars(cls):
            cls._kernel = self.make_kernel()
        return cls._kernel

    def flow(self, pipeline: BaseStep[Any, Any] | Pipeline[Any, Any], **options: Any) -> Flow[Any, Any]:
        """Return a flow on the suite's kernel."""
        return Flow(pipeline, **{"kernel": self.kernel, **options})

    def _not_written(self, method: str, example: str) -> NoReturn:
        """Fail because the subclass does not say how to make what is tested."""
        __tracebackhide__ = True
        pytest.fail(
            f"{type(self).__name__} has no {method}. Write:\n\n    def {method}:\n        {example}", pytrace=False
        )


async def awaited(value: Awaitable[T] | T) -> T:
    """Return `value`, awaited if it needs to be: factories of subclasses may be sync or async."""
    return cast(T, await value if inspect.isawaitable(value) else value)


async def within_patience(work: Awaitable[T], what: str) -> T:
    """Await something that should come at once; fail with `what` was waited for when it does not."""
    __tracebackhide__ = True
    limit = asyncio.timeout(PATIENCE_S)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
    pytest.fail(f"waited {PATIENCE_S:g} s in vain for {what}", pytrace=False)


class NoTasksLeft:
    """``async with NoTasksLeft():`` fails when the block leaves tasks behind."""

    async def __aenter__(self) -> None:
        self._before = asyncio.all_tasks()

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        for _turn in range(3):  # a task that is done leaves the set in a later turn of the loop
            await asyncio.sleep(0)
        left = [task.get_name() for task in asyncio.all_tasks() - self._before if not task.done()]
        assert not left, f"tasks that nobody awaits: {', '.join(left)}"  # noqa: S101
