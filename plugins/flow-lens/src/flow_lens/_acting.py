"""The commands that do something: ``replay``, ``export`` and ``prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flow_lens import _options as options
from flow_lens._looking import report_damage

if TYPE_CHECKING:
    from flow import RunResult, StateCorrupt
    from flow.cli import Store
    from flow_lens._replaying import Played
    from flow_lens._writing import Writer

_OnChange = Annotated[
    Literal["refuse", "continue"],
    typer.Option(metavar="refuse|continue", help="What to do when the pipeline has changed since the run."),
]


def replay(
    run_id: options.RunId,
    state: options.State = None,
    target: Annotated[
        str | None,
        typer.Option("--app", metavar="APP[:NAME]", help="The app of the run, when it is not the remembered one."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--from", metavar="PATH", help="Fork: really execute from this step on, as a new run.")
    ] = None,
    new_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The id of the new run of --from.")] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long the new run of --from may take.")
    ] = None,
    on_change: _OnChange = "refuse",
    content: options.Content = False,
    everything: options.All = False,
    as_json: options.Json = False,
) -> None:
    """Play a run again: its steps return what is recorded, answers of people included, and nothing is executed.

    The app is imported, so that its conditions and loops lead where they led; it is the one the run began with, if
    that lies in the working directory, or the one that --app names. With --from the steps before PATH are replayed
    and the others are really executed, as a new run with an id of its own; the old one stays as it is.

    Exit codes: 0 it was replayed to its recorded end, or the new run completed or waits for an answer; 1 the recording
    ends early, or the new run failed; 2 no such run or step, or another pipeline; 4 the store cannot be used;
    130 or 143 the new run was interrupted.
    """
    from flow import ConfigurationError, PipelineChanged
    from flow.cli import Session, run_sync

    if at is None and (new_id is not None or deadline is not None):
        raise ConfigurationError("--id and --deadline belong to a new run", hint="Say from which step: --from PATH")
    try:
        with Session(as_json=as_json).own_stdout():
            if at is None:
                played = run_sync(_replayed(run_id, target, state, on_change))
                code = _code_of_a_replay(played)
            else:
                how = {"run_id_new": new_id, "deadline": deadline, "on_change": on_change}
                played, code = _forked(run_id, target, state, at, how)
    except PipelineChanged as changed:
        hint = "Add --on-change continue to play it with this one: steps are matched by path"
        raise PipelineChanged(changed.message, hint=hint) from changed
    _print_played(played, is_fork=at is not None, content=content, everything=everything, as_json=as_json)
    if code:
        raise typer.Exit(code)


async def _replayed(
    run_id: str, target: str | None, state: str | None, on_change: Literal["refuse", "continue"]
) -> Played:
    from flow_lens._replaying import app_and_store, replayed

    flow, store, run = await app_and_store(run_id, target, state)
    return await replayed(flow, store, run, on_change)


def _code_of_a_replay(played: Played) -> int:
    from flow_lens._replaying import is_faithful

    return 0 if is_faithful(played) else 1


def _forked(run_id: str, target: str | None, state: str | None, at: str, how: dict[str, Any]) -> tuple[Played, int]:
    from flow import RunStatus
    from flow.cli import Interruption, run_sync
    from flow_lens._replaying import app_and_store, exit_code_of, forked, path_of

    async def work() -> Played:
        flow, store, run = await app_and_store(run_id, target, state)
        return await forked(flow, store, run, await path_of(store, run, at), interruption, **how)

    with Interruption() as interruption:
        played = run_sync(work())
    stopped = interruption.exit_code if played.result.status is RunStatus.INTERRUPTED else 0
    return played, stopped or exit_code_of(played.result)


def _print_played(played: Played, *, is_fork: bool, content: bool, everything: bool, as_json: bool) -> None:
    from flow.cli import lines_of, print_json
    from flow_lens._content import Contents
    from flow_lens._plain import trace_in_json
    from flow_lens._screen import Screen
    from flow_lens._show import Show
    from flow_lens._step_table import Wanted

    result, found = played.result, played.trace
    contents = Contents(found, content)
    if as_json:
        steps = trace_in_json(found, contents, inputs=content, outputs=content, context=content)
        counts = {"replayed": played.replayed, "executed": played.executed, "forked_from": played.recorded.run_id}
        counts |= {"ended": result.status.value, "incomplete_at": _ends_early_at(result)}
        print_json({**counts, **steps} if is_fork else {**counts, "forked_from": None, **steps})
        return
    screen = Screen.of_stdout()
    view = Show(found, screen, contents, Wanted(inputs=content, outputs=content, everything=everything))
    screen.print([view.heading()])
    screen.print(view.steps())
    typer.echo(_in_words(played, is_fork=is_fork))
    if result.error is not None and (is_fork or _ends_early_at(result) is not None):
        for text in lines_of(contents.told(f"error: {result.error}", *found.steps[-1:])):
            typer.echo(text, err=True)


def _ends_early_at(result: RunResult[Any]) -> str | None:
    from flow.errors import ReplayIncomplete

    return result.failed_path if isinstance(result.error, ReplayIncomplete) else None


def _in_words(played: Played, *, is_fork: bool) -> str:
    from flow_lens._words import counted

    status = played.result.status.value.replace("_", " ")
    replayed = f"{counted(played.replayed, 'step')} replayed"
    if not is_fork:
        return f"{status}: {replayed}, none executed"
    return f"{status}: run {played.result.run_id}, {replayed}, {counted(played.executed, 'step')} executed"


# -- export


def export(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="The runs; those that the options select when none.")
    ] = None,
    state: options.State = None,
    form: Annotated[
        Literal["jsonl", "otlp"], typer.Option("--format", metavar="jsonl|otlp", help="What to write.")
    ] = "jsonl",
    status: options.Status = None,
    pipeline: options.Pipeline = None,
    since: options.Since = None,
    text: options.Text = None,
    min_cost: options.MinCost = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most the newest so many.")] = None,
    content: options.Content = False,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Send OTLP there: http://127.0.0.1:4318/v1/traces.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="Send with --endpoint; repeatable.")
    ] = None,
    service: Annotated[str, typer.Option(metavar="NAME", help="The service.name of exported spans.")] = "flow",
) -> None:
    """Write runs for other programs: JSON lines, or OpenTelemetry spans.

    jsonl: a JSON object per run with its steps. otlp: an ExportTraceServiceRequest in the JSON form of OTLP per line,
    or sent to a collector with --endpoint. The ids of spans come from the ids of runs and the paths of steps, so
    exporting again gives the same ones. Inputs and outputs are left out unless --content asks for them.

    Exit codes: 0 all was written, 1 the receiver did not take it, 2 wrong use, 4 the store or a run is damaged.
    """
    from flow import ConfigurationError
    from flow.cli import run_sync, store_of
    from flow_lens._sending import Receiver, headers_of
    from flow_lens._writing import Writer

    if endpoint is not None and form != "otlp":
        raise ConfigurationError("--endpoint takes OpenTelemetry spans", hint="Add --format otlp")
    receiver = None if endpoint is None else Receiver(endpoint, headers_of(header or []))
    wanted = options.filters(status, pipeline, since, text, min_cost, limit=limit)
    writer = Writer(form, content=content, service=service, receiver=receiver)
    damaged = run_sync(_exported(store_of(state), run_ids or [], wanted, writer))
    if receiver is not None:
        typer.echo(writer.told(), err=True)
    report_damage(damaged)
    if writer.refused:
        raise typer.Exit(1)


async def _exported(store: Store, run_ids: list[str], wanted: Any, writer: Writer) -> list[StateCorrupt]:
    from flow.cli import find_run
    from flow_lens._loading import Loader
    from flow_lens._stored import Found, listed

    async with store.opened() as backend:
        if run_ids:
            found = Found([await find_run(backend, run_id, store.name) for run_id in run_ids])
        else:
            found = await listed(backend, wanted)
        damaged = list(found.damaged)
        await Loader(backend).each_of(found.runs, writer.write, damaged)
    return damaged


# -- prune


def prune(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="Not changed since then: 30d, 12h, 2025-12-31.")
    ],
    keep: Annotated[int, typer.Option(min=0, metavar="N", help="Keep so many of the newest in any case.")] = 0,
    state: options.State = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: options.Json = False,
) -> None:
    """Forget runs that have ended long ago, and say which.

    Runs that are running, paused or interrupted stay, however old they are. What is removed cannot be resumed, shown
    or exported any more.

    Exit codes: 0 it was done, 2 wrong use or no such store, 4 the store cannot be used.
    """
    from flow.cli import moment_of, print_json, run_sync, store_of
    from flow_lens._pruning import in_words

    store = store_of(state)
    moment = moment_of(older_than, "--older-than")
    found = run_sync(_pruned(store, moment, keep, dry_run=dry_run))
    if as_json:
        ids = [run.run_id for run in found.runs]
        print_json({"dry_run": dry_run, "runs": ids, "removed": found.removed})
    else:
        typer.echo("\n".join(in_words(found)))


async def _pruned(store: Store, older_than: float, keep: int, *, dry_run: bool) -> Any:
    from flow_lens._pruning import prune

    async with store.opened() as backend:
        return await prune(backend, older_than=older_than, keep=keep, dry_run=dry_run)
