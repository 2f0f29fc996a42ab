"""The ``pipeline`` kind: runs steps one after another, and pipelines as steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._context import PipelineContext, build_context, commit, peek
from .._pipeline import Pipeline
from .._results import StepResult
from .._subflow import SubWorkflow
from ..errors import StepFailed
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .._kernel import Binder
    from .._protocols import Execute
    from .._run import Scope


@hookimpl
def flow_bind_step(step: Any, binder: Binder) -> Execute | None:
    """Bind a `Pipeline` or a `SubWorkflow`."""
    if isinstance(step, Pipeline):
        return _bind_sequence(step, binder)
    return _bind_subworkflow(step, binder) if isinstance(step, SubWorkflow) else None


def _bind_sequence(pipeline: Pipeline[Any, Any], binder: Binder) -> Execute:
    executes = tuple(binder.bind(step, segment) for segment, step in pipeline.children().items())
    name, segment = pipeline.name, binder.segment

    async def run(data: Any, scope: Scope) -> StepResult:
        if segment:
            scope = scope.child(segment)
        for execute in executes:
            result = await execute(data, scope)
            if not result.success:
                return StepResult(
                    name, "pipeline", False, result.output, result.path, feedback=result.feedback, error=result.error
                )
            data = result.output
        return StepResult(name, "pipeline", True, data)

    return run


def _bind_subworkflow(step: SubWorkflow[Any, Any], binder: Binder) -> Execute:
    execute = binder.bind(step.pipeline)

    async def run(data: Any, scope: Scope) -> StepResult:
        inner = _context_of(step, data, scope)
        result = await execute(data, scope.child("", context=inner))
        if result.success:
            if inner is not None and step.inherit_context:
                _hand_back(inner, scope.context)
            return StepResult.ok(step, result.output)
        return StepResult.failed(
            step, f"step {result.path!r} failed: {result.feedback}", result.error, output=result.output
        )

    return run


def _context_of(step: SubWorkflow[Any, Any], data: Any, scope: Scope) -> BaseModel | None:
    """Return the context of the inner steps, or ``None`` when they share the outer one."""
    model = step.context_model
    if not step.inherit_context:
        return build_context(model or PipelineContext, {}, data)
    if model is None:
        return None
    outer = scope.context
    if outer is None or isinstance(outer, model):
        return None
    shared = {name: peek(outer, name) for name in type(outer).model_fields if name in model.model_fields}
    missing = [name for name, field in model.model_fields.items() if field.is_required() and name not in shared]
    if missing:
        raise StepFailed(
            f"the context {model.__name__} of sub-workflow {step.name!r} needs {', '.join(missing)}, "
            f"which {type(outer).__name__} does not have",
            path=scope.path,
            hint=f"Its fields are: {', '.join(type(outer).model_fields)}. Add it there, or give it a default here",
        )
    return build_context(model, shared, data)


def _hand_back(inner: BaseModel, outer: BaseModel) -> None:
    """Write what the inner steps left to the outer context: dictionaries are updated, other values replaced."""
    back = {}
    for name in type(inner).model_fields:
        value = peek(inner, name)
        if name in type(outer).model_fields and name != "initial_prompt" and value is not None:
            before = peek(outer, name)
            both = isinstance(value, dict) and isinstance(before, dict)
            back[name] = {**before, **value} if both else value
    commit(outer, back)
