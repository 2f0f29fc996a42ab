"""Figures and remarks about steps and runs, in the form in which people read them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flow import DECISIONS, RunRecord
from flow.cli import duration, one_line
from flow_lens._content import Contents
from flow_lens._trace import OPEN, TraceStep

_CAUSE = "; caused by "
_AGENT = "Agent failed with "
_LONGEST = 2000


def money(dollars: float) -> str:
    """Return an amount in US dollars, nothing for none; small ones keep four digits.

    >>> money(12.5), money(0.0123), money(0.00001), money(0)
    ('$12.50', '$0.0123', '<$0.0001', '')
    """
    if not dollars:
        return ""
    if 0 < dollars < 0.0001:
        return "<$0.0001"
    return f"${dollars:,.2f}" if dollars >= 1 else f"${dollars:.4f}"


def tokens(count: int) -> str:
    """Return a number of tokens, nothing for none."""
    return f"{count:,}" if count else ""


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "step"), counted(1200, "step"), counted(2, "retry")
    ('1 step', '1,200 steps', '2 retries')
    """
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun}"


def took(step: TraceStep) -> str:
    """Return how long a step took; of one without a record, that so far."""
    return duration(step.took_s)


def tries(step: TraceStep) -> str:
    """Return how many attempts a step needed, nothing for one."""
    return f"×{step.tries}" if step.tries > 1 else ""


def status_of(step: TraceStep, run: RunRecord) -> str:
    """Return the status of a step: an unfinished one is what its run is."""
    if step.status != OPEN:
        return step.status
    return run.status if run.status in ("running", "paused", "cancelled") else "interrupted"


def causes_of(step: TraceStep, contents: Contents) -> list[str]:
    """Return the error of a step and those that caused it, each in one line; nothing when there was none."""
    if not step.error:
        return []
    return [one_line(text) for text in contents.told(step.error[:_LONGEST], step).split(_CAUSE)]


def failures(step: TraceStep, contents: Contents) -> Iterator[tuple[str, str]]:
    """Yield what is stored about why a step failed, a label in front: the error, its causes, the feedback."""
    if not step.failed:
        return
    for index, text in enumerate(causes_of(step, contents)):
        yield ("caused by" if index else "error"), text
    if step.feedback and not _repeats(step):
        yield "feedback", one_line(contents.told(step.feedback[:_LONGEST], step))


def _repeats(step: TraceStep) -> bool:
    error = step.error or ""
    return step.feedback is not None and step.feedback.removeprefix(_AGENT) in (error, error.partition(_CAUSE)[0])


def cause(step: TraceStep, contents: Contents) -> str:
    """Return in one line why a step failed, nothing when it did not."""
    told = (f"caused by {text}" if label == "caused by" else text for label, text in failures(step, contents))
    return "; ".join(told)


def decisions(step: TraceStep) -> str:
    """Return what a control-flow step has decided, such as ``iterations=3 exit_reason=condition``.

    Other metadata may be content: of that only numbers are told. That validation has passed goes without saying.
    """
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in step.metadata.items()
        if name and (name, value) != ("validation_passed", True) and _is_telling(name, value)
    )


def _is_telling(name: str, value: object) -> bool:
    if isinstance(value, str):
        return name in DECISIONS and _is_word(value)
    return isinstance(value, (bool, int, float))


def _is_word(text: str) -> bool:
    return 0 < len(text) <= 40 and text.isprintable() and " " not in text
