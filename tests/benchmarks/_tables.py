"""Tables of figures: lines for a terminal, and the Markdown that docs/benchmarks.md holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks._measure import Figure

WIDTHS = (44, 14, 12, 12, 8, 14)
HEADINGS = ("SCENARIO", "PER", "CPU", "BARE", "RATIO", "TARGET", "")


def line_of(figure: Figure) -> str:
    """The figure as a line under `heading`."""
    bare = "" if figure.bare is None else number(figure.bare, figure.unit)
    ratio = "" if figure.ratio is None else f"{figure.ratio:.3g}×"
    cost = number(figure.cost, figure.unit)
    return _line((figure.name, figure.per, cost, bare, ratio, figure.target, figure.verdict))


def heading(group: str) -> str:
    """The line above the figures of a group."""
    return _line((group.upper(), *HEADINGS[1:]))


def _line(columns: Sequence[str]) -> str:
    name, per, *numbers, target, verdict = columns
    left = [name.ljust(WIDTHS[0]), per.ljust(WIDTHS[1])]
    right = [text.rjust(width) for text, width in zip(numbers, WIDTHS[2:5], strict=True)]
    return "".join([*left, *right, f"   {target.ljust(WIDTHS[5])}", f" {verdict}"]).rstrip()


def number(value: float, unit: str) -> str:
    """A measured number with as many digits as mean something."""
    digits = 0 if value == int(value) else 3 if abs(value) < 0.1 else 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f} {unit}"


@attrs.frozen
class Measured:
    """What one run of the benchmarks printed with ``--json``."""

    python: str
    groups: Mapping[str, Mapping[str, Figure]]

    @classmethod
    def read(cls, path: Path) -> Measured:
        """Read a file that holds the output."""
        document = json.loads(path.read_text(encoding="utf-8"))
        groups = {group: {item["name"]: _figure(item) for item in items} for group, items in document["groups"].items()}
        return cls(document["python"], groups)


def _figure(item: Mapping[str, Any]) -> Figure:
    names = {field.name for field in attrs.fields(Figure)}
    return Figure(**{name: value for name, value in item.items() if name in names})


def markdown(files: Iterable[Path]) -> Iterator[str]:
    """Yield the lines of tables that show several runs, such as those on several Pythons, side by side.

    What is missed is bold; ratios are those of the last run.
    """
    runs = [Measured.read(path) for path in files]
    columns = ["Per", "Target", *(run.python for run in runs), f"Bare, {runs[-1].python}", f"Ratio, {runs[-1].python}"]
    for group, figures in runs[-1].groups.items():
        yield from ("", f"### {group.capitalize()}", "")
        yield f"| Scenario | {' | '.join(columns)} |"
        yield f"| --- | --- | --- | {' | '.join(['---:'] * (len(runs) + 2))} |"
        for name, last in figures.items():
            costs = [_cost(run.groups[group][name]) for run in runs]
            bare = "" if last.bare is None else number(last.bare, last.unit)
            ratio = "" if last.ratio is None else f"{last.ratio:.3g}×"
            yield f"| {' | '.join([name, last.per, last.target, *costs, bare, ratio])} |"


def _cost(figure: Figure) -> str:
    text = number(figure.cost, figure.unit)
    if figure.verdict != "MISS":
        return text
    return f"**{text}, {figure.ratio:.3g}×**" if figure.ratio_at_most is not None and figure.ratio else f"**{text}**"
