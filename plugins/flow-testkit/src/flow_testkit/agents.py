"""Agents for tests: one that answers from a list, one that fails a number of times first."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

from flow import StepRun, Usage

_NOTHING: Any = object()


class StubAgent:
    """Answers each call with the next of `outputs`, and remembers what it was asked.

    An exception in the list, instance or class, is raised when its turn comes; control signals too.

    :param outputs: one entry per expected call; a list or a tuple, anything else is a `TypeError`.
    :param usage: what every call spends, also one that raises.
    :ivar inputs: the inputs of the calls so far.
    :ivar contexts: copies of the contexts that the calls saw.
    :ivar call_count: the number of calls so far.

    >>> from flow import Step
    >>> from flow_testkit import run_one
    >>> agent = StubAgent(["first", "second"])
    >>> run_one(Step("ask", agent) >> Step("again", agent), "question").output
    'second'
    >>> agent.inputs, agent.call_count
    (['question', 'first'], 2)
    """

    def __init__(self, outputs: list[Any] | tuple[Any, ...], *, usage: Usage | None = None) -> None:
        if not isinstance(outputs, (list, tuple)):
            raise TypeError(
                f"StubAgent takes a list of outputs, got {type(outputs).__name__}: StubAgent([{outputs!r}])"
            )
        self.outputs = list(outputs)
        self.usage = usage
        self.inputs: list[Any] = []
        self.contexts: list[Any] = []

    @property
    def call_count(self) -> int:
        """The number of calls so far."""
        return len(self.inputs)

    async def run(self, data: Any = None, *, context: Any = None, run: StepRun | None = None) -> Any:
        """Return or raise the next output; `IndexError` when there is none left."""
        self.inputs.append(data)
        self.contexts.append(copy.deepcopy(context))
        if self.usage is not None and run is not None:
            spend(run, self.usage)
        if self.call_count > len(self.outputs):
            raise IndexError(
                f"StubAgent has no more outputs: {_times(len(self.outputs))} expected, "
                f"this is call {self.call_count}, with {data!r:.200}"
            )
        output = self.outputs[self.call_count - 1]
        if _is_exception(output):
            raise output
        return output


class SimulatedError:
    """The agent that `simulate_error` makes: raises on its first calls, then succeeds.

    :ivar attempts: the number of calls so far.
    :ivar failures: how many of them raised.
    """

    def __init__(self, error: BaseException, times: int, succeed: Callable[[Any], Any]) -> None:
        self.attempts = 0
        self.failures = 0
        self._error = error
        self._times = times
        self._succeed = succeed

    async def run(self, data: Any = None) -> Any:
        """Raise while there are failures left, then return the result."""
        self.attempts += 1
        if self.failures < self._times:
            self.failures += 1
            raise self._error
        output = self._succeed(data)
        return await output if inspect.isawaitable(output) else output


def simulate_error(
    name: str | None = None,
    error: BaseException | type[BaseException] | None = None,
    *,
    times: int = 1,
    result: Any = _NOTHING,
    result_factory: Callable[[Any], Any] | None = None,
) -> SimulatedError:
    """Return an agent that raises `error` on its first `times` calls and then succeeds.

    :param name: what the default error says is failing.
    :param result: what it returns in the end; its input when neither this nor `result_factory` is given.
    :param result_factory: makes the result of the input; sync or async.

    Raises `ValueError` when `times` is below 1, or both kinds of result are given.

    >>> from flow import Step
    >>> from flow_testkit import run_one
    >>> flaky = simulate_error("search", times=2, result="found")
    >>> run_one(Step("search", flaky, retries=2), "?").output, flaky.attempts, flaky.failures
    ('found', 3, 2)
    """
    if times < 1:
        raise ValueError(f"times must be at least 1, got {times}: an agent that never fails is StubAgent([...])")
    if result is not _NOTHING and result_factory is not None:
        raise ValueError("give result or result_factory, not both")
    raised = error if error is not None else RuntimeError(f"simulated error in {name}" if name else "simulated error")
    succeed = result_factory or (lambda data: data if result is _NOTHING else result)
    return SimulatedError(raised() if isinstance(raised, type) else raised, times, succeed)


def spend(run: StepRun, usage: Usage) -> None:
    """Count `usage` for the step that `run` belongs to."""
    run.usage.add(
        cost_usd=usage.cost_usd,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        requests=usage.requests,
    )


def _is_exception(output: Any) -> bool:
    return isinstance(output, BaseException) or (isinstance(output, type) and issubclass(output, BaseException))


def _times(count: int) -> str:
    return "1 call was" if count == 1 else f"{count} calls were"
