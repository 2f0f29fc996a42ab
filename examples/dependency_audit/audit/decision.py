"""Licences that nobody knows: the question to a person, and what follows from the answer."""

from __future__ import annotations

from collections.abc import Iterable

from flow_branch import branch_on
from flow_hitl import approval

from audit.models import Assessment, AuditContext, Family, Findings, Reason, Risk
from audit.risk import with_reasons
from flow import step


def undecided(findings: Findings) -> list[Assessment]:
    """Return the assessments whose licence is unknown, and about which nothing was agreed on before."""
    return [
        assessment
        for assessment in findings.assessments
        if assessment.licence is not None and assessment.licence.family is Family.UNKNOWN and assessment.waiver is None
    ]


def question(findings: Findings) -> str:
    """Return what a person is asked. One question for all: whoever wants to part them waives some in the policy."""
    unknown = [f"{a.name} {a.version} ({_stated(a)}), in {a.location}" for a in undecided(findings)]
    return "\n- ".join(["Nobody knows the licence of what follows. Accept it, in this audit?", *unknown])


def who_decides(findings: Findings, context: AuditContext) -> str:
    """Return ``person`` when there is something to ask and the request wants it asked, or else ``policy``."""
    return "person" if context.request.unknown_licences == "ask" and undecided(findings) else "policy"


@step
def follow_policy(findings: Findings) -> Findings:
    """Leave the risk as the policy has it."""
    return findings


@step
def refuse(findings: Findings) -> Findings:
    """Make the unknown licences a high risk that fails the run, whatever else is allowed to pass."""
    found = undecided(findings)
    decided = _decided(found, Risk.HIGH, "refused by a person")
    return _replaced(findings, decided).model_copy(update={"refused": tuple(a.name for a in found)})


@step
def accept(findings: Findings) -> Findings:
    """Make the unknown licences a low risk, unless they were refused."""
    found = [assessment for assessment in undecided(findings) if assessment.name not in findings.refused]
    decided = _decided(found, Risk.LOW, "accepted by a person")
    return _replaced(findings, decided).model_copy(update={"accepted": tuple(a.name for a in found)})


approve = approval("approve", lambda findings, _: question(findings), on_reject=refuse)
settle_unknown = branch_on("settle_unknown", who_decides, {"policy": follow_policy, "person": approve >> accept})


def _stated(assessment: Assessment) -> str:
    assert assessment.licence is not None
    return assessment.licence.expression or "not stated"


def _decided(assessments: Iterable[Assessment], risk: Risk, how: str) -> dict[str, Assessment]:
    return {
        assessment.name: with_reasons(
            assessment,
            [reason for reason in assessment.reasons if reason.about != "licence"]
            + [Reason(risk=risk, about="licence", text=f"{_stated(assessment)}: {how}")],
        )
        for assessment in assessments
    }


def _replaced(findings: Findings, decided: dict[str, Assessment]) -> Findings:
    assessments = tuple(decided.get(assessment.name, assessment) for assessment in findings.assessments)
    return findings.model_copy(update={"assessments": assessments})
