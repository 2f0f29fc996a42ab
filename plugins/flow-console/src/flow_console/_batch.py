"""Runs that are shown together: which of them in full, which in a line, and what they come to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from flow import RunResult, Usage
from flow_console._format import count, duration
from flow_console._report import spent_in

DETAILED_RUNS = 4
LISTED_RUNS = 15
PAUSE_S = 0.3  # workers of one fan-out of runs may all be between two runs for a moment


@dataclass(slots=True)
class Batch:
    """The runs from a moment without any to the next one.

    ``started`` and ``ended`` are epoch seconds; ``overlapping`` says whether two ran at the same time: only then are
    runs left out, and counted in the end.
    """

    started: float
    ended: float = 0.0
    runs: int = 0
    listed: int = 0
    overlapping: bool = False
    states: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)

    def goes_on_at(self, moment: float) -> bool:
        """Say whether a run that starts at `moment` belongs to the others."""
        return self.overlapping and moment - self.ended < PAUSE_S

    def begin(self, active: int) -> int:
        """Count a run that starts while `active` others run; returns its rank, from 0."""
        self.overlapping |= active > 0
        self.runs += 1
        return self.runs - 1

    def end(self, result: RunResult[Any], at: float) -> None:
        """Count a run that has ended."""
        self.states[result.status.value.replace("_", " ")] += 1
        self.usage += result.usage
        self.ended = at

    def lists(self, success: bool) -> bool:
        """Say whether one more ending is printed: the first ones are, and of those that failed some more."""
        if self.listed >= LISTED_RUNS + (0 if success else LISTED_RUNS):
            return False
        self.listed += 1
        return True

    def report(self) -> Text:
        """Return the line that sums the runs up."""
        parts = [f"{number:,} {word}" for word, number in self.states.most_common()]
        text = f"{count(self.runs, 'run')} in {duration(self.ended - self.started)}: {', '.join(parts)}"
        return Text(", ".join([text, *spent_in(self.usage)]), style="bold")
