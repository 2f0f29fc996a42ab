"""Backend URLs: ``scheme://where?option=value``."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from .errors import ConfigurationError


def url_option(url: str, name: str, default: int) -> int:
    """Return a whole-number option of `url`; unknown options and values that are no number are refused.

    >>> url_option("memory://?max_entries=10", "max_entries", 1024)
    10
    """
    options = parse_qs(urlsplit(url).query, keep_blank_values=True)
    unknown = sorted(set(options) - {name})
    if unknown:
        raise ConfigurationError(
            f"{without_password(url)!r}: unknown option {', '.join(unknown)}", hint=f"It takes {name}=NUMBER"
        )
    if name not in options:
        return default
    value = options[name][-1]
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
