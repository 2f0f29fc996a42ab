"""How the state of objects is taken for storage and given back: Pydantic models, dataclasses, attrs classes and others.

What is read becomes an object without a constructor, a converter or a validator changing it again. Where a class does
more when it is made than to set its fields, in ``__post_init__``, it does so first, and then gets the stored fields.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias

import attrs
from pydantic import BaseModel
from pydantic_core import core_schema, to_json

from ._value_shapes import PLAIN, Shape, converted, exactly

Hints: TypeAlias = Mapping[str, Any]
Default: TypeAlias = Callable[[], Any] | None
_set = object.__setattr__


@attrs.frozen
class Field:
    """A field of a class: its type, and what makes its default if it has one."""

    hint: Any
    default: Default


def field_type(info: Any) -> Any:
    """Return the type of a model's field with everything that is attached to it."""
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


def hints_of(cls: Any) -> Hints:
    """Return the types of the fields of a class; raises `NameError` and others when they cannot be resolved."""
    return typing.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)


def is_object(cls: Any) -> bool:
    """Tell whether `object_shape` knows how to treat instances of `cls`."""
    return isinstance(cls, type) and (
        issubclass(cls, BaseModel) or dataclasses.is_dataclass(cls) or attrs.has(cls) or is_named_tuple(cls)
    )


def is_named_tuple(cls: Any) -> bool:
    """Tell whether `cls` was made by ``NamedTuple`` or ``namedtuple``."""
    return isinstance(cls, type) and issubclass(cls, tuple) and "_fields" in vars(cls)


def fields_of(
    cls: Any, variables: Mapping[Any, Any], substitute: Callable[[Any, Mapping[Any, Any]], Any]
) -> dict[str, Field]:
    """Return the fields that make the state of an instance, in their order."""
    if issubclass(cls, BaseModel):
        return {name: Field(field_type(info), _model_default(info)) for name, info in cls.__pydantic_fields__.items()}
    hints = {name: substitute(hint, variables) for name, hint in hints_of(cls).items()}
    if dataclasses.is_dataclass(cls):
        return {
            field.name: Field(hints.get(field.name, Any), _dataclass_default(field))
            for field in dataclasses.fields(cls)
        }
    if attrs.has(cls):
        return {field.name: Field(hints.get(field.name, Any), _attrs_default(field)) for field in attrs.fields(cls)}
    return {name: Field(hints.get(name, Any), None) for name in cls._fields}


def _model_default(info: Any) -> Default:
    return None if info.is_required() else lambda: info.get_default(call_default_factory=True, validated_data={})


def _dataclass_default(field: Any) -> Default:
    if field.default is not dataclasses.MISSING:
        return lambda: field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory


def _attrs_default(field: Any) -> Default:
    default = field.default
    if default is attrs.NOTHING:
        return None
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return None if default.takes_self else default.factory
    return lambda: default


def object_shape(
    cls: Any, fields: Mapping[str, Field], shapes: Mapping[str, Shape], take: Callable[[Any], Any]
) -> Shape:
    """Return the shape of the instances of a class.

    :param take: returns the state of an instance by field, and refuses instances of other classes.
    """
    if is_named_tuple(cls):
        inner = core_schema.tuple_schema([shape.schema for shape in shapes.values()])
        return converted(take, cls._make, inner, exactly(cls))
    inner_fields = {
        name: core_schema.typed_dict_field(shape.schema, required=fields[name].default is None)
        for name, shape in shapes.items()
    }
    extra = issubclass(cls, BaseModel) and cls.model_config.get("extra") == "allow"
    inner_object = core_schema.typed_dict_schema(
        inner_fields,
        extra_behavior="allow" if extra else "ignore",
        extras_schema=PLAIN.schema if extra else None,
    )
    make = _model_maker(cls, fields) if issubclass(cls, BaseModel) else _object_maker(cls, fields)
    return converted(take, make, inner_object, _instances(cls))


def taker(cls: Any, fields: Mapping[str, Field]) -> Callable[[Any], Any]:
    """Return a function that takes the state of an instance of `cls` and raises `TypeError` for anything else."""
    fits, names = _instances(cls), tuple(fields)

    def take_model(value: Any) -> Any:
        if type(value) is not cls and not fits(value):
            raise _other_class(cls, value)
        state, extra = value.__dict__, value.__pydantic_extra__
        if len(state) != len(names):  # a cached property has put its value there
            state = {name: state[name] for name in names}
        return {**state, **extra} if extra else state

    def take_fields(value: Any) -> Any:
        if not fits(value):
            raise _other_class(cls, value)
        return {name: value.__getattribute__(name) for name in names}

    def take_tuple(value: Any) -> Any:
        if not fits(value):
            raise _other_class(cls, value)
        return tuple(value)

    if issubclass(cls, BaseModel):
        return take_model
    return take_tuple if is_named_tuple(cls) else take_fields


