"""Which stored runs are wanted: read from options, checked, and asked of a store as plain values."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from .._durable import DEAD, RUNNING
from .._protocols import RunRecord, StateBackend
from .._results import RunStatus
from .._settings import did_you_mean
from ..errors import ConfigurationError
from .store import every_run

STATUSES = (RUNNING, *(status.value for status in RunStatus), DEAD)
_AGE = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@attrs.frozen(kw_only=True)
class Filters:
    """What a list of runs is to hold; no `limit` means all."""

    statuses: Sequence[str] = ()
    pipeline: str | None = None
    since: float | None = None
    text: str | None = None
    min_cost_usd: float | None = None
    offset: int = 0
    limit: int | None = None

    @property
    def narrow(self) -> bool:
        """True when there may be runs that are not wanted."""
        return bool(self.statuses or self._others() or self.offset)

    def _others(self) -> dict[str, Any]:
        others = {
            "pipeline": self.pipeline,
            "since": self.since,
            "text": self.text,
            "min_cost_usd": self.min_cost_usd,
        }
        return {name: value for name, value in others.items() if value is not None}

    async def apply(self, backend: StateBackend) -> tuple[Sequence[RunRecord], bool]:
        """Return the wanted runs, the newest first, and whether there are more."""
        if self.limit is None:
            return (await self._everything(backend))[self.offset :], False
        if len(self.statuses) < 2:
            (status,) = self.statuses or (None,)
            found = await self._newest(backend, status, self.limit + 1, self.offset)
        else:
            end = self.offset + self.limit + 1
            pages = [await self._newest(backend, status, end, 0) for status in self.statuses]
            found = _newest_first(pages)[self.offset : end]
        return found[: self.limit], len(found) > self.limit

    async def _newest(self, backend: StateBackend, status: str | None, limit: int, offset: int) -> Sequence[RunRecord]:
        return await backend.list_runs(status=status, limit=limit, offset=offset, **self._others())

    async def _everything(self, backend: StateBackend) -> Sequence[RunRecord]:
        pages = [
            [run async for run in every_run(backend, status=status, **self._others())]
            for status in self.statuses or (None,)
        ]
        return pages[0] if len(pages) == 1 else _newest_first(pages)


def _newest_first(pages: Sequence[Sequence[RunRecord]]) -> list[RunRecord]:
    return sorted((run for page in pages for run in page), key=lambda run: run.created_at, reverse=True)


def checked_statuses(given: Sequence[str]) -> list[str]:
    """Return the statuses without repetitions; raises `ConfigurationError` for what is none."""
    for status in given:
        if status not in STATUSES:
            near = did_you_mean(status, STATUSES)
            hint = f"{f'{near} ' if near else ''}The statuses are {', '.join(STATUSES)}"
            raise ConfigurationError(f"{status!r:.60} is no status of a run", hint=hint)
    return list(dict.fromkeys(given))


def moment_of(text: str, option: str = "--since") -> float:
    """Return the epoch second that ``2h``, ``3d`` (ago) or a date or time in ISO 8601 means; local without an offset.

    :param option: what the text was given for; `ConfigurationError` names it when the text is no time.

    >>> moment_of("1970-01-02T00:00Z")
    86400.0
    """
    age = _AGE.fullmatch(text)
    if age is not None:
        return time.time() - int(age[1]) * _SECONDS[age[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        hint = "Write it like 90s, 30m, 2h, 3d, 1w, 2025-12-31 or 2025-12-31T18:00"
        raise ConfigurationError(f"{option}: {text!r:.60} is no time", hint=hint) from error
