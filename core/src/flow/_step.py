"""Steps: frozen values that say what is to be run. How it is run is decided when they are bound."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    overload,
)

import attrs

from ._converters import as_tuple
from .errors import ConfigurationError

if TYPE_CHECKING:
    from ._pipeline import Pipeline
    from ._policies import Cache
    from ._usage import UsageLimits
    from ._validators import AgentProcessors, BaseValidator, ValidationPlugin

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)
_In = TypeVar("_In")
_Mid = TypeVar("_Mid")
_Out = TypeVar("_Out")

if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVarWithDefault  # Pydantic depends on it, and nothing runs with it

    _P = ParamSpec("_P")
    _R = TypeVar("_R", covariant=True)
    _AnyIn = _TypeVarWithDefault("_AnyIn", default=Any)
    _AnyOut = _TypeVarWithDefault("_AnyOut", default=Any)

    class _HasRun(Protocol[_P, _R]):
        """An agent that is an object with ``run``."""

        @property
        def run(self) -> Callable[_P, _R]: ...

    class _ModelResult(Protocol[_R]):
        """What a PydanticAI agent returns."""

        @property
        def output(self) -> _R: ...
        def all_messages_json(self) -> bytes: ...


Validate: TypeAlias = Literal["in", "out", "both", "none"]


def _check_name(step: BaseStep[Any, Any], attribute: attrs.Attribute[str], name: Any) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"a step needs a name, got {name!r}", hint='Write Step("name", agent)')
    if "/" in name:
        raise ConfigurationError(f"step name {name!r} holds a '/', which separates the parts of a path")


def _at_least_zero(step: BaseStep[Any, Any], attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
        raise ConfigurationError(f"step {step.name!r}: {attribute.name} must be a number of at least 0, got {value!r}")


@attrs.frozen(kw_only=True)
class BaseStep(Generic[InT, OutT]):
    """The base of every step type: a frozen value with a ``kind`` and the settings every step has.

    A step type adds its own fields, tells its children by overriding `children`, and is run by the plugin that
    answers `flow_bind_step` for it.

    :param name: what the step is called in paths, results and drawings.
    :param retries: further attempts after a failed one.
    :param timeout: seconds one attempt may take.
    :param fallback: the step to run instead when this one has failed for good.
    :param validate: which declared types are checked while running: ``"in"``, ``"out"``, ``"both"`` or ``"none"``.
    :param strict: ``False`` lets the step succeed although a validator refused its output.
    :param usage_limits: the most this step and everything inside it may spend.
    :param policies: further policies, read by the plugins that define them.

    >>> BaseStep(name="plan", retries=1).evolve(retries=3).retries
    3
    """

    kind: ClassVar[str] = "abstract"
    hands_on: ClassVar[bool] = False
    """True for step types that may return their input itself and never change it: no copy of it is stored then."""

    name: str = attrs.field(validator=_check_name)
    retries: int = attrs.field(default=0, validator=_at_least_zero)
    timeout: float | None = attrs.field(default=None, validator=_at_least_zero)
    fallback: BaseStep[Any, Any] | None = None
    validators: Sequence[BaseValidator] = attrs.field(default=(), converter=as_tuple)
    plugins: Sequence[ValidationPlugin] = attrs.field(default=(), converter=as_tuple)
    processors: AgentProcessors | None = None
    cache: Cache | None = None
    validate: Validate = attrs.field(default="in", validator=attrs.validators.in_(("in", "out", "both", "none")))
    strict: bool = True
    usage_limits: UsageLimits | None = None
    policies: Sequence[Any] = attrs.field(default=(), converter=as_tuple)
    metadata: Mapping[str, Any] = attrs.field(factory=dict, hash=False)

    def children(self) -> Mapping[str, BaseStep[Any, Any] | Pipeline[Any, Any]]:
        """Return the steps inside this one by label; validation, drawing and fingerprints use nothing else."""
        return {}

    def stored_type(self) -> Any:
        """Return the type with which the journal writes and reads outputs: the declared one, unless that says less."""
        return self.declared_types()[1]

    def answer_type(self) -> Any:
        """Return the type of the answer that this step waits for; ``None`` when it never waits.

        A step type that pauses overrides it: answers are checked against this type before anything is resumed.
        """
        return None

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return attrs.evolve(self, **changes)

    def declared_types(self) -> tuple[Any, Any]:
        """Return the types of input and output as declared; ``Any`` where nothing is known."""
        from ._types import base_step_types

        return base_step_types(self)

    @overload
    def __rshift__(self: BaseStep[_In, _Mid], other: BaseStep[_Mid, _Out]) -> Pipeline[_In, _Out]: ...
    @overload
    def __rshift__(self: BaseStep[_In, _Mid], other: Pipeline[_Mid, _Out]) -> Pipeline[_In, _Out]: ...
    def __rshift__(self, other: Any) -> Pipeline[Any, Any]:
        from ._pipeline import chain

        return chain(self, other)


class _StepMeta(type):
    """Looks up constructors of installed step types, so that ``Step.loop_until`` works when flow-loop is there."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        from ._dsl import find_constructor

        return find_constructor(cls.__name__, name)


