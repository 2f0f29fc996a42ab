"""Disks that are full, read-only or break: the caller is told, and nothing that was acknowledged is touched."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from flow_file import FileState
from flow_file._disk import Disk

from flow import RunRecord, StateError, StepRecord

MakeRun = Callable[..., RunRecord]
MakeStep = Callable[..., StepRecord]

NOBODY = 65534


@attrs.define
class Ledger:
    """What was asked for and acknowledged."""

    asked: list[list[str]] = attrs.field(factory=list)
    acknowledged: int = 0
    created: bool = False
    status: str = "running"
    file: Path | None = None

    def note(self, **told: Any) -> None:
        """Keep what was acknowledged, for whoever asks after the death of this process."""
        for name, value in told.items():
            self.__setattr__(name, value)
        if self.file is not None:
            self.file.write_text(json.dumps(attrs.asdict(self, filter=attrs.filters.exclude("file"))))

    @classmethod
    def found(cls, file: Path) -> Ledger:
        """Read what was kept."""
        return cls(**json.loads(file.read_text()))


async def execute(state: FileState, make_run: MakeRun, make_step: MakeStep, book: Ledger) -> None:
    """Execute a run from its beginning to its end."""
    await state.save_pipeline("f1", b"{}")
    await state.create_run(make_run(owner="a", epoch=1), 60.0)
    book.note(created=True)
    epoch = 1
    for batch in (["0:a"], ["1:b", "2:c"], ["3:d"]):
        await append(state, epoch, batch, make_step, book)
    await state.renew_run("run-1", epoch, 60.0)
    await state.update_run("run-1", epoch, status="paused", owner=None)
    book.note(status="paused")
    epoch = await state.claim_run("run-1", "b", 60.0)
    await append(state, epoch, ["4:e"], make_step, book)
    await state.update_run("run-1", epoch, status="completed", owner=None)
    book.note(status="completed")


async def append(state: FileState, epoch: int, batch: list[str], make_step: MakeStep, book: Ledger) -> None:
    book.note(asked=[*book.asked, batch])
    await state.append_steps("run-1", epoch, [make_step(path) for path in batch])
    book.note(acknowledged=len(book.asked))


async def judge(store: Path, book: Ledger, make_run: MakeRun, make_step: MakeStep) -> None:
    """Nothing acknowledged is lost, no batch is there in part, listings agree, and the run can go on."""
    state = FileState(store)
    run = await state.load_run("run-1")
    assert run is not None or not book.created
    stored = [step.path for step in await state.load_steps("run-1")]
    possible = [sum(book.asked[:count], []) for count in range(book.acknowledged, len(book.asked) + 1)]  # noqa: RUF017
    assert stored in possible
    assert await state.list_runs() == ([] if run is None else [run])
    if run is None:
        await state.create_run(make_run())
    else:
        assert run.status in {book.status, {"running": "paused", "paused": "completed"}.get(book.status)}
        await state.renew_run("run-1", run.epoch, 0.0)
    epoch = await state.claim_run("run-1", "next", 60.0)
    await state.append_steps("run-1", epoch, [make_step("9:z")])
    assert [step.path for step in await state.load_steps("run-1")] == [*stored, "9:z"]
    await state.aclose()


class NthFails(Disk):
    """Counts what changes files, and lets something happen instead of the Nth or after it."""

    def __init__(self, nth: int, happens: Callable[[], None], *, before: bool, half: bool = False) -> None:
        self.left = nth
        self.happens = happens
        self.before = before
        self.half = half

    def _counted(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        is_it = self.left == 0  # some operations are made of others
        if is_it and self.before:
            self.happens()
        result = work(*args, **kwargs)
        if is_it:
            self.happens()
        return result

    def make_folder(self, name: str, within: int) -> None:
        self._counted(super().make_folder, name, within)

    def create(self, name: str, within: int, *, exclusive: bool = False) -> tuple[int, bool]:
        made: tuple[int, bool] = self._counted(super().create, name, within, exclusive=exclusive)
        return made

    def append(self, fd: int, data: bytes) -> None:
        if self.half and self.left == 1:
            super().append(fd, data[: len(data) // 2])
        self._counted(super().append, fd, data)

    def overwrite(self, name: str, within: int, data: bytes) -> None:
        self._counted(super().overwrite, name, within, data)

    def sync(self, fd: int) -> None:
        self._counted(super().sync, fd)

    def sync_folder(self, fd: int) -> None:
        self._counted(super().sync_folder, fd)

    def rename(self, old: str, new: str, within: int) -> None:
        self._counted(super().rename, old, new, within)

    def remove(self, name: str, within: int) -> bool:
        removed: bool = self._counted(super().remove, name, within)
        return removed


def breaks() -> None:
    raise OSError(errno.EIO, "Input/output error")


def dies() -> None:
    os._exit(9)


@pytest.mark.parametrize("how", ["before", "after", "in the middle"])
async def test_every_operation_may_fail(tmp_path: Path, make_run: MakeRun, make_step: MakeStep, how: str) -> None:
    told = []
    for nth in range(1, 1000):
        disk = NthFails(nth, breaks, before=how != "after", half=how == "in the middle")
        store, book = tmp_path / str(nth), Ledger()
        state = FileState(store, disk=disk)
        try:
            await execute(state, make_run, make_step, book)
        except StateError as error:
            told.append((str(error), str(store)))
        await state.aclose()
        await judge(store, book, make_run, make_step)
        if disk.left > 0:
            break
    assert len(told) > 20
    assert [error for error, store in told if "Input/output error" not in error or store not in error] == []


@pytest.mark.parametrize("how", ["before", "after", "in the middle"])
def test_process_may_die_at_every_operation(tmp_path: Path, make_run: MakeRun, make_step: MakeStep, how: str) -> None:
    deaths = 0
    for nth in range(1, 1000):
        store, ledger = tmp_path / str(nth), tmp_path / f"{nth}.json"
        child = os.fork()
        if not child:
            die_at(nth, how, store, ledger, make_run, make_step)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        asyncio.run(judge(store, Ledger.found(ledger), make_run, make_step))
        if ended == 0:
            break
        assert ended == 9
        deaths += 1
    assert deaths > 30


def die_at(nth: int, how: str, store: Path, ledger: Path, make_run: MakeRun, make_step: MakeStep) -> None:
    """In a child process: execute a run, and write down what was acknowledged whenever that changes."""

    async def main() -> None:
        book = Ledger(file=ledger)
        book.note()
        state = FileState(store, disk=NthFails(nth, dies, before=how != "after", half=how == "in the middle"))
        await execute(state, make_run, make_step, book)

    try:
        asyncio.run(main())
        os._exit(0)
    finally:
        os._exit(1)


# -- full


def test_full_disk_refuses_a_write_and_keeps_the_rest(store: Path, make_run: MakeRun, make_step: MakeStep) -> None:
    receives, sends = os.pipe()
    child = os.fork()
    if not child:
        fill(store, sends, make_run, make_step)
    os.close(sends)
    with os.fdopen(receives) as pipe:
        told = json.loads(pipe.read())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert told["acknowledged"] > 3
    assert "run-1.jsonl cannot be written: only" in told["error"]
    assert "Free some space" in told["error"]

    async def after() -> None:
        state = FileState(store)
        expected = [f"{number}:x" for number in range(told["acknowledged"])]
        assert [step.path for step in await state.load_steps("run-1")] == expected
        await state.append_steps("run-1", 1, [make_step("9:z")])
        assert [step.path for step in await state.load_steps("run-1")] == [*expected, "9:z"]
        await state.aclose()

    asyncio.run(after())


def fill(store: Path, sends: int, make_run: MakeRun, make_step: MakeStep) -> None:
    """In a child process: write until the file must not grow any more, and then some."""

    async def main() -> dict[str, Any]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        state, acknowledged = FileState(store), 0
        await state.create_run(make_run(owner="a", epoch=1), 60.0)
        big = b'"' + b"x" * 2500 + b'"'
        try:
            while True:
                await state.append_steps("run-1", 1, [make_step(f"{acknowledged}:x", output=big)])
                acknowledged += 1
        except StateError as error:
            told = {"acknowledged": acknowledged, "error": str(error)}
        many = [state.append_steps("run-1", 1, [make_step(f"7:{number}", output=big)]) for number in range(3)]
        outcomes = await asyncio.gather(*many, return_exceptions=True)
        assert all(isinstance(outcome, StateError) for outcome in outcomes)
        return told

    try:
        told = asyncio.run(main())
        os.write(sends, json.dumps(told).encode())
        os._exit(0)
    finally:
        os._exit(1)


# -- read-only


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that every user can reach, as those of pytest are not."""
    path = Path(tempfile.mkdtemp(prefix="flow-file-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def as_nobody(work: Callable[[], None]) -> int:
    """Do `work` in a child process without privileges and return its exit code."""
    child = os.fork()
    if not child:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_store_that_may_only_be_read_can_be_read(
    open_to_all: Path, make_run: MakeRun, make_step: MakeStep, capfd: pytest.CaptureFixture[str]
) -> None:
    store = open_to_all / "store"

    async def prepare() -> None:
        state = FileState(store)
        await state.create_run(make_run(owner="a", epoch=1), 60.0)
        await state.append_steps("run-1", 1, [make_step("0:a")])
        await state.aclose()
        (store / "index.jsonl").unlink()

    async def read() -> None:
        state = FileState(store)
        assert [run.run_id for run in await state.list_runs()] == ["run-1"]
        assert [step.path for step in await state.load_steps("run-1")] == ["0:a"]
        for work in (
            state.append_steps("run-1", 1, [make_step("1:b")]),
            state.create_run(make_run("run-2")),
            state.update_run("run-1", 1, status="failed"),
            state.renew_run("run-1", 1, 60.0),
            state.delete_run("run-1"),
            state.save_pipeline("f1", b"{}"),
        ):
            with pytest.raises(StateError, match=r"Permission denied\. See who owns the directory"):
                await work
        await state.aclose()

    asyncio.run(prepare())
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    for path in store.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    store.chmod(0o555)
    assert as_nobody(lambda: asyncio.run(read())) == 0, capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_store_cannot_be_made_where_nobody_may_write(open_to_all: Path, make_run: MakeRun) -> None:
    async def create() -> None:
        state = FileState(open_to_all / "store")
        assert await state.load_run("run-1") is None
        assert await state.list_runs() == []
        with pytest.raises(StateError, match="Permission denied"):
            await state.create_run(make_run())
        await state.aclose()

    open_to_all.chmod(0o555)
    assert as_nobody(lambda: asyncio.run(create())) == 0
    assert list(open_to_all.iterdir()) == []
