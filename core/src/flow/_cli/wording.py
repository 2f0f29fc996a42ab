"""How the command line words times, sums and texts that come out of a store."""

from __future__ import annotations

import shlex
import time
import unicodedata
from datetime import UTC, datetime

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_DAYS_TOLD = 30


def one_line(text: str, width: int | None = None) -> str:
    r"""Return `text` as one line that a terminal shows as it is, cut to `width` columns.

    What a store holds may come from a model or a stranger: control characters, which could move the cursor or colour
    the screen, are written out.

    >>> one_line("no\n table\x1b[31m", 12)
    'no table\\...'
    """
    return cut(_visible(" ".join(text.split())), width)


def lines_of(text: str) -> list[str]:
    """Return the lines of `text`, each as `one_line` does it but with its spaces."""
    return [_visible(line.expandtabs(4)).rstrip() for line in text.splitlines()] or [""]


def quoted(text: str) -> str:
    """Return `text` as a shell takes it for one word."""
    return shlex.quote(one_line(text))


def cut(text: str, width: int | None) -> str:
    """Return `text`, or its beginning and three dots when it takes more than `width` columns."""
    if width is None or columns(text) <= width:
        return text
    kept = text[:width]
    while columns(kept) > max(0, width - 3):
        kept = kept[:-1]
    return f"{kept}..."


def columns(text: str) -> int:
    """Return how many columns of a terminal `text` takes: two for a Chinese character, none for an accent."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode() for letter in text
    )


def duration(seconds: float) -> str:
    """Say how long something took, in one or two units.

    >>> duration(0.0042), duration(1.25), duration(75), duration(100_000)
    ('4.2 ms', '1.2 s', '1 min 15 s', '1 d 3 h')
    """
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.{0 if seconds >= 0.01 else 1}f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    words: list[str] = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or words:
            words.append(f"{count} {unit}")
        if len(words) == 2:
            break
    return " ".join(words)


def ago(at: float) -> str:
    """Say how long ago the epoch second `at` was, in the largest unit; a date when that is long ago."""
    passed = time.time() - at
    if passed < 1:
        return "now" if passed > -60 else moment(at)
    if passed > _DAYS_TOLD * 86400:
        return moment(at)[:10]
    unit, size = next((unit, size) for unit, size in _UNITS if passed >= size)
    return f"{passed // size:.0f} {unit} ago"


def moment(at: float) -> str:
    """Return the epoch second `at` as date and time of day, as clocks here show it."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def iso(at: float | None) -> str | None:
    """Return the epoch second `at` in ISO 8601, UTC; ``None`` for none.

    >>> iso(1.5)
    '1970-01-01T00:00:01.500+00:00'
    """
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds") if at else None
