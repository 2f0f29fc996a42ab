"""How a step, a group of steps or a run stands, and how each state looks."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass

from flow import CancelSignal, PauseSignal, RunStatus, StepResult


class State(enum.StrEnum):
    """How a step stands; the values are the words that are printed."""

    RUNNING = "running"
    DONE = "done"
    REPLAYED = "replayed"
    CACHED = "cached"
    FAILED = "failed"
    PAUSED = "paused"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Look:
    """The sign of a state, its stand-in where only ASCII can be shown, and its colour.

    Colours are the terminal's own names, so that they fit light and dark themes.
    """

    sign: str
    ascii: str
    style: str


LOOKS = {
    State.RUNNING: Look("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\", "cyan"),
    State.DONE: Look("✓", "+", "green"),
    State.REPLAYED: Look("↺", "+", "blue"),
    State.CACHED: Look("≈", "+", "blue"),
    State.FAILED: Look("✗", "x", "bold red"),
    State.PAUSED: Look("‖", "?", "bold yellow"),
    State.CANCELLED: Look("∅", "-", "yellow"),
}

FRAMES_PER_S = 10

_OF_STATUS = {
    RunStatus.COMPLETED: State.DONE,
    RunStatus.PAUSED: State.PAUSED,
    RunStatus.CANCELLED: State.CANCELLED,
}


def sign_of(state: State, at: float, ascii_only: bool) -> str:
    """Return the sign of a state at a moment (seconds): the one of a running step turns."""
    look = LOOKS[state]
    signs = look.ascii if ascii_only else look.sign
    return signs[int(at * FRAMES_PER_S) % len(signs)]


def state_of(result: StepResult) -> State:
    """Return how a finished step stands."""
    if result.success:
        return State.REPLAYED if result.replayed else State.CACHED if result.cached else State.DONE
    if isinstance(result.error, PauseSignal):
        return State.PAUSED
    if isinstance(result.error, (CancelSignal, asyncio.CancelledError)):
        return State.CANCELLED
    return State.FAILED


def state_of_run(status: RunStatus) -> State:
    """Return how a finished run stands; everything that is not done, paused or cancelled has failed."""
    return _OF_STATUS.get(status, State.FAILED)
