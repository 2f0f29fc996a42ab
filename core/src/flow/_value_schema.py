"""From a declared type to the shape of its values: containers, unions, aliases, generic and recursive types."""

from __future__ import annotations

import collections
import enum
import types
import typing
import warnings
from collections import abc
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin, is_typeddict

import pydantic
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from ._types import type_name
from ._value_objects import (
    field_type,
    fields_of,
    hints_of,
    is_object,
    object_shape,
    self_written_shape,
    taker,
    typed_dict_shape,
    writes_itself,
)
from ._value_shapes import (
    CONFIG,
    LEAVES,
    PLAIN,
    SECRETS,
    Shape,
    converted,
    enum_shape,
    exactly,
    literal_shape,
    nullable,
    only,
    pairs_shape,
    path_shape,
    secret_shape,
    union_shape,
)

__all__ = ["CONFIG", "SchemaBuilder", "field_type"]

# What is attached to a type for checking and describing it; how a value is written does not depend on it.
_CHECKS: tuple[Any, ...] = (
    pydantic.AfterValidator,
    pydantic.BeforeValidator,
    pydantic.WrapValidator,
    pydantic.PlainValidator,
    pydantic.SkipValidation,
    pydantic.InstanceOf,
    pydantic.Json,
    pydantic.Strict,
    pydantic.Discriminator,
    pydantic.Tag,
    pydantic.WithJsonSchema,
)
_QUALIFIERS = tuple(
    form
    for form in (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar, getattr(typing, "ReadOnly", None))
    if form is not None
)
_IMPORTED: Any = pydantic.ImportString
_SEQUENCES = (abc.Sequence, abc.MutableSequence)
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping, collections.OrderedDict, collections.defaultdict)
_FACTORIES = (list, dict, set, int, str, float)