def _instances(cls: Any) -> Callable[[Any], bool]:
    if not issubclass(cls, BaseModel):
        return exactly(cls)
    origin = _generic_origin(cls)
    return lambda value: type(value) is cls or (isinstance(value, BaseModel) and _generic_origin(type(value)) is origin)


def _generic_origin(cls: type[BaseModel]) -> Any:
    return cls.__pydantic_generic_metadata__["origin"] or cls


def _other_class(cls: Any, value: Any) -> TypeError:
    given = type(value)
    if isinstance(value, cls):
        return TypeError(
            f"it is a {given.__qualname__} where {cls.__qualname__} is declared, and would come back as less;"
            f" declare {given.__qualname__}, or a union of the classes"
        )
    return TypeError(f"it is a {given.__qualname__} and not a {cls.__qualname__}")


def _model_maker(cls: Any, fields: Mapping[str, Field]) -> Callable[[dict[str, Any]], Any]:
    post_init = cls.__pydantic_post_init__ is not None
    has_extra = cls.model_config.get("extra") == "allow"
    count = len(fields)

    def make(stored: dict[str, Any]) -> Any:
        given = set(stored)
        if len(stored) != count:
            state = {name: stored.pop(name) if name in stored else _default(field) for name, field in fields.items()}
        else:
            state, stored = stored, {}
        made = cls.__new__(cls)
        _set(made, "__dict__", state)
        _set(made, "__pydantic_fields_set__", given)
        _set(made, "__pydantic_extra__", stored if has_extra else None)
        _set(made, "__pydantic_private__", None)
        if post_init:  # sets the private attributes too
            kept = dict(state)
            made.model_post_init(None)
            _set(made, "__dict__", kept)
        return made

    return make


def _object_maker(cls: Any, fields: Mapping[str, Field]) -> Callable[[dict[str, Any]], Any]:
    runs_more = hasattr(cls, "__post_init__")  # of a dataclass; attrs classes have another
    arguments = [field.name for field in dataclasses.fields(cls) if field.init] if runs_more else []

    def make(stored: dict[str, Any]) -> Any:
        state = {name: stored[name] if name in stored else _default(field) for name, field in fields.items()}
        made = cls(**{name: state[name] for name in arguments}) if runs_more else cls.__new__(cls)
        for name, value in state.items():
            _set(made, name, value)
        return made

    return make


def _default(field: Field) -> Any:
    assert field.default is not None  # noqa: S101  a field without a default is required by the schema
    return field.default()


def writes_itself(cls: Any) -> bool:
    """Tell whether a Pydantic class says itself how it is written and read."""
    decorators = getattr(cls, "__pydantic_decorators__", None)
    if decorators is not None and (decorators.field_serializers or decorators.model_serializers):
        return True
    own = getattr(cls, "__get_pydantic_core_schema__", None)
    default = BaseModel.__get_pydantic_core_schema__
    return own is not None and getattr(own, "__func__", own) is not default.__func__  # type: ignore[attr-defined]


def self_written_shape(cls: type[BaseModel]) -> Shape:
    """Return the shape of a model that says itself how it is written and read."""
    take = taker(cls, {})

    def write(value: Any) -> Any:
        take(value)
        return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings="error")

    return converted(
        write, lambda stored: cls.model_validate_json(to_json(stored)), core_schema.any_schema(), _instances(cls)
    )


def typed_dict_shape(cls: Any, shapes: Mapping[str, Shape], required: frozenset[str]) -> Shape:
    """Return the shape of a ``TypedDict``; one with further keys is refused rather than stored without."""

    def take(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"it is a {type(value).__name__} and not a dictionary")
        unknown = value.keys() - shapes.keys()
        if unknown:
            raise TypeError(f"{cls.__name__} does not declare the key {min(map(str, unknown))!r}")
        missing = required - value.keys()
        if missing:
            raise TypeError(f"the key {min(missing)!r} of {cls.__name__} is missing")
        return value

    fields = {
        name: core_schema.typed_dict_field(shape.schema, required=name in required) for name, shape in shapes.items()
    }
    return converted(take, lambda value: value, core_schema.typed_dict_schema(fields), exactly(dict))
