"""Risk: the rules that turn what is known about a distribution into reasons, and reasons into a verdict."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from audit.licences import permitted
from audit.models import Assessment, Family, Findings, Installation, Judged, Policy, Reason, Risk, Stage
from audit.verdict import with_verdict
from audit.wording import some
from flow import StepResult


def assess(known: Judged, policy: Policy) -> Assessment:
    """Return the assessment: the risk is that of the worst reason, and low without any."""
    reasons = _sorted(reason for rule in _RULES for reason in rule(known, policy))
    return Assessment(
        name=known.installation.name,
        version=known.metadata.version,
        summary=known.metadata.summary,
        location=str(known.installation.folder.parent),
        risk=_worst(reasons),
        reasons=reasons,
        waiver=policy.waivers.get(known.installation.name),
        licence=known.licence,
        integrity=known.integrity,
        wiring=known.wiring,
        maturity=known.maturity,
    )


def with_reasons(assessment: Assessment, reasons: Iterable[Reason]) -> Assessment:
    """Return an assessment with other reasons, and with the risk and the verdict that follow from them."""
    told = _sorted(reasons)
    changed = assessment.model_copy(update={"reasons": told, "risk": _worst(told), "verdict": None})
    return changed if changed.risk is Risk.LOW else with_verdict(changed, ", ".join(reason.about for reason in told))


def unreadable(installation: Installation, why: str, policy: Policy) -> Assessment:
    """Return the assessment of one that could not be audited: nothing is known, so nothing can be trusted."""
    known = Assessment(
        name=installation.name,
        version=installation.version,
        location=str(installation.folder.parent),
        risk=Risk.HIGH,
        reasons=(Reason(risk=Risk.HIGH, about="metadata", text=f"could not be audited: {why}"),),
        waiver=policy.waivers.get(installation.name),
    )
    return with_verdict(known)


def gathered(
    outcomes: Iterable[Assessment | StepResult], installations: Sequence[Installation], policy: Policy
) -> tuple[Assessment, ...]:
    """Return an assessment for each of `installations`: what its audit returned, or a verdict on why it failed."""
    return tuple(
        unreadable(installation, str(outcome.feedback), policy) if isinstance(outcome, StepResult) else outcome
        for installation, outcome in zip(installations, outcomes, strict=True)
    )


def violations(findings: Findings, fail_on: str) -> list[Assessment]:
    """Return what reaches the risk that fails the run and is not waived, and what a person has refused."""
    least = None if fail_on == "never" else Risk(fail_on).rank
    return [
        assessment
        for assessment in findings.assessments
        if assessment.name in findings.refused
        or (least is not None and assessment.risk.rank >= least and assessment.waiver is None)
    ]


def _sorted(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    return tuple(sorted(reasons, key=lambda reason: -reason.risk.rank))


def _worst(reasons: Sequence[Reason]) -> Risk:
    return reasons[0].risk if reasons else Risk.LOW


# -- rules -------------------------------------------------------------------------------------------------------------


def _licence(known: Judged, policy: Policy) -> Iterator[Reason]:
    licence = known.licence
    name = f"{licence.expression} ({licence.family})" if licence.expression else "licence not stated"
    if not permitted(policy.licences, licence):
        yield Reason(risk=Risk.HIGH, about="licence", text=f"{name}: the policy does not permit it")
    elif licence.family is Family.UNKNOWN:
        yield Reason(risk=Risk.MEDIUM, about="licence", text=f"{name}: somebody has to read the terms")
    elif licence.family.rank >= Family.STRONG_COPYLEFT.rank and not policy.licences.allow:
        yield Reason(risk=Risk.MEDIUM, about="licence", text=f"{name}: obliges whoever passes it on")


def _files(known: Judged, policy: Policy) -> Iterator[Reason]:
    integrity = known.integrity
    if integrity.altered:
        text = f"changed since installation: {some(integrity.altered)}"
        yield Reason(risk=Risk.HIGH, about="integrity", text=text)
    if integrity.missing:
        yield Reason(risk=Risk.MEDIUM, about="integrity", text=f"missing: {some(integrity.missing)}")
    if integrity.note:
        yield Reason(risk=Risk.MEDIUM, about="integrity", text=integrity.note)
    if known.installation.twins:
        text = f"installed more than once: also {some(known.installation.twins)}"
        yield Reason(risk=Risk.MEDIUM, about="integrity", text=text)


def _entry_points(known: Judged, policy: Policy) -> Iterator[Reason]:
    wiring, error = known.wiring, known.installation.entry_points_error
    if error:
        yield Reason(risk=Risk.MEDIUM, about="entry points", text=f"entry_points.txt cannot be read: {error}")
    if wiring.broken:
        yield Reason(risk=Risk.MEDIUM, about="entry points", text=f"lead nowhere: {some(wiring.broken)}")
    if wiring.contested:
        yield Reason(risk=Risk.MEDIUM, about="entry points", text=f"one overwrites the other: {some(wiring.contested)}")
    if wiring.shared:
        yield Reason(risk=Risk.LOW, about="entry points", text=f"same name: {some(wiring.shared)}")


def _requirements(known: Judged, policy: Policy) -> Iterator[Reason]:
    if known.wiring.absent:
        text = f"not installed: {some(known.wiring.absent)}"
        yield Reason(risk=Risk.HIGH, about="dependencies", text=text)
    if known.wiring.conflicting:
        yield Reason(risk=Risk.MEDIUM, about="dependencies", text=f"do not fit: {some(known.wiring.conflicting)}")
    if _excludes_this_python(known.metadata.requires_python):
        text = f"not made for Python {platform.python_version()}: requires {known.metadata.requires_python}"
        yield Reason(risk=Risk.MEDIUM, about="dependencies", text=text)


def _maturity(known: Judged, policy: Policy) -> Iterator[Reason]:
    if known.maturity.stage in (Stage.DATED, Stage.ABANDONED):
        text = f"looks {known.maturity.stage}: {'; '.join(known.maturity.evidence)}"
        yield Reason(risk=Risk.MEDIUM, about="maturity", text=text)


_RULES: tuple[Callable[[Judged, Policy], Iterator[Reason]], ...] = (
    _licence,
    _files,
    _entry_points,
    _requirements,
    _maturity,
)


def _excludes_this_python(requires_python: str) -> bool:
    try:
        return not SpecifierSet(requires_python).contains(platform.python_version(), prereleases=True)
    except InvalidSpecifier:
        return False  # counts as a sign of age