class SchemaBuilder:
    """Builds the schema of one declared type.

    :ivar holds_secrets: a secret is somewhere in the type.
    :ivar depth_varies: the type refers to itself or says nothing, so that its values may be nested to any depth.
    """

    def __init__(self) -> None:
        self.holds_secrets = False
        self.depth_varies = False
        self._definitions: list[CoreSchema] = []
        self._known: dict[Any, tuple[str, Shape]] = {}
        self._open: set[str] = set()

    def schema(self, declared: Any) -> CoreSchema:
        """Return the core schema of `declared`; raises what Pydantic raises for types that nobody can write."""
        return self._complete(self.shape(declared).schema)

    def _complete(self, schema: CoreSchema) -> CoreSchema:
        return core_schema.definitions_schema(schema, self._definitions) if self._definitions else schema

    def _serializer(self, schema: CoreSchema) -> SchemaSerializer:
        return SchemaSerializer(self._complete(schema), CONFIG)

    def shape(self, declared: Any) -> Shape:
        """Return the shape of `declared`."""
        if declared in (Any, object):
            self.depth_varies = True
            return PLAIN
        if _is_leaf(declared):
            return LEAVES[declared]
        origin, arguments = get_origin(declared), get_args(declared)
        if origin is Annotated:
            return self._annotated(declared, arguments)
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        if origin is Literal:
            return literal_shape(arguments)
        if origin in _QUALIFIERS:
            return self.shape(arguments[0])
        if isinstance(declared, NewType):
            return self.shape(declared.__supertype__)
        if isinstance(declared, TypeVar):
            return self._variable(declared)
        if type(origin or declared).__name__ == "TypeAliasType":
            return self._shared(declared, self._alias)
        return self._class_shape(declared, origin or declared, arguments)

    def _class_shape(self, declared: Any, kind: Any, arguments: tuple[Any, ...]) -> Shape:
        container = self._container(kind, arguments)
        if container is not None:
            return container
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return enum_shape(kind)
        if isinstance(kind, type) and issubclass(kind, PurePath):
            return path_shape(kind)
        if kind in SECRETS:
            self.holds_secrets = True
            return secret_shape(kind)
        if kind is pydantic.Secret or (isinstance(kind, type) and issubclass(kind, pydantic.Secret)):
            self.holds_secrets = True
            return secret_shape(declared)
        if is_typeddict(kind):
            return self._shared(declared, self._typed_dict)
        if is_object(kind):
            if writes_itself(kind):
                return self_written_shape(kind) if issubclass(kind, BaseModel) else self._foreign(declared)
            return self._shared(declared, self._object)
        return self._foreign(declared)

    # -- wrapped types --

    def _annotated(self, declared: Any, arguments: tuple[Any, ...]) -> Shape:
        base, *attached = arguments
        if any(isinstance(item, _IMPORTED) for item in attached):
            raise TypeError("names of things to import are not read from storage")
        written = [item for item in attached if hasattr(item, "__get_pydantic_core_schema__")]
        if all(isinstance(item, _CHECKS) for item in written):
            return self.shape(base)
        return self._foreign(declared)

    def _variable(self, variable: Any) -> Shape:
        if variable.__constraints__:
            return self._union(variable.__constraints__)
        return PLAIN if variable.__bound__ is None else self.shape(variable.__bound__)

    def _alias(self, declared: Any) -> Shape:
        alias, arguments = get_origin(declared) or declared, get_args(declared)
        return self.shape(substituted(alias.__value__, dict(zip(alias.__type_params__, arguments, strict=False))))

    def _union(self, members: tuple[Any, ...]) -> Shape:
        others = [member for member in members if member not in (None, types.NoneType)]
        shapes: dict[str, Shape] = {}
        for member in others:
            label = type_name(member)
            shapes[label if label not in shapes else f"{label}#{len(shapes)}"] = self.shape(member)
        shape = next(iter(shapes.values())) if len(shapes) == 1 else union_shape([*shapes.items()], self._serializer)
        if len(others) == len(members):
            return shape
        return nullable(shape)

    # -- containers --

    def _container(self, kind: Any, arguments: tuple[Any, ...]) -> Shape | None:
        if kind is list:
            return Shape(core_schema.list_schema(self._item(arguments)), exactly(list))
        if kind is tuple:
            return self._tuple(arguments)
        if kind is set:
            return Shape(core_schema.set_schema(self._item(arguments)), exactly(set))
        if kind is frozenset:
            return Shape(core_schema.frozenset_schema(self._item(arguments)), exactly(frozenset))
        if kind is collections.deque:
            inner = core_schema.list_schema(self._item(arguments))
            return converted(only(collections.deque, list), collections.deque, inner, exactly(collections.deque))
        if kind in _MAPPINGS:
            return self._mapping(kind, arguments)
        if kind is collections.Counter:
            return self._mapping(kind, (*(arguments or (Any,)), int))
        return self._abstract(kind, arguments)

    def _abstract(self, kind: Any, arguments: tuple[Any, ...]) -> Shape | None:
        """Return the shape of an abstract collection: a union of what may be meant."""
        (item,) = arguments or (Any,)
        many: dict[Any, tuple[Any, ...]] = {
            **dict.fromkeys(_SEQUENCES, (list[item], tuple[item, ...])),  # type: ignore[valid-type]
            abc.Set: (set[item], frozenset[item]),  # type: ignore[valid-type]
            abc.MutableSet: (set[item],),  # type: ignore[valid-type]
            abc.Collection: (list[item], tuple[item, ...], set[item], frozenset[item]),  # type: ignore[valid-type]
        }
        return self._union(many[kind]) if kind in many else None

    def _item(self, arguments: tuple[Any, ...]) -> CoreSchema:
        return self.shape(arguments[0] if arguments else Any).schema

    def _tuple(self, arguments: tuple[Any, ...]) -> Shape:
        if not arguments:
            arguments = (Any, ...)
        variadic = arguments[-1] is ...
        items = [self.shape(item).schema for item in arguments if item is not ...]
        if arguments == ((),):
            items = []
        schema = core_schema.tuple_schema(items, variadic_item_index=0 if variadic else None)
        return Shape(schema, exactly(tuple))

    def _mapping(self, kind: Any, arguments: tuple[Any, ...]) -> Shape:
        keys, values = (self.shape(item) for item in (arguments or (Any, Any)))
        concrete = kind if isinstance(kind, type) and issubclass(kind, dict) else dict
        read: Callable[[Any], Any] = concrete
        if kind is collections.defaultdict:
            factory = get_origin(arguments[-1]) or arguments[-1] if arguments else None
            read = _defaultdict_of(factory if factory in _FACTORIES else None)
        elif kind is collections.Counter:
            read = _counter
        if keys.scalar is not str and keys is not PLAIN:
            return pairs_shape(keys, values, read, exactly(concrete))
        inner = core_schema.dict_schema(core_schema.str_schema(), values.schema)
        if concrete is dict:
            return Shape(inner, exactly(dict))
        return converted(only(concrete, dict), read, inner, exactly(concrete))

    # -- classes --

    def _shared(self, declared: Any, build: Callable[[Any], Shape]) -> Shape:
        """Build the shape of a class once, also when it refers to itself."""
        known = self._known.get(declared)
        if known is not None:
            self.depth_varies |= known[0] in self._open
            return known[1]
        ref = f"v{len(self._known)}"
        fits: list[Shape] = []
        reference = Shape(core_schema.definition_reference_schema(ref), lambda value: fits[0].fits(value))
        self._known[declared] = ref, reference
        self._open.add(ref)
        built = build(declared)
        self._open.discard(ref)
        fits.append(built)
        definition: Any = {**built.schema, "ref": ref}
        self._definitions.append(definition)
        return reference

    def _object(self, declared: Any) -> Shape:
        cls = get_origin(declared) or declared
        if issubclass(cls, BaseModel) and not cls.__pydantic_complete__:
            cls.model_rebuild()
        fields = fields_of(cls, _variables(cls, get_args(declared)), substituted)
        shapes = {name: self.shape(field.hint) for name, field in fields.items()}
        return object_shape(cls, fields, shapes, taker(cls, fields))

    def _typed_dict(self, declared: Any) -> Shape:
        cls = get_origin(declared) or declared
        variables = _variables(cls, get_args(declared))
        hints = hints_of(cls)
        shapes = {name: self.shape(substituted(hint, variables)) for name, hint in hints.items()}
        return typed_dict_shape(cls, shapes, frozenset(name for name in hints if _is_required(cls, name, hints[name])))

    def _foreign(self, declared: Any) -> Shape:
        """Return the shape of a type as Pydantic writes it."""
        schema = pydantic_adapter(declared).core_schema
        kind = get_origin(declared) or declared
        fits = (lambda value: isinstance(value, kind)) if isinstance(kind, type) else (lambda _: True)
        return Shape(schema, fits)


