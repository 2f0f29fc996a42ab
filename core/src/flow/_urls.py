"""Backend URLs: ``scheme://where?option=value``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from .errors import ConfigurationError


def url_options(url: str, defaults: Mapping[str, int]) -> dict[str, int]:
    """Return the whole-number options of `url`; unknown options and values that are no number are refused.

    >>> url_options("memory://?max_entries=10", {"max_entries": 1024, "max_bytes": 4096})
    {'max_entries': 10, 'max_bytes': 4096}
    """
    given = parse_qs(urlsplit(url).query, keep_blank_values=True)
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        hint = f"It takes {' and '.join(f'{name}=NUMBER' for name in defaults)}"
        raise ConfigurationError(f"{without_password(url)!r}: unknown option {', '.join(unknown)}", hint=hint)
    return {
        name: _whole_number(url, name, given[name][-1]) if name in given else default
        for name, default in defaults.items()
    }


def _whole_number(url: str, name: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise ConfigurationError(
            f"{without_password(url)!r}: {name} must be a whole number of at least 1, got {value!r}"
        )
    return int(value)


def without_password(url: str) -> str:
    """Return `url` as it may be shown and logged.

    >>> without_password("postgres://ada:secret@db/runs")
    'postgres://ada:***@db/runs'
    """
    return re.sub(r"(//[^/@:]*):[^/]*@", r"\1:***@", url)
