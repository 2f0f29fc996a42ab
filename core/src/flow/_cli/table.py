"""Plain text tables that fit the terminal."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from .wording import columns, cut

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return `rows` under `headers` in columns; the last column is cut where the terminal ends.

    >>> print(table(["NAME", "KIND"], [["loop", "steps"], ["otel", "tracers"]]))
    NAME  KIND
    loop  steps
    otel  tracers
    """
    return "\n".join(aligned([headers, *rows], width=terminal_width()))


def terminal_width() -> int:
    """Return how many columns there are, 80 when that is not known."""
    return shutil.get_terminal_size().columns


def aligned(
    rows: Sequence[Sequence[str]], *, width: int | None = None, to_the_right: Collection[int] = ()
) -> list[str]:
    """Return a line per row, its cells in columns; the last is cut where `width` ends, but not below 6.

    :param to_the_right: the numbers of the columns that hold figures.
    """
    widths = widths_of(rows)
    room = None if width is None else max(6, width - sum(widths[:-1]) - 2 * len(widths[:-1]))
    return ["  ".join(_padded(row, widths, to_the_right, room)).rstrip() for row in rows]


def widths_of(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide each column must be."""
    return [max(map(columns, column)) for column in zip(*rows, strict=True)]


def _padded(row: Sequence[str], widths: Sequence[int], to_the_right: Collection[int], room: int | None) -> list[str]:
    cells = []
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        if index == len(row) - 1:
            cell = cut(cell, room)
        gap = " " * (width - columns(cell))
        cells.append(f"{gap}{cell}" if index in to_the_right else f"{cell}{gap}")
    return cells


def fitted(
    rows: Sequence[list[str]], width: int, *, names: int, figures: Sequence[int], least: int = 8
) -> tuple[list[list[str]], Sequence[int]]:
    """Return rows that fit, and the numbers of the columns with figures that are left.

    The last columns, when they are `figures`, are left out until the column `names` can have `least` columns of the
    screen; it then gets the room there is.

    >>> fitted([["RUN", "PIPELINE", "COST"], ["7", "a-long-name-of-one", "$2"]], 16, names=1, figures=(2,))
    ([['RUN', 'PIPELINE'], ['7', 'a-long-n...']], ())
    """
    while figures and _room(rows, width, names) < least:
        rows, figures = [row[:-1] for row in rows], figures[:-1]
    room = max(least, _room(rows, width, names))
    return [[*row[:names], cut(row[names], room), *row[names + 1 :]] for row in rows], figures


def _room(rows: Sequence[Sequence[str]], width: int, names: int) -> int:
    widths = widths_of(rows)
    return width - (sum(widths) - widths[names]) - 2 * (len(widths) - 1)
