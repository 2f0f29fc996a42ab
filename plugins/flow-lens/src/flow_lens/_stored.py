"""Finds runs in a store, and goes on where one of them is damaged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import attrs

from flow import RunRecord, StateBackend, StateCorrupt
from flow.cli import Filters

_PIECE = 64
_HOPELESS = 100
"""So many damaged runs without an intact one between them are no damaged runs."""


@attrs.frozen(eq=False)
class Found:
    """What a store has listed.

    :ivar more: there are more runs than were asked for.
    :ivar damaged: why some could not be read.
    """

    runs: Sequence[RunRecord]
    more: bool = False
    damaged: tuple[StateCorrupt, ...] = ()


async def listed(backend: StateBackend, filters: Filters) -> Found:
    """Return the wanted runs; where one of them is damaged the others, and what is wrong."""
    try:
        runs, more = await filters.apply(backend)
    except StateCorrupt as error:
        return await _around_damage(backend, filters, error)
    return Found(runs, more)


async def _around_damage(backend: StateBackend, filters: Filters, first: StateCorrupt) -> Found:
    """List in pieces that get smaller around a damaged run; a store that is damaged as a whole is an error."""
    end = None if filters.limit is None else filters.offset + filters.limit + 1
    damaged: dict[str, StateCorrupt] = {}
    runs: list[RunRecord] = []
    for status in filters.statuses or (None,):
        runs += [run async for run in _intact(backend, status, filters, end, damaged)]
    if not runs and len(damaged) == 1 and first.message in damaged:
        raise first
    runs.sort(key=lambda run: run.created_at, reverse=True)
    wanted = runs[filters.offset : None if end is None else end - 1]
    return Found(wanted, end is not None and len(runs) >= end, tuple(damaged.values()))


async def _intact(
    backend: StateBackend, status: str | None, filters: Filters, end: int | None, damaged: dict[str, StateCorrupt]
) -> AsyncIterator[RunRecord]:
    """Yield the runs of one status that can be read."""
    offset, size, in_a_row, count = 0, _PIECE, 0, 0
    while end is None or count < end:
        try:
            found = await backend.list_runs(
                status=status,
                pipeline=filters.pipeline,
                since=filters.since,
                text=filters.text,
                min_cost_usd=filters.min_cost_usd,
                limit=size,
                offset=offset,
            )
        except StateCorrupt as error:
            if size > 1:
                size //= 8
                continue
            damaged[error.message] = error
            in_a_row += 1
            if in_a_row == _HOPELESS:
                return
            found = ()
        for run in found:
            yield run
        if size > 1 and len(found) < size:
            return
        count += len(found)
        offset, size, in_a_row = offset + max(len(found), 1), _PIECE, 0 if found else in_a_row
