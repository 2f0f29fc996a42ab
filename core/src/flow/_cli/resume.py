"""``flow resume``: continues a stored run where it stopped, and answers what it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._flow import Flow
    from .._protocols import RunRecord
    from .._results import Pending
    from .session import Session
    from .stored_runs import Found

app = typer.Typer()

_HELP = (
    "Continue a stored run: after a crash, an interruption or a failure at its first unfinished step, after a pause "
    "with the answer it waits for. What has finished is not done again.\n\n"
    "RUN_ID may be the beginning of an id. The app is the one the run began with, if its file lies in the working "
    "directory; any other is named with --app, since a store does not decide what is imported. The store is that of "
    "--state, of the app, of FLOW_STATE or of the settings file.\n\n"
    "A paused run without --answer asks its questions on a terminal; elsewhere they are printed and the run stays as it "
    "is. An answer is text, or JSON where the step declares that; one that does not fit is refused and the run still "
    "waits. Several questions are answered by their paths, in any order, not necessarily all.\n\n"
    """\b
flow resume 0193a7b2 --state sqlite:///runs.db
flow resume 0193a7b2 --answer yes
flow resume 0193a7b2 --answer @letter.txt --app app.py:pipeline
flow resume 0193a7b2 --answer '0:legal=yes' --answer '1:price={"amount": 5}'
flow resume 0193a7b2 --on-change continue --deadline 600\n\n"""
    "A run that has completed prints its output again. Exit codes: 0 completed or paused, 1 the run failed, 2 wrong "
    "use, an unknown run, an answer that does not fit, or a changed pipeline, 3 another process executes the run, "
    "4 the store cannot be used, 130 or 143 interrupted."
)
_RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run, or the beginning of its id.")]
_App = Annotated[
    str | None,
    typer.Option("--app", metavar="APP[:NAME]", help="The app of the run, when it is not to be the remembered one."),
]
_Answer = Annotated[
    list[str] | None,
    typer.Option("--answer", "-a", metavar="[PATH=]TEXT|@FILE|-", help="What answers a question; repeatable."),
]
_OnChange = Annotated[
    Literal["refuse", "continue"], typer.Option(help="What to do when the pipeline has changed since the run began.")
]


@app.command(help=_HELP)
def resume(
    run_id: _RunId,
    target: _App = None,
    answer: _Answer = None,
    state: Annotated[str | None, typer.Option(metavar="URL", help="The store of the run.")] = None,
    on_change: _OnChange = "refuse",
    cache: Annotated[str | None, typer.Option(metavar="URL", help="Where steps with cache= keep results.")] = None,
    trace: Annotated[
        list[str] | None, typer.Option("--trace", metavar="NAME", help="Switch a tracer on; repeatable.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long the run may still take, instead of its deadline.")
    ] = None,
    limit_cost: Annotated[float | None, typer.Option(min=0, metavar="USD", help="What it may spend in all.")] = None,
    limit_tokens: Annotated[int | None, typer.Option(min=0, metavar="N", help="How many tokens, in all.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print what steps stream as it comes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the output and errors, nothing else.")] = False,
) -> None:
    """Continue a stored run; the texts for the user stand beside the options."""
    from .._run_ids import check_run_id
    from ..errors import ConfigurationError
    from .overrides import overridden
    from .remembered import is_inside
    from .session import Session
    from .stored_runs import find
    from .target import load_flow

    check_run_id(run_id)
    if stream and as_json:
        raise ConfigurationError("--stream and --json exclude each other: one prints pieces, the other a whole")
    app = None if target is None or is_inside(target) else target
    session = Session(stream=stream, as_json=as_json, quiet=quiet, app=app)
    with session.own_stdout():
        flow = load_flow(target) if target is not None else None
    found = find(run_id, state, flow)
    answers = _answers(found, answer or [])
    if _is_settled(found, answers, session):
        return
    with session.own_stdout():
        flow = flow or _remembered_flow(found.run, session)
    if not answers and found.waits:
        answers = _asked(found, flow, on_change)
        if not answers:
            session.say(f"run {found.run.run_id} still waits")
            return
    flow, session = overridden(
        flow,
        session,
        trace=trace,
        limit_cost=limit_cost,
        limit_tokens=limit_tokens,
        state=found.store.where,
        cache=cache,
    )
    session.resume(flow, found.run.run_id, answers=answers, on_change=on_change, deadline=deadline)
