"""Joining what parallel branches wrote to their isolated contexts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from ._context import changes, commit, differs, peek
from .errors import ContextConflict, StepFailed

MergePolicy: TypeAlias = Literal["error", "first", "last"] | Callable[[Any, Mapping[str, Any]], Any]
_MISSING: Any = object()


def merge_branches(context: BaseModel, branches: Mapping[str, BaseModel], policy: MergePolicy = "error") -> None:
    """Merge the changes of isolated `branches`, in their given order, into `context`.

    A field that one branch changed takes its value. When several did, its reducer joins them; dictionaries are joined
    key by key; otherwise different values are a `ContextConflict`, or settled by `policy`: the first or last branch,
    or ``policy(context, {branch: context})``, which returns the fields to set as a mapping.
    """
    if callable(policy):
        commit(context, dict(policy(context, branches) or {}))
        return
    by_field: dict[str, dict[str, Any]] = {}
    for branch, view in branches.items():
        for field, value in changes(view).items():
            by_field.setdefault(field, {})[branch] = value
    reducers = field_reducers(type(context))
    merged = {}
    for field, values in by_field.items():
        base = peek(context, field) if field in type(context).model_fields else _MISSING
        merged[field] = _join(field, base, values, reducers.get(field), policy)
    commit(context, merged)


@lru_cache(maxsize=256)
def field_reducers(model: type[BaseModel]) -> dict[str, Callable[[Any, Any], Any]]:
    """Return the reducers that the fields of `model` declare with ``Annotated[type, reducer]``."""
    found = {}
    for name, field in model.model_fields.items():
        reducer = next((item for item in field.metadata if callable(item) and not isinstance(item, type)), None)
        if reducer is not None:
            found[name] = reducer
    return found


def _join(field: str, base: Any, values: dict[str, Any], reducer: Callable[[Any, Any], Any] | None, policy: str) -> Any:
    if reducer is not None:
        return _reduce(field, base, values, reducer)
    distinct = list(values.values())
    if not any(differs(value, distinct[0]) for value in distinct[1:]):
        return distinct[0]
    if all(isinstance(value, dict) for value in distinct):
        return _join_dicts(field, base if isinstance(base, dict) else {}, values, policy)
    if policy == "error":
        raise conflict(field, list(values))
    return distinct[0] if policy == "first" else distinct[-1]


def _join_dicts(field: str, base: dict[Any, Any], values: dict[str, dict[Any, Any]], policy: str) -> dict[Any, Any]:
    merged = dict(base)
    for key in dict.fromkeys(key for value in (base, *values.values()) for key in value):
        before = base.get(key, _MISSING)
        changed = {b: v.get(key, _MISSING) for b, v in values.items() if differs(v.get(key, _MISSING), before)}
        if changed:
            joined = _join(f"{field}.{key}", before, changed, None, policy)
            if joined is _MISSING:
                merged.pop(key, None)
            else:
                merged[key] = joined
    return merged


def _reduce(field: str, base: Any, values: dict[str, Any], reducer: Callable[[Any, Any], Any]) -> Any:
    if len(values) == 1:
        return next(iter(values.values()))
    if reducer is not operator.add:  # union, max, a user's function: joins whole values
        result = base
        try:
            for value in values.values():
                result = reducer(result, value)
        except Exception as error:
            message = f"the reducer of context field {field!r} raised {type(error).__name__}: {error}"
            raise StepFailed(message, cause=error) from error
        return result
    result = base
    for value in values.values():
        result = result + _added(field, base, value, list(values))
    return result


def _added(field: str, base: Any, value: Any, branches: list[str]) -> Any:
    """Return what a branch added to `base`, so that adding up branches does not repeat the base."""
    if isinstance(value, (int, float)) and isinstance(base, (int, float)):
        return value - base
    if isinstance(value, (list, tuple, str, bytes)) and value[: len(base)] == base:
        return value[len(base) :]
    if hasattr(value, "__sub__"):
        return value - base
    raise conflict(field, branches)


def conflict(field: str, branches: list[str]) -> ContextConflict:
    """Return the error that names the field and the branches that disagree about it."""
    return ContextConflict(
        f"context field {field!r} was changed differently by branches {', '.join(map(repr, branches))}",
        field=field,
        branches=branches,
        hint="Declare how to join the values, Annotated[type, reducer], or choose merge='first' or 'last'",
    )
