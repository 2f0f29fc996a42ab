"""Agents: anything callable, or an object with ``run``. Inspected once, when the step is bound."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from ._run import StepRun
from ._step import callable_name
from ._stream import join_chunks
from ._usage import Usage
from .errors import ConfigurationError, FlowError, MissingAgentError, StepFailed

if TYPE_CHECKING:
    from ._run import Scope

Call: TypeAlias = "Callable[[Any, Scope], Awaitable[Any]]"

INJECTED = ("context", "resources", "run")
_MAX_THREADS = 64


@cache
def _threads() -> ThreadPoolExecutor:
    # Not the loop's default executor: that has 6 threads on two cores, and asyncio.run waits for it at the end.
    return ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="flow-step")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)


@attrs.frozen
class Signature:
    """What a callable accepts beside the data: the injected names it mentions, and the settings it takes."""

    takes_data: bool
    injected: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def plain(self) -> bool:
        """True when the callable is called with the data alone."""
        return self.takes_data and not self.injected and not self.settings

    def arguments(self, scope: Scope) -> dict[str, Any]:
        """Return the keyword arguments for one call."""
        arguments = dict(self.settings)
        for name in self.injected:
            if name == "context":
                arguments[name] = scope.context
            elif name == "resources":
                arguments[name] = scope.run.resources
            else:
                arguments[name] = StepRun(scope)
        return arguments


def read_signature(function: Callable[..., Any], settings: Mapping[str, Any]) -> Signature:
    """Look at the parameters of `function`; callables without a readable signature are called with the data."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return Signature(True, (), {})
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = next((p for p in parameters if p.kind in (*positional, inspect.Parameter.VAR_POSITIONAL)), None)
    named = {p.name for p in parameters if p is not first and p.kind in (positional[1], inspect.Parameter.KEYWORD_ONLY)}
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    accepted = {key: value for key, value in settings.items() if key in named or open_ended}
    return Signature(first is not None, tuple(name for name in INJECTED if name in named), accepted)


def target_of(agent: Any) -> Callable[..., Any]:
    """Return the function behind an agent: itself when callable, its ``run`` when it is an object with one."""
    if isinstance(agent, type) or inspect.isroutine(agent) or isinstance(agent, partial):
        return agent
    run = inspect.getattr_static(agent, "run", None)
    if run is not None and callable(agent.run):
        return agent.run  # type: ignore[no-any-return]
    if callable(agent):
        return type(agent).__call__.__get__(agent)  # type: ignore[no-any-return]
    raise ConfigurationError(
        f"{agent!r:.60} of type {type(agent).__name__} is not an agent",
        hint="An agent is a callable, or an object with an async run(data)",
    )


def is_pydantic_ai(agent: Any) -> bool:
    """Tell whether `agent` is a PydanticAI agent, without importing that library."""
    return any(c.__module__.partition(".")[0] == "pydantic_ai" and hasattr(agent, "run") for c in type(agent).__mro__)


def bind_agent(name: str, agent: Any, settings: Mapping[str, Any]) -> tuple[Callable[..., Any], Call | None]:
    """Return the agent's function, and how to call it, or ``None`` for ``await function(data)`` as it is."""
    if agent is None:
        raise MissingAgentError(f"step {name!r} has no agent", hint=f'Write Step("{name}", agent)')
    if is_pydantic_ai(agent):
        return agent.run, _pydantic_ai_call(agent, settings)
    try:
        function = target_of(agent)
    except ConfigurationError as error:
        raise ConfigurationError(f"step {name!r}: {error.message}", hint=error.hint) from None
    signature = read_signature(function, settings)
    if inspect.isasyncgenfunction(function):
        return function, _streaming_call(function, signature)
    if inspect.iscoroutinefunction(function):
        return function, None if signature.plain else _async_call(function, signature)
    return function, _threaded_call(function, signature)


def _invoke(function: Callable[..., Any], signature: Signature, data: Any, scope: Scope) -> Any:
    arguments = signature.arguments(scope)
    return function(data, **arguments) if signature.takes_data else function(**arguments)


def _async_call(function: Callable[..., Any], signature: Signature) -> Call:
    async def call(data: Any, scope: Scope) -> Any:
        return await _invoke(function, signature, data, scope)

    return call


def _threaded_call(function: Callable[..., Any], signature: Signature) -> Call:
    async def call(data: Any, scope: Scope) -> Any:
        work = partial(_invoke, function, signature, data, scope)
        loop = asyncio.get_running_loop()
        output = await loop.run_in_executor(_threads(), contextvars.copy_context().run, work)
        return await output if inspect.isawaitable(output) else output

    return call


def _streaming_call(function: Callable[..., AsyncIterator[Any]], signature: Signature) -> Call:
    async def call(data: Any, scope: Scope) -> Any:
        chunks: list[Any] = []
        async with aclosing(_invoke(function, signature, data, scope)) as stream:
            async for chunk in stream:
                chunks.append(chunk)
                await scope.emit(chunk)
        return join_chunks(chunks)

    return call


def _pydantic_ai_call(agent: Any, settings: Mapping[str, Any]) -> Call:
    options = {"model_settings": dict(settings)} if settings else {}

    async def call(data: Any, scope: Scope) -> Any:
        result = await agent.run(data, **options)
        declared = inspect.getattr_static(type(result), "usage")  # a method until version 1, a property from 2 on
        spent = result.usage if isinstance(declared, property) else result.usage()
        scope.spend(Usage(0.0, spent.input_tokens or 0, spent.output_tokens or 0, spent.requests or 0))
        return result.output

    return call


async def call_user(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a function that a user gave to a step type, such as a condition or a mapper; it may be sync or async."""
    outcome = function(*arguments, **named)
    return await outcome if inspect.isawaitable(outcome) else outcome


UserCall: TypeAlias = Callable[..., Awaitable[Any]]


def bind_callable(function: Callable[..., Any], *, what: str) -> UserCall:
    """Return ``await call(data, context, *more)`` for a function that a user gave to a step type, such as a condition.

    A function whose first parameter is called ``context`` or ``ctx`` is called with ``(context, data)``, any other with
    ``(data, context)``; it may take fewer arguments, and may be sync or async.

    :param what: what the function is for, such as ``"exit condition"``: an exception of it becomes a `StepFailed` that
        says so and names the function.

    Raises `ConfigurationError` when `function` is not callable.
    """
    if not callable(function):
        raise ConfigurationError(f"the {what} must be callable, got {function!r:.60}")
    label = f"{what} {callable_name(function)!r}"
    context_first, count = _parameter_order(function)

    async def call(data: Any, context: Any, *more: Any) -> Any:
        arguments = (context, data, *more) if context_first else (data, context, *more)
        try:
            outcome = function(*arguments[:count])
            if hasattr(type(outcome), "__await__"):  # inspect.isawaitable costs 0.3 µs, a tenth of a loop iteration
                outcome = await outcome
        except FlowError:
            raise
        except Exception as error:
            raise StepFailed(f"{label} raised {type(error).__name__}: {error}", cause=error) from error
        return outcome

    return call


def _parameter_order(function: Callable[..., Any]) -> tuple[bool, int | None]:
    """Tell whether the context comes first, and how many arguments the function takes at most, if that is limited."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False, None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return False, None
    return names[:1] in (["context"], ["ctx"]), len(names)
