"""How a step stands in a run that is drawn, and the sign of each state: colour alone tells not everybody."""

from __future__ import annotations

import asyncio
import enum

from flow import CancelSignal, InterruptSignal, PauseSignal, RunStatus, StepResult


class State(enum.StrEnum):
    """How a step stands; the values are the words that are printed. The first that applies is that of many."""

    FAILED = "failed"
    PAUSED = "waiting"
    STOPPED = "interrupted"
    BEGUN = "begun"
    DONE = "done"
    CACHED = "from cache"
    REPLAYED = "replayed"
    IDLE = "not run"


SIGNS = {
    State.FAILED: "✗",
    State.PAUSED: "‖",
    State.STOPPED: "∅",
    State.BEGUN: "▸",
    State.DONE: "✓",
    State.CACHED: "≈",
    State.REPLAYED: "↺",
    State.IDLE: "·",
}
ASCII_SIGNS = {
    State.FAILED: "x",
    State.PAUSED: "?",
    State.STOPPED: "-",
    State.BEGUN: ">",
    State.DONE: "+",
    State.CACHED: "=",
    State.REPLAYED: "~",
    State.IDLE: ".",
}
WORST_FIRST = tuple(State)
_OF_RUN = {
    RunStatus.COMPLETED: State.DONE,
    RunStatus.PAUSED: State.PAUSED,
    RunStatus.CANCELLED: State.STOPPED,
    RunStatus.INTERRUPTED: State.STOPPED,
    "running": State.BEGUN,
}
_OF_RECORD = {"completed": State.DONE, "failed": State.FAILED, "interrupted": State.STOPPED}


def state_of_result(result: StepResult) -> State:
    """Return how a finished step stands."""
    if result.success:
        return State.REPLAYED if result.replayed else State.CACHED if result.cached else State.DONE
    if isinstance(result.error, PauseSignal):
        return State.PAUSED
    stopped = isinstance(result.error, (CancelSignal, InterruptSignal, asyncio.CancelledError))
    return State.STOPPED if stopped else State.FAILED


def state_of_record(status: str) -> State | None:
    """Return how a recorded step stands; ``None`` for records of something else, such as answers."""
    return _OF_RECORD.get(status)


def state_of_run(status: str) -> State:
    """Return how a run stands; every status that is not known as a better one is a failure."""
    return _OF_RUN.get(status, State.FAILED)
