"""The report: as JSON for programs and as Markdown for people, written so that a reader never sees half of one."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from audit.models import (
    Assessment,
    AuditContext,
    Family,
    Findings,
    Outcome,
    Partial,
    Report,
    Risk,
    Stage,
    Totals,
    Verdict,
)
from audit.risk import violations
from flow import Event, RunResult, RunStatus


def save(findings: Findings, context: AuditContext, reads: int) -> Outcome:
    """Write report.json and report.md into the folder that the request names."""
    report, folder = make_report(findings, context, reads), context.request.output
    _write_atomically(folder / "report.json", report.model_dump_json(indent=2) + "\n")
    _write_atomically(folder / "report.md", as_markdown(report))
    context.request.partial.unlink(missing_ok=True)
    return Outcome(violations=report.violations, totals=report.totals, report=folder / "report.md")


def keep_what_was_found(event: Event) -> None:
    """When the budget ends a run, write what it had found into partial.json. The last complete report stays."""
    if isinstance(event.result, RunResult) and event.result.status is RunStatus.LIMIT_EXCEEDED:
        _save_partial(event.result)


def _save_partial(result: RunResult[Outcome]) -> None:
    context: AuditContext = result.final_pipeline_context
    found = {step.output.name: step.output for step in result.walk() if step.name == "respond" and step.success}
    names = [installation.name for installation in context.chosen]
    partial = Partial(
        generated_at=_now(),
        unaudited=tuple(name for name in names if name not in found),
        distributions=tuple(found[name] for name in names if name in found),
    )
    _write_atomically(context.request.partial, partial.model_dump_json(indent=2) + "\n")


def make_report(findings: Findings, context: AuditContext, reads: int) -> Report:
    """Put the findings and the counters of the run together."""
    request = context.request
    risks = Counter(assessment.risk for assessment in findings.assessments)
    return Report(
        generated_at=_now(),
        python=platform.python_version(),
        environment=", ".join(map(str, request.paths)) or sys.prefix,
        fail_on=request.fail_on,
        policy=str(request.policy) if request.policy else "built in",
        totals=Totals(
            distributions=len(findings.assessments),
            high=risks[Risk.HIGH],
            medium=risks[Risk.MEDIUM],
            low=risks[Risk.LOW],
            waived=sum(assessment.waiver is not None for assessment in findings.assessments),
            files_read=reads,
            files_verified=context.files_verified,
            bytes_verified=context.bytes_verified,
            retries=context.retries,
            fallbacks=context.fallbacks,
        ),
        violations=tuple(a.name for a in violations(findings, request.fail_on)),
        accepted=findings.accepted,
        distributions=findings.assessments,
    )


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _write_atomically(path: Path, text: str) -> None:
    """Write a file so that readers see the old content or the new one, also when this process dies meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp lets only the owner read
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# -- Markdown ----------------------------------------------------------------------------------------------------------


def as_markdown(report: Report) -> str:
    """Return the report as people read it: what needs attention first, then everything."""
    sections = (_head, _attention, _licences, _maturity, _everything, _method)
    return "\n".join(line for section in sections for line in (*section(report), "")).rstrip() + "\n"


def _head(report: Report) -> Iterator[str]:
    totals = report.totals
    yield "# Dependency audit"
    yield ""
    risks = f"{totals.high} high, {totals.medium} medium, {totals.low} low risk"
    yield f"**{totals.distributions} distributions: {risks}.**"
    yield ""
    yield _verdict(report)
    yield ""
    yield f"Python {report.python} in `{report.environment}`, {report.generated_at:%Y-%m-%d %H:%M} UTC."
    yield f"Policy: {report.policy}; fails on: {report.fail_on}."


def _verdict(report: Report) -> str:
    if report.violations:
        return f"**Violations:** {', '.join(report.violations)}."
    return "No violations."


def _attention(report: Report) -> Iterator[str]:
    yield "## Needs attention"
    yield ""
    rows = [
        (f"**{a.risk}**", f"{a.name} {a.version}", a.verdict.explanation, _action(a, a.verdict))
        for a in sorted(report.distributions, key=lambda a: (-a.risk.rank, a.name))
        if a.verdict is not None
    ]
    yield from _table(("Risk", "Distribution", "Why", "What to do"), rows) if rows else ("Nothing.",)


def _action(assessment: Assessment, verdict: Verdict) -> str:
    return f"Nothing, waived: {assessment.waiver}" if assessment.waiver else verdict.action


def _licences(report: Report) -> Iterator[str]:
    names: dict[Family, list[str]] = defaultdict(list)
    expressions: dict[Family, Counter[str]] = defaultdict(Counter)
    for assessment in report.distributions:
        if assessment.licence is not None:
            names[assessment.licence.family].append(assessment.name)
            expressions[assessment.licence.family][assessment.licence.expression or "not stated"] += 1
    yield "## Licences"
    yield ""
    rows = [
        (family, str(len(names[family])), ", ".join(f"{n} × {e}" for e, n in expressions[family].most_common()))
        for family in Family
        if family in names
    ]
    yield from _table(("Family", "Distributions", "Licences"), rows)
    if report.accepted:
        yield ""
        yield f"Unknown, and accepted by a person for this audit: {', '.join(report.accepted)}."


def _maturity(report: Report) -> Iterator[str]:
    judged = [(a.maturity, f"{a.name} {a.version}") for a in report.distributions if a.maturity is not None]
    counted = Counter(maturity.stage for maturity, _ in judged)
    yield "## Maturity"
    yield ""
    yield f"{', '.join(f'{counted[stage]} {stage}' for stage in Stage if counted[stage]) or 'Unknown'}."
    rows = [
        (stage, name, "; ".join(maturity.evidence))
        for stage in (Stage.ABANDONED, Stage.DATED, Stage.EARLY)
        for maturity, name in judged
        if maturity.stage is stage
    ]
    if rows:
        yield ""
        yield from _table(("Stage", "Distribution", "Evidence"), rows)


def _everything(report: Report) -> Iterator[str]:
    yield "## All distributions"
    yield ""
    yield from _table(
        ("Distribution", "Risk", "Licence", "Known from", "Maturity", "Files", "Entry points"),
        [_row(assessment) for assessment in report.distributions],
    )


def _row(a: Assessment) -> Sequence[str]:
    if a.licence is None or a.integrity is None or a.wiring is None or a.maturity is None:
        return (f"{a.name} {a.version}", a.risk, "", "", "", "", "")
    files = f"{a.integrity.verified} of {a.integrity.recorded} hashed" if a.integrity.recorded else "no record"
    licence = a.licence.expression or "not stated"
    points = str(a.wiring.entry_points or "")
    return (f"{a.name} {a.version}", a.risk, licence, a.licence.source, a.maturity.stage, files, points)


def _method(report: Report) -> Iterator[str]:
    totals = report.totals
    yield "## How this was found"
    yield ""
    yield (
        f"{totals.files_read:,} files read; {totals.files_verified:,} of them ({totals.bytes_verified / 1e6:,.1f} MB) "
        f"compared with the hash recorded at installation, all others by presence and size. "
        f"{totals.fallbacks} licences were known only from their text; {totals.retries} attempts had to be repeated."
    )
    yield ""
    yield (
        "When something was released is not written down in an installed distribution. Maturity is judged by declared "
        "status, version, supported Pythons and the age of the metadata format; the evidence is in report.json."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
