"""``flow lens replay``: plays a stored run again, or begins a new one that goes on from one of its steps."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import attrs

from flow import Flow, RunRecord, RunResult, RunStatus
from flow.cli import Interruption, Store, app_of, find_run, load_flow, questions_of, store_of
from flow.errors import ReplayIncomplete
from flow_lens._loading import load_trace
from flow_lens._trace import Trace

OnChange = Literal["refuse", "continue"]


@attrs.frozen(kw_only=True, eq=False)
class Played:
    """What came of a replay or a fork.

    :ivar recorded: the run that was played.
    :ivar trace: the run as it is stored afterwards: the same one, or the new one of a fork.
    :ivar replayed: how many steps returned what was recorded.
    :ivar executed: how many steps were really executed.
    """

    recorded: RunRecord
    result: RunResult[Any]
    trace: Trace
    replayed: int
    executed: int


async def app_and_store(run_id: str, target: str | None, state: str | None) -> tuple[Flow[Any, Any], Store, RunRecord]:
    """Return the flow that a run belongs to, its store and its record.

    :param target: the app that the user has named; otherwise the remembered one, if it lies in the working directory.
    """
    flow = None if target is None else load_flow(target)
    store = store_of(state, flow)
    async with store.opened() as backend:
        run = await find_run(backend, run_id, store.name)
    return flow or load_flow(app_of(run)), store, run


async def replayed(flow: Flow[Any, Any], store: Store, run: RunRecord, on_change: OnChange) -> Played:
    """Play a run again; nothing is executed and nothing written."""
    async with flow.evolve(state=store.where, tracers=(), local_tracer=None, hooks=()) as player:
        result = await player.replay_async(run.run_id, on_change=on_change)
    async with store.opened() as backend:
        trace = await load_trace(backend, run.run_id)
    return _played(run, result, trace)


async def forked(
    flow: Flow[Any, Any],
    store: Store,
    run: RunRecord,
    at: str,
    interruption: Interruption,
    **options: Any,
) -> Played:
    """Begin a new run that replays `run` up to the step `at` and executes the rest.

    :param interruption: a signal leaves the new run interrupted, to be resumed.
    :param options: those of `Flow.fork_async`.
    """
    stopping: list[asyncio.Task[bool]] = []  # the loop itself keeps no task alive
    async with flow.evolve(state=store.where) as player:
        interruption.cancels(lambda: stopping.append(asyncio.ensure_future(player.interrupt())))
        result = await player.fork_async(run.run_id, at, **options)
    async with store.opened() as backend:
        trace = await load_trace(backend, result.run_id)
    return _played(run, result, trace)


def _played(run: RunRecord, result: RunResult[Any], trace: Trace) -> Played:
    steps = list(result.walk())
    # A container whose inside was partly replayed has done nothing itself but hand values on.
    executed = [step for step in steps if not any(inner.replayed for inner in step.walk())]
    return Played(
        recorded=run,
        result=result,
        trace=trace,
        replayed=sum(step.replayed for step in steps),
        executed=len(executed),
    )


async def path_of(store: Store, run: RunRecord, text: str) -> str:
    """Return the path of the step that a text means: a path, or a name that only one step has."""
    async with store.opened() as backend:
        trace = await load_trace(backend, run.run_id)
    asked = questions_of(run)
    return text if text in trace.by_path or text in asked else trace.step(text).path


def is_faithful(played: Played) -> bool:
    """Tell whether a replay has ended as the recorded run did."""
    return not isinstance(played.result.error, ReplayIncomplete) and played.result.status == played.recorded.status


def exit_code_of(result: RunResult[Any]) -> int:
    """Return the exit code of a fork."""
    return 0 if result.status in (RunStatus.COMPLETED, RunStatus.PAUSED) else 1