@attrs.frozen(init=False, kw_only=True)
class Step(BaseStep[InT, OutT], metaclass=_StepMeta):
    """A step that runs an agent.

    An agent is a callable, an object with an async ``run(data)``, an async generator function (it streams) or a
    PydanticAI ``Agent``. Of ``context``, ``resources`` and ``run`` it gets those it names as parameters. Settings that
    flow does not know, such as ``temperature=0.5``, go to the agent if it accepts them.

    >>> shout = Step("shout", str.upper, retries=2)
    >>> shout.evolve(timeout=5).timeout
    5
    """

    kind: ClassVar[str] = "step"

    agent: Any = None
    settings: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    gate: bool = False
    """True for a validation gate: a refused output is dropped, not kept on the result."""

    # No overload takes Any: mypy would choose it for ``a >> Step(name, b)`` where the types of a and b do not fit.
    @overload
    def __init__(
        self: Step[_In, _Out], name: str, agent: Callable[Concatenate[_In, ...], Awaitable[_Out]], **settings: Any
    ) -> None: ...
    @overload
    def __init__(
        self: Step[_In, Any], name: str, agent: Callable[Concatenate[_In, ...], AsyncIterator[Any]], **settings: Any
    ) -> None: ...
    @overload
    def __init__(
        self: Step[_In, _Out],
        name: str,
        agent: _HasRun[Concatenate[_In, ...], Awaitable[_ModelResult[_Out]]],
        **settings: Any,
    ) -> None: ...
    @overload
    def __init__(
        self: Step[_In, _Out], name: str, agent: _HasRun[Concatenate[_In, ...], Awaitable[_Out]], **settings: Any
    ) -> None: ...
    @overload
    def __init__(
        self: Step[_In, Any], name: str, agent: _HasRun[Concatenate[_In, ...], AsyncIterator[Any]], **settings: Any
    ) -> None: ...
    @overload
    def __init__(
        self: Step[_In, _Out], name: str, agent: _HasRun[Concatenate[_In, ...], _Out], **settings: Any
    ) -> None: ...
    @overload
    def __init__(
        self: Step[_In, _Out], name: str, agent: Callable[Concatenate[_In, ...], _Out], **settings: Any
    ) -> None: ...
    # mypy infers lambdas only from callables with as many parameters.
    @overload
    def __init__(
        self: Step[_AnyIn, _AnyOut], name: str, agent: Callable[[_AnyIn], _AnyOut], **settings: Any
    ) -> None: ...
    @overload
    def __init__(
        self: Step[_AnyIn, _AnyOut], name: str, agent: Callable[[_AnyIn, Any], _AnyOut], **settings: Any
    ) -> None: ...
    @overload
    def __init__(self: Step[Any, Any], name: str, agent: Callable[[], Any] | None = None, **settings: Any) -> None: ...
    def __init__(self, name: str, agent: Any = None, **settings: Any) -> None:
        known = {key: settings.pop(key) for key in tuple(settings) if key in _FIELDS}
        extra = {**known.pop("settings", {}), **settings}
        self.__attrs_init__(name=name, agent=agent, settings=extra, **known)  # pyright: ignore[reportAttributeAccessIssue]

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with some fields changed; unknown names become settings of the agent."""
        current = {key: value for key, value in attrs.asdict(self, recurse=False).items() if key not in changes}
        return type(self)(**{**current, **changes})

    def declared_types(self) -> tuple[Any, Any]:
        """Return the types of the agent's input and output as annotated; ``Any`` where nothing is."""
        from ._types import agent_types

        return agent_types(self.agent)

    @classmethod
    def from_callable(cls, function: Callable[..., Any], name: str | None = None, **settings: Any) -> Step[Any, Any]:
        """Make a step of a function; its name is the function's unless given."""
        return Step(name or callable_name(function), function, **settings)

    @classmethod
    def from_mapper(cls, function: Callable[..., Any], name: str | None = None, **settings: Any) -> Step[Any, Any]:
        """Make a step of a function that maps one value to another."""
        return cls.from_callable(function, name, **settings)

    @classmethod
    def review(cls, agent: Any, *, name: str = "review", **settings: Any) -> Step[Any, Any]:
        """Make a step called ``review``."""
        return Step(name, agent, **settings)

    @classmethod
    def solution(cls, agent: Any, *, name: str = "solution", **settings: Any) -> Step[Any, Any]:
        """Make a step called ``solution``."""
        return Step(name, agent, **settings)

    @classmethod
    def validate_step(
        cls, agent: Any = None, *, name: str = "validate", strict: bool = True, **settings: Any
    ) -> Step[Any, Any]:
        """Make a validation gate: with `strict` a refused output fails the step and is dropped."""
        return Step(name, agent, strict=strict, gate=strict, **settings)


_FIELDS = frozenset(field.name for field in attrs.fields(Step)) - {"name", "agent"}


def callable_name(function: Any) -> str:
    """Name a callable as people would: its own name, or its class's."""
    name = inspect.unwrap(function).__name__ if inspect.isroutine(function) else type(function).__name__
    return "lambda" if name == "<lambda>" else name
