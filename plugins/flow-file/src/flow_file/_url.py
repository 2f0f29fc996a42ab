"""``file:///absolute/directory?synchronous=full``"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from flow.errors import ConfigurationError

SYNCHRONOUS = ("full", "off")


def read_url(url: str) -> tuple[Path, str]:
    """Return directory and synchronous mode of a URL.

    The directory is absolute: a store that depends on where a program is started would lose its runs.

    >>> read_url("file:///var/lib/runs?synchronous=off")
    (PosixPath('/var/lib/runs'), 'off')
    """
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/"):
        here = Path.cwd() / unquote(parts.netloc + parts.path).lstrip("/")
        raise ConfigurationError(
            f"{url!r:.200} has no absolute directory", hint=f"Write it with three slashes, such as file://{here}"
        )
    if parts.fragment:
        raise ConfigurationError(f"{url!r:.200} has a fragment", hint="Write '#' in a path as %23")
    path = unquote(parts.path)
    if path.strip("/") == "" or "\0" in path:
        raise ConfigurationError(f"{url!r:.200} names no directory", hint="Write it like file:///var/lib/runs")
    return Path(path), _synchronous(url, parts.query)


def _synchronous(url: str, query: str) -> str:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - {"synchronous"})
    if unknown:
        raise ConfigurationError(
            f"{url!r:.200}: unknown option {', '.join(unknown)}", hint="It takes synchronous=full or synchronous=off"
        )
    chosen = options.get("synchronous", SYNCHRONOUS[0])
    if chosen not in SYNCHRONOUS:
        raise ConfigurationError(
            f"{url!r:.200}: synchronous is full or off, got {chosen!r}",
            hint="full: synced writes survive a loss of power. off: they survive the end of the process",
        )
    return chosen
