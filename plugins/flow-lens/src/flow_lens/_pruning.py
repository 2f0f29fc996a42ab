"""``flow lens prune``: forgets runs that ended long ago, and says which before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

from flow import RunRecord, StateBackend
from flow.cli import every_run
from flow_lens._words import counted

_UNFINISHED = frozenset({"running", "paused", "interrupted"})


@attrs.frozen(kw_only=True, eq=False)
class Pruned:
    """Which runs are old enough, and what was done.

    :ivar removed: how many were forgotten; ``None`` when it was only asked which would be.
    """

    runs: Sequence[RunRecord]
    removed: int | None = None


async def prune(backend: StateBackend, *, older_than: float, keep: int, dry_run: bool) -> Pruned:
    """Forget runs that have ended and were last changed before the epoch second `older_than`.

    :param keep: so many of the newest that have ended stay in any case.
    :param dry_run: only return which would be forgotten.
    """
    ended = [run async for run in every_run(backend) if run.status not in _UNFINISHED]
    old = [run for run in ended[keep:] if run.updated_at < older_than]
    if dry_run:
        return Pruned(runs=old)
    return Pruned(runs=old, removed=await backend.prune(older_than=older_than, keep=keep) if old else 0)


def in_words(found: Pruned) -> Iterator[str]:
    """Yield what was or would be removed, in sum and by status and pipeline."""
    count = len(found.runs) if found.removed is None else found.removed
    verb = "would be removed" if found.removed is None else "removed"
    yield f"{counted(count, 'run')} {verb}"
    for (pipeline, status), number in Counter((run.pipeline, run.status) for run in found.runs).most_common():
        yield f"  {number:,} {status.replace('_', ' ')} of {pipeline}"
