"""``flow viz``: draw a pipeline, or how a stored run went."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

_HELP = (
    "Draw a pipeline, or how a stored run of it went.\n\n"
    "APP is app.py:name or package.module:name; without a name the flow or pipeline in it is drawn. With --run the "
    "pipeline of that run is drawn as it was stored with it, so that no APP is needed: states, times, attempts and "
    "costs stand at each step. A run is named by its id or the beginning of it; the store is that of --state, of the "
    "app, of FLOW_STATE or of the settings file.\n\n"
    """\b
flow viz app.py
flow viz app.py:pipeline --format mermaid >> README.md
flow viz app.py --output pipeline.svg --direction LR
flow viz --run 0193a7b2 --state sqlite:///runs.db
flow viz --run 0193a7b2 --state sqlite:///runs.db -o run.svg\n\n"""
    "Without --format the end of the name of --output tells it: .mmd, .dot, .svg or .txt; otherwise it is text. "
    "Large pipelines are folded: --max-nodes says how many steps may be drawn.\n\n"
    "Exit codes: 0 it was drawn, 2 wrong use, no such app or run, 4 the store cannot be read."
)


@app.command(help=_HELP)
def viz(
    target: Annotated[str, typer.Argument(metavar="APP[:NAME]", help="What is drawn; not needed with --run.")] = "",
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="FORMAT", help="mermaid, dot, svg, text, or that of another renderer."),
    ] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Draw how this stored run went.")] = None,
    state: Annotated[str | None, typer.Option(metavar="URL", help="The store of the run.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the drawing to this file.")
    ] = None,
    direction: Annotated[
        str | None, typer.Option(metavar="TB|LR", help="From top to bottom, or from left to right.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many levels of steps in steps to open.")
    ] = None,
    max_nodes: Annotated[int | None, typer.Option(metavar="N", help="How many steps to draw at most.")] = None,
    types: Annotated[bool, typer.Option("--types/--no-types", help="Show the declared types of steps.")] = True,
    ascii: Annotated[bool, typer.Option("--ascii", help="Text: draw with ASCII only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object: the drawing, and what it is of.")] = False,
) -> None:
    """Draw a pipeline, or how a stored run went."""
    from flow.cli import print_json
    from flow_viz._picture import Options, picture

    options = Options.checked(
        format, output, direction=direction, depth=depth, max_nodes=max_nodes, types=types, ascii=ascii
    )
    drawn = picture(target, run, state, options, plain=as_json or output is not None)
    if output is not None:
        _write(output, drawn.text)
    if as_json:
        print_json(drawn.to_dict(output))
    elif output is None:
        typer.echo(drawn.text)
    else:
        typer.echo(f"{output}: {drawn.described}", err=True)
    if drawn.left_out and not as_json:
        typer.echo(f"{drawn.left_out}; --max-nodes {drawn.steps} draws them all", err=True)


def _write(path: Path, text: str) -> None:
    from flow import ConfigurationError

    try:
        path.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"{path} cannot be written: {why}", hint="Name a file in a directory that exists"
        ) from error
