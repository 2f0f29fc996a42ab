"""The commands that only look: ``list``, ``show``, ``trace``, ``diff`` and ``stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow_lens import _options as options

if TYPE_CHECKING:
    from flow import StateCorrupt
    from flow.cli import Store
    from flow_lens._screen import Screen
    from flow_lens._trace import Trace

_DAMAGED = 4


def list_runs(
    state: options.State = None,
    status: options.Status = None,
    pipeline: options.Pipeline = None,
    since: options.Since = None,
    text: options.Text = None,
    min_cost: options.MinCost = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many to list.")] = 20,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="How many of the newest to leave out.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="List all of them.")] = False,
    as_json: options.Json = False,
) -> None:
    """List stored runs, the newest first.

    On a terminal ids are cut and the error or question of a run stands below it; elsewhere a run is one line. When
    there are more, the command for the next page is printed. A damaged run is named and the others are listed.

    Exit codes: 0 they were listed, 2 wrong use or no such store, 4 the store or one of the runs is damaged.
    """
    from flow.cli import print_json, run_sync, store_of
    from flow_lens._listing import Listing, next_page
    from flow_lens._plain import run_in_json
    from flow_lens._screen import Screen

    wanted = options.filters(
        status, pipeline, since, text, min_cost, offset=offset, limit=None if everything else limit
    )
    store = store_of(state)
    found = run_sync(_listed(store, wanted))
    if as_json:
        print_json([run_in_json(run) for run in found.runs])
    else:
        screen = Screen.of_stdout()
        screen.print(Listing(found.runs, screen).lines())
    if not found.runs and not found.damaged:
        typer.echo(f"no {'such ' if wanted.narrow else ''}runs are stored in {store.name}", err=True)
    elif found.more:
        given = [("--status", item) for item in wanted.statuses]
        given += [("--pipeline", pipeline), ("--since", since), ("--text", text)]
        given += [("--min-cost", None if min_cost is None else f"{min_cost:g}")]
        given += [("--limit", None if limit == 20 else f"{limit}"), ("--state", store.name if state else None)]
        typer.echo(f"there are more: {next_page(given, offset + len(found.runs))}", err=True)
    report_damage(found.damaged)


async def _listed(store: Store, wanted: Any) -> Any:
    from flow_lens._stored import listed

    async with store.opened() as backend:
        return await listed(backend, wanted)


def report_damage(damaged: Any) -> None:
    """Name the runs that could not be read, and end with exit code 4 when there are any."""
    from flow.cli import one_line

    for error in damaged:
        typer.echo(f"error: {one_line(error.message, 400)}", err=True)
    if damaged:
        typer.echo(
            "hint: the other runs are whole; see what can be saved with the salvage command of the store", err=True
        )
        raise typer.Exit(_DAMAGED)


# -- one run


def show(
    run_id: options.RunId,
    state: options.State = None,
    step: Annotated[str | None, typer.Option("--step", metavar="PATH", help="Show this step in full.")] = None,
    inputs: Annotated[bool, typer.Option("--inputs", help="Show what each step was given, where it is known.")] = False,
    outputs: Annotated[bool, typer.Option("--outputs", help="Show what each step returned, and answers.")] = False,
    content: options.Content = False,
    context: Annotated[bool, typer.Option("--context", help="Show the context with which the run began.")] = False,
    everything: options.All = False,
    follow: options.Follow = False,
    interval: options.Interval = 1.0,
    as_json: options.Json = False,
) -> None:
    """Show one run: how it stands, its steps in the order of the pipeline, and why they failed.

    A step has a line with its path, its kind, how long it took, its attempts, what it cost, and below it errors with
    what caused them, decisions, and, when asked for, what went in and came out. Long fan-outs and loops are folded on
    a terminal: what failed and what took longest is shown.

    Exit codes: 0 it was shown, 2 no such run or step, 4 it cannot be read, 130 --follow was interrupted.
    """
    from flow.cli import how_to_continue, print_json, run_sync, store_of
    from flow_lens._content import Contents
    from flow_lens._plain import step_in_json, trace_in_json
    from flow_lens._screen import Screen
    from flow_lens._show import Show
    from flow_lens._step_table import Wanted

    wanted = Wanted(
        inputs=inputs or content, outputs=outputs or content, context=context or content, everything=everything
    )
    store, screen = store_of(state), Screen.of_stdout()
    if follow:
        found = run_sync(_followed(store, run_id, interval, screen, wanted, as_json=as_json))
        if not as_json:
            return
    else:
        found = run_sync(loaded(store, run_id))
    contents = Contents(found, wanted.inputs or wanted.outputs or wanted.context)
    view = Show(found, screen, contents, wanted, how_to_continue(found.run, store))
    if step is not None:
        one = found.step(step)
        if as_json:
            print_json(step_in_json(one, contents, wanted.inputs, wanted.outputs))
        else:
            screen.print(view.one(one))
    elif as_json:
        print_json(trace_in_json(found, contents, inputs=wanted.inputs, outputs=wanted.outputs, context=wanted.context))
    else:
        screen.print(view.lines())


async def loaded(store: Store, *run_ids: str) -> Any:
    """Return the trace of a run, or a list of several."""
    from flow.cli import find_run
    from flow_lens._loading import Loader

    async with store.opened() as backend:
        loader = Loader(backend)
        found = [await loader.trace_of(await find_run(backend, run_id, store.name)) for run_id in run_ids]
    return found[0] if len(found) == 1 else found


async def _followed(store: Store, run_id: str, interval: float, screen: Screen, wanted: Any, *, as_json: bool) -> Trace:
    """Print the steps of a run as they are recorded; returns the run as it has ended."""
    from flow.cli import find_run
    from flow_lens._content import Contents
    from flow_lens._following import News, follow
    from flow_lens._show import Show

    news = News()
    async with store.opened() as backend:
        run = await find_run(backend, run_id, store.name)
        latest: Trace | None = None
        async for found in follow(backend, run.run_id, interval_s=interval):
            view = Show(found, screen, Contents(found, wanted.inputs or wanted.outputs), wanted)
            if not as_json:
                if latest is None:
                    screen.print(view.facts())
                screen.print(line for step in news.of(found) for line in view.passed(step))
            latest = found
    assert latest is not None  # noqa: S101  a run that is there is yielded at least once
    if not as_json and run.status == "running":
        screen.print(Show(latest, screen, Contents(latest), wanted).ending())
    return latest


def trace(
    run_id: options.RunId,
    state: options.State = None,
    depth: options.Depth = None,
    width: options.Width = None,
    ascii_only: options.Ascii = False,
    everything: options.All = False,
    follow: options.Follow = False,
    interval: options.Interval = 1.0,
    as_json: options.Json = False,
) -> None:
    """Draw one run: its steps as a tree, and beside it when each of them was executed.

    All bars lie on one time axis; the time between two executions of a run, such as days of waiting for an answer, is
    left out and told below. Full bars are the critical path: what would have to be faster for the run to be. Long
    fan-outs and loops are folded. In a pipe there is a line per step with its times in seconds instead of a drawing;
    --width draws there, too.

    Exit codes: 0 it was drawn, 2 no such run, 4 it cannot be read, 130 --follow was interrupted.
    """
    from flow.cli import print_json, run_sync, store_of
    from flow_lens._drawing import Drawing, drawing_in_json
    from flow_lens._screen import Screen

    screen = Screen.of_stdout(width, ascii_only)
    if width is not None:
        screen = screen.as_terminal()
    drawing = Drawing(screen, depth, everything)
    store = store_of(state)
    found = run_sync(_drawn_while_it_runs(store, run_id, interval, drawing) if follow else loaded(store, run_id))
    if as_json:
        print_json(drawing_in_json(found))
    else:
        screen.print(drawing.lines(found))


async def _drawn_while_it_runs(store: Store, run_id: str, interval: float, drawing: Any) -> Trace:
    from flow.cli import find_run
    from flow_lens._following import follow

    async with store.opened() as backend:
        run = await find_run(backend, run_id, store.name)
        latest: Trace | None = None
        with drawing.live() as draw:
            async for found in follow(backend, run.run_id, interval_s=interval):
                draw(found)
                latest = found
    assert latest is not None  # noqa: S101  a run that is there is yielded at least once
    return latest


# -- several runs


def diff(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="A run, or the beginning of its id.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="The run to compare it with.")],
    state: options.State = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every difference, not only the first.")] = False,
    content: options.Content = False,
    as_json: options.Json = False,
) -> None:
    """Compare two runs, step by step.

    Shows the first difference in the order in which things happen: of status, output, attempts, errors, feedback or
    decisions; then what differs in sum. Outputs are told to differ and only shown with --content. When the runs are of
    different pipelines it says how these differ.

    Exit codes: 0 the runs are the same, 1 they differ, 2 no such run, 4 one of them cannot be read.
    """
    from flow.cli import print_json, run_sync, store_of
    from flow_lens._compare import compare
    from flow_lens._compare_view import ComparisonView, comparison_in_json
    from flow_lens._screen import Screen

    a, b = run_sync(loaded(store_of(state), run_a, run_b))
    found = compare(a, b, content=content)
    if as_json:
        print_json(comparison_in_json(found))
    else:
        screen = Screen.of_stdout()
        screen.print(ComparisonView(found, screen, everything).lines())
    if not found.same:
        raise typer.Exit(1)


def stats(
    state: options.State = None,
    pipeline: options.Pipeline = None,
    status: options.Status = None,
    since: options.Since = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many of the newest runs to look at.")] = 500,
    sort: Annotated[
        str,
        typer.Option(metavar="ORDER", help="path, count, p50, p95, total, failures, rate, attempts, cost or tokens."),
    ] = "path",
    as_json: options.Json = False,
) -> None:
    """Measure runs: how long steps take, how often they fail, what they cost.

    All executions of a step count together, whatever item of a map or iteration of a loop they were for:
    map/*/embed, refine/i*/generate. P50 and P95 are the times that half and 95 of 100 executions did not exceed;
    times and costs of a step include what is inside it.

    Exit codes: 0 they were measured, 2 wrong use or no such store, 4 the store or one of the runs is damaged.
    """
    from flow import ConfigurationError
    from flow.cli import print_json, run_sync, store_of
    from flow_lens._screen import Screen
    from flow_lens._statistics import ORDERS
    from flow_lens._statistics_view import StatisticsView, looked_at, statistics_in_json

    if sort not in ORDERS:
        raise ConfigurationError(f"--sort: {sort!r:.40} is no order", hint=f"The orders are {', '.join(ORDERS)}")
    store = store_of(state)
    found, more, damaged = run_sync(_observed(store, options.filters(status, pipeline, since, limit=limit)))
    if as_json:
        print_json(statistics_in_json(found, sort))
    elif found.count:
        screen = Screen.of_stdout()
        screen.print(StatisticsView(found, screen, sort).lines())
        typer.echo(looked_at(found, more), err=True)
    elif not damaged:
        typer.echo(f"no such runs are stored in {store.name}", err=True)
    report_damage(damaged)


async def _observed(store: Store, wanted: Any) -> tuple[Any, bool, list[StateCorrupt]]:
    from flow_lens._loading import Loader
    from flow_lens._statistics import Observations
    from flow_lens._stored import listed

    observations = Observations()
    async with store.opened() as backend:
        found = await listed(backend, wanted)
        damaged = list(found.damaged)
        await Loader(backend).each_of(found.runs, observations.add, damaged)
    return observations.result(), found.more, damaged
