"""Audit the distributions installed in an environment: licence, integrity, ties to others, maturity, risk.

    flow run examples/dependency_audit/app.py
    flow run examples/dependency_audit/app.py --input '{"policy": "policy.toml", "fail_on": "medium"}'

Writes report.md and report.json, and fails when a distribution violates the policy.
"""

from __future__ import annotations

from itertools import takewhile

from audit.disk import Disk
from audit.finding import chosen, find_installations, search_path
from audit.inspection import check_wiring, compare_files, is_consistent, read_core_metadata, read_licence_files
from audit.licences import licence_from_metadata, licence_from_texts
from audit.maturity import judge
from audit.models import (
    Assessment,
    AuditContext,
    AuditRequest,
    Described,
    Findings,
    Installation,
    Judged,
    Licensed,
    Outcome,
    Survey,
    Verified,
    Wired,
)
from audit.policy import load_policy
from audit.report import as_markdown, make_report, write_atomically
from audit.risk import assess, unreadable
from flow import (
    Event,
    EventKind,
    Flow,
    RecoveryAction,
    RecoveryStrategy,
    RunResult,
    StepRun,
    UsageLimitExceeded,
    step,
    validator,
)

# Network drives and busy machines fail now and then. What still fails at the third attempt is left to the fallback.
BUSY_DISK = RecoveryStrategy(
    name="busy disk",
    error_types=frozenset({OSError}),
    max_retries=2,
    retry_delay_seconds=0.05,
    fallback_actions=[RecoveryAction.FALLBACK],
)

# -- one distribution: each step adds what it found out, and the types say what that is --------------------------------


@step(policies=[BUSY_DISK], validators=[validator(is_consistent)])
def read_metadata(installation: Installation, *, resources: Disk, run: StepRun) -> Described:
    return Described(installation=installation, metadata=read_core_metadata(installation, resources, run))


@step(policies=[BUSY_DISK])
def licence_from_text(known: Described, *, resources: Disk, run: StepRun) -> Licensed:
    files = read_licence_files(known.installation, resources, run)
    return Licensed(**dict(known), licence=licence_from_texts(files))


@step(fallback=licence_from_text)
def classify_licence(known: Described) -> Licensed:
    return Licensed(**dict(known), licence=licence_from_metadata(known.metadata))


@step(policies=[BUSY_DISK])
def verify_files(known: Licensed, *, context: AuditContext, resources: Disk, run: StepRun) -> Verified:
    request = context.request
    integrity, size = compare_files(
        known.installation, sample=request.sample, seed=str(request.today), disk=resources, run=run
    )
    context.files_verified += integrity.verified
    context.bytes_verified += size
    return Verified(**dict(known), integrity=integrity)


@step
def check_ties(known: Verified, *, context: AuditContext) -> Wired:
    where = search_path(context.request.paths)
    wiring = check_wiring(known.installation, known.metadata, installed=context.installed, search_path=where)
    return Wired(**dict(known), wiring=wiring)


@step
def judge_maturity(known: Wired, *, context: AuditContext) -> Judged:
    return Judged(**dict(known), maturity=judge(known.metadata, context.request.today))


@validator
def complete(assessment: Assessment) -> tuple[bool, str]:
    missing = [name for name, value in assessment if value is None and name != "waiver"]
    return not missing, f"not found out: {', '.join(missing)}"


@step(validators=[complete])
def decide_risk(known: Judged, *, context: AuditContext) -> Assessment:
    return assess(known, context.policy)


audit_one = read_metadata >> classify_licence >> verify_files >> check_ties >> judge_maturity >> decide_risk

# -- the environment: find, audit each, report, judge ------------------------------------------------------------------


@step
def prepare(request: AuditRequest, *, context: AuditContext) -> AuditRequest:
    context.request = request
    context.policy = load_policy(request.policy)
    return request


@step(policies=[BUSY_DISK])
def survey(request: AuditRequest, *, context: AuditContext, resources: Disk, run: StepRun) -> Survey:
    found = find_installations(request.paths, resources.within(request.budget), run)
    context.installed = {installation.name: installation.version for installation in found.installations}
    return chosen(found, request.only)


@step
async def audit_each(found: Survey, *, context: AuditContext, resources: Disk, run: StepRun) -> Findings:
    request = context.request
    disk = resources.within(request.budget, spent=found.reads)

    async def tell(event: Event) -> None:
        if event.kind is EventKind.RUN_FINISHED and isinstance(event.result, RunResult):
            await run.emit(progress_of(event.result))

    flow = Flow(audit_one, context_model=AuditContext, resources=disk, hooks=[tell])
    results = await flow.run_many(
        takewhile(lambda _: not disk.exhausted, found.installations),
        concurrency=request.concurrency,
        initial_context={"request": request, "policy": context.policy, "installed": context.installed},
    )
    run.usage.add(requests=sum(result.usage.requests for result in results))
    ...
