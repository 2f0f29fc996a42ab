"""Plain text tables that fit the terminal."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return `rows` under `headers` in columns; the last column is cut where the terminal ends.

    >>> print(table(["NAME", "KIND"], [["loop", "steps"], ["otel", "tracers"]]))
    NAME  KIND
    loop  steps
    otel  tracers
    """
    columns = list(zip(headers, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns[:-1]]
    room = max(8, shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths))
    lines = []
    for row in (headers, *rows):
        last = row[-1] if len(row[-1]) <= room else f"{row[-1][: room - 3]}..."
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, last]).rstrip())
    return "\n".join(lines)
