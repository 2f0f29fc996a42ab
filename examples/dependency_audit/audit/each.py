"""Running one pipeline on many distributions at the same time, and making findings of the results."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from audit.disk import Disk
from audit.models import Assessment, AuditContext, Findings, Installation, Survey
from audit.risk import unreadable
from flow import Event, Flow, Pipeline, RunResult, RunStatus, StepRun


async def run_each(
    pipeline: Pipeline[Installation, Assessment], found: Survey, context: AuditContext, disk: Disk, run: StepRun
) -> Findings:
    """Run `pipeline` on every installation, within what the budget has left. One that fails is a finding, too.

    What the runs spend and count is added to `run` and `context`; progress is streamed, a line for each that is done.
    """

    async def tell(event: Event) -> None:
        if isinstance(event.result, RunResult):
            await run.emit(_progress(event.result))

    disk = disk.within(context.request.budget, spent=found.reads)
    flow = Flow(pipeline, context_model=AuditContext, resources=disk, hooks=[tell])
    results = await flow.run_many(
        takewhile(lambda _: not disk.exhausted, found.installations),
        concurrency=context.request.concurrency,
        initial_context={"request": context.request, "policy": context.policy, "installed": context.installed},
    )
    run.usage.add(requests=sum(result.usage.requests for result in results))
    _add_counters(context, results)
    return _findings(found, results, context, disk)


def _progress(result: RunResult[Assessment]) -> str:
    if not result.success:
        return f"{result.status}: {result.error}\n"
    return f"{result.output.name} {result.output.version}: {result.output.risk}\n"


def _add_counters(context: AuditContext, results: Sequence[RunResult[Assessment]]) -> None:
    for result in results:
        context.files_verified += result.final_pipeline_context.files_verified
        context.bytes_verified += result.final_pipeline_context.bytes_verified
        for step in result.walk():
            fell_back = "fallback_triggered" in step.metadata
            context.fallbacks += fell_back
            context.retries += step.attempts - 1 - fell_back


def _findings(found: Survey, results: Sequence[RunResult[Assessment]], context: AuditContext, disk: Disk) -> Findings:
    assessments, unaudited = [], [installation.name for installation in found.installations[len(results) :]]
    for installation, result in zip(found.installations, results, strict=False):
        if result.success:
            assessments.append(result.output)
        elif result.status is RunStatus.LIMIT_EXCEEDED:
            unaudited.append(installation.name)
        else:
            assessments.append(unreadable(installation, str(result.error), context.policy))
    return Findings(assessments=tuple(assessments), unaudited=tuple(sorted(unaudited)), reads=disk.reads)
