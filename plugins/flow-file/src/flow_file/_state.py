"""The state backend: what the kernel asks, as work for the threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from flow import RunRecord, StepRecord, check_run_id
from flow.errors import ConfigurationError
from flow_file import _plans
from flow_file._disk import Disk, state_error
from flow_file._index import Index
from flow_file._journal import Journal, Write
from flow_file._leases import Leases
from flow_file._listing import Listing, Wanted
from flow_file._pipelines import Pipelines
from flow_file._place import Place
from flow_file._records import step_fields
from flow_file._workers import Job, Workers

Read = Callable[[Journal], Any]
Other = Callable[[], Any]

_UNFINISHED = frozenset({"running", "paused", "interrupted"})
_OTHERS = ""  # what concerns no single run has this key, which is no run id
_AT_ONCE = 64


class FileState:
    """Keeps runs in a directory: a journal of JSON lines for each.

    :param directory: made with the first run, for this user alone.
    :param synchronous: what ``sync`` of a write means: ``"full"``, it survives a loss of power; ``"off"``, only the
        end of the process.

    Raises `ConfigurationError` for another word.
    """

    def __init__(self, directory: str | Path, *, synchronous: str = "full", disk: Disk | None = None) -> None:
        if synchronous not in ("full", "off"):
            raise ConfigurationError(f"synchronous is 'full' or 'off', got {synchronous!r:.60}")
        self._disk = disk or Disk()
        self._place = Place(Path(directory).resolve(), self._disk)
        self._syncs = synchronous == "full"
        self._workers: Workers[Write | Read | Other] = Workers(self._execute)
        self._prepare()

    def _prepare(self) -> None:
        self._journals: dict[str, Journal] = {}
        self._leases = Leases(self._disk, self._place)
        self._index = Index(self._place, self._disk)
        self._listing = Listing(self._place, self._disk, self._journal)
        self._pipelines = Pipelines(self._place, self._disk, self._syncs)

    @property
    def directory(self) -> Path:
        """Where the runs are: absolute, links followed."""
        return self._place.root

    # -- runs

    async def create_run(self, run: RunRecord, lease_s: float = 0.0, *, sync: bool = True) -> None:
        """Store a new run."""
        await self._ask(check_run_id(run.run_id), Write(_plans.create(run, lease_s), sync, creates=True))

    async def load_run(self, run_id: str) -> RunRecord | None:
        """Return the run, if known."""
        found: RunRecord | None = await self._ask(check_run_id(run_id), Journal.load)
        return found

    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        """Take the run over when nobody else holds it."""
        epoch: int = await self._ask(check_run_id(run_id), Write(_plans.claim(owner, lease_s)))
        return epoch

    async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
        """Prolong the lease."""
        await self._ask(check_run_id(run_id), lambda journal: journal.renew(epoch, _plans.lease_of(lease_s)))

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        """Add finished steps: one line, so that all are there or none."""
        lines = [step_fields(record) for record in records]
        if lines:
            await self._ask(check_run_id(run_id), Write(_plans.steps(epoch, lines), sync))
        else:
            await self._ask(check_run_id(run_id), lambda journal: journal.check(epoch))

    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        """Return the journal."""
        found: tuple[StepRecord, ...] = await self._ask(check_run_id(run_id), Journal.steps)
        return found

    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        """Change fields of the run."""
        plan = _plans.change(epoch, {"updated_at": time.time(), **changes})
        await self._ask(check_run_id(run_id), Write(plan, sync))

    async def delete_run(self, run_id: str) -> bool:
        """Forget a run."""
        removed: bool = await self._ask(check_run_id(run_id), Journal.remove)
        if removed:
            await self._ask(_OTHERS, self._sync_removals)
        return removed

    # -- all runs

    async def list_runs(
        self,
        *,
        status: str | None = None,
        pipeline: str | None = None,
        since: float | None = None,
        due: float | None = None,
        id_prefix: str | None = None,
        text: str | None = None,
        min_cost_usd: float | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> Sequence[RunRecord]:
        """Return the newest runs first."""
        wanted = Wanted(
            status=status,
            pipeline=pipeline,
            since=since,
            due=due,
            id_prefix=id_prefix,
            text=text,
            min_cost_usd=min_cost_usd,
        )
        page: list[RunRecord] = await self._ask(_OTHERS, lambda: self._listing.page(wanted, limit, offset))
        return page

    async def prune(self, *, older_than: float, keep: int = 0) -> int:
        """Forget runs that ended long ago."""
        old: list[str] = await self._ask(_OTHERS, lambda: self._listing.ended(_UNFINISHED, older_than, keep))

        def stays(run: RunRecord) -> bool:
            return run.status in _UNFINISHED or run.updated_at >= older_than

        removed = 0
        for start in range(0, len(old), _AT_ONCE):
            some = old[start : start + _AT_ONCE]
            gone = await asyncio.gather(*(self._ask(run_id, lambda journal: journal.remove(stays)) for run_id in some))
            removed += sum(gone)
        if removed:
            await self._ask(_OTHERS, self._sync_removals)
        return removed

    # -- pipelines

    async def save_pipeline(self, fingerprint: str, structure: bytes) -> None:
        """Keep the description of a pipeline."""
        name = Pipelines.name(fingerprint)
        await self._ask(_OTHERS, lambda: self._pipelines.save(name, structure))

    async def load_pipeline(self, fingerprint: str) -> bytes | None:
        """Return the description of a pipeline, if known."""
        name = Pipelines.name(fingerprint)
        found: bytes | None = await self._ask(_OTHERS, lambda: self._pipelines.load(name))
        return found

    async def aclose(self) -> None:
        """End the threads and close all files; used afterwards, the store is opened again."""
        self._begin_anew_after_fork()
        await self._workers.aclose()
        self._listing.close()
        self._index.close()
        self._place.close()
        self._journals.clear()

    # -- the work

    async def _ask(self, key: str, work: Write | Read | Other) -> Any:
        self._begin_anew_after_fork()
        return await self._workers.ask(key, work)

    def _begin_anew_after_fork(self) -> None:
        """In a child process threads are gone, and locks may be held by them for ever."""
        if not self._workers.is_of_this_process:
            self._place.forked()
            self._workers = Workers(self._execute)
            self._prepare()

    def _journal(self, run_id: str) -> Journal:
        return Journal(run_id, self._place, self._disk, self._leases, self._index, self._syncs)

    def _execute(self, key: str, jobs: Sequence[Job[Write | Read | Other]]) -> None:
        """Do what came together for one run, in order; called in a thread."""
        if key == _OTHERS:
            for job in jobs:
                _do(job, cast(Other, job.work), f"the store {self._place.root} cannot be used")
            return
        journal = self._journals.get(key) or self._journal(key)
        for is_write, some in groupby(jobs, lambda job: isinstance(job.work, Write)):
            if is_write:
                _write(journal, list(some))
            else:
                for job in some:
                    _do(job, partial(cast(Read, job.work), journal), f"{journal.path} cannot be used")
        if journal.is_ours:
            self._journals[key] = journal
        else:
            self._journals.pop(key, None)

    def _sync_removals(self) -> None:
        if self._syncs:
            self._disk.sync_folder(self._place.folders().runs)


def _do(job: Job[Any], work: Callable[[], Any], failing: str) -> None:
    try:
        job.result = work()
    except OSError as error:
        job.error = state_error(error, failing)
    except Exception as error:  # noqa: BLE001  it is handed to whoever asked
        job.error = error


def _write(journal: Journal, jobs: Sequence[Job[Any]]) -> None:
    try:
        journal.write([job.work for job in jobs])
    except Exception as error:  # noqa: BLE001  it is handed to whoever asked
        for job in jobs:
            job.error = error
        return
    for job in jobs:
        job.result, job.error = job.work.result, job.work.error
