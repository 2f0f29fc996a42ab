"""Listings: what the index says of the runs that nobody owns, and what the journals say of the others."""

from __future__ import annotations

import contextlib
import heapq
import logging
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import orjson

from flow import RunRecord, check_run_id, holds_text
from flow.errors import ConfigurationError, StateError
from flow_file._disk import Disk
from flow_file._journal import Journal
from flow_file._lines import is_intact, seal
from flow_file._place import INDEX, Folders, Place
from flow_file._records import run_record

logger = logging.getLogger("flow.file")

_LINES_PER_RUN, _WASTE = 5, 1000  # an index of more lines is written anew; the life of a run makes three
_SUFFIX = ".jsonl"


@attrs.define(eq=False)
class Entry:
    """A run that nobody owns: what a listing chooses by, and where in the index the rest is."""

    run_id: str
    created_at: float
    status: str
    pipeline: str
    wake_at: float | None
    updated_at: float
    cost_usd: float
    size: int
    offset: int
    end: int
    is_whole: bool


@attrs.frozen(kw_only=True)
class Wanted:
    """What a listing is to hold."""

    status: str | None = None
    pipeline: str | None = None
    since: float | None = None
    due: float | None = None
    id_prefix: str | None = None
    text: str | None = None
    min_cost_usd: float | None = None

    def takes(self, run: Entry | RunRecord) -> bool:
        """Tell whether a run belongs to it, its texts aside: an entry does not have them."""
        cost_usd = run.usage.cost_usd if isinstance(run, RunRecord) else run.cost_usd
        return (
            self.status in (None, run.status)
            and self.pipeline in (None, run.pipeline)
            and (self.since is None or run.created_at >= self.since)
            and (self.due is None or (run.wake_at is not None and run.wake_at <= self.due))
            and (self.id_prefix is None or run.run_id.startswith(self.id_prefix))
            and (self.min_cost_usd is None or cost_usd >= self.min_cost_usd)
        )


