"""Numbers and texts in the form in which people read them, in one line."""

from __future__ import annotations

import re

# What moves the cursor, reorders text or cannot be encoded: controls, separators, bidirectional marks, surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def clean(text: str, limit: int = 120) -> str:
    r"""Return `text` in one line of at most `limit` characters: what a terminal would obey is written as an escape.

    >>> clean("two\nlines\x1b[31m")
    'two\\nlines\\x1b[31m'
    """
    text = text[: limit + 1]
    if _UNSAFE.search(text):
        text = _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def first_lines(text: str, lines: int = 3, limit: int = 300) -> list[str]:
    r"""Return the first non-empty lines, each safe to print; the last one says when there were more.

    >>> first_lines("one\n\ntwo\nthree", lines=2)
    ['one', 'two …']
    """
    found = [line.rstrip() for line in text[: 20 * limit].splitlines() if line.strip()]
    shown = [clean(line, limit) for line in found[:lines]]
    if len(found) > lines:
        shown[-1] += " …"
    return shown


def duration(seconds: float) -> str:
    """Return a time span.

    >>> [duration(s) for s in (0.0004, 0.12, 1.234, 75, 3720)]
    ['0.4 ms', '120 ms', '1.2 s', '1m 15s', '1h 02m']
    """
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms" if seconds >= 0.00005 else "<0.1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"


def money(dollars: float) -> str:
    """Return an amount in US dollars; small ones keep four digits.

    >>> [money(d) for d in (12.5, 0.0123, 0.00001)]
    ['$12.50', '$0.0123', '<$0.0001']
    """
    if 0 < dollars < 0.0001:
        return "<$0.0001"
    return f"${dollars:.4f}" if dollars < 1 else f"${dollars:,.2f}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "step"), count(1200, "step"), count(2, "retry"), count(2, "key")
    ('1 step', '1,200 steps', '2 retries', '2 keys')
    """
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{number:,} {noun}"


def pace(per_second: float) -> str:
    """Return a rate, by the second, minute or hour, with two digits where they tell something.

    >>> [pace(rate) for rate in (1234.5, 12.3, 1.23, 0.4, 0.02, 0.0004)]
    ['1,234/s', '12/s', '1.2/s', '24/min', '1.2/min', '1.4/h']
    """
    rate, unit = per_second, "s"
    for longer in ("min", "h"):
        if rate >= 0.995:
            break
        rate, unit = rate * 60, longer
    return f"{rate:,.0f}/{unit}" if rate >= 9.95 else f"{rate:.1f}/{unit}"


def time_left(seconds: float) -> str:
    """Return a time span that is only estimated: nothing below a second, days for what takes so long.

    >>> [time_left(s) for s in (0.2, 12.4, 59.7, 75, 3720, 270_000)]
    ['<1 s', '12 s', '1m 00s', '1m 15s', '1h 02m', '3d 03h']
    """
    whole = round(seconds)
    if whole < 1:
        return "<1 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 86_400:
        return duration(whole)
    return f"{whole // 86_400}d {whole % 86_400 // 3600:02}h"
