"""What fan-out returns, as types: with them a state store keeps outputs, also the places of those that failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    JsonValue,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
)
from typing_extensions import TypedDict  # Pydantic reads that of typing from Python 3.12 on

from flow import Step, StepFailed, StepResult

_FAILED = "flow_parallel.failed"
_PLAIN: TypeAdapter[Any] = TypeAdapter(JsonValue)


def common_type(types: list[Any]) -> Any:
    """Return the type that all of them are, ``Any`` when they differ."""
    return types[0] if types and all(item == types[0] for item in types) else Any


def returned_type(function: Callable[..., Any]) -> Any:
    """Return what a function is annotated to return; ``Any`` when nothing is said."""
    return Step("function", function).declared_types()[1]


def outputs_type(slots: Mapping[str, Any], *, total: bool) -> Any:
    """Return the type of ``{label: output}``; without `total` branches may be missing."""
    if all(slot is Any for slot in slots.values()):
        return Any
    return TypedDict("Outputs", dict(slots), total=total)  # type: ignore[operator]


def list_type(slot: Any) -> Any:
    """Return the type of a list of outputs."""
    return Any if slot is Any else list[slot]


def slot_type(gives: Any) -> Any:
    """Return the type of a place that holds an output, or the `StepResult` that says why there is none."""
    if gives is Any:  # stored as it is, so only what comes back as it was
        return Annotated[Any, WrapSerializer(_dump_plain), WrapValidator(_load)]
    return Annotated[gives, WrapSerializer(_dump), WrapValidator(_load)]


def _dump(value: Any, handler: SerializerFunctionWrapHandler) -> Any:
    if not isinstance(value, StepResult):
        return handler(value)
    kept = {"name": value.name, "kind": value.kind, "path": value.path, "attempts": value.attempts}
    return {_FAILED: {**kept, "feedback": value.feedback, "error": str(value.error), "metadata": value.metadata}}


def _dump_plain(value: Any, handler: SerializerFunctionWrapHandler) -> Any:
    return _dump(value if isinstance(value, StepResult) else _PLAIN.validate_python(value, strict=True), handler)


def _load(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, dict) or value.keys() != {_FAILED}:
        return value if isinstance(value, StepResult) else handler(value)
    stored = dict(value[_FAILED])
    error = StepFailed(stored.pop("error"), path=stored["path"])
    return StepResult(success=False, error=error, replayed=True, **stored)
