"""Audit the distributions installed in an environment: licence, integrity, ties to others, maturity, risk.

    flow run examples/dependency_audit/app.py
    flow run examples/dependency_audit/app.py --input '{"policy": "policy.toml", "fail_on": "medium"}'
    flow run examples/dependency_audit/app.py --state sqlite:///audits.db --input '{"unknown_licences": "ask"}'

Writes report.md and report.json, and fails when a distribution violates the policy. With a state store an audit that
was interrupted, even with kill -9, goes on where it stopped, and one that asks a person waits for the answer.
"""

from __future__ import annotations

from typing import Any

from flow_branch import branch_on
from flow_loop import refine_until
from flow_parallel import map_over

from audit.decision import settle_unknown
from audit.disk import BUSY_DISK, READING, Disk
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
    Risk,
    Verified,
    Wired,
)
from audit.policy import load_policy
from audit.report import keep_what_was_found, save
from audit.risk import assess, gathered
from audit.verdict import draft, review
from audit.wording import some
from flow import Flow, Pipeline, StepResult, StepRun, step, validator

# -- one distribution: each step adds what it found out, and the types say what that is --------------------------------


@step(policies=READING, validators=[validator(is_consistent)])
def read_metadata(found: Installation, *, context: AuditContext, resources: Disk, run: StepRun) -> Described:
    context.retries += run.attempt - 1
    return Described(installation=found, metadata=read_core_metadata(found, resources.within(context.request, run)))


@step(policies=READING)
def licence_from_text(known: Described, *, context: AuditContext, resources: Disk, run: StepRun) -> Licensed:
    context.fallbacks += 1
    context.retries += run.attempt - 1
    files = read_licence_files(known.installation, resources.within(context.request, run))
    return Licensed(**dict(known), licence=licence_from_texts(files))


@step(fallback=licence_from_text)
def classify_licence(known: Described) -> Licensed:
    return Licensed(**dict(known), licence=licence_from_metadata(known.metadata))


@step(policies=READING)
def verify_files(known: Licensed, *, context: AuditContext, resources: Disk, run: StepRun) -> Verified:
    integrity, size = compare_files(known.installation, resources.within(context.request, run))
    context.files_verified += integrity.verified
    context.bytes_verified += size
    context.retries += run.attempt - 1
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
    missing = [name for name, value in assessment if value is None and name not in ("waiver", "verdict")]
    return not missing, f"not found out: {', '.join(missing)}"


@step(validators=[complete])
async def decide_risk(known: Judged, *, context: AuditContext, run: StepRun) -> Assessment:
    assessment = assess(known, context.policy)
    await run.emit(f"{assessment.name} {assessment.version}: {assessment.risk}\n")
    return assessment


# -- a verdict in words for what is not of low risk: drafted, criticised, drafted again --------------------------------


@step
def accept(assessment: Assessment) -> Assessment:
    return assessment


# At the bound the last draft is taken as it is: a verdict that leaves something out is still a finding.
explain = refine_until("explain", draft, review, max_refinements=3)
respond = branch_on(
    "respond", lambda assessment, _: assessment.risk, {Risk.LOW: accept, Risk.MEDIUM: explain, Risk.HIGH: explain}
)

audit_one = read_metadata >> classify_licence >> verify_files >> check_ties >> judge_maturity >> decide_risk >> respond

# -- the environment: find, audit each, report, judge ------------------------------------------------------------------


@step
def prepare(request: AuditRequest | None, *, context: AuditContext) -> AuditRequest:
    context.request = request or AuditRequest()
    context.policy = load_policy(context.request.policy)
    return context.request


@step(policies=[BUSY_DISK])
def survey(request: AuditRequest, *, context: AuditContext, resources: Disk, run: StepRun) -> tuple[Installation, ...]:
    found = find_installations(request.paths, resources.within(request, run))
    context.installed = {installation.name: installation.version for installation in found}
    context.chosen = chosen(found, request.only)
    context.retries += run.attempt - 1
    return context.chosen


audit_each = map_over("audit_each", audit_one, max_concurrency=8, on_failure="collect")


@step
def gather(outcomes: list[Assessment | StepResult], *, context: AuditContext) -> Findings:
    """A distribution that could not be audited is a finding, too."""
    return Findings(assessments=gathered(outcomes, context.chosen, context.policy))


@step(policies=[BUSY_DISK])
def write_report(findings: Findings, *, context: AuditContext, resources: Disk, run: StepRun) -> Outcome:
    return save(findings, context, resources.reads(run))


@validator(name="policy")
def no_violations(outcome: Outcome) -> tuple[bool, str]:
    found, audited = outcome.violations, outcome.totals.distributions
    return not found, f"{len(found)} of {audited} distributions ({some(found)}), see {outcome.report}"


@step(validators=[no_violations])
def enforce_policy(outcome: Outcome) -> Outcome:
    return outcome


audit_all = prepare >> survey >> audit_each >> gather >> settle_unknown >> write_report >> enforce_policy


def make_flow(disk: Disk, pipeline: Pipeline[AuditRequest | None, Outcome] = audit_all) -> Flow[Any, Outcome]:
    """Return what runs the audit with a disk, which is handed to the steps and told of the runs."""
    return Flow(
        pipeline.evolve(name="dependency-audit"),
        context_model=AuditContext,
        resources=disk,
        policies=[disk],
        hooks=[keep_what_was_found],
    )


flow = make_flow(Disk())
