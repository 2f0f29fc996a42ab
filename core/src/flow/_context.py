"""The context: one Pydantic model per run, and isolated views of it.

A step never writes to the run's context directly. It gets a *view*: an instance of the user's own model class whose
fields are copied from the base when they are first read. What the step wrote is found by comparing the fields it
touched, and is committed to the base when the step succeeds; a failed attempt's view is dropped. So isolation costs
what the step touches, not what the context holds: a 1 MB field that nobody reads is never copied.
"""

from __future__ import annotations

import copy
import operator
import types
from functools import lru_cache, partial
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ConfigurationError, FlowError, ValidationFailed

ModelT = TypeVar("ModelT", bound=BaseModel)

_IMMUTABLE: tuple[type, ...] = (str, int, float, bool, bytes, complex, frozenset, type(None), type, types.FunctionType)
_SCALARS = frozenset({str, int, float, bool, bytes, complex, type(None)})
# The getset descriptor of the real instance dictionary: views shadow ``__dict__`` with a property, see _View.
_raw_dict = BaseModel.__dict__["__dict__"].__get__


class PipelineContext(BaseModel):
    """The state that the steps of a run share. Subclass it and add fields.

    A field may name a reducer that joins what parallel branches wrote: ``Annotated[list[str], operator.add]``.

    >>> class Research(PipelineContext):
    ...     topic: str = "unknown"
    >>> Research(topic="history").topic
    'history'
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    initial_prompt: str = ""
    scratchpad: dict[str, Any] = Field(default_factory=dict)
    hitl_history: Annotated[list[Any], operator.add] = Field(default_factory=list)
    command_log: Annotated[list[Any], operator.add] = Field(default_factory=list)


def raw(context: BaseModel) -> dict[str, Any]:
    """Return the instance dictionary as it is, without completing a view."""
    return _raw_dict(context)  # type: ignore[no-any-return]


class _View:
    """Methods of the generated view classes; `_flow_base` is the context this view isolates."""

    __slots__ = ()
    _flow_base: BaseModel
    _flow_model: ClassVar[type[BaseModel]]

    def __getattr__(self, name: str) -> Any:
        # Only called for what is not in the instance dictionary: a field that was not read yet, or a private attribute.
        if name in type(self).__pydantic_fields__:  # type: ignore[attr-defined]
            value = raw(self)[name] = _copied(name, peek(self._flow_base, name))  # type: ignore[arg-type]
            return value
        return super().__getattr__(name)  # type: ignore[misc]

    def __setattr__(self, name: str, value: Any) -> None:
        cls: Any = type(self)
        if name not in cls.__pydantic_fields__ or cls.model_config.get("frozen"):
            super().__setattr__(name, value)
        elif cls.model_config.get("validate_assignment"):
            _assign_validated(self, name, value)  # type: ignore[arg-type]
        else:
            raw(self)[name] = value  # type: ignore[arg-type]

    @property
    def __dict__(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The whole state: Pydantic reads it to dump, compare and print, so it completes the view first."""
        own = raw(self)  # type: ignore[arg-type]
        for name in type(self).__pydantic_fields__:  # type: ignore[attr-defined]
            if name not in own:
                own[name] = _copied(name, peek(self._flow_base, name))
        return own

    @__dict__.setter
    def __dict__(self, state: dict[str, Any]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        own = raw(self)  # type: ignore[arg-type]
        own.clear()
        own.update(state)

    def __copy__(self) -> Any:
        return snapshot(self)  # type: ignore[type-var]

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        return snapshot(self)  # type: ignore[type-var]

    def __reduce_ex__(self, protocol: Any) -> Any:
        model: Any = type(self)._flow_model
        return partial(model.model_construct, **self.__dict__), ()

    def __eq__(self, other: object) -> bool:
        theirs = snapshot(other) if isinstance(other, _View) else other  # type: ignore[type-var]
        return bool(snapshot(self) == theirs)  # type: ignore[type-var]

    __hash__ = None  # type: ignore[assignment]


@lru_cache(maxsize=256)
def _view_class(model: type[BaseModel]) -> type[BaseModel]:
    namespace = {
        name: value for name, value in vars(_View).items() if name not in ("__slots__", "__doc__", "__module__")
    }
    namespace |= {"__slots__": ("_flow_base",), "__module__": model.__module__, "__qualname__": model.__qualname__}
    namespace |= {"__doc__": model.__doc__, "_flow_model": model}
    # type.__new__ and not the metaclass: the view inherits the schema instead of building its own (0.2 ms each).
    return type.__new__(type(model), model.__name__, (_View, model), namespace)


def isolate(context: ModelT) -> ModelT:
    """Return a view of `context`: reads see its values, writes stay in the view."""
    seen: Any = type(context)
    model = seen._flow_model if issubclass(seen, _View) else seen
    cls = _view_class(model)
    view = cls.__new__(cls)
    put = object.__setattr__
    put(view, "_flow_base", context)
    put(view, "__pydantic_fields_set__", context.__pydantic_fields_set__.copy())
    extra = context.__pydantic_extra__
    put(view, "__pydantic_extra__", copy.deepcopy(extra) if extra else extra)
    put(view, "__pydantic_private__", context.__pydantic_private__)
    return view  # type: ignore[return-value]


def snapshot(context: ModelT) -> ModelT:
    """Return an independent instance of the user's own model class with the values of `context`."""
    if not isinstance(context, _View):
        return context.model_copy(deep=True)
    model: Any = type(context)._flow_model
    plain = model.__new__(model)
    put = object.__setattr__
    put(plain, "__dict__", copy.deepcopy(dict(context.__dict__)))
    put(plain, "__pydantic_fields_set__", context.__pydantic_fields_set__.copy())
    put(plain, "__pydantic_extra__", copy.deepcopy(context.__pydantic_extra__))
    put(plain, "__pydantic_private__", context.__pydantic_private__)
    return plain


def peek(context: BaseModel, name: str) -> Any:
    """Return a field's value without copying it into the views it is read through."""
    while isinstance(context, _View):
        own = raw(context)
        if name in own:
            return own[name]
        context = context._flow_base
    return raw(context)[name]


def changes(view: BaseModel) -> dict[str, Any]:
    """Return the fields that differ from the base, by name."""
    base = view._flow_base  # type: ignore[attr-defined]
    changed = {name: value for name, value in raw(view).items() if differs(value, peek(base, name))}
    extra = view.__pydantic_extra__
    if extra:
        before = base.__pydantic_extra__ or {}
        changed |= {k: v for k, v in extra.items() if k not in before or differs(v, before[k])}
    return changed


def commit(context: BaseModel, changed: dict[str, Any]) -> None:
    """Write `changed` into `context`, which may be a view itself."""
    fields = type(context).__pydantic_fields__
    for name, value in changed.items():
        if name in fields:
            raw(context)[name] = value
        elif context.__pydantic_extra__ is not None:
            context.__pydantic_extra__[name] = value
    context.__pydantic_fields_set__.update(changed)


def differs(left: Any, right: Any) -> bool:
    """Tell whether two values differ; values that cannot be compared count as different."""
    if left is right:
        return False
    if type(left) is not type(right):
        return True
    try:
        return bool(left != right)
    except (TypeError, ValueError):  # arrays and the like refuse a truth value: assume a change rather than lose one
        return True


def _copied(name: str, value: Any) -> Any:
    if isinstance(value, _IMMUTABLE):
        return value
    kind = type(value)  # a flat collection is copied 8 times faster without asking each item
    if (kind is list or kind is set) and _SCALARS.issuperset(map(type, value)):
        return value.copy()
    if kind is dict and _SCALARS.issuperset(map(type, value)) and _SCALARS.issuperset(map(type, value.values())):
        return value.copy()
    try:
        return copy.deepcopy(value)
    except FlowError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"context field {name!r} holds a {type(value).__name__} that cannot be copied ({error})",
            hint="Keep clients, locks and connections in resources, not in the context",
        ) from error


