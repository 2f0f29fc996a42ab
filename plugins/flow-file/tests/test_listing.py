"""Listings read little, and are right whatever has become of the index."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from flow_file import FileState
from flow_file._disk import Disk

from flow import RunRecord, StepRecord

MakeRun = Callable[..., RunRecord]
MakeStep = Callable[..., StepRecord]


class CountingDisk(Disk):
    """Counts files that are opened and bytes that are read."""

    def __init__(self) -> None:
        self.opened = self.read_bytes = self.looked_at = 0

    def open(self, name: str, within: int, *, write: bool = False) -> int:
        self.opened += 1
        return super().open(name, within, write=write)

    def look_at(self, name: str, within: int) -> Any:
        self.looked_at += 1
        return super().look_at(name, within)

    def read(self, fd: int, offset: int, end: int) -> bytes:
        data = super().read(fd, offset, end)
        self.read_bytes += len(data)
        return data


@pytest.fixture
async def state(store: Path) -> AsyncIterator[FileState]:
    state = FileState(store, synchronous="off")
    yield state
    await state.aclose()


@pytest.fixture
def fresh(store: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[FileState]]:
    """Open the store as another process does: ``async with fresh() as state``."""

    @contextlib.asynccontextmanager
    async def opened(disk: Disk | None = None) -> AsyncIterator[FileState]:
        state = FileState(store, synchronous="off", disk=disk)
        yield state
        await state.aclose()

    return opened


async def fill(state: FileState, make_run: MakeRun, make_step: MakeStep, count: int) -> None:
    """Store runs that have ended, each with steps in its journal."""

    async def one(number: int) -> None:
        run_id = f"run-{number:05}"
        await state.create_run(make_run(run_id, owner="a", epoch=1, created_at=1e9 + number), 60.0)
        await state.append_steps(run_id, 1, [make_step("0:a", output=b'"' + b"x" * 2000 + b'"')])
        await state.update_run(run_id, 1, status=("completed", "failed")[number % 2], owner=None)

    await asyncio.gather(*(one(number) for number in range(count)))


async def ids(state: FileState, **wanted: Any) -> list[str]:
    return [run.run_id for run in await state.list_runs(**wanted)]


async def test_page_is_read_from_the_index_alone(
    state: FileState, fresh: Any, make_run: MakeRun, make_step: MakeStep
) -> None:
    await fill(state, make_run, make_step, 300)
    disk = CountingDisk()
    async with fresh(disk) as other:
        expected = [f"run-{number:05}" for number in range(299, 279, -1)]
        assert await ids(other) == expected
        assert disk.opened == 1, "only the index"
        assert disk.read_bytes < 300 * 1000, "less than half of what is in the journals"
        disk.opened = disk.read_bytes = disk.looked_at = 0
        assert await ids(other) == expected
        assert (disk.opened, disk.looked_at) == (0, 1)
        assert disk.read_bytes < 20 * 1000


async def test_ends_of_other_processes_cost_what_they_write(
    state: FileState, fresh: Any, make_run: MakeRun, make_step: MakeStep
) -> None:
    await fill(state, make_run, make_step, 100)
    disk = CountingDisk()
    async with fresh(disk) as other:
        await ids(other)
        await state.create_run(make_run("new", created_at=2e9))
        disk.opened = disk.read_bytes = 0
        assert (await ids(other))[0] == "new"
        assert disk.opened == 0
        assert disk.read_bytes < 21 * 1000


async def test_run_that_is_executed_is_looked_up_in_its_journal(
    state: FileState, fresh: Any, make_run: MakeRun, make_step: MakeStep
) -> None:
    await state.create_run(make_run(owner="a", epoch=1), 60.0)
    async with fresh() as other:
        for recoveries in range(3):
            await state.update_run("run-1", 1, recoveries=recoveries)
            await state.append_steps("run-1", 1, [make_step(f"{recoveries}:a")])
            assert [run.recoveries for run in await other.list_runs()] == [recoveries]


async def test_large_inputs_are_not_in_the_index_but_in_the_listing(
    state: FileState, store: Path, make_run: MakeRun
) -> None:
    large = make_run(input=b'"' + b"x" * 100_000 + b'"')
    await state.create_run(large)
    assert (store / "index.jsonl").stat().st_size < 2000
    assert await state.list_runs() == [large]


# -- the index is lost, old or damaged


DAMAGES: dict[str, Callable[[Path], object]] = {
    "removed": lambda index: index.unlink(),
    "empty": lambda index: index.write_bytes(b""),
    "cut off": lambda index: index.write_bytes(index.read_bytes()[: index.stat().st_size // 2]),
    "cut off in the last line": lambda index: index.write_bytes(index.read_bytes()[:-10]),
    "without the last line": lambda index: index.write_bytes(
        b"".join(index.read_bytes().splitlines(keepends=True)[:-1])
    ),
    "zeros": lambda index: index.write_bytes(bytes(index.stat().st_size)),
    "something else": lambda index: index.write_bytes(b"hello\nworld\n{}\n[]\n"),
    "holed": lambda index: index.write_bytes(index.read_bytes()[:300] + bytes(200) + index.read_bytes()[500:]),
    "every other byte changed": lambda index: index.write_bytes(bytes(byte ^ 1 for byte in index.read_bytes())),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
async def test_index_is_healed(
    state: FileState, store: Path, fresh: Any, make_run: MakeRun, make_step: MakeStep, damage: str
) -> None:
    await fill(state, make_run, make_step, 10)
    await state.create_run(make_run("runs", owner="a", epoch=1, created_at=2e9), 60.0)
    expected = await state.list_runs()
    assert len(expected) == 11
    await state.aclose()
    DAMAGES[damage](store / "index.jsonl")
    async with fresh() as other:
        assert await other.list_runs() == expected
        assert await ids(other, status="failed") == [f"run-{number:05}" for number in (9, 7, 5, 3, 1)]
    disk = CountingDisk()
    async with fresh(disk) as other:
        assert await other.list_runs() == expected
        assert disk.opened <= 3, "the index, the run that is executed, and its lease: the others were put right"


async def test_index_of_a_moment_ago_does_not_hide_what_happened_since(
    state: FileState, store: Path, fresh: Any, make_run: MakeRun, make_step: MakeStep
) -> None:
    await fill(state, make_run, make_step, 4)
    before = (store / "index.jsonl").read_bytes()
    await state.create_run(make_run("new", created_at=2e9))
    await state.delete_run("run-00000")
    epoch = await state.claim_run("run-00001", "b", 60.0)
    await state.update_run("run-00001", epoch, status="cancelled", owner=None)
    expected = await state.list_runs()
    await state.aclose()
    (store / "index.jsonl").write_bytes(before)
    async with fresh() as other:
        assert await other.list_runs() == expected
        assert await ids(other) == ["new", "run-00003", "run-00002", "run-00001"]


async def test_index_that_is_removed_while_it_is_used_is_made_again(
    state: FileState, store: Path, fresh: Any, make_run: MakeRun, make_step: MakeStep
) -> None:
    await fill(state, make_run, make_step, 5)
    expected = await state.list_runs()
    (store / "index.jsonl").unlink()
    assert await state.list_runs() == expected
    await state.create_run(make_run("new", created_at=2e9))
    async with fresh() as other:
        assert (await ids(other))[0] == (await ids(state))[0] == "new"


async def test_useless_lines_are_taken_out(
    state: FileState, store: Path, fresh: Any, make_run: MakeRun, make_step: MakeStep
) -> None:
    await fill(state, make_run, make_step, 400)
    assert await state.prune(older_than=9e9, keep=5) == 395
    async with fresh() as other:
        assert await ids(other) == [f"run-{number:05}" for number in range(399, 394, -1)]
        lines = (store / "index.jsonl").read_text().splitlines()
        assert len(lines) == 5
        assert all("run" in json.loads(line) for line in lines)
        await other.create_run(make_run("new", created_at=2e9))
        await state.create_run(make_run("newer", created_at=3e9))
        for one in (state, other):
            assert (await ids(one))[:3] == ["newer", "new", "run-00399"]
    assert [path.name for path in store.iterdir() if path.is_file()] == ["index.jsonl"]


async def test_full_disk_does_not_hide_a_run(store: Path, fresh: Any, make_run: MakeRun) -> None:
    class NoIndex(Disk):
        full = False

        def append(self, fd: int, data: bytes) -> None:
            if self.full and b'"size"' in data:
                raise OSError(28, "No space left on device")
            super().append(fd, data)

    disk = NoIndex()
    async with fresh(disk) as state:
        await state.create_run(make_run(owner="a", epoch=1), 60.0)
        disk.full = True
        await state.update_run("run-1", 1, status="completed", owner=None)
        assert [run.status for run in await state.list_runs()] == ["completed"]
        async with fresh() as other:
            assert [run.status for run in await other.list_runs()] == ["completed"]


async def test_empty_directories_that_a_copy_left_out_are_made_again(
    store: Path, state: FileState, fresh: Any, make_run: MakeRun
) -> None:
    await state.create_run(make_run("r"))
    await state.aclose()
    for name in ("leases", "pipelines"):
        (store / name).rmdir()
    async with fresh() as copied:
        assert await copied.load_run("r") is not None
        assert [run.run_id for run in await copied.list_runs()] == ["r"]
