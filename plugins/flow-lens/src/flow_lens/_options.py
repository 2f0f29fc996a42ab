"""Options that several commands of ``flow lens`` share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run, or the beginning of its id.")]
State = Annotated[str | None, typer.Option("--state", metavar="URL", help="The store.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Pipeline = Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of the pipeline with this name.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only runs that began since then: 90s, 30m, 2h, 3d, 2025-12-31.")
]
Status = Annotated[
    list[str] | None, typer.Option("--status", metavar="STATUS", help="Only runs with this status; repeatable.")
]
Text = Annotated[
    str | None,
    typer.Option("--text", metavar="TEXT", help="Only runs with this in id, pipeline, error, metadata or input."),
]
MinCost = Annotated[float | None, typer.Option("--min-cost", min=0, metavar="USD", help="Only runs that cost so much.")]
Content = Annotated[bool, typer.Option("--content", help="Show inputs and outputs, too; secrets stay masked.")]
Depth = Annotated[int | None, typer.Option(min=1, metavar="N", help="How many levels to show.")]
Width = Annotated[int | None, typer.Option(min=40, metavar="N", help="How many columns to use; draws in a pipe, too.")]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters only.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show what happens until the run ends.")]
Interval = Annotated[float, typer.Option(min=0.05, metavar="SECONDS", help="How often to look, with --follow.")]
All = Annotated[bool, typer.Option("--all", help="Fold nothing.")]


def filters(
    status: list[str] | None,
    pipeline: str | None,
    since: str | None,
    text: str | None = None,
    min_cost: float | None = None,
    **page: Any,
) -> Any:
    """Return the `Filters` that options mean; raises `ConfigurationError` for what cannot be meant."""
    from flow.cli import Filters, checked_statuses, moment_of

    return Filters(
        statuses=checked_statuses(status or []),
        pipeline=pipeline,
        since=None if since is None else moment_of(since),
        text=text or None,
        min_cost_usd=min_cost,
        **page,
    )
