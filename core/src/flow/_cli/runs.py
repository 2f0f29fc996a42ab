"""``flow runs``: lists the runs in a store, or shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._protocols import RunRecord
    from .run_filters import Filters
    from .store import Store

app = typer.Typer()

_HELP = (
    "List stored runs, the newest first, or show one run with what it asks and how to continue it.\n\n"
    "The store is that of --state, or that of FLOW_STATE or the settings file. A run is named by its id or by the "
    "beginning of it. Inputs, outputs and contexts are never shown. On a terminal ids are cut and each error or "
    "question stands below its run; elsewhere a run is one line. --since takes a time back from now, such as 90s, "
    "30m, 2h, 3d or 1w, or a date or time in ISO 8601.\n\n"
    """\b
flow runs --state sqlite:///runs.db
flow runs --status failed --status paused --since 2d
flow runs --pipeline triage --limit 100 --json | jq '.[].run_id'
flow runs 0193a7b2\n\n"""
    "A run is running, completed, failed, paused, cancelled, limit_exceeded, deadline_exceeded, interrupted (its "
    "process was asked to stop) or dead (its process died too often).\n\n"
    "Exit codes: 0 it was listed, 2 wrong use, no such run or no such file, 4 the store cannot be read."
)
_RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run to show; all are listed when left out.")]
_State = Annotated[str | None, typer.Option(metavar="URL", help="The store.")]
_Status = Annotated[
    list[str] | None, typer.Option("--status", metavar="STATUS", help="Only runs with this status; repeatable.")
]
_Pipeline = Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of the pipeline with this name.")]
_Since = Annotated[str | None, typer.Option(metavar="TIME", help="Only runs that began since then: 2h, 2025-12-31.")]


@app.command(help=_HELP)
def runs(
    run_id: _RunId = "",
    state: _State = None,
    status: _Status = None,
    pipeline: _Pipeline = None,
    since: _Since = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many to list.")] = 20,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="How many of the newest to leave out.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="List all of them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects, or one for one run.")] = False,
) -> None:
    """List the runs in a store, or show one."""
    from .._blocking import run_sync
    from .run_filters import Filters, checked_statuses, moment_of
    from .store import store_of

    filters = Filters(
        statuses=checked_statuses(status or []),
        pipeline=pipeline,
        since=None if since is None else moment_of(since),
        offset=offset,
        limit=None if everything else limit,
    )
    store = store_of(state)
    if run_id:
        _print_one(run_sync(_find(store, run_id), "run", "run_async"), store, as_json=as_json)
        return
    found, more = run_sync(_list(store, filters), "run", "run_async")
    _print_many(found, as_json=as_json)
    if not found:
        kind = "such " if filters.narrow else ""
        typer.echo(f"no {kind}runs are stored in {store.name}", err=True)
    elif more:
        typer.echo(f"there are more: --offset {offset + len(found)}, or --all", err=True)


async def _find(store: Store, run_id: str) -> RunRecord:
    from .store import find_run

    async with store.opened() as backend:
        return await find_run(backend, run_id, store.name)


async def _list(store: Store, filters: Filters) -> tuple[Sequence[RunRecord], bool]:
    async with store.opened() as backend:
        return await filters.apply(backend)


def _print_one(run: RunRecord, store: Store, *, as_json: bool) -> None:
    from . import report, run_views

    if as_json:
        report.print_json(run_views.as_dict(run))
    else:
        typer.echo("\n".join(run_views.details(run, store)))


def _print_many(found: Sequence[RunRecord], *, as_json: bool) -> None:
    import sys

    from . import report, run_views
    from .table import terminal_width

    if as_json:
        report.print_json([run_views.as_dict(run) for run in found])
    elif found and sys.stdout.isatty():
        typer.echo("\n".join(run_views.screen_table(found, terminal_width())))
    elif found:
        typer.echo("\n".join(run_views.plain_table(found)))
