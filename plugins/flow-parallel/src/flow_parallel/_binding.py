"""How fan-out runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from typing import Any

from flow import Binder, Execute, FlowError, Scope, StepFailed, StepResult, bind_callable, hookimpl

from ._map import MapOver
from ._mapping import bind_map
from ._merging import bind_merge
from ._parallel import ROUTER, Parallel
from ._workers import Stop, run_bounded


@hookimpl
def flow_bind_step(step: Any, binder: Binder) -> Execute | None:
    """Bind a `Parallel` or a `MapOver`."""
    if isinstance(step, Parallel):
        return _bind_parallel(step, binder)
    return bind_map(step, binder) if isinstance(step, MapOver) else None


def _bind_parallel(step: Parallel[Any, Any], binder: Binder) -> Execute:
    executes = {label: binder.bind(pipeline) for label, pipeline in step.branches.items()}
    route = None if step.router is None else binder.bind(step.router, ROUTER)
    merge = bind_merge(step.merge)
    join = None if step.join is None else bind_callable(step.join, what="join function")

    async def run(data: Any, scope: Scope) -> StepResult:
        if not executes:
            return StepResult.failed(step, "a parallel step needs branches and has none", output={})
        labels = list(executes)
        metadata: dict[str, Any] = {}
        if route is not None:
            routed = await route(data, scope)
            if not routed.success:
                return StepResult.failed(step, f"the router failed: {routed.feedback}", routed.error)
            labels = metadata["selected_branches"] = _selected(step, routed.output)
        scopes = {label: scope.branch(label) for label in labels}
        results = await _run_branches(step, {label: executes[label] for label in labels}, data, scopes)
        failed = [label for label in labels if label in results and not results[label].success]
        metadata |= {"executed_branches": [label for label in labels if label in results], "failed_branches": failed}
        if failed and (step.on_failure == "fail_fast" or len(failed) == len(labels) or _halts(results)):
            return _failed(step, results, failed, metadata)
        output: Any = {label: _slot(label, results[label]) for label in labels}
        try:
            scope.merge({label: scopes[label] for label in labels if results[label].success}, merge)
            if join is not None:
                output = await join(output, scope.context)
        except FlowError as error:  # a conflict, or the join function, which says so
            return StepResult.failed(step, str(error), error, metadata=metadata)
        return StepResult.ok(step, output, metadata=metadata)

    return run


async def _run_branches(
    step: Parallel[Any, Any], executes: dict[str, Execute], data: Any, scopes: dict[str, Scope]
) -> dict[str, StepResult]:
    results: dict[str, StepResult] = {}

    async def work(label: str) -> None:
        result = results[label] = await executes[label](data, scopes[label])
        if not result.success and (step.on_failure == "fail_fast" or result.halts_run):
            raise Stop

    with suppress(Stop):  # the failed result says the rest
        await run_bounded(_each(executes), work, min(step.max_concurrency, len(executes)))
    return results


async def _each(labels: Iterable[str]) -> AsyncGenerator[str]:
    for label in labels:
        yield label


def _selected(step: Parallel[Any, Any], chosen: Any) -> list[str]:
    """Check what a router returned: the branches that run are in declared order, each once."""
    names = [chosen] if isinstance(chosen, str) else list(chosen) if isinstance(chosen, Iterable) else None
    if names is None:
        raise StepFailed(f"the router returned {type(chosen).__name__} instead of names of branches")
    unknown = [name for name in names if not isinstance(name, str) or name not in step.branches]
    if unknown:
        raise StepFailed(f"the router chose {unknown[0]!r}; the branches are: {', '.join(map(repr, step.branches))}")
    return [label for label in step.branches if label in names]


def _halts(results: dict[str, StepResult]) -> bool:
    return any(result.halts_run for result in results.values())


def _slot(label: str, result: StepResult) -> Any:
    """Return what stands in the output for a branch: its output, or the result that says why it has none."""
    if not result.success:
        result.name = label
    return result.output if result.success else result


def _failed(
    step: Parallel[Any, Any], results: dict[str, StepResult], failed: list[str], metadata: dict[str, Any]
) -> StepResult:
    reasons = [f"branch {label!r} failed at {results[label].path!r}: {results[label].feedback}" for label in failed]
    worst = next((label for label in failed if results[label].halts_run), failed[0])
    return StepResult.failed(step, "; ".join(reasons), results[worst].error, metadata=metadata)
