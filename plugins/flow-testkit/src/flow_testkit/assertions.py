"""Assertions about what a run did."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from flow import RunResult, StepResult


def assert_step_sequence(result: RunResult[Any], expected: Iterable[str], *, nested: bool = False) -> None:
    """Assert that exactly these steps ran, in this order; each is given by its name or its path.

    :param nested: also count the steps inside steps, each after the step that holds it.

    >>> from flow import Step
    >>> from flow_testkit import run_one
    >>> result = run_one(Step("a", str.upper) >> Step("b", str.strip), " x ")
    >>> assert_step_sequence(result, ["a", "1:b"])
    >>> assert_step_sequence(result, ["b", "a"])
    Traceback (most recent call last):
    AssertionError: the steps ran in another order
      expected: b, a
      ran:      a, b
    + a
      b
    - a
    """
    __tracebackhide__ = True
    wanted = list(expected)
    ran = list(result.walk()) if nested else result.step_history
    if len(wanted) == len(ran) and all(map(_is, ran, wanted)):
        return
    raise AssertionError(_difference(result, wanted, ran))


def _is(result: StepResult, name_or_path: str) -> bool:
    return name_or_path in (result.name, result.path)


def _difference(result: RunResult[Any], wanted: Sequence[str], ran: Sequence[StepResult]) -> str:
    by_path = any(":" in name for name in wanted)
    actual = [step.path if by_path and step.name not in wanted else step.name for step in ran]
    same = sorted(wanted) == sorted(actual)
    lines = [
        "the steps ran in another order" if same else "other steps ran than expected",
        f"  expected: {', '.join(wanted) or 'none'}",
        f"  ran:      {', '.join(actual) or 'none'}",
        *(line.rstrip() for line in difflib.ndiff(wanted, actual) if not line.startswith("?")),
        *_hints(result, wanted, ran),
    ]
    return "\n".join(lines)


def _hints(result: RunResult[Any], wanted: Sequence[str], ran: Sequence[StepResult]) -> list[str]:
    """Say which expected steps exist elsewhere in the run or nowhere, and why the run ended when it did not succeed."""
    everything = list(result.walk())
    hints = []
    for name in dict.fromkeys(wanted):
        if any(_is(step, name) for step in ran):
            continue
        inside = next((step.path for step in everything if _is(step, name)), None)
        hints.append(
            f"{name!r} ran inside another step, at {inside}: pass nested=True" if inside else f"{name!r} did not run"
        )
    if any(hint.endswith("did not run") for hint in hints):
        hints.append(f"steps of this run: {', '.join(step.path for step in everything) or 'none'}")
    if not result.success:
        hints.append(f"the run ended {result.status} at {result.failed_path or 'no step'}: {result.error}")
    return hints
