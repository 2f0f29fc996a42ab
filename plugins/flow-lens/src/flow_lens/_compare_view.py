"""``flow lens diff``: how two runs differ, as lines and as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from flow.cli import duration, one_line
from flow_lens._axis import axis_of
from flow_lens._compare import Comparison, Difference, slower
from flow_lens._content import UNKNOWN, as_text, masked
from flow_lens._screen import Line, Screen, fitted, labelled, line
from flow_lens._trace import Trace
from flow_lens._words import counted, money

_LONGEST = 200
_MOST = 5
_CONTENT = ("input", "output", "answer")
_TOLD = 0.05
"""Shares of a run's time below which a change is not worth a line."""


@attrs.frozen(eq=False)
class ComparisonView:
    """A comparison as lines.

    :ivar everything: every difference, not only the first.
    """

    found: Comparison
    screen: Screen
    everything: bool = False

    def lines(self) -> Iterator[Line]:
        """Yield the first difference or all of them, then what there is in sum."""
        yield from self._head("A", self.found.a, "removed")
        yield from self._head("B", self.found.b, "added")
        if self.found.same:
            yield line(self.screen.sign("completed"), " the runs are the same")
        for text in self._structure():
            yield self._fit(line((self.screen.say(one_line(text)), _style_of(text))))
        yield from self._differences()
        yield from labelled(self._summary(), self.screen)

    def _head(self, name: str, trace: Trace, style: str) -> Iterator[Line]:
        run = trace.run
        sign = self.screen.sign(run.status)
        pipeline = self.screen.say(one_line(run.pipeline, 40))
        status = one_line(run.status.replace("_", " "))
        yield self._fit(line((name, style), " ", sign, " ", (pipeline, "title"), f" {status}  ", (run.run_id, "dim")))

    def _structure(self) -> list[str]:
        texts = list(self.found.structure)
        if self.everything or len(texts) <= _MOST:
            return texts
        return [*texts[:_MOST], f"and {len(texts) - _MOST} further differences of the pipelines (--all)"]

    def _differences(self) -> Iterator[Line]:
        shown = list(self.found.differences)
        if not self.everything:
            of_the_run = [item for item in shown if not item.path and item.what in ("pipeline", "input")]
            first = self.found.first
            shown = [*of_the_run, *([first] if first is not None and first not in of_the_run else [])]
        for item in shown:
            yield from self._difference(item)
        if any(item.what in _CONTENT and item.a is None and item.b is None for item in shown):
            yield line(("  --content shows inputs and outputs", "dim"))
        left = len(self.found.differences) - len(shown)
        if left > 0:
            yield line((f"and {counted(left, 'further difference')} (--all)", "dim"))

    def _difference(self, item: Difference) -> Iterator[Line]:
        place = self.screen.say(one_line(item.path)) if item.path else "the run"
        if item.what.startswith("only_in_"):
            side = item.what[-1]
            yield self._fit(line((place, "title"), f" only in {side.upper()}"))
            return
        yield self._fit(line((place, "title"), f": {item.what} differs"))
        if item.a is None and item.b is None:
            return
        for sign, style, value in (("-", "removed", item.a), ("+", "added", item.b)):
            yield self._fit(line((f"  {sign} {self.screen.say(_shown(value))}", style)))

    def _summary(self) -> Iterator[tuple[str, str]]:
        found = self.found
        differing = len(found.differing)
        same = len(found.timings) - differing
        parts = [f"{counted(same, 'step')} the same", f"{differing:,} different"]
        parts += [f"{len(found.only(side)):,} only in {side.upper()}" for side in ("a", "b") if found.only(side)]
        yield "steps", ", ".join(parts)
        lengths = axis_of(found.a).length, axis_of(found.b).length
        yield "time", f"{duration(lengths[0])} → {duration(lengths[1])}"
        for timing in slower(found.timings, _MOST):
            change = timing.took_b - timing.took_a
            if abs(change) >= _TOLD * max(*lengths, 1e-9):
                yield "", f"{one_line(timing.path)} {duration(timing.took_a)} → {duration(timing.took_b)}"
        costs = found.a.run.usage.cost_usd, found.b.run.usage.cost_usd
        if any(costs):
            yield "cost", f"{money(costs[0]) or '$0'} → {money(costs[1]) or '$0'}"

    def _fit(self, one: Line) -> Line:
        return fitted(one, self.screen.width) if self.screen.terminal else one


def _style_of(text: str) -> str:
    return {"-": "removed", "+": "added"}.get(text[:1], "")


def _shown(value: Any) -> str:
    if value is UNKNOWN or value is None:
        return "none"
    return one_line(value if isinstance(value, str) else as_text(value), _LONGEST)


def comparison_in_json(found: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values."""
    return {
        "a": found.a.run.run_id,
        "b": found.b.run.run_id,
        "same": found.same,
        "first": None if found.first is None else _in_json(found.first),
        "differences": [_in_json(item) for item in found.differences],
        "structure": list(found.structure),
        "only_in_a": found.only("a"),
        "only_in_b": found.only("b"),
        "different": found.differing,
        "same_steps": len(found.timings) - len(found.differing),
        "timings": [attrs.asdict(timing) for timing in found.timings],
        "took_s": {"a": axis_of(found.a).length, "b": axis_of(found.b).length},
        "cost_usd": {"a": found.a.run.usage.cost_usd, "b": found.b.run.usage.cost_usd},
    }


def _in_json(item: Difference) -> dict[str, Any]:
    values = {"path": item.path, "what": item.what}
    for side, value in (("a", item.a), ("b", item.b)):
        if value is not UNKNOWN and value is not None:
            values[side] = masked(value)
    return values
