"""``flow sqlite``: look after the files of stores and caches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flow_sqlite._integrity import Report
    from flow_sqlite._salvage import Salvaged

app = typer.Typer(no_args_is_help=True, help="Check, salvage and back up the SQLite files that hold runs.")

_File = Annotated[str, typer.Argument(metavar="FILE", help="The file, or its sqlite:/// URL.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _path(text: str) -> Path:
    from flow_sqlite._url import CACHE_OPTIONS, SCHEME, parse_url

    return parse_url(text, CACHE_OPTIONS).path if text.startswith(SCHEME) else Path(text).absolute()


@app.command()
def check(file: _File, as_json: _Json = False) -> None:
    """Read every row of FILE and compare it with its checksum; nothing is changed.

    The file may be in use. Exit code 0: nothing is wrong; 1: something is damaged, the rest is intact;
    4: it cannot be opened. What is intact can be copied with `flow sqlite salvage`.
    """
    from flow_sqlite._integrity import check

    report = check(_path(file))
    if as_json:
        _print_json(_as_dict(report))
    else:
        _print_report(report)
    if report.findings:
        raise typer.Exit(1)


@app.command()
def salvage(old: _File, new: _File, as_json: _Json = False) -> None:
    """Copy what is intact in the damaged file OLD to NEW, which must not exist. OLD is only read.

    Stop the programs that use OLD before. Cached results are left behind: they can be computed again.
    A run that lost steps becomes interrupted; when it is resumed, these are executed again.
    Exit code 0: everything was copied; 1: something is lost; 4: nothing was found.
    """
    from flow import ConfigurationError
    from flow_sqlite._salvage import salvage

    source, target = _path(old), _path(new)
    if not source.is_file():
        raise ConfigurationError(f"{source} is no file", hint="Name the damaged file first, then the new one")
    if not target.parent.is_dir():
        raise ConfigurationError(f"{target.parent} is no directory", hint="Make it first")
    found = salvage(source, target)
    if as_json:
        _print_json({"from": str(source), "to": str(target), "complete": found.complete, **_as_dict(found)})
    else:
        _print_salvaged(found, target)
    if not found.complete:
        raise typer.Exit(1)


@app.command()
def backup(
    file: _File,
    to: Annotated[str, typer.Argument(metavar="TO", help="The copy; must not exist.")],
    as_json: _Json = False,
) -> None:
    """Copy FILE, as of one moment, to TO. The file may be in use.

    A plain copy of a file in use is no backup: what was written last is in the -wal beside it.
    """
    from flow import ConfigurationError
    from flow_sqlite._integrity import back_up

    source, target = _path(file), _path(to)
    if not source.is_file():
        raise ConfigurationError(f"{source} is no file", hint="Name the file of a store, or its sqlite:/// URL")
    size = back_up(source, target)
    if as_json:
        _print_json({"from": str(source), "to": str(target), "bytes": size})
    else:
        typer.echo(f"{target}: {size:,} bytes")


def _as_dict(value: Any) -> dict[str, Any]:
    import attrs

    return attrs.asdict(value)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def _print_report(report: Report) -> None:
    wal = f" and {report.wal_bytes:,} in its -wal" if report.wal_bytes else ""
    typer.echo(f"{report.file}: {report.bytes:,} bytes{wal}, schema {report.schema}, SQLite {report.sqlite}")
    for table, count in report.rows.items():
        typer.echo(f"  {table}: {count:,} intact")
    for note in report.notes:
        typer.echo(f"note: {note}.")
    for finding in report.findings:
        typer.echo(f"damage: {finding}")
    if report.findings:
        typer.echo(f"Copy what is intact with: flow sqlite salvage {report.file} NEW.db")
    else:
        typer.echo("Nothing is wrong.")


def _print_salvaged(found: Salvaged, target: Path) -> None:
    rows = ", ".join(f"{count:,} {table}" for table, count in found.rows.items())
    typer.echo(f"{target}: {rows}")
    if found.damaged:
        typer.echo(f"{found.damaged:,} rows are damaged and were left behind.")
    if found.unreadable:
        typer.echo(f"{', '.join(found.unreadable)} could not be read to the end; some rows may be lost.")
    if found.rebuilt:
        typer.echo(f"Of these runs only steps were found: {', '.join(found.rebuilt)}")
    if found.incomplete:
        typer.echo(f"These runs lost steps and are interrupted, to be resumed: {', '.join(found.incomplete)}")