def pydantic_adapter(declared: Any) -> TypeAdapter[Any]:
    """Return Pydantic's own adapter of a type; raises `PydanticUserError` and `SchemaError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about annotations it takes for types: not the user's concern
        try:
            config = ConfigDict(arbitrary_types_allowed=True, ser_json_bytes="base64", val_json_bytes="base64")
            return TypeAdapter(declared, config=config)
        except pydantic.PydanticSchemaGenerationError:
            raise
        except pydantic.PydanticUserError:  # models and dataclasses bring their own configuration and refuse ours
            return TypeAdapter(declared)


def substituted(hint: Any, variables: Mapping[Any, Any]) -> Any:
    """Put arguments in the place of type variables."""
    if isinstance(hint, TypeVar):
        return variables.get(hint, hint)
    if isinstance(hint, type) and not get_args(hint):  # a generic class as such
        return hint
    parameters = getattr(hint, "__parameters__", ())
    generic: Any = hint
    return generic[tuple(variables.get(item, item) for item in parameters)] if parameters else hint


def _variables(cls: Any, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """Return what the type variables of a generic class and of its bases stand for."""
    known = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    for base in getattr(cls, "__orig_bases__", ()):
        origin = get_origin(base)
        if origin not in (None, typing.Generic, typing.Protocol):
            inherited = tuple(substituted(argument, known) for argument in get_args(base))
            known = {**_variables(origin, inherited), **known}
    return known


def _is_required(cls: Any, name: str, hint: Any) -> bool:
    """Tell whether a key of a ``TypedDict`` must be there; with postponed annotations the class does not know."""
    while get_origin(hint) is Annotated or get_origin(hint) is getattr(typing, "ReadOnly", Annotated):
        hint = get_args(hint)[0]
    marked = get_origin(hint)
    return marked is typing.Required or (name in cls.__required_keys__ and marked is not typing.NotRequired)


def _is_leaf(declared: Any) -> bool:
    try:
        return declared in LEAVES
    except TypeError:
        return False


def _defaultdict_of(factory: Any) -> Callable[[Any], Any]:
    return lambda items: collections.defaultdict(factory, items)


def _counter(items: Any) -> Any:
    return collections.Counter(dict(items))