def _assign_validated(view: BaseModel, name: str, value: Any) -> None:
    model: Any = type(view)._flow_model  # type: ignore[attr-defined]
    # Validators of the whole model need the whole state; otherwise one field is validated alone, on a blank instance.
    state = dict(view.__dict__) if model.__pydantic_decorators__.model_validators else {}
    blank = model.__new__(model)
    put = object.__setattr__
    put(blank, "__dict__", state)
    put(blank, "__pydantic_fields_set__", set())
    put(blank, "__pydantic_extra__", None)
    put(blank, "__pydantic_private__", None)
    try:
        model.__pydantic_validator__.validate_assignment(blank, name, value)
    except ValidationError as error:
        reason = "; ".join(item["msg"] for item in error.errors())
        raise ValidationFailed(f"context field {name!r} cannot be {value!r:.80}: {reason}", cause=error) from error
    raw(view).update(raw(blank))
    view.__pydantic_fields_set__.add(name)


def build_context(model: type[ModelT], values: dict[str, Any], prompt: Any) -> ModelT:
    """Make the context of a run from `values`; the input becomes ``initial_prompt`` when the model has that field."""
    fields = model.__pydantic_fields__
    if "initial_prompt" in fields and "initial_prompt" not in values:
        values = {**values, "initial_prompt": prompt if isinstance(prompt, str) else str(prompt)}
    try:
        return model(**values)
    except ValidationError as error:
        raise _context_error(model, error) from error


def _context_error(model: type[BaseModel], error: ValidationError) -> ConfigurationError:
    items = error.errors()
    missing = [".".join(map(str, item["loc"])) for item in items if item["type"] == "missing"]
    unknown = [".".join(map(str, item["loc"])) for item in items if item["type"] == "extra_forbidden"]
    if missing:
        hint = f"Pass initial_context={{{', '.join(f'{name!r}: …' for name in missing)}}}"
        return ConfigurationError(
            f"{model.__name__} needs {', '.join(missing)}, which initial_context does not give", hint=hint
        )
    if unknown:
        return ConfigurationError(
            f"{model.__name__} has no field {', '.join(unknown)}",
            hint=f"Its fields are: {', '.join(model.model_fields)}. Keep loose values in scratchpad",
        )
    reasons = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in items)
    return ConfigurationError(f"{model.__name__} cannot be built from initial_context: {reasons}")
