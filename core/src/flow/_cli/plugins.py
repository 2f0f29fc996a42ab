"""``flow plugins``: what is installed, what works, what is in the way."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._discovery import Contribution, PluginKind, PluginState, PluginStatus
from .._packages import CORE, canonical
from .._plugin_check import hook_arguments
from ..errors import ConfigurationError
from .main import plugins_of
from .table import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._plugins import Plugins

app = typer.Typer(no_args_is_help=True, help="List, check, block and write plugins.")

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="An entry point, a distribution, or KIND:NAME.")]


@app.command("list")
def list_plugins(
    ctx: typer.Context,
    kind: Annotated[str, typer.Option(metavar="KIND", help="Only plugins of this kind, such as steps.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Show the kernel's own plugins too.")] = False,
    as_json: _Json = False,
) -> None:
    """List the installed plugins without importing them; below, what is wrong and what helps."""
    statuses = plugins_of(ctx).statuses()
    if kind:
        statuses = [status for status in statuses if status.kind is PluginKind.parse(kind)]
    shown = [status for status in statuses if everything or not _is_ordinary_default(status)]
    if as_json:
        _print_json([_as_dict(status) for status in shown])
        return
    if shown:
        rows = [[s.name, s.kind, s.dist, s.version, s.state, ", ".join(s.provides)] for s in shown]
        typer.echo(table(["NAME", "KIND", "DIST", "VERSION", "STATE", "PROVIDES"], rows))
    _print_problems(shown)
    if hidden := len(statuses) - len(shown):
        others = "" if shown else "No plugins are installed beside the kernel's own. "
        typer.echo(f"{others}{hidden} of {CORE} itself are not shown; --all shows them.")


def _is_ordinary_default(status: PluginStatus) -> bool:
    return canonical(status.dist) == CORE and status.state in (PluginState.AVAILABLE, PluginState.LOADED)


def _as_dict(status: PluginStatus) -> dict[str, Any]:
    reason = f"{status.reason}; cure: {status.cure}" if status.reason and status.cure else status.reason
    return {
        "name": status.name,
        "kind": status.kind,
        "dist": status.dist,
        "version": status.version,
        "state": status.state,
        "reason": reason,
        "provides": list(status.provides),
    }


def _print_problems(statuses: Sequence[PluginStatus]) -> None:
    for status in statuses:
        if status.reason:
            _print_faults(status, [status.reason], status.cure)
    if any(status.reason for status in statuses):
        typer.echo()


def _print_faults(status: PluginStatus, faults: Sequence[str], cure: str) -> None:
    typer.echo(f"\n{status.kind}:{status.name} ({status.dist} {status.version}) {status.state}")
    for fault in [*faults, *([f"cure: {cure}"] if cure else [])]:
        # Commands and paths are to be copied: they are not broken at hyphens.
        typer.echo(textwrap.fill(fault, 78, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


@app.command()
def info(ctx: typer.Context, name: _Name, as_json: _Json = False) -> None:
    """Show everything known about a plugin, without importing it."""
    plugins = plugins_of(ctx)
    by_dist: dict[str, list[Contribution]] = {}
    for item in plugins.catalogue.named(name):
        by_dist.setdefault(item.dist, []).append(item)
    described = [_describe(plugins, items) for items in by_dist.values()]
    if as_json:
        _print_json(described)
        return
    for description in described:
        for key, value in description.items():
            if value and key != "provides":
                typer.echo(f"{key + ':':<10} {', '.join(value) if isinstance(value, list) else value}")
        entries = description["provides"]
        rows = [[f"{e['kind']}:{e['name']}", e["value"], e["state"], ", ".join(e["provides"])] for e in entries]
        typer.echo("\n" + table(["ENTRY POINT", "VALUE", "STATE", "PROVIDES"], rows))
    _print_problems([plugins.status(item) for items in by_dist.values() for item in items])


def _describe(plugins: Plugins, items: Sequence[Contribution]) -> dict[str, Any]:
    package, dist = items[0].package, items[0].entry.dist
    found = {} if dist is None else {name.lower(): dist.metadata[name] for name in dist.metadata}
    return {
        "dist": package.name,
        "version": package.version,
        "summary": found.get("summary", ""),
        "homepage": found.get("home-page") or found.get("project-url", "").rpartition(", ")[2],
        "requires": list(package.requires),
        "provides": [{**_as_dict(plugins.status(item)), "value": item.entry.value} for item in items],
    }


@app.command()
def check(ctx: typer.Context, as_json: _Json = False) -> None:
    """Import every plugin and say what is wrong; exit code 1 when anything is."""
    plugins = plugins_of(ctx)
    checked = plugins.check()
    strangers = _block_entries_without_plugin(plugins)
    if as_json:
        _print_json([_as_dict(c.status) | {"load_ms": c.load_ms, "findings": list(c.findings)} for c in checked])
    else:
        rows = [[c.status.name, c.status.kind, c.status.dist, f"{c.load_ms:.1f}", c.status.state] for c in checked]
        typer.echo(table(["NAME", "KIND", "DIST", "MS", "STATE"], rows))
        for c in checked:
            if c.findings:
                _print_faults(c.status, c.findings, c.status.cure)
        for stranger in strangers:
            typer.echo(f"\nblock names {stranger}, but no plugin is called that")
    faulty = sum(bool(c.findings) for c in checked) + len(strangers)
    if faulty:
        raise typer.Exit(1)
    if not as_json:
        typer.echo(f"\n{len(checked)} plugins, nothing wrong.")


def _block_entries_without_plugin(plugins: Plugins) -> list[str]:
    names = plugins.settings.block | (plugins.settings.allow or frozenset())
    known = plugins.catalogue.contributions
    return sorted(name for name in names if not any(item.answers_to([name]) for item in known))


@app.command()
def hooks(ctx: typer.Context, as_json: _Json = False) -> None:
    """Show each hook and who implements it, in the order of the calls. Imports the plugins."""
    plugins = plugins_of(ctx)
    checked = plugins.check()
    dists = {f"{c.status.kind}:{c.status.name}": c.status.dist for c in checked if c.status.state is PluginState.LOADED}
    order = {hook: plugins.implementers(hook) for hook in hook_arguments()}
    if as_json:
        _print_json(order)
        return
    for hook, arguments in hook_arguments().items():
        typer.echo(f"{hook}({', '.join(arguments)})")
        for position, name in enumerate(order[hook], 1):
            typer.echo(f"  {position}. {name} ({dists[name]})")
    for c in checked:
        if c.status.state is PluginState.FAILED:
            typer.echo(f"warning: {c.status.kind}:{c.status.name} ({c.status.dist}): {c.status.reason}", err=True)


@app.command()
def block(ctx: typer.Context, name: _Name) -> None:
    """Never load a plugin again: writes it into the settings file."""
    from . import settings_file

    plugins = plugins_of(ctx)
    found = plugins.catalogue.named(name)
    if any(item.is_default and item.qualified == "commands:plugins" for item in found):
        raise ConfigurationError("flow plugins cannot block itself", hint="Nothing else could unblock it")
    path = plugins.settings.source or Path("flow.toml")
    added = settings_file.block(path, name)
    names = ", ".join(f"{item.qualified} ({item.dist})" for item in found)
    typer.echo(f"{path} {'now blocks' if added else 'blocks already'} {names}")
    _warn_if_overridden(plugins)


@app.command()
def unblock(ctx: typer.Context, name: _Name) -> None:
    """Allow a blocked plugin again: takes it out of the settings file."""
    from . import settings_file

    plugins = plugins_of(ctx)
    path = plugins.settings.source
    if path is None:
        raise ConfigurationError("there is no flow.toml or [tool.flow] that could block anything")
    settings_file.unblock(path, name)
    typer.echo(f"{path} no longer blocks {name}")
    _warn_if_overridden(plugins)


def _warn_if_overridden(plugins: Plugins) -> None:
    origin = plugins.settings.origins.get("plugins.block", "")
    if origin.startswith("FLOW_"):
        typer.echo(f"warning: {origin} is set and goes before the file", err=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the plugin is called, such as shout.")],
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="step, state, cache, tracer, validator, policy, engine or command: what it contributes.",
        ),
    ] = "step",
    directory: Annotated[Path, typer.Option("--directory", "-d", help="Where to write the package.")] = Path(),
) -> None:
    """Write a complete plugin package, whose own tests pass at once."""
    from .scaffold import new as write_package

    write_package(name, kind, directory)
