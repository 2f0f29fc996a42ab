"""The power is cut at random moments: what was acknowledged is there, and what is there is whole.

A disk that records every write, sync and change of a name is cut off at some point. Of what was not synced until then
each block of 512 bytes and each name survives at random. The store that is left is opened as after a new start.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
import pytest
from flow_file import FileState
from flow_file._disk import Disk

from flow import RunRecord, StateCorrupt, StepRecord

CUTS = 2000 if os.environ.get("FLOW_TEST_SOAK") else 200
RECORDINGS = 4
BLOCK = 512
FOLDERS = ("", "runs", "leases", "pipelines")


@attrs.frozen
class Happened:
    """One thing that the disk was asked for, or that a caller was told."""

    what: str
    file: int = 0
    folder: str = ""
    name: str = ""
    to: str = ""
    data: bytes = b""
    told: Any = None


class RecordingDisk(Disk):
    """Does what it is asked for, and writes down what that was."""

    def __init__(self) -> None:
        self.log: list[Happened] = []
        self.lock = threading.RLock()
        self.files: dict[int, int] = {}
        self.folders: dict[int, str] = {}
        self.boots = "before"

    def boot(self) -> str:
        return self.boots

    def make_folder(self, name: str, within: int) -> None:
        self.folders.setdefault(within, "")
        super().make_folder(name, within)

    def open_root(self, path: Path) -> int:
        fd = super().open_root(path)
        self.folders[fd] = ""
        return fd

    def open_folder(self, name: str, within: int) -> int:
        fd = super().open_folder(name, within)
        self.folders[fd] = name
        return fd

    def create(self, name: str, within: int, *, exclusive: bool = False) -> tuple[int, bool]:
        with self.lock:
            fd, made = super().create(name, within, exclusive=exclusive)
            if made:
                self.note_file(fd, name, within)
            return fd, made

    def note_file(self, fd: int, name: str, within: int) -> None:
        number = len(self.log) + 1
        self.files[os.fstat(fd).st_ino] = number
        self.log.append(Happened("create", number, self.folders[within], name))

    def append(self, fd: int, data: bytes) -> None:
        with self.lock:
            super().append(fd, data)
            self.log.append(Happened("append", self.files[os.fstat(fd).st_ino], data=data))

    def overwrite(self, name: str, within: int, data: bytes) -> None:
        with self.lock:
            is_new = self.look_at(name, within) is None
            super().overwrite(name, within, data)
            fd = self.open(name, within)
            if is_new:
                self.note_file(fd, name, within)
            self.log.append(Happened("overwrite", self.files[os.fstat(fd).st_ino], data=data))
            os.close(fd)

    def sync(self, fd: int) -> None:
        number = self.files[os.fstat(fd).st_ino]
        with self.lock:
            self.log.append(Happened("sync", number))

    def sync_folder(self, fd: int) -> None:
        with self.lock:
            self.log.append(Happened("sync folder", folder=self.folders[fd]))

    def rename(self, old: str, new: str, within: int) -> None:
        with self.lock:
            super().rename(old, new, within)
            self.log.append(Happened("rename", folder=self.folders[within], name=old, to=new))

    def remove(self, name: str, within: int) -> bool:
        with self.lock:
            removed = super().remove(name, within)
            if removed:
                self.log.append(Happened("remove", folder=self.folders[within], name=name))
            return removed

    def tell(self, *told: Any) -> None:
        """Note that a caller was told something."""
        with self.lock:
            self.log.append(Happened("told", told=told))


class DiskThatNeverSyncs(RecordingDisk):
    def sync(self, fd: int) -> None:
        pass


class DiskThatForgetsNames(RecordingDisk):
    def sync_folder(self, fd: int) -> None:
        pass


class DiskOfTheNextBoot(Disk):
    def boot(self) -> str:
        return "after"


def surviving(log: list[Happened], dice: random.Random) -> dict[str, dict[str, bytes]]:
    """Return names and contents after a cut at the end of the log."""
    kept: dict[int, bytearray] = defaultdict(bytearray)
    now: dict[int, bytearray] = defaultdict(bytearray)
    names: dict[str, dict[str, int]] = {folder: {} for folder in FOLDERS}
    unsynced: dict[str, list[Happened]] = defaultdict(list)
    for event in log:
        if event.what == "append":
            now[event.file] += event.data
        elif event.what == "overwrite":
            now[event.file][: len(event.data)] = event.data
        elif event.what == "sync":
            kept[event.file] = bytearray(now[event.file])
        elif event.what == "sync folder":
            for change in unsynced.pop(event.folder, ()):
                rename(names, change)
        elif event.what != "told":
            unsynced[event.folder].append(event)
    luck = dice.choice((0.0, 0.3, 0.7, 1.0))
    for changes in unsynced.values():
        for change in changes:
            if dice.random() < luck:
                rename(names, change)
    return {
        folder: {name: mixed(bytes(kept[file]), bytes(now[file]), luck, dice) for name, file in inside.items()}
        for folder, inside in names.items()
    }


def rename(names: dict[str, dict[str, int]], change: Happened) -> None:
    inside = names[change.folder]
    if change.what == "create":
        inside[change.name] = change.file
    elif change.what == "remove":
        inside.pop(change.name, None)
    elif change.name in inside:
        inside[change.to] = inside.pop(change.name)


def mixed(kept: bytes, now: bytes, luck: float, dice: random.Random) -> bytes:
    """Return what was synced with some of the blocks that were written since."""
    result = bytearray(kept)
    for start in range(0, len(now), BLOCK):
        block = now[start : start + BLOCK]
        if block != kept[start : start + BLOCK] and dice.random() < luck:
            result.extend(bytes(max(0, start + len(block) - len(result))))
            result[start : start + len(block)] = block
    return bytes(result)


def put(files: dict[str, dict[str, bytes]], root: Path) -> None:
    for folder, inside in files.items():
        (root / folder).mkdir(mode=0o700, exist_ok=True)
        for name, content in inside.items():
            (root / folder / name).write_bytes(content)


@attrs.define
class Ledger:
    """What was asked of the store for one run, in order, and how much of it was acknowledged."""

    batches: list[list[str]] = attrs.field(factory=list)
    acknowledged: int = 0
    is_created: bool = False
    is_deleted: bool = False
    may_be_deleted: bool = False


def ledgers(log: list[Happened]) -> dict[str, Ledger]:
    books: dict[str, Ledger] = defaultdict(Ledger)
    for event in log:
        if event.what != "told":
            continue
        what, run_id, *more = event.told
        book = books[run_id]
        if what == "appends":
            book.batches.append(more[0])
        elif what == "appended":
            book.acknowledged = len(book.batches)
        elif what == "created":
            book.is_created = True
        elif what == "deletes":
            book.may_be_deleted = True
        elif what == "deleted":
            book.is_deleted = True
    return books


async def work(state: FileState, disk: RecordingDisk, run_id: str, make: Any, dice: random.Random, sync: bool) -> None:
    """Execute a run: steps one by one and several at once, renewals, a pause, an end, or a deletion."""
    make_run, make_step = make
    await state.create_run(make_run(run_id, owner="a", epoch=1), 30.0)
    disk.tell("created", run_id)
    epoch = 1
    for number in range(12):
        paths = [f"{number}:{part}" for part in range(dice.choice((1, 1, 3)))]
        steps = [make_step(path, output=b'"' + b"x" * dice.choice((10, 700, 3000)) + b'"') for path in paths]
        disk.tell("appends", run_id, paths)
        await state.append_steps(run_id, epoch, steps, sync=sync)
        disk.tell("appended", run_id)
        if number % 5 == 2:
            await state.renew_run(run_id, epoch, 30.0)
        if number == 7:
            await state.update_run(run_id, epoch, status="paused", owner=None, sync=sync)
            epoch = await state.claim_run(run_id, "b", 30.0)
    await state.update_run(run_id, epoch, status="completed", owner=None, sync=sync)
    if dice.random() < 0.3:
        disk.tell("deletes", run_id)
        await state.delete_run(run_id)
        disk.tell("deleted", run_id)


def record(root: Path, make: Any, seed: int, *, disk: RecordingDisk, sync: bool = True) -> list[Happened]:
    async def main() -> None:
        dice = random.Random(seed)
        state = FileState(root, disk=disk)
        await state.save_pipeline("f1", b'{"steps": []}')
        disk.tell("described", "")
        await asyncio.gather(*(work(state, disk, f"run-{number}", make, dice, sync) for number in range(3)))
        await state.aclose()

    asyncio.run(main())
    return disk.log


async def judge(root: Path, log: list[Happened], make_step: Callable[..., StepRecord]) -> tuple[int, list[str]]:
    """Return how many acknowledged steps are lost, and what else is wrong."""
    state, lost, wrong = FileState(root, disk=DiskOfTheNextBoot()), 0, []
    books = ledgers(log)
    if books.pop("", None) and await state.load_pipeline("f1") != b'{"steps": []}':
        wrong.append("the description of a pipeline is lost")
    for run_id, book in books.items():
        try:
            run = await state.load_run(run_id)
        except StateCorrupt:
            lost += 1
            wrong.append(f"{run_id} is damaged")
            continue
        if run is None:
            if book.is_created and not book.may_be_deleted:
                lost += 1 + book.acknowledged
            continue
        if book.is_deleted:
            wrong.append(f"{run_id} is back")
        stored = [step.path for step in await state.load_steps(run_id)]
        whole = next((n for n in range(len(book.batches) + 1) if list(chain(*book.batches[:n])) == stored), None)
        if whole is None:
            wrong.append(f"{run_id} has gaps or half a batch: {stored}")
        else:
            lost += max(0, book.acknowledged - whole)
        wrong += await goes_on(state, run, stored, make_step)
    if wrong:
        await state.aclose()
        return lost, wrong
    listed = await state.list_runs()
    for run in listed:
        if run != await state.load_run(run.run_id):
            wrong.append(f"the listing says something else about {run.run_id}")
    missing = {run_id for run_id in books if await state.load_run(run_id) is not None} - {run.run_id for run in listed}
    if missing:
        wrong.append(f"the listing has not {missing}")
    await state.aclose()
    return lost, wrong


async def goes_on(
    state: FileState, run: RunRecord, stored: list[str], make_step: Callable[..., StepRecord]
) -> list[str]:
    """Resume a run after the cut, and look whether the old and the new steps are there."""
    await state.renew_run(run.run_id, run.epoch, 0.0)
    epoch = await state.claim_run(run.run_id, "next", 30.0)
    await state.append_steps(run.run_id, epoch, [make_step("99:last")])
    await state.update_run(run.run_id, epoch, status="failed", owner=None)
    after = [step.path for step in await state.load_steps(run.run_id)]
    return [] if after == [*stored, "99:last"] else [f"{run.run_id} cannot be resumed: {after}"]


def cut_again_and_again(
    tmp_path: Path, make: Any, disks: Callable[[], RecordingDisk], cuts: int, *, sync: bool = True
) -> tuple[int, list[str]]:
    lost, wrong = 0, []
    for recording in range(RECORDINGS):
        log = record(tmp_path / f"recording-{recording}", make, recording, disk=disks(), sync=sync)
        begin = 1 + max(index for index, event in enumerate(log[:20]) if event.folder == "")
        for number in range(cuts // RECORDINGS):
            seed = recording * 100_000 + number
            dice = random.Random(seed)
            until = log[: dice.randrange(min(begin, len(log)), len(log) + 1)]
            root = tmp_path / f"cut-{seed}"
            root.mkdir()
            put(surviving(until, dice), root)
            lost_now, wrong_now = asyncio.run(judge(root, until, make[1]))
            lost += lost_now
            wrong += [f"seed {seed}: {what}" for what in wrong_now]
    return lost, wrong


@pytest.fixture
def make(make_run: Callable[..., RunRecord], make_step: Callable[..., StepRecord]) -> Any:
    return make_run, make_step


def test_nothing_acknowledged_is_lost_and_everything_is_whole(tmp_path: Path, make: Any) -> None:
    assert cut_again_and_again(tmp_path, make, RecordingDisk, CUTS) == (0, [])


def test_unsynced_writes_may_be_lost_but_leave_no_gaps_and_no_damage(tmp_path: Path, make: Any) -> None:
    lost, wrong = cut_again_and_again(tmp_path, make, RecordingDisk, CUTS // 2, sync=False)
    assert wrong == []
    assert lost > 0


def test_losses_would_be_found_without_fsync(tmp_path: Path, make: Any) -> None:
    lost, _ = cut_again_and_again(tmp_path, make, DiskThatNeverSyncs, 40)
    assert lost > 0


def test_losses_would_be_found_if_names_were_not_synced(tmp_path: Path, make: Any) -> None:
    lost, _ = cut_again_and_again(tmp_path, make, DiskThatForgetsNames, 40)
    assert lost > 0
