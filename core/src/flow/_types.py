"""Declared types: what steps and agents take and return as far as annotations say, and what fits into what.

Everything unknown is ``Any``: missing annotations, type variables that nothing binds, names that cannot be resolved.
"""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import inspect
import operator
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, ForwardRef, NewType, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from ._agents import is_pydantic_ai, target_of
from ._protocols import AsyncAgentProtocol, ContextAwareAgentProtocol
from ._step import BaseStep
from .errors import ConfigurationError

_BROKEN = (ArithmeticError, AttributeError, ImportError, LookupError, NameError, SyntaxError, TypeError, ValueError)
"""What evaluating an annotation may raise: it is an expression in somebody's module."""


def base_step_types(step: BaseStep[Any, Any]) -> tuple[Any, Any]:
    """Return the input and output type that the class of `step` declares; generic classes in between are followed.

    >>> class Shout(BaseStep[str, list[str]]): ...
    >>> base_step_types(Shout(name="shout"))
    (<class 'str'>, list[str])
    """
    return _first_two(type(step), BaseStep)


def agent_types(agent: Any) -> tuple[Any, Any]:
    """Return the types of an agent's data and of its output, as annotated. Raises nothing.

    Metadata of ``Annotated`` is kept. Async generators give what their joined chunks are: text, bytes or unknown.

    >>> async def count(text: str, *, context) -> int: ...
    >>> agent_types(count)
    (<class 'str'>, <class 'int'>)
    """
    if is_pydantic_ai(agent):
        output = getattr(agent, "output_type", Any)
        is_type = isinstance(output, type) or get_origin(output) is not None
        return str | Sequence[Any], output if is_type else Any  # a prompt is text, or text with images in a sequence
    try:
        function = target_of(agent)
    except ConfigurationError:
        return Any, Any
    if isinstance(function, (types.MethodDescriptorType, types.WrapperDescriptorType)):
        return function.__objclass__, Any  # such as str.upper: its data is the object it is a method of
    takes, gives = _annotated(function)
    if isinstance(function, type):
        return takes, function
    for protocol in (AsyncAgentProtocol, ContextAwareAgentProtocol):
        if protocol in type(agent).__mro__:
            fallback = _first_two(type(agent), protocol)
            takes, gives = (b if a is Any else a for a, b in zip((takes, gives), fallback, strict=True))
    return takes, _awaited(function, gives)


def accepts(wanted: Any, given: Any, *, object_fits: bool = False) -> bool:
    """Tell whether every value of type `given` can be passed where `wanted` is declared.

    Containers are covariant, ``int`` fits ``float``, and a mapping fits a model, dataclass or ``TypedDict``, because
    declared types are checked with Pydantic, which converts these. ``Any`` and what cannot be judged is accepted.

    :param object_fits: whether a given ``object`` counts as unknown too.

    >>> accepts(list[int], list[bool]), accepts(int, int | str)
    (True, False)
    """
    try:
        return _fits(wanted, given, object_fits)
    except RecursionError:  # type aliases that refer to themselves
        return True


def type_name(hint: Any) -> str:
    """Return a type as people write it.

    >>> type_name(dict[str, int | None])
    'dict[str, int | None]'
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is None or hint is type(None):
        return "None"
    if hint is ...:
        return "..."
    if isinstance(hint, list):  # the parameters of a Callable
        return f"[{_names(hint)}]"
    if origin is typing.Annotated:
        return type_name(args[0])
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    if _is_union(hint):
        return " | ".join(map(type_name, args))
    if args:
        return f"{type_name(origin)}[{_names(args)}]"
    return hint.__name__ if isinstance(hint, (type, NewType)) else str(hint).replace("typing.", "")


def _names(hints: Iterable[Any]) -> str:
    return ", ".join(map(type_name, hints))


# -- reading annotations --


def _annotated(function: Callable[..., Any]) -> tuple[Any, Any]:
    """Return the annotations of the first positional parameter, which is the data, and of the result."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return Any, Any
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    data = next((p.annotation for p in signature.parameters.values() if p.kind not in by_name), Any)
    names, known = _namespace(function), _known_variables(function)
    takes, gives = (_substitute(_resolve(hint, names), known) for hint in (data, signature.return_annotation))
    return takes, gives


