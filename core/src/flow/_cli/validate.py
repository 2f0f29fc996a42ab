"""``flow validate``: says what is wrong with the pipeline of a file without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._graph import Finding, ValidationReport

app = typer.Typer()

_HELP = (
    "Look for mistakes in a pipeline without running it: steps without an agent, types that do not fit, unknown kinds."
    "\n\n"
    """\b
flow validate app.py
flow validate app.py:triage --strict
flow validate shop.orders --json | jq '.findings[].rule_id'\n\n"""
    "Exit codes: 0 nothing wrong, 1 errors were found (with --strict, warnings too), 2 the file cannot be read."
)


@app.command(help=_HELP)
def validate(
    target: Annotated[str, typer.Argument(metavar="APP[:NAME]", help="A Python file or module, and what to check.")],
    strict: Annotated[bool, typer.Option("--strict", help="Fail for warnings too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON object.")] = False,
) -> None:
    """Check a pipeline and print the findings."""
    from .._graph import validate_graph
    from .session import Session
    from .target import load_flow

    with Session(as_json=as_json).own_stdout():
        flow = load_flow(target)
        report = validate_graph(flow.pipeline, kernel=flow.kernel)
    failing = not report.is_valid or (strict and bool(report.warnings))
    if as_json:
        _print_json(report, target, failing)
    else:
        _print_text(report, target)
    if failing:
        raise typer.Exit(1)


def _print_json(report: ValidationReport, target: str, failing: bool) -> None:
    import attrs

    from .report import as_json

    findings = [attrs.asdict(finding) for finding in report.findings]
    typer.echo(as_json({"target": target, "is_valid": report.is_valid, "passed": not failing, "findings": findings}))


def _print_text(report: ValidationReport, target: str) -> None:
    by_severity: dict[str, list[Finding]] = {"error": [], "warning": [], "info": []}
    for finding in report.findings:
        by_severity[finding.severity].append(finding)
    for findings in by_severity.values():
        for finding in findings:
            place = f" at {finding.path}" if finding.path else ""
            typer.echo(f"{finding.severity} {finding.rule_id}{place}")
            typer.echo(f"  {finding.message}")
            if finding.suggestion:
                typer.echo(f"  {finding.suggestion}")
    counts = [_count(severity, findings) for severity, findings in by_severity.items() if findings]
    typer.echo(f"{target}: {', '.join(counts) or 'nothing wrong'}")


def _count(severity: str, findings: Sequence[Any]) -> str:
    plural = "" if len(findings) == 1 or severity == "info" else "s"
    return f"{len(findings)} {severity}{plural}"
