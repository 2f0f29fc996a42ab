"""``flow recover``: continues every stored run whose process died or was stopped."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

app = typer.Typer()

_HELP = (
    "Continue every stored run that nobody executes any more: its process died or was interrupted, or the time to "
    "answer its question is over. Runs of living processes are left alone, so this may be started at any time, by "
    "several at once, after a restart or from a timer.\n\n"
    "Without --app each run goes on with the app it began with, if its file lies in the working directory; runs of "
    "other apps are named with what to type. A run whose process has died again and again is parked as dead; flow "
    "resume continues it all the same.\n\n"
    """\b
flow recover --state sqlite:///runs.db
flow recover --app app.py --app billing.py:invoices
flow recover --json | jq '.results[].status'\n\n"""
    "Exit codes: 0 all were recovered, or there was nothing to do, 1 some failed, were parked or could not be "
    "continued, 2 wrong use, 4 the store cannot be used, 130 or 143 interrupted (they can be recovered again)."
)
_Apps = Annotated[
    list[str] | None,
    typer.Option("--app", metavar="APP[:NAME]", help="Recover the runs of this app only; repeatable."),
]


@app.command(help=_HELP)
def recover(
    targets: _Apps = None,
    state: Annotated[str | None, typer.Option(metavar="URL", help="The store of the runs.")] = None,
    on_change: Annotated[
        Literal["refuse", "continue"],
        typer.Option(metavar="refuse|continue", help="What to do with runs of a pipeline that has changed."),
    ] = "refuse",
    max_recoveries: Annotated[
        int, typer.Option(min=1, metavar="N", help="Park a run that was recovered this often.")
    ] = 5,
    concurrency: Annotated[int, typer.Option(min=1, metavar="N", help="How many run at the same time.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Continue every stored run that nobody executes; the texts for the user stand beside the options."""
    from .recovery import Recovery

    recovery = Recovery(on_change=on_change, max_recoveries=max_recoveries, concurrency=concurrency, as_json=as_json)
    recovery.run(targets or [], state)
    recovery.finish()
