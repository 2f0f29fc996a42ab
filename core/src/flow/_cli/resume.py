"""``flow resume``: continues a stored run where it stopped, and answers what it asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from .._flow import Flow
    from .._protocols import RunRecord
    from .session import Session
    from .stored_run import StoredRun

app = typer.Typer()

_HELP = (
    "Continue a stored run: after a crash, an interruption or a failure at its first unfinished step, after a pause "
    "with the answer it waits for. What has finished is not done again.\n\n"
    "RUN_ID may be the beginning of an id. The app is the one the run began with, if its file lies in the working "
    "directory; any other is named with --app, since a store does not decide what is imported. The store is that of "
    "--state, of the app, of FLOW_STATE or of the settings file.\n\n"
    "A paused run without --answer asks its questions on a terminal; elsewhere they are printed and nothing "
    "changes. An answer is text, or JSON where the step declares that; one that does not fit is refused and the "
    "run still waits. Several questions are answered by their paths, in any order, not necessarily all.\n\n"
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
_Trace = Annotated[list[str] | None, typer.Option("--trace", metavar="NAME", help="Switch a tracer on; repeatable.")]
_Deadline = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="How long the run may still take, instead of its deadline.")
]
_OnChange = Annotated[
    Literal["refuse", "continue"],
    typer.Option(metavar="refuse|continue", help="What to do when the pipeline has changed since the run began."),
]

_Events = Annotated[
    Path | None, typer.Option("--events", metavar="FILE", help="Add each event of the run to FILE, as lines of JSON.")
]
_EventsContent = Annotated[
    bool, typer.Option("--events-content", help="With --events: inputs and outputs, too; secrets stay masked.")
]


@app.command(help=_HELP)
def resume(
    run_id: _RunId,
    target: _App = None,
    answer: _Answer = None,
    state: Annotated[str | None, typer.Option(metavar="URL", help="The store of the run.")] = None,
    on_change: _OnChange = "refuse",
    cache: Annotated[str | None, typer.Option(metavar="URL", help="Where steps with cache= keep results.")] = None,
    trace: _Trace = None,
    deadline: _Deadline = None,
    limit_cost: Annotated[float | None, typer.Option(min=0, metavar="USD", help="What it may spend in all.")] = None,
    limit_tokens: Annotated[int | None, typer.Option(min=0, metavar="N", help="How many tokens, in all.")] = None,
    events: _Events = None,
    events_content: _EventsContent = False,
    stream: Annotated[bool, typer.Option("--stream", help="Print what steps stream as it comes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the output and errors, nothing else.")] = False,
) -> None:
    """Continue a stored run; the texts for the user stand beside the options."""
    from .._run_ids import check_run_id
    from .event_log import event_log
    from .overrides import limits_of, overridden
    from .remembered import is_inside
    from .session import Session
    from .stored_run import look_up
    from .target import load_flow

    check_run_id(run_id)
    _refuse_both(stream=stream, as_json=as_json)
    app = None if target is None or is_inside(target) else target
    session = Session(stream=stream, as_json=as_json, quiet=quiet, app=app)
    with session.own_stdout():
        flow = load_flow(target) if target is not None else None
    stored = look_up(run_id, state, flow)
    answers = _given(answer or [], stored)
    if stored.is_completed or (stored.waits and not answers and not _can_ask(session)):
        stored.show(as_json=as_json, app=app)
        return
    with session.own_stdout():
        flow = flow or _remembered(stored.run, session)
    if (
        stored.waits
        and not answers
        and (on_change == "continue" or flow.pipeline.fingerprint == stored.run.fingerprint)
    ):
        answers = _asked(stored, flow)
        if not answers:
            session.say(f"run {stored.run.run_id} still waits")
            return
    limits = limits_of(limit_cost, limit_tokens, stored.limits)
    flow, session = overridden(
        flow,
        session,
        trace=trace,
        limits=limits,
        state=stored.store.where,
        cache=cache,
        events=event_log(events, content=events_content),
    )
    session.resume(flow, stored.run.run_id, deadline, limits, answers=answers or None, on_change=on_change)


def _refuse_both(*, stream: bool, as_json: bool) -> None:
    from ..errors import ConfigurationError

    if stream and as_json:
        raise ConfigurationError("--stream and --json exclude each other: one prints pieces, the other a whole")


def _given(texts: list[str], stored: StoredRun) -> dict[str, Any]:
    from .questions import read_answers

    stored.require_free()
    if not texts:
        return {}
    stored.require_paused()
    return read_answers(texts, stored.questions, stored.run.run_id)


def _can_ask(session: Session) -> bool:
    from .questions import can_ask

    return not session.as_json and can_ask()


def _asked(stored: StoredRun, flow: Flow[Any, Any]) -> dict[str, Any]:
    from .questions import ask

    return ask(stored.questions, flow)


def _remembered(run: RunRecord, session: Session) -> Flow[Any, Any]:
    from .remembered import app_of
    from .target import load_flow

    target = app_of(run)
    session.say(f"the app of run {run.run_id} is {target}")
    return load_flow(target)
