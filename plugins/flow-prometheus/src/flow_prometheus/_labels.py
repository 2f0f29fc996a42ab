"""Label values: few, and nothing in them but names. Each distinct value is a series that a server keeps for weeks."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Hashable
from functools import lru_cache
from typing import Generic, TypeVar

from flow.privacy import mask

logger = logging.getLogger("flow.prometheus")

KeyT = TypeVar("KeyT", bound=Hashable)

OTHER = "other"
"""What stands for every value that came after the last one that was admitted."""
WHOLE_RUN = "(run)"
"""What stands for a step where something concerns none."""

_LONGEST = 120
_INDEX = re.compile(r"i?[0-9]+")
_NUMBER = re.compile(r"[0-9]+:")


@lru_cache(maxsize=4096)
def step_path(path: str) -> str:
    """Return the names in the path of a step: what is the same for every item, iteration and run.

    >>> step_path("2:refine/i3/0:generate"), step_path("4:map/17/0:embed"), step_path("1:fan/left/0:score/fallback")
    ('refine/generate', 'map/embed', 'fan/left/score/fallback')
    """
    parts = [_NUMBER.sub("", part, count=1) for part in path.split("/") if not _INDEX.fullmatch(part)]
    return "/".join(parts) or WHOLE_RUN


def shown(value: str) -> str:
    r"""Return `value` as a label may show it: on one line, not long, what looks like a secret masked.

    >>> shown("triage\n"), shown("for sk-live-0123456789")
    ('triage\\n', 'for ****')
    """
    text = mask(value[: 3 * _LONGEST])
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


class _Few(Generic[KeyT]):
    """Admits the first keys that come, and says once that there are more."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._admitted: set[KeyT] = set()
        self._warned = False
        self._lock = threading.Lock()

    def admits(self, key: KeyT) -> bool:
        with self._lock:
            if key in self._admitted:
                return True
            if len(self._admitted) < self._most:
                self._admitted.add(key)
                return True
            first, self._warned = not self._warned, True
        if first:
            logger.warning(
                "there are more than %d %s: the metrics tell further ones as %r", self._most, self._what, OTHER
            )
        return False


class Labels:
    """Admits a number of distinct values and calls the others ``other``. Safe in threads.

    :param most: how many are admitted.
    :param what: what they are, in the plural, for the warning that is logged once.

    >>> names = Labels(1, "pipelines")
    >>> names.of("triage"), names.of("billing"), names.of("triage")
    ('triage', 'other', 'triage')
    """

    def __init__(self, most: int, what: str) -> None:
        self._few: _Few[str] = _Few(most, what)
        self._known: dict[str, str] = {}

    def of(self, value: str) -> str:
        """Return the label for `value`."""
        known = self._known.get(value)
        if known is not None:
            return known
        return self._known.setdefault(value, shown(value)) if self._few.admits(value) else OTHER


class StepLabels:
    """The labels of steps, each with that of its pipeline: as many pairs as are admitted, then the step is ``other``.

    >>> steps = StepLabels(1)
    >>> steps.of("triage", "0:sort"), steps.of("triage", "1:answer")
    (('triage', 'sort'), ('triage', 'other'))
    """

    def __init__(self, most: int) -> None:
        self._few: _Few[tuple[str, str]] = _Few(most, "steps")
        self._known: dict[tuple[str, str], tuple[str, str]] = {}

    def of(self, pipeline: str, path: str) -> tuple[str, str]:
        """Return the labels of the step at `path`; `pipeline` is a label already."""
        key = (pipeline, step_path(path))
        known = self._known.get(key)
        if known is not None:
            return known
        return self._known.setdefault(key, (pipeline, shown(key[1]))) if self._few.admits(key) else (pipeline, OTHER)
