"""Texts and numbers in the form in which people read them in a drawing: one line, nothing that a terminal obeys."""

from __future__ import annotations

import unicodedata

LONGEST = 44
"""Columns that a name may take in a drawing; tooltips have it in full."""


def visible(text: str) -> str:
    r"""Return `text` as one line of printable characters; what could move a cursor or reorder text is written out.

    >>> visible("two\nlines\x1b[31m")
    'two lines\\x1b[31m'
    """
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode() for letter in text
    )


def columns(text: str) -> int:
    """Return how many columns of a terminal `text` takes: two for a Chinese character, none for an accent."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def cut(text: str, width: int = LONGEST) -> str:
    """Return `text`, or its beginning and an ellipsis when it takes more than `width` columns.

    >>> cut("a long name", 8)
    'a long …'
    """
    if columns(text) <= width:
        return text
    kept, room = [], width - 1
    for letter in text:
        room -= columns(letter)
        if room < 0:
            break
        kept.append(letter)
    return "".join(kept) + "…"


def wrapped(words: list[str], width: int) -> list[str]:
    """Return `words`, which are not broken, in lines of at most `width` columns, a dot between them.

    >>> wrapped(["2 retries", "timeout 3 s", "cached"], 24)
    ['2 retries · timeout 3 s', 'cached']
    """
    lines: list[str] = []
    for word in words:
        joined = f"{lines[-1]} · {word}" if lines else word
        if lines and columns(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(cut(word, width))
    return lines


def counted(number: int, noun: str) -> str:
    """Return a number and its noun.

    >>> counted(1, "retry"), counted(1200, "retry"), counted(2, "step")
    ('1 retry', '1,200 retries', '2 steps')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """Say how long something took, or may take.

    >>> duration(0.0042), duration(0.25), duration(3), duration(75), duration(7200)
    ('4.2 ms', '250 ms', '3 s', '1 min 15 s', '2 h')
    """
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.{0 if seconds >= 0.00995 else 1}f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def money(usd: float) -> str:
    """Return a sum in US dollars, with as many digits as it takes to see it.

    >>> money(1.5), money(0.0021), money(0.0000021)
    ('$1.50', '$0.0021', '$0.0000021')
    """
    if usd >= 0.995:
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if usd >= 0.0001 else f"${usd:.7f}"
