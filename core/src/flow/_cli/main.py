"""The ``flow`` command: finds commands by metadata, loads the one that is typed, turns errors into exit codes."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import attrs
import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from .._discovery import Contribution, PluginKind, PluginState
from .._packages import CORE, installed_version
from .._plugins import Plugins
from .._settings import Settings
from ..errors import (
    AnswerInvalid,
    ErrorCategory,
    FlowError,
    LeaseLost,
    NotPaused,
    PipelineChanged,
    RunNotFound,
    RunOwned,
    SettingsError,
    StateError,
)
from .wording import lines_of, one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# Entry points cannot carry a help text, and importing a command only to show it would import every plugin.
_SHORT_HELP = {
    "plugins": "List, check, block and write plugins.",
    "run": "Run a pipeline.",
    "runs": "List stored runs.",
    "resume": "Continue a run that was interrupted or waits for an answer.",
    "recover": "Resume every run whose process died.",
    "validate": "Check a pipeline without running it.",
}
_COMPLETION = {"install_completion", "show_completion"}


def plugins_of(context: Any) -> Plugins:
    """Return the plugins of this command line: settings of the directory, ``FLOW_*`` and ``--block`` applied."""
    root = context.find_root()
    if not isinstance(root.obj, Plugins):
        root.obj = _blocking(Plugins(Settings.load()), root.params.get("block") or ())
    return root.obj


def _blocking(plugins: Plugins, names: Collection[str]) -> Plugins:
    if not names:
        return plugins
    for name in names:
        plugins.catalogue.named(name)
    settings = plugins.settings
    block = settings.block | set(names)
    os.environ["FLOW_PLUGINS_BLOCK"] = ",".join(sorted(block))  # for kernels that the program builds itself
    return Plugins(attrs.evolve(settings, block=block, origins={**settings.origins, "plugins.block": "--block"}))


class _Commands(TyperGroup):
    """The commands of all plugins. Contexts and commands are `Any`: typer keeps its copy of click private."""

    def list_commands(self, ctx: Any) -> list[str]:
        try:
            plugins = plugins_of(ctx)
        except SettingsError as error:  # help must work, above all when something is wrong
            warnings.warn(str(error), stacklevel=2)
            plugins = ctx.find_root().obj = Plugins(Settings())
        usable = (item for item in _commands(plugins) if plugins.catalogue.verdict(item).state is PluginState.AVAILABLE)
        return sorted(item.name for item in usable)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what help and completion need, made from metadata."""
        item = plugins_of(ctx).find(PluginKind.COMMANDS, cmd_name)
        if item is None:
            return None
        help_text = _SHORT_HELP.get(cmd_name) if item.is_default else None
        origin = f"From {item.dist} {item.package.version}"
        summary = one_line(item.package.summary).rstrip(".")
        return TyperCommand(cmd_name, help=help_text or (f"{summary}. {origin}." if summary else f"{origin}."))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the command that was typed."""
        if ctx.resilient_parsing and plugins_of(ctx).find(PluginKind.COMMANDS, args[0]) is None:
            return None, None, args[1:]
        command = get_command(plugins_of(ctx).load(PluginKind.COMMANDS, args[0]))
        command.name = args[0]
        # Those of every Typer app, which would install completion for a program called like the command.
        command.params = [param for param in command.params if param.name not in _COMPLETION]
        return args[0], command, args[1:]


def _commands(plugins: Plugins) -> list[Contribution]:
    return [item for item in plugins.catalogue.contributions if item.kind is PluginKind.COMMANDS]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flow {installed_version(CORE) or '(not installed)'}")
        raise typer.Exit


app = typer.Typer(cls=_Commands, no_args_is_help=True)


@app.callback()
def flow(
    block: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Do not load this plugin; may be given several times.")
    ] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run workflows made of steps: they survive crashes, stay inside a budget, and anyone can add to them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code, or raise `SystemExit` with it.

    0 success, 1 the work failed or findings were found, 2 wrong use or unreadable input, 3 the run belongs to
    another process, 4 stored state cannot be used, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    with_traceback = "--traceback" in arguments[:end]
    arguments = [word for word in arguments[:end] if word != "--traceback"] + arguments[end:]
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            get_command(app).main(args=arguments, prog_name="flow")
        except KeyboardInterrupt:
            return 130
        except FlowError as error:
            return _report(error, with_traceback)
        except Exception as error:  # noqa: BLE001  (the last resort of a program: reported, never swallowed)
            return _report_internal(error, with_traceback)
    return 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    typer.echo(f"warning: {' '.join(str(message).split())}", err=True)


def _report(error: FlowError, with_traceback: bool) -> int:
    if with_traceback:
        traceback.print_exception(error)
    place = f" (step {error.path})" if error.path else ""
    typer.echo("\n".join(lines_of(f"error: {error.message}{place}")), err=True)
    if error.hint:
        typer.echo("\n".join(lines_of(f"hint: {error.hint}")), err=True)
    return exit_code(error)


def _report_internal(error: Exception, with_traceback: bool) -> int:
    if with_traceback:
        traceback.print_exception(error)
    typer.echo(f"internal error: {type(error).__name__}: {error}", err=True)
    if not with_traceback:
        typer.echo("hint: run the command again with --traceback to see where it comes from", err=True)
    return 1


def exit_code(error: FlowError) -> int:
    """Return the exit code that tells what sort of error ended a command.

    >>> exit_code(RunOwned("run 7 belongs to process 12"))
    3
    """
    if isinstance(error, (RunOwned, LeaseLost)):
        return 3
    if (
        isinstance(error, (RunNotFound, NotPaused, AnswerInvalid, PipelineChanged))
        or error.category is ErrorCategory.CONFIGURATION
    ):
        return 2
    return 4 if isinstance(error, StateError) else 1
