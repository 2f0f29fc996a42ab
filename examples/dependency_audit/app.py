"""Audit the distributions installed in an environment: licence, integrity, ties to others, maturity, risk.

    flow run examples/dependency_audit/app.py
    flow run examples/dependency_audit/app.py --input '{"policy": "policy.toml", "fail_on": "medium"}'

Writes report.md and report.json, and fails when a distribution violates the policy.
"""

from __future__ import annotations

from audit.disk import Disk
from audit.each import run_each
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
from audit.report import save, save_partial
from audit.risk import assess
from audit.wording import some

from flow import Flow, RecoveryAction, RecoveryStrategy, StepRun, UsageLimitExceeded, step, validator

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
    integrity, size = compare_files(known.installation, context.request, resources, run)
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
def prepare(request: AuditRequest | None, *, context: AuditContext) -> AuditRequest:
    context.request = request or AuditRequest()
    context.policy = load_policy(context.request.policy)
    return context.request


@step(policies=[BUSY_DISK])
def survey(request: AuditRequest, *, context: AuditContext, resources: Disk, run: StepRun) -> Survey:
    found = find_installations(request.paths, resources.within(request.budget), run)
    context.installed = {installation.name: installation.version for installation in found.installations}
    return chosen(found, request.only)


@step
async def audit_each(found: Survey, *, context: AuditContext, resources: Disk, run: StepRun) -> Findings:
    return await run_each(audit_one.evolve(name="distribution"), found, context, resources, run)


@step
def keep_to_budget(findings: Findings, *, context: AuditContext) -> Findings:
    """A spent budget ends the run. What was found stands beside the last complete report, which stays as it is."""
    if findings.unaudited:
        raise UsageLimitExceeded(save_partial(findings, context))
    return findings


@step(policies=[BUSY_DISK])
def write_report(findings: Findings, *, context: AuditContext) -> Outcome:
    return save(findings, context)


@validator(name="policy")
def no_violations(outcome: Outcome) -> tuple[bool, str]:
    found, audited = outcome.violations, outcome.totals.distributions
    return not found, f"{len(found)} of {audited} distributions ({some(found)}), see {outcome.report}"


@step(validators=[no_violations])
def enforce_policy(outcome: Outcome) -> Outcome:
    return outcome


audit_all = prepare >> survey >> audit_each >> keep_to_budget >> write_report >> enforce_policy

flow = Flow(audit_all.evolve(name="dependency-audit"), context_model=AuditContext, resources=Disk())
