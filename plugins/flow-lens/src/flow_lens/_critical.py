"""The critical path of a run: the chain of steps without which it would have ended earlier."""

from __future__ import annotations

from collections.abc import Sequence

from flow_lens._trace import Trace, TraceStep

_CLOCK_S = 1e-4


def critical_steps(trace: Trace) -> list[TraceStep]:
    """Return the innermost steps of the critical path, the last first.

    Backwards from the end: the step that ended last, then the one that ended last before that began, and so on; inside
    of a container likewise.
    """
    found: list[TraceStep] = []
    waiting = _chain(trace.steps)[::-1]
    while waiting:
        step = waiting.pop()
        if step.children:
            waiting += _chain(step.children)[::-1]
        else:
            found.append(step)
    return found


def _chain(steps: Sequence[TraceStep]) -> list[TraceStep]:
    chain: list[TraceStep] = []
    for step in sorted(steps, key=lambda step: (step.ended_at, step.started_at), reverse=True):
        if not chain or step.ended_at <= chain[-1].started_at + _CLOCK_S:
            chain.append(step)
    return chain
