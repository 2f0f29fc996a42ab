"""What a ``sqlite:///`` URL says: where the file is, and how it is used."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import attrs

from flow import ConfigurationError

SCHEME = "sqlite://"


class Level(enum.IntEnum):
    """How much a commit waits for the disk: SQLite's ``synchronous``."""

    OFF = 0
    NORMAL = 1
    FULL = 2
    EXTRA = 3


@attrs.frozen(kw_only=True)
class Target:
    """A parsed URL.

    :ivar path: the file, absolute.
    :ivar synchronous: what a write that must survive a loss of power gets.
    :ivar busy_timeout: seconds that are waited for other processes.
    :ivar max_bytes: how much a cache keeps; its values, not the file around them.
    :ivar max_entries: how many values a cache keeps.
    """

    path: Path
    synchronous: Level = Level.FULL
    busy_timeout: float = 30.0
    max_bytes: int = 256 * 2**20
    max_entries: int = 100_000


def _level(text: str) -> Level:
    return Level[text.upper()]


def _seconds(text: str) -> float:
    seconds = float(text)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError
    return seconds


def _amount(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ValueError
    return int(text)


_Reader = tuple[Callable[[str], Any], str]
STATE_OPTIONS: Mapping[str, _Reader] = {
    "synchronous": (_level, "full, normal, off or extra"),
    "busy_timeout": (_seconds, "a number of seconds"),
}
CACHE_OPTIONS: Mapping[str, _Reader] = {
    **STATE_OPTIONS,
    "max_bytes": (_amount, "a whole number of at least 1"),
    "max_entries": (_amount, "a whole number of at least 1"),
}


def parse_url(
    url: str, options: Mapping[str, _Reader] = STATE_OPTIONS, settings: Mapping[str, Any] | None = None
) -> Target:
    """Return what `url` names; ``sqlite:///runs.db`` is relative, ``sqlite:////var/runs.db`` absolute.

    :param options: those that the URL may have.
    :param settings: defaults for them, such as the table ``sqlite`` of the settings file.

    Raises `ConfigurationError` that says what may be written instead.

    >>> parse_url("sqlite:////var/lib/runs.db?synchronous=normal").synchronous.name
    'NORMAL'
    """
    where, _, query = url.removeprefix(SCHEME).partition("?")
    name = unquote(where.removeprefix("/"))
    if not url.startswith(SCHEME) or not where.startswith("/") or name in ("", "/", ":memory:") or "\0" in name:
        raise ConfigurationError(
            f"{url!r} names no SQLite file",
            hint="Write sqlite:///runs.db, or sqlite:////var/lib/runs.db for an absolute path; memory:// has no file",
        )
    known = {key: str(value) for key, value in (settings or {}).items() if key in options}
    given = dict(parse_qsl(query, keep_blank_values=True))
    return Target(path=Path(name).absolute(), **_read({**known, **given}, options, url))


def _read(given: Mapping[str, str], options: Mapping[str, _Reader], url: str) -> dict[str, Any]:
    unknown = sorted(set(given) - set(options))
    if unknown:
        raise ConfigurationError(
            f"{url!r}: unknown option {', '.join(unknown)}", hint=f"There are {', '.join(sorted(options))}"
        )
    values = {}
    for name, text in given.items():
        read, expected = options[name]
        try:
            values[name] = read(text)
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"{url!r}: {name} must be {expected}, got {text!r}") from error
    return values
