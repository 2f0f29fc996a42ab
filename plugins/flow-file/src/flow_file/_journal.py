"""One run's file: reading what was added, adding lines, and finding out whether they count."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from flow import RunRecord, StepRecord
from flow.errors import LeaseLost, RunNotFound, StateCorrupt, StateError
from flow_file._disk import Disk, state_error
from flow_file._head import Damaged, Head, Newer, See
from flow_file._leases import Lease, Leases
from flow_file._lines import Line, seal, sum_of
from flow_file._place import RUNS, Place
from flow_file._records import step_record

UNSYNCED_LINES = 64
"""After so many lines that nobody wanted synced a journal is synced all the same: what a loss of power can cost."""

_ATTEMPTS = 100  # each is lost only to a line of another process, and those are few

Plan = Callable[[Head, "Journal"], tuple[str, int, dict[str, Any]]]


class Notes(Protocol):
    """Who is told what a listing needs to know."""

    def opened(self, run_id: str) -> None:
        """From now on only the journal says what is with the run."""

    def settled(self, run: RunRecord, size: int) -> None:
        """Nobody owns the run, and its journal has this size."""

    def gone(self, run_id: str) -> None:
        """The run was deleted."""


@attrs.define(eq=False)
class Write:
    """A line to be added.

    :ivar plan: returns kind, epoch and fields of the line for the state that the run is in, or raises.
    :ivar error: why it was not added, after `Journal.write`.
    """

    plan: Plan
    sync: bool = True
    creates: bool = False
    kind: str = ""
    sum: bytes = b""
    result: Any = None
    done: bool = False
    error: BaseException | None = None


@attrs.define(eq=False)
class Journal:
    """The file of one run, and what this process knows of it. One thread at a time may use it."""

    run_id: str
    place: Place
    disk: Disk
    leases: Leases
    notes: Notes
    syncs: bool = True
    head: Head = attrs.field(factory=Head)
    _unsynced: int = 0
    _inode: int = 0
    _size: int = 0
    _has_written: bool = False
    _seen: tuple[int, int, int] | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.run_id}.jsonl"

    @property
    def path(self) -> str:
        """The file, for messages; a text, because pathlib keeps every name that it has seen."""
        return f"{self.place.root}/{RUNS}/{self.name}"

    @property
    def is_ours(self) -> bool:
        """Tell whether this process has taken hold of the run, so that more lines will come."""
        return self._has_written and self.head.run is not None and self.head.run.owner is not None

    @property
    def remains(self) -> int:
        """How many bytes at the end of the file are of a write that did not finish."""
        return self._size - self.head.end if self.head.torn else 0

    # -- reading

    def load(self) -> RunRecord | None:
        """Return the run as it is now."""
        self._visit(None)
        return None if self.head.run is None else self.with_lease(self.head.run)

    def glance(self) -> RunRecord | None:
        """Return the run, without its renewed lease; nothing is read when the file looks as it did."""
        found = self.disk.look_at(self.name, self.place.folders().runs)
        if found is None:
            self.head = Head()
        elif (found.st_ino, found.st_size, found.st_mtime_ns) != self._seen:
            self._visit(None)
        return self.head.run

    def with_lease(self, run: RunRecord) -> RunRecord:
        """Return the run, its lease as it was renewed last."""
        if run.owner is None:
            return run
        until_wall = self.lease(self.head).until_wall
        return run if until_wall == run.lease_until else attrs.evolve(run, lease_until=until_wall)

    def steps(self) -> tuple[StepRecord, ...]:
        """Return the steps in the order in which they were written."""
        records: dict[str, StepRecord] = {}

        def see(line: Line) -> None:
            if line.kind == "steps":
                for fields in line.fields()["steps"]:
                    records.pop(fields["path"], None)
                    records[fields["path"]] = step_record(fields)

        self.head = Head()
        self._visit(see)
        return tuple(records.values())

    def lease(self, head: Head) -> Lease:
        """Return the lease as it was renewed last."""
        run = head.run
        if run is None or run.owner is None:
            return Lease()
        return self.leases.read(self.run_id, run.epoch, head.tenure) or Lease(head.until, run.lease_until)

    def _visit(self, see: See | None) -> None:
        try:
            fd = self.disk.open(self.name, self.place.folders().runs)
        except FileNotFoundError:
            self.head = Head()
            return
        try:
            self._refresh(fd, see)
        finally:
            self.disk.close(fd)

    def _refresh(self, fd: int, see: See | None = None) -> None:
        """Read what was added since."""
        found, head = self.disk.look(fd), self.head
        if head.end and not self._is_continued(fd, found.st_ino, found.st_size):
            head = self.head = Head()
        self._inode, self._size = found.st_ino, found.st_size
        if found.st_size > head.end:
            trial = head.copy()
            self._read(trial, self.disk.read(fd, head.end, found.st_size), see)
            if trial.run is not None and trial.run.run_id != self.run_id:
                raise StateError(
                    f"{self.path} is the journal of run {trial.run.run_id!r}", hint="Give the file the name of its run"
                )
            self.head = trial
        else:
            head.torn = False
        self._seen = found.st_ino, found.st_size, found.st_mtime_ns

    def _is_continued(self, fd: int, inode: int, size: int) -> bool:
        """Tell whether the file is the one we know: it may have been deleted, and created anew."""
        head = self.head
        if inode != self._inode or size < head.end:
            return False
        begin = head.last + len(b'{"sum":"')
        return self.disk.read(fd, begin, begin + len(head.sum)) == head.sum

    def _read(self, head: Head, data: bytes, see: See | None) -> None:
        before = head.end
        try:
            head.read(data, self.disk.boot(), see)
        except Damaged as damaged:
            raise self._corrupt(damaged.offset, data, before) from damaged
        except Newer as newer:
            raise StateError(
                f"{self.path} was written by a later version of flow-file", hint="pip install -U flow-file"
            ) from newer

    def _corrupt(self, offset: int, data: bytes, base: int) -> StateCorrupt:
        where = f"line {self._line_number(offset, data, base)}, byte {offset}"
        return StateCorrupt(
            f"{self.path} is damaged at {where}",
            hint=f"Restore it from a copy, or save what is intact with: flow file salvage {self.path} NEW",
        )

    def _line_number(self, offset: int, data: bytes, base: int) -> str:
        if not base:
            return str(data.count(b"\n", 0, offset) + 1)
        fd = self.disk.open(self.name, self.place.folders().runs)
        try:
            return str(self.disk.read(fd, 0, offset).count(b"\n") + 1)
        finally:
            self.disk.close(fd)

    # -- writing

    def write(self, writes: Sequence[Write]) -> None:
        """Add lines, durably where that is asked for; each write is ``done`` then, or has its ``error``."""
        try:
            fd, made = self._open(any(write.creates for write in writes))
        except FileNotFoundError as error:
            creates = any(write.creates for write in writes)
            gone = state_error(error, f"{self.path} cannot be made") if creates else _unknown(self.run_id)
            _fail(writes, gone)
            return
        except OSError as error:
            _fail(writes, state_error(error, f"{self.path} cannot be opened"))
            return
        try:
            self._add(fd, writes, made)
        except OSError as error:
            _fail(writes, state_error(error, f"{self.path} cannot be written"))
        except StateError as error:
            _fail(writes, error)
        finally:
            self.disk.close(fd)

    def _open(self, creates: bool) -> tuple[int, bool]:
        if not creates:
            return self.disk.open(self.name, self.place.folders().runs, write=True), False
        self.place.make()
        self.notes.opened(self.run_id)  # before there is a file, so that no file is ever missed
        return self.disk.create(self.name, self.place.folders().runs)

    def _add(self, fd: int, writes: Sequence[Write], made: bool) -> None:
        self._refresh(fd)
        before, waiting = self.head.run, list(writes)
        for _ in range(_ATTEMPTS):
            waiting = self._attempt(fd, waiting)
            if not waiting:
                break
        else:
            _fail(waiting, StateError(f"{self.path}: others write to it without end"))
        added = [write for write in writes if write.done]
        self._has_written = bool(added)
        if added:
            self._sync(fd, added, made)
            if any(write.kind != "steps" for write in added):
                self._note(fd, before)

    def _attempt(self, fd: int, writes: Sequence[Write]) -> list[Write]:
        """Write lines in one piece; return those that have to be tried again."""
        trial, lines = self.head.copy(), []
        for write in writes:
            try:
                lines.append(self._line(write, trial))
            except OSError as error:
                write.error = state_error(error, f"{self.path} cannot be written")
            except Exception as error:  # noqa: BLE001  it is handed to whoever asked for this write
                write.error = error
        planned = [write for write in writes if write.error is None]
        if not planned:
            return []
        if _is_free(self.head.run) and any(write.kind in ("claim", "change") for write in planned):
            self.notes.opened(self.run_id)
        try:
            self.disk.append(fd, b"".join(lines))
        except OSError as error:
            return self._after_failure(fd, planned, error)
        found = self.disk.look(fd)
        if not found.st_nlink:
            raise RunNotFound(f"run {self.run_id!r} was deleted")
        if found.st_size != trial.end:
            return self._find_out(fd, planned)
        self.head, self._size = trial, trial.end
        for write in planned:
            write.done = True
        return []

    def _line(self, write: Write, trial: Head) -> bytes:
        write.kind, epoch, fields = write.plan(trial, self)
        envelope: dict[str, Any] = {"kind": write.kind, "epoch": epoch, "safe": trial.safe}
        begin = trial.end
        if trial.torn:
            envelope["from"], begin = trial.end, self._size
        text = seal({**envelope, "at": time.time(), **fields})
        write.sum, write.result = sum_of(text), epoch
        if write.kind != "steps":
            trial.apply(write.kind, {"epoch": epoch, **fields}, write.sum)
        trial.passed(text, write.sum, begin)
        trial.torn = False
        return text + b"\n"

    def _find_out(self, fd: int, writes: Sequence[Write]) -> list[Write]:
        """Somebody else wrote too: see which of our lines count, and return the others."""
        counting = set()
        self._refresh(fd, lambda line: counting.add(line.sum))
        for write in writes:
            write.done = write.sum in counting
        return [write for write in writes if not write.done]

    def _after_failure(self, fd: int, writes: Sequence[Write], error: OSError) -> list[Write]:
        """A write failed, perhaps in the middle: the lines that are whole count, the others are tried one by one."""
        waiting = self._find_out(fd, writes)
        if len(writes) == 1:
            _fail(waiting, state_error(error, f"{self.path} cannot be written"))
            return []
        return [again for write in waiting for again in self._attempt(fd, [write])]

    def _sync(self, fd: int, added: Sequence[Write], made: bool) -> None:
        self._unsynced += len(added)
        wanted = made or self._unsynced >= UNSYNCED_LINES or any(write.sync for write in added)
        if not self.syncs or not wanted:
            return
        end = self.head.end
        try:
            self.disk.sync(fd)
            if made:
                self.disk.sync_folder(self.place.folders().runs)
        except OSError as error:
            _fail(added, state_error(error, f"{self.path} cannot be written to the disk"))
            return
        self._unsynced, self.head.safe = 0, end

    def _note(self, fd: int, before: RunRecord | None) -> None:
        """Tell the index that the run changed hands, and forget the renewals of who had it before."""
        run = self.head.run
        if run is None:
            return
        with contextlib.suppress(OSError):  # the run is open in the index, which sends everybody to the journal
            self._note_owner(fd, run, before)

    def _note_owner(self, fd: int, run: RunRecord, before: RunRecord | None) -> None:
        if before is not None and before.owner is not None and (run.owner is None or run.epoch != before.epoch):
            self.leases.remove(self.run_id, before.epoch)
        if run.owner is None:
            self.notes.settled(run, self._size)
            if self.disk.look(fd).st_size != self._size:  # somebody has claimed it while we were noting this
                self.notes.opened(self.run_id)
        elif _is_free(before):
            self.notes.opened(self.run_id)  # once more: somebody may have noted that it is free since the first time

    def settle(self) -> None:
        """Bring the index up to date with a run that nobody owns."""
        run = self.glance()
        if run is None or run.owner is not None:
            return
        self.notes.settled(run, self._size)
        found = self.disk.look_at(self.name, self.place.folders().runs)
        if found is None or found.st_size != self._size:
            self.notes.opened(self.run_id)

    def renew(self, epoch: int, lease: Lease) -> None:
        """Prolong the lease."""
        self._visit(None)
        run = fenced(self.head, epoch, self.run_id)
        if run.owner is not None:  # it may have been given back while this was on its way
            self.leases.write(self.run_id, epoch, self.head.tenure, lease)

    def check(self, epoch: int) -> None:
        """Raise `LeaseLost` when a line of this epoch would not count."""
        self._visit(None)
        fenced(self.head, epoch, self.run_id)

    def remove(self, unless: Callable[[RunRecord], bool] | None = None) -> bool:
        """Delete the run; ``False`` when there is none, or when `unless` says that it stays."""
        try:
            run = self.load()
        except StateCorrupt:
            run = None  # whoever wants it gone need not repair it
        else:
            if run is None or (unless is not None and unless(run)):
                return False
        self.notes.opened(self.run_id)
        removed = self.disk.remove(self.name, self.place.folders().runs)
        if run is not None:
            self.leases.remove(self.run_id, run.epoch)
        self.notes.gone(self.run_id)
        if self.disk.look_at(self.name, self.place.folders().runs) is not None:  # somebody has created it anew
            self.notes.opened(self.run_id)
        self.head = Head()
        return removed


def known(head: Head, run_id: str) -> RunRecord:
    """Return the run; `RunNotFound` when there is none."""
    if head.run is None:
        raise _unknown(run_id)
    return head.run


def fenced(head: Head, epoch: int, run_id: str) -> RunRecord:
    """Return the run; `LeaseLost` when it was claimed by another since this epoch."""
    run = known(head, run_id)
    if run.epoch != epoch:
        raise LeaseLost(f"run {run_id!r} was taken over by {run.owner}; this result is discarded")
    return run


def _unknown(run_id: str) -> RunNotFound:
    return RunNotFound(f"no run has the id {run_id!r}", hint="See the stored runs with: flow runs")


def _is_free(run: RunRecord | None) -> bool:
    return run is None or run.owner is None


def _fail(writes: Sequence[Write], error: BaseException) -> None:
    for write in writes:
        write.done = False
        write.error = write.error or error
