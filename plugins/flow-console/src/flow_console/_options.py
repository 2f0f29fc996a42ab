"""What the user may choose, checked: by argument of the tracer or by the settings table ``[console]``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flow.errors import ConfigurationError, SettingsError

LEVELS = ("info", "debug")
_FLAGS = ("log_inputs", "log_outputs", "colorized")


@dataclass(frozen=True, slots=True)
class Options:
    """What is shown, and how.

    :param level: ``"info"``, or ``"debug"`` which adds starts, failed attempts and decisions.
    :param log_inputs: print a short, masked form of what goes into each step.
    :param log_outputs: print a short, masked form of what comes out of each step.
    :param colorized: colours or none; ``None`` for colours on a terminal unless ``NO_COLOR`` is set.

    Raises `ConfigurationError` for anything else.

    >>> Options(level="debug").detailed
    True
    """

    level: str = "info"
    log_inputs: bool = False
    log_outputs: bool = False
    colorized: bool | None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            hint = _nearest(self.level, LEVELS) or "The levels are info and debug"
            raise ConfigurationError(f"level must be 'info' or 'debug', got {self.level!r:.60}", hint=hint)
        for name, value in zip(_FLAGS, (self.log_inputs, self.log_outputs, self.colorized), strict=True):
            if not isinstance(value, bool) and (name != "colorized" or value is not None):
                raise ConfigurationError(f"{name} must be true or false, got {value!r:.60}")

    @property
    def detailed(self) -> bool:
        """True at level ``debug``."""
        return self.level == "debug"

    @property
    def shows_content(self) -> bool:
        """True when inputs or outputs are shown; what one step returns is what the next one gets."""
        return self.log_inputs or self.log_outputs

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Options:
        """Read the settings table; `SettingsError` names the key that is wrong and what may have been meant."""
        known = ("level", *_FLAGS)
        for key in settings:
            if key not in known:
                hint = _nearest(key, known) or f"The settings are {', '.join(known)}"
                raise SettingsError(f"the console table: unknown setting {key}", hint=hint)
        try:
            return cls(**settings)
        except ConfigurationError as error:
            raise SettingsError(f"the console table: {error.message}", hint=error.hint) from error


def _nearest(word: object, choices: tuple[str, ...]) -> str | None:
    close = difflib.get_close_matches(str(word), choices, n=1)
    return f"Did you mean {close[0]}?" if close else None
