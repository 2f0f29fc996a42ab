"""``@step``: functions become steps, and stay callable as functions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

import attrs

from ._step import Step, callable_name

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)
_In = TypeVar("_In")
_Out = TypeVar("_Out")
P = ParamSpec("P")
R = TypeVar("R", covariant=True)


@attrs.frozen(init=False, kw_only=True)
class FunctionStep(Step[InT, OutT], Generic[InT, OutT, P, R]):
    """A step made by ``@step``: calling it calls the function, so it is testable without a runner."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the decorated function."""
        return self.agent(*args, **kwargs)  # type: ignore[no-any-return]


class _Decorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[Concatenate[_In, P], Awaitable[_Out]], /
    ) -> FunctionStep[_In, _Out, Concatenate[_In, P], Awaitable[_Out]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[_In, P], AsyncIterator[_Out]], /
    ) -> FunctionStep[_In, Any, Concatenate[_In, P], AsyncIterator[_Out]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[_In, P], _Out], /
    ) -> FunctionStep[_In, _Out, Concatenate[_In, P], _Out]: ...


@overload
def step(
    function: Callable[Concatenate[_In, P], Awaitable[_Out]], /
) -> FunctionStep[_In, _Out, Concatenate[_In, P], Awaitable[_Out]]: ...
@overload
def step(
    function: Callable[Concatenate[_In, P], AsyncIterator[_Out]], /
) -> FunctionStep[_In, Any, Concatenate[_In, P], AsyncIterator[_Out]]: ...
@overload
def step(function: Callable[Concatenate[_In, P], _Out], /) -> FunctionStep[_In, _Out, Concatenate[_In, P], _Out]: ...
@overload
def step(function: Callable[P, _Out], /) -> FunctionStep[Any, _Out, P, _Out]: ...
@overload
def step(*, name: str | None = None, **settings: Any) -> _Decorator: ...
def step(function: Any = None, /, *, name: str | None = None, **settings: Any) -> Any:
    """Make a step of a function: ``@step``, or ``@step(retries=2, timeout=10)`` with settings of `Step`.

    An async function is awaited, an async generator function streams, a sync function runs in a worker thread.

    >>> @step
    ... def shout(text: str) -> str:
    ...     return text.upper()
    >>> shout("hi"), shout.name
    ('HI', 'shout')
    """

    def decorate(target: Callable[..., Any]) -> FunctionStep[Any, Any, Any, Any]:
        return FunctionStep(name or callable_name(target), target, **settings)

    return decorate if function is None else decorate(function)
