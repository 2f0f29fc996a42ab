"""``flow run``: runs the pipeline of a file, shows how it goes, and prints what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

_HELP = (
    "Run a pipeline and print its output; how it went is told on standard error.\n\n"
    "APP is a file such as app.py or a module such as shop.orders. Without NAME it is searched for a flow, pipeline or "
    "step called flow, pipeline or main, or else for the only one. The input is text, or JSON when the first step "
    "declares that it takes something else. Context values are JSON or text.\n\n"
    """\b
flow run app.py --input "https://example.org"
flow run app.py:triage --input @ticket.json --context team=billing
cat article.txt | flow run app.py --input - --stream
flow run app.py -i 5 --state sqlite:///runs.db --deadline 60 --limit-cost 0.50
flow run app.py -i 5 --json | jq .usage
flow run app.py -i 5 --events events.jsonl\n\n"""
    "With --state the run survives its process: see flow runs, flow resume and flow recover. Ctrl-C leaves it to be "
    "resumed; a second one ends the program at once.\n\n"
    "Exit codes: 0 completed or paused, 1 the run failed, 2 wrong use or unreadable input, 3 another process took the "
    "run over, 4 the run cannot be stored, 130 or 143 interrupted."
)
_App = Annotated[str, typer.Argument(metavar="APP[:NAME]", help="A Python file or module, and what to run in it.")]
_Input = Annotated[
    str | None,
    typer.Option("--input", "-i", metavar="TEXT|@FILE|-", help="What the first step gets; - is standard input."),
]
_Context = Annotated[
    list[str] | None, typer.Option("--context", "-c", metavar="KEY=VALUE", help="A field of the context; repeatable.")
]
_Trace = Annotated[list[str] | None, typer.Option("--trace", metavar="NAME", help="Switch a tracer on; repeatable.")]
_Durability = Annotated[
    str | None,
    typer.Option(metavar="full|normal|exit|off", help="When a stored step is safe; full: before the next one starts."),
]

_Events = Annotated[
    Path | None, typer.Option("--events", metavar="FILE", help="Add each event of the run to FILE, as lines of JSON.")
]
_EventsContent = Annotated[
    bool, typer.Option("--events-content", help="With --events: inputs and outputs, too; secrets stay masked.")
]


@app.command(help=_HELP)
def run(
    target: _App,
    input: _Input = None,
    json_input: Annotated[bool, typer.Option("--json-input", help="Parse the input as JSON in any case.")] = False,
    context: _Context = None,
    state: Annotated[str | None, typer.Option(metavar="URL", help="Store the run, so that it can be resumed.")] = None,
    durability: _Durability = None,
    cache: Annotated[str | None, typer.Option(metavar="URL", help="Where steps with cache= keep results.")] = None,
    trace: _Trace = None,
    deadline: Annotated[float | None, typer.Option(metavar="SECONDS", help="How long the run may take.")] = None,
    limit_cost: Annotated[float | None, typer.Option(min=0, metavar="USD", help="What the run may spend.")] = None,
    limit_tokens: Annotated[int | None, typer.Option(min=0, metavar="N", help="How many tokens it may use.")] = None,
    run_id: Annotated[str | None, typer.Option(metavar="ID", help="The id of the run; made up when left out.")] = None,
    events: _Events = None,
    events_content: _EventsContent = False,
    stream: Annotated[bool, typer.Option("--stream", help="Print what steps stream as it comes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the output and errors, nothing else.")] = False,
) -> None:
    """Run a pipeline and print what comes of it; the texts for the user stand beside the options."""
    from .._run_ids import check_run_id, new_id
    from ..errors import ConfigurationError
    from .event_log import event_log
    from .overrides import limits_of, overridden
    from .remembered import KEY, is_inside, to_remember
    from .run_input import read_input, read_values
    from .session import Session
    from .target import load_flow

    if stream and as_json:
        raise ConfigurationError("--stream and --json exclude each other: one prints pieces, the other a whole")
    run_id = new_id() if run_id is None else check_run_id(run_id)
    app = None if is_inside(target) else to_remember(target)
    session = Session(stream=stream, as_json=as_json, quiet=quiet, app=app)
    with session.own_stdout():
        flow = load_flow(target)
    limits = limits_of(limit_cost, limit_tokens)
    flow, session = overridden(
        flow,
        session,
        trace=trace,
        limits=limits,
        state=state,
        cache=cache,
        events=event_log(events, content=events_content),
        durability=durability,
    )
    values = read_values(context or [], flow.context_model)
    data = read_input(input, flow.pipeline, as_json=json_input)
    session.run(
        flow,
        data,
        run_id=run_id,
        deadline=deadline,
        usage_limits=limits,
        initial_context=values,
        metadata={KEY: to_remember(target)},
    )
