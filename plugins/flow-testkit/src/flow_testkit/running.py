"""Running one thing, and kernels that see only what a test names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from flow import BaseStep, Flow, Kernel, Pipeline, RunResult, Settings
from flow.errors import RunningLoopError

_OF_THE_RUN = frozenset({"run_id", "trace_id", "initial_context"})


def run_one(step: BaseStep[Any, Any] | Pipeline[Any, Any], data: Any = None, **options: Any) -> RunResult[Any]:
    """Run a step or pipeline once and return the result; a failing step is a failed result.

    :param options: arguments of `flow.Flow`, and ``run_id``, ``trace_id`` and ``initial_context`` of its ``run``.

    Raises `RunningLoopError` inside a running event loop: await `arun_one` there.

    >>> from flow import Step
    >>> run_one(Step("upper", str.upper), "hello").output
    'HELLO'
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner() as runner:
            return runner.run(arun_one(step, data, **options))
    raise RunningLoopError("run_one() cannot be called inside a running event loop", hint="Write: await arun_one(...)")


async def arun_one(step: BaseStep[Any, Any] | Pipeline[Any, Any], data: Any = None, **options: Any) -> RunResult[Any]:
    """Run a step or pipeline once in the running loop: `run_one` for async tests."""
    of_the_run = {name: options.pop(name) for name in tuple(options) if name in _OF_THE_RUN}
    async with Flow(step, **options) as flow:
        return await flow.run_async(data, **of_the_run)


async def gather_result(flow: Flow[Any, Any], data: Any = None, **options: Any) -> RunResult[Any]:
    """Stream a run to its end, drop the chunks and return the result.

    >>> import asyncio
    >>> from flow import Step
    >>> asyncio.run(gather_result(Flow(Step("upper", str.upper)), "hello")).output
    'HELLO'
    """
    async for item in flow.stream_async(data, **options):
        if isinstance(item, RunResult):
            return item
    raise AssertionError("the stream ended without a RunResult")


class KernelFactory:
    """Makes kernels that see the kernel's own plugins and those that are named, and no settings but those given.

    Plugins that cannot be loaded are errors, not warnings.

    >>> kernel = KernelFactory()()
    >>> Flow(Pipeline(()), kernel=kernel).run("through").output
    'through'
    """

    def __call__(self, *names: str, plugins: Iterable[object] = (), settings: Settings | None = None) -> Kernel:
        """Return a kernel.

        :param names: entry points or distributions, such as ``"loop"`` or ``"flow-loop"``.
        :param plugins: modules or objects with hook implementations.
        :param settings: instead of empty ones; the user's files and ``FLOW_*`` are never read.

        Raises `PluginError` for a name that nothing installed answers to.
        """
        kernel = Kernel(settings or Settings(strict=True), only=names, plugins=plugins)
        for name in names:
            kernel.plugins.catalogue.named(name)
        return kernel
