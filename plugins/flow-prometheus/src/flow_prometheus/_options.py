"""What the user may choose, checked: by argument of the tracer or by the settings table ``[prometheus]``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from flow.errors import ConfigurationError, SettingsError

STEP_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds, in seconds, for steps: from a function that computes something to a model that thinks for long."""
RUN_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
MAX_SERIES = 500

_NAMESPACE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def checked_namespace(value: Any) -> str:
    """Return the first word of the metrics' names; raises `ConfigurationError` for what Prometheus would refuse."""
    if isinstance(value, str) and _NAMESPACE.fullmatch(value):
        return value
    raise ConfigurationError(
        f"namespace must be a word that begins a metric's name, got {value!r:.60}",
        hint="Letters, digits and _ are allowed; it begins with no digit",
    )


def checked_count(name: str, value: Any, least: int = 1) -> int:
    """Return `value` when it is a whole number of at least `least`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise ConfigurationError(f"{name} must be a whole number of at least {least}, got {value!r:.60}")


def checked_seconds(name: str, value: Any) -> float:
    """Return `value` when it is a finite number of seconds that is not negative."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    raise ConfigurationError(f"{name} must be a number of seconds, 0 or more, got {value!r:.60}")


def checked_port(value: Any) -> int:
    """Return a TCP port; 0 is any free one."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535:
        return value
    raise ConfigurationError(f"port must be a number from 0 (any free one) to 65535, got {value!r:.60}")


def checked_buckets(name: str, value: Any) -> tuple[float, ...]:
    """Return the upper bounds of a histogram: rising numbers above 0."""
    numbers = tuple(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else ()
    sound = all(isinstance(n, (int, float)) and not isinstance(n, bool) and 0 < n < math.inf for n in numbers)
    if numbers and sound and list(numbers) == sorted(set(numbers)):
        return tuple(map(float, numbers))
    raise ConfigurationError(
        f"{name} must be a list of rising numbers of seconds above 0, got {value!r:.60}",
        hint="Write it like [0.1, 1, 10]; what is longer is counted in a bucket of its own",
    )


def _max_series(value: Any) -> int:
    return checked_count("max_series", value)


def _step_buckets(value: Any) -> tuple[float, ...]:
    return checked_buckets("step_buckets", value)


def _run_buckets(value: Any) -> tuple[float, ...]:
    return checked_buckets("run_buckets", value)


def _host(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise ConfigurationError(f"host must be the name or address of an interface, got {value!r:.60}")


@attrs.frozen(kw_only=True)
class Options:
    """How the metrics are called, how many series there may be, and whether they are served over HTTP.

    Raises `ConfigurationError` for anything else.

    >>> Options(step_buckets=[1, 10]).step_buckets
    (1.0, 10.0)
    """

    namespace: str = attrs.field(default="flow", converter=checked_namespace)
    max_series: int = attrs.field(default=MAX_SERIES, converter=_max_series)
    step_buckets: tuple[float, ...] = attrs.field(default=STEP_BUCKETS, converter=_step_buckets)
    run_buckets: tuple[float, ...] = attrs.field(default=RUN_BUCKETS, converter=_run_buckets)
    port: int | None = attrs.field(default=None, converter=attrs.converters.optional(checked_port))
    host: str = attrs.field(default="127.0.0.1", converter=_host)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Options:
        """Read the settings table; `SettingsError` names the key that is wrong and what may have been meant."""
        known = [field.name for field in attrs.fields(cls)]
        for key in settings:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"Did you mean {close[0]}?" if close else f"The settings are {', '.join(known)}"
                raise SettingsError(f"the prometheus table: unknown setting {key}", hint=hint)
        try:
            return cls(**settings)
        except ConfigurationError as error:
            raise SettingsError(f"the prometheus table: {error.message}", hint=error.hint) from error