class Listing:
    """The runs of a store, newest first. One thread at a time may use it.

    :param journal: returns the journal of a run, to be read here only.
    """

    def __init__(self, place: Place, disk: Disk, journal: Callable[[str], Journal]) -> None:
        self._place = place
        self._disk = disk
        self._journal = journal
        self._fd: int | None = None
        self._clear()

    def _clear(self) -> None:
        self._settled: dict[str, Entry] = {}
        self._order: list[tuple[float, str]] = []
        self._open: dict[str, Journal] = {}
        self._inode = 0
        self._end = 0
        self._lines = 0
        self._is_doubtful = True

    def close(self) -> None:
        """Forget everything and close the index."""
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None
        self._clear()

    def page(self, wanted: Wanted, limit: int, offset: int) -> list[RunRecord]:
        """Return a part of the runs that are wanted."""
        folders = self._place.find()
        if folders is None:
            return []
        self._refresh(folders)
        page: list[RunRecord] = []
        for run in self._newest(wanted):
            if len(page) >= limit:
                break
            if offset > 0 and wanted.text is None:
                offset -= 1
                continue
            record = self._whole(run)
            if record is None or (wanted.text is not None and not holds_text(record, wanted.text)):
                continue
            if offset > 0:
                offset -= 1
            else:
                page.append(record)
        return page

    def ended(self, unfinished: frozenset[str], older_than: float, keep: int) -> list[str]:
        """Return the runs that have ended and were last changed before a moment, the newest ended ones left out."""
        folders = self._place.find()
        if folders is None:
            return []
        self._refresh(folders)
        ended = [run for run in self._newest(Wanted()) if run.status not in unfinished]
        return [run.run_id for run in ended[keep:] if run.updated_at < older_than]

    def _newest(self, wanted: Wanted) -> Iterator[Entry | RunRecord]:
        open_runs = {run.run_id: run for run in self._look_at_open()}
        open_order = sorted(((run.created_at, run.run_id) for run in open_runs.values()), reverse=True)
        for created_at, run_id in heapq.merge(reversed(self._order), open_order, reverse=True):
            if wanted.since is not None and created_at < wanted.since:
                return
            run = open_runs[run_id] if run_id in open_runs else self._settled[run_id]
            if wanted.takes(run):
                yield run

    def _look_at_open(self) -> Iterator[RunRecord]:
        for run_id, journal in self._open.items():
            try:
                run = journal.glance()
            except (StateError, OSError) as error:
                logger.warning("run %s is left out of the listing: %s", run_id, error)
                continue
            if run is not None:
                yield run

    def _whole(self, run: Entry | RunRecord) -> RunRecord | None:
        if isinstance(run, RunRecord):
            return self._open[run.run_id].with_lease(run)
        if not run.is_whole or self._fd is None:
            return self._journal(run.run_id).load()
        fields = orjson.loads(self._disk.read(self._fd, run.offset, run.end))
        return run_record(fields["run"])

    # -- the index

    def _refresh(self, folders: Folders) -> None:
        found = self._disk.look_at(INDEX, folders.root)
        if found is None or found.st_ino != self._inode or found.st_size < self._end:
            self._load(folders)
        elif found.st_size > self._end:
            self._read(found.st_size)
        if self._is_doubtful:
            self._compare(folders)
            if self._lines > _LINES_PER_RUN * (len(self._settled) + len(self._open)) + _WASTE:
                self._shorten(folders)
                self._load(folders)
                self._compare(folders)

    def _load(self, folders: Folders) -> None:
        self.close()
        try:
            self._fd = self._disk.open(INDEX, folders.root)
        except FileNotFoundError:
            return
        found = self._disk.look(self._fd)
        self._inode = found.st_ino
        self._read(found.st_size)

    def _read(self, size: int) -> None:
        assert self._fd is not None  # noqa: S101  there was something to read in it
        data, base, start = self._disk.read(self._fd, self._end, size), self._end, 0
        while (stop := data.find(b"\n", start)) >= 0:
            text = data[start:stop]
            if is_intact(text):
                self._take(orjson.loads(text), base + start, base + stop)
            else:
                self._is_doubtful = True
            self._lines += 1
            start = stop + 1
        self._end = base + start

    def _take(self, fields: dict[str, Any], offset: int, end: int) -> None:
        if "run" in fields:
            run = fields["run"]
            entry = Entry(
                run["run_id"], run["created_at"], run["status"], run["pipeline"], run["wake_at"], run["updated_at"],
                run["usage"]["cost_usd"], fields["size"], offset, end, "input" in run,
            )  # fmt: skip
            self._drop(entry.run_id)
            self._settled[entry.run_id] = entry
            insort(self._order, (entry.created_at, entry.run_id))
        elif "open" in fields:
            self._watch(fields["open"])
        else:
            self._drop(fields["gone"])

    def _watch(self, run_id: str) -> None:
        if run_id not in self._open:
            self._drop(run_id)
            self._open[run_id] = self._journal(run_id)

    def _drop(self, run_id: str) -> None:
        self._open.pop(run_id, None)
        entry = self._settled.pop(run_id, None)
        if entry is not None:
            del self._order[bisect_left(self._order, (entry.created_at, run_id))]

    def _compare(self, folders: Folders) -> None:
        """Hold the index against the journals: look into each of another size, and forget those that are not there."""
        self._is_doubtful = False
        sizes = {name.removesuffix(_SUFFIX): size for name, size in self._disk.names(folders.runs) if _is_journal(name)}
        for run_id in [run_id for run_id in (*self._settled, *self._open) if run_id not in sizes]:
            self._drop(run_id)
        for run_id, size in sizes.items():
            entry = self._settled.get(run_id)
            if entry is None or entry.size != size:
                self._watch(run_id)
        for journal in list(self._open.values()):
            with contextlib.suppress(StateError, OSError):  # the listing will say it, or it is read-only
                journal.settle()

    def _shorten(self, folders: Folders) -> None:
        """Write an index without useless lines. Whoever has the old one open notices that its name is gone."""
        name = f"{INDEX}.{self._disk.token()}"
        with contextlib.suppress(OSError):  # a long index does no harm
            fd, _ = self._disk.create(name, folders.root, exclusive=True)
            try:
                self._disk.append(fd, b"".join(self._useful_lines()))
                self._disk.sync(fd)
            finally:
                self._disk.close(fd)
            self._disk.rename(name, INDEX, folders.root)

    def _useful_lines(self) -> Iterator[bytes]:
        assert self._fd is not None  # noqa: S101  it was just read
        for entry in self._settled.values():
            yield self._disk.read(self._fd, entry.offset, entry.end) + b"\n"
        for run_id in self._open:
            yield seal({"open": run_id}) + b"\n"


def _is_journal(name: str) -> bool:
    if not name.endswith(_SUFFIX):
        return False
    try:
        check_run_id(name.removesuffix(_SUFFIX))
    except ConfigurationError:
        return False
    return True
