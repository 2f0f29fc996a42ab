"""``flow file``: look after the files of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Look after a store in files (state URL file:///directory).")


@app.command()
def check(directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of the store.")]) -> None:
    """Read every journal and verify its checksums; nothing is changed.

    Exit codes: 0 all can be used, 1 some are damaged, 2 the directory is no store.
    """
    from flow_file._salvage import check_store

    count = damaged = 0
    for report in check_store(directory):
        count += 1
        if report.problem is not None:
            damaged += 1
            typer.echo(f"damaged  {report.run_id}: {report.problem}")
        elif report.remains:
            typer.echo(f"usable   {report.run_id}: its last {report.remains} bytes are of a write that did not finish")
    typer.echo(f"{count} journals, {damaged} damaged")
    if damaged:
        raise typer.Exit(1)


@app.command()
def salvage(
    damaged: Annotated[Path, typer.Argument(metavar="FILE", help="The damaged journal; it stays as it is.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The journal to write; it must not exist.")],
) -> None:
    """Write a new journal with everything that is intact in a damaged one.

    Move it to the place of the old one yourself, while nothing executes the run.

    Exit codes: 0 written, 2 a file cannot be read or is there already, 4 the run itself is lost or the disk is full.
    """
    from flow_file._salvage import salvage as save

    saved = save(damaged, new)
    typer.echo(f"{new}: {saved.lines} lines with {saved.steps} steps saved, {saved.lost} bytes passed over")
