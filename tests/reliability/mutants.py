"""Mutations of the engine: each takes one thing away that a promise rests on, and must be noticed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import pytest

from flow import Pipeline, StateError, StepRecord, _heartbeat, _journal, _lease, _run
from tests.reliability import stores
from tests.reliability.witness import Layered

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, Callable[[Patch], None]] = {}


def mutant(apply_to: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Register a mutation under the name of its function."""
    MUTANTS[apply_to.__name__.replace("_", " ")] = apply_to
    return apply_to


def apply(name: str) -> None:
    """Change the engine in this process for good; nothing for an empty name."""
    if name:
        MUTANTS[name](Patch())


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Change the engine in this process for a while; nothing for an empty name."""
    with Patch.context() as patch:
        if name:
            MUTANTS[name](patch)
        yield


def everywhere(patch: Patch, name: str, replacement: Any) -> None:
    """Replace a function in every module of flow that has imported it."""
    import flow_file._plans
    import flow_sqlite._runs

    assert name in vars(flow_file._plans)
    assert name in vars(flow_sqlite._runs)
    for module in list(sys.modules.values()):
        if module.__name__.startswith("flow") and name in vars(module):
            patch.setattr(module, name, replacement)


def layer(patch: Patch, kind: Callable[[Any], Any]) -> None:
    patch.setattr(stores, "LAYERS", [*stores.LAYERS, kind])


# -- owners and leases


@mutant
def leases_are_not_looked_at(patch: Patch) -> None:
    everywhere(patch, "lease_is_over", lambda *_: True)


@mutant
def leases_are_not_renewed(patch: Patch) -> None:
    patch.setattr(_heartbeat.Tenure, "begin", lambda *_: None)


@mutant
def the_dead_keep_their_leases(patch: Patch) -> None:
    patch.setattr(_lease, "_is_gone", lambda *_: False)


class Unfenced(Layered):
    """Writes with whatever epoch the run has now."""

    async def _now(self, run_id: str) -> int:
        return (await self.inner.load_run(run_id)).epoch

    async def append_steps(self, run_id: str, epoch: int, records: Any, **how: Any) -> None:
        await self.inner.append_steps(run_id, await self._now(run_id), records, **how)

    async def update_run(self, run_id: str, epoch: int, **changes: Any) -> None:
        await self.inner.update_run(run_id, await self._now(run_id), **changes)

    async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
        await self.inner.renew_run(run_id, await self._now(run_id), lease_s)


@mutant
def writes_are_not_fenced(patch: Patch) -> None:
    layer(patch, Unfenced)


# -- what is written, and when


class Hasty(Layered):
    """Says that steps are stored before they are."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._tasks: list[asyncio.Task[None]] = []

    async def append_steps(self, *args: Any, **how: Any) -> None:
        self._tasks.append(asyncio.ensure_future(self.inner.append_steps(*args, **how)))

    async def update_run(self, *args: Any, **how: Any) -> None:
        await asyncio.gather(*self._tasks)
        await self.inner.update_run(*args, **how)


@mutant
def steps_are_acknowledged_before_they_are_stored(patch: Patch) -> None:
    layer(patch, Hasty)


@mutant
def failed_writes_are_ignored(patch: Patch) -> None:
    append = _journal.Journal.append

    async def ignoring(self: Any, record: StepRecord) -> None:
        with suppress(StateError):
            await append(self, record)

    patch.setattr(_journal.Journal, "append", ignoring)


class Forgetful(Layered):
    """Does not store answers."""

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], **how: Any) -> None:
        kept = [record for record in records if record.status != "answered"]
        await self.inner.append_steps(run_id, epoch, kept, **how)


@mutant
def answers_are_not_stored(patch: Patch) -> None:
    layer(patch, Forgetful)


@mutant
def results_need_not_survive_a_loss_of_power(patch: Patch) -> None:
    begin = _journal.Journal.__init__

    def lazy(self: Any, *args: Any, sync: bool = True, **how: Any) -> None:
        begin(self, *args, sync=False, **how)

    patch.setattr(_journal.Journal, "__init__", lazy)


@mutant
def sqlite_does_not_wait_for_the_disk(patch: Patch) -> None:
    from flow_sqlite._writer import Writer

    set_level = Writer._set_level
    patch.setattr(Writer, "_set_level", lambda self, connection, _level: set_level(self, connection, 0))


@mutant
def files_are_not_forced_to_disk(patch: Patch) -> None:
    from flow_file._disk import Disk

    patch.setattr(Disk, "sync", lambda *_: None)


@mutant
def ends_are_not_stored(patch: Patch) -> None:
    async def finish(self: Any, result: Any) -> None:
        return

    patch.setattr(_journal.Journal, "finish", finish)


class Innocent(Layered):
    """Does not count how often a run has killed its process."""

    async def update_run(self, run_id: str, epoch: int, **changes: Any) -> None:
        changes.pop("recoveries", None)
        await self.inner.update_run(run_id, epoch, **changes)


@mutant
def recoveries_are_not_counted(patch: Patch) -> None:
    layer(patch, Innocent)


# -- what is read, and what follows from it


@mutant
def the_journal_is_not_consulted(patch: Patch) -> None:
    patch.setattr(_journal.Journal, "completed", lambda *_: None)


@mutant
def what_was_spent_is_not_counted_again(patch: Patch) -> None:
    patch.setattr(_run.Scope, "carry", lambda *_: None)


@mutant
def context_changes_are_not_replayed(patch: Patch) -> None:
    replay = _journal.Journal.replay

    def partly(self: Any, step: Any, record: StepRecord, *rest: Any) -> Any:
        return replay(self, step, attrs.evolve(record, changes=None), *rest)

    patch.setattr(_journal.Journal, "replay", partly)


@mutant
def pipelines_are_not_compared(patch: Patch) -> None:
    patch.setattr(Pipeline, "fingerprint", "0" * 64)


@mutant
def keys_differ_between_processes(patch: Patch) -> None:
    patch.setattr(_run.StepRun, "idempotency_key", property(lambda run: f"{os.getpid()}-{run.path}"))


class _Constant:
    """A checksum that is right for everything."""

    def __init__(self, *_: Any) -> None: ...

    def digest(self, length: int = 32) -> bytes:
        return b"0" * length

    def hexdigest(self, length: int = 32) -> str:
        return "00" * length


@mutant
def checksums_are_not_compared(patch: Patch) -> None:
    import flow_file._lines
    import flow_sqlite._rows

    patch.setattr(flow_sqlite._rows, "blake3", _Constant)
    patch.setattr(flow_file._lines, "blake3", _Constant)
