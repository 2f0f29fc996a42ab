"""``flow lens``: the commands, as typer knows them. What they do is imported when one of them is typed."""

from __future__ import annotations

import typer

from flow_lens._acting import export, prune, replay
from flow_lens._looking import diff, list_runs, show, stats, trace

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Look into stored runs: list them, show one, draw its time, compare two, play one again, measure many.\n\n"
        "The store is that of --state, of FLOW_STATE or of the settings file. A run is named by its id or by the "
        "beginning of it. Inputs, outputs and contexts appear only when they are asked for, and secrets never. In a "
        "pipe there are no colours, ids are whole, times are in ISO 8601, and nothing is cut or folded.\n\n"
        """\b
flow lens list --status failed --since 2d
flow lens show 0193a7b2 --follow
flow lens trace 0193a7b2
flow lens diff 0193a7b2 0193a7c4
flow lens replay 0193a7b2 --from 2:refine/i3/0:generate"""
    ),
)

for _function, _name in (
    (list_runs, "list"),
    (show, "show"),
    (trace, "trace"),
    (diff, "diff"),
    (replay, "replay"),
    (stats, "stats"),
    (export, "export"),
    (prune, "prune"),
):
    app.command(_name)(_function)