def _namespace(function: Any) -> dict[str, Any]:
    """Return the names that the annotations of a callable may use."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        return vars(sys.modules[function.__module__]) if function.__module__ in sys.modules else {}
    return getattr(inspect.unwrap(function), "__globals__", {})


def _resolve(annotation: Any, names: dict[str, Any]) -> Any:
    """Return the type that an annotation stands for, ``Any`` when it stands for none."""
    if annotation is inspect.Signature.empty or isinstance(annotation, type):
        return Any if annotation is inspect.Signature.empty else annotation
    holder: Any = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        hint = typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except _BROKEN:
        return Any
    if hint is typing.LiteralString:
        return str
    is_type = isinstance(hint, (type, NewType, TypeVar)) or get_origin(hint) is not None or _is_alias(hint)
    return hint if is_type else Any


def _substitute(hint: Any, known: Mapping[Any, Any]) -> Any:
    """Put what is known in the place of type variables, ``Any`` for the others."""
    if isinstance(hint, TypeVar):
        return known.get(hint, Any)
    if isinstance(hint, type) or not (parameters := getattr(hint, "__parameters__", ())):
        return hint
    try:
        return hint[tuple(known.get(parameter, Any) for parameter in parameters)]
    except TypeError:  # parameter specifications and variadic type variables take no Any
        return Any


def _known_variables(function: Any) -> dict[Any, Any]:
    """Return what the type variables stand for in a method that an object inherits from a generic class."""
    if not inspect.ismethod(function) or isinstance(function.__self__, type):
        return {}
    cls = type(function.__self__)
    home = next((base for base in cls.__mro__ if function.__name__ in vars(base)), cls)
    return _by_variable(home, _base_arguments(cls, home))


def _by_variable(cls: Any, arguments: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))


def _base_arguments(cls: type, base: Any) -> tuple[Any, ...]:
    """Return the arguments that `cls` gives its generic base class, directly or not; empty when it gives none."""
    for alias in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = get_origin(alias) or alias
        if base in getattr(origin, "__mro__", ()):
            arguments = tuple(_resolve(argument, _namespace(cls)) for argument in get_args(alias))
            if origin is base:
                return arguments
            known = _by_variable(origin, arguments)
            return tuple(_substitute(argument, known) for argument in _base_arguments(origin, base))
    return ()


def _first_two(cls: type, base: Any) -> tuple[Any, Any]:
    arguments = [_substitute(argument, {}) for argument in _base_arguments(cls, base)]
    return (arguments[0], arguments[1]) if arguments else (Any, Any)


def _awaited(function: Callable[..., Any], gives: Any) -> Any:
    """Return what the output of a step is whose function is annotated to return `gives`."""
    if inspect.isasyncgenfunction(function):
        chunk = (*get_args(gives), Any)[0]
        return chunk if chunk in (str, bytes) else Any
    return gives if inspect.iscoroutinefunction(function) else _without_awaitables(gives)


def _without_awaitables(hint: Any) -> Any:
    if _is_union(hint):
        return reduce(operator.or_, map(_without_awaitables, get_args(hint)))
    origin = get_origin(hint) or hint
    is_awaitable = isinstance(origin, type) and issubclass(origin, abc.Awaitable)
    return (Any, *get_args(hint))[-1] if is_awaitable else hint


# -- what fits into what --


def _fits(wanted: Any, given: Any, object_fits: bool) -> bool:
    if wanted == given:
        return True
    wanted, given = _plain(wanted), _plain(given)
    if wanted in (Any, object) or given in (Any, typing.Never, typing.NoReturn) or (object_fits and given is object):
        return True
    if (members := _members(given)) is not None:
        return all(_fits(wanted, member, object_fits) for member in members)
    if (members := _members(wanted)) is not None:
        return any(_fits(member, given, object_fits) for member in members)
    if isinstance(given, NewType) and not isinstance(wanted, NewType):
        return _fits(wanted, given.__supertype__, object_fits)
    narrower = int if wanted is float else float if wanted is complex else None
    if _is_converted(wanted, given) or (narrower is not None and _fits(narrower, given, object_fits)):
        return True
    target, source = get_origin(wanted), get_origin(given) or given
    if not isinstance(target, type) or not isinstance(source, type) or target is type:
        return _is_subhint(given, wanted)
    pairs = _pairs(wanted, given) if _is_subhint(source, target) else None
    return pairs is not None and all(_fits(w, g, object_fits) for w, g in pairs)


def _plain(hint: Any) -> Any:
    """Take off what does not matter for comparing: metadata, aliases, unbound names."""
    while get_origin(hint) is typing.Annotated or _is_alias(hint):
        hint = hint.__value__ if _is_alias(hint) else hint.__origin__
    if isinstance(hint, (TypeVar, str, ForwardRef)) or hint is typing.Self:
        return Any
    if hint is None or hint is typing.LiteralString:
        return type(None) if hint is None else str
    if typing.is_typeddict(hint):
        return dict[str, Any]
    return hint if get_args(hint) else get_origin(hint) or hint


def _is_alias(hint: Any) -> bool:
    return type(get_origin(hint) or hint).__name__ == "TypeAliasType"  # of typing (3.12) or of typing_extensions


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _members(hint: Any) -> Sequence[Any] | None:
    """Return the alternatives of a union or of a literal with several values."""
    values = get_args(hint)
    if get_origin(hint) is typing.Literal and len(values) > 1:
        return [typing.Literal[value] for value in values]
    return values if _is_union(hint) else None


def _is_converted(wanted: Any, given: Any) -> bool:
    """Tell whether Pydantic makes a `wanted` of a `given` that is no subtype of it."""
    target, source = get_origin(wanted) or wanted, get_origin(given) or given
    if not isinstance(target, type) or not isinstance(source, type):
        return False
    if issubclass(target, BaseModel):
        return issubclass(source, Mapping) or target.__pydantic_generic_metadata__["origin"] is source
    return dataclasses.is_dataclass(target) and issubclass(source, Mapping)


def _pairs(wanted: Any, given: Any) -> list[tuple[Any, Any]] | None:
    """Return the arguments of two generic types that must fit each other, ``None`` when their number rules it out.

    Where `given` says nothing about its items there is nothing to compare, and the list is empty.
    """
    target, arguments = get_origin(wanted), get_args(wanted)
    source, items = get_origin(given) or given, get_args(given)
    if target is abc.Callable:
        return _callable_pairs(arguments, items) if items and source is target else []
    if source is tuple and items:
        return _tuple_pairs(target, arguments, items)
    if source is not target and (inherited := _base_arguments(source, target)):
        known = _by_variable(source, items)
        items = tuple(_substitute(item, known) for item in inherited)
    elif len(items) != len(arguments) and not issubclass(source, (Mapping, abc.Generator, abc.AsyncGenerator)):
        return []
    return list(zip(arguments, items, strict=False))  # iterating a mapping or a generator gives its first argument


def _callable_pairs(wanted: Sequence[Any], given: Sequence[Any]) -> list[tuple[Any, Any]] | None:
    result = (wanted[-1], given[-1])
    if not isinstance(wanted[0], list) or not isinstance(given[0], list):  # any parameters
        return [result]
    if len(wanted[0]) != len(given[0]):
        return None
    return [*zip(given[0], wanted[0], strict=True), result]  # parameters the other way round


def _tuple_pairs(target: Any, wanted: Sequence[Any], given: Sequence[Any]) -> list[tuple[Any, Any]] | None:
    if target is tuple and wanted[-1] is not ...:
        same_length = len(wanted) == len(given) and given[-1] is not ...
        return list(zip(wanted, given, strict=True)) if same_length else None
    return [(wanted[0], item) for item in given if item is not ...]


def _is_subhint(given: Any, wanted: Any) -> bool:
    from beartype.door import is_subhint  # here, because it takes 70 ms and only validating a graph needs it
    from beartype.roar import BeartypeException

    try:
        return is_subhint(given, wanted)
    except (BeartypeException, TypeError):  # hints it does not know, and protocols that are not runtime checkable
        return True
