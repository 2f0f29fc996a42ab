"""Files are touched by a few threads that come and go; event loops never wait for a disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_file import FileState
from flow_file._disk import Disk
from flow_file._journal import UNSYNCED_LINES
from flow_file._workers import THREADS

from flow import RunRecord, StateError, StepRecord

MakeRun = Callable[..., RunRecord]
MakeStep = Callable[..., StepRecord]

PATIENCE_S = 20.0


class SlowDisk(Disk):
    """Counts syncs; each waits until `go_on` is set."""

    def __init__(self) -> None:
        self.syncs = 0
        self.threads: set[str] = set()
        self.syncing, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def append(self, fd: int, data: bytes) -> None:
        self.threads.add(threading.current_thread().name)
        super().append(fd, data)

    def sync(self, fd: int) -> None:
        self.syncs += 1
        self.syncing.set()
        assert self.go_on.wait(PATIENCE_S)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flow-file"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert threads() == [], "of an earlier test"
    yield
    assert threads() == []


async def test_closing_leaves_no_thread_and_using_it_opens_it_again(
    store: Path, make_run: MakeRun, make_step: MakeStep
) -> None:
    state = FileState(store)
    assert threads() == []
    for number in range(3):
        run_id = f"run-{number}"
        await state.create_run(make_run(run_id, owner="a", epoch=1), 60.0)
        await asyncio.gather(*(state.append_steps(run_id, 1, [make_step(f"{n}:a")]) for n in range(5)))
        assert threads() != []
        await state.aclose()
        assert threads() == []
    assert len(await state.list_runs()) == 3
    await state.aclose()
    await state.aclose()
    assert threads() == []


async def test_closing_finishes_what_was_begun(store: Path, make_run: MakeRun, make_step: MakeStep) -> None:
    state = FileState(store)
    await state.create_run(make_run(owner="a", epoch=1), 60.0)
    writes = [asyncio.create_task(state.append_steps("run-1", 1, [make_step(f"{n}:a")])) for n in range(20)]
    await asyncio.sleep(0)
    await state.aclose()
    await asyncio.gather(*writes)
    assert len(await state.load_steps("run-1")) == 20
    await state.aclose()


async def test_no_file_is_touched_in_the_thread_of_the_loop(
    store: Path, make_run: MakeRun, make_step: MakeStep
) -> None:
    disk = SlowDisk()
    state = FileState(store, disk=disk)
    await state.create_run(make_run(owner="a", epoch=1), 60.0)
    await state.append_steps("run-1", 1, [make_step("0:a")])
    await state.update_run("run-1", 1, status="completed", owner=None)
    await state.prune(older_than=9e9)
    await state.aclose()
    assert disk.threads == {"flow-file"}


async def test_many_runs_at_the_same_time_share_a_few_threads(
    store: Path, make_run: MakeRun, make_step: MakeStep
) -> None:
    state = FileState(store)

    async def execute(number: int) -> None:
        run_id = f"run-{number:03}"
        await state.create_run(make_run(run_id, owner="a", epoch=1, created_at=float(number)), 60.0)
        for step in range(5):
            await state.append_steps(run_id, 1, [make_step(f"{step}:{number}")])
        assert len(threads()) <= THREADS
        await state.update_run(run_id, 1, status="completed", owner=None)

    await asyncio.gather(*(execute(number) for number in range(200)))
    assert [run.run_id for run in await state.list_runs(limit=200)] == [f"run-{n:03}" for n in range(199, -1, -1)]
    for number in (0, 99, 199):
        stored = [step.path for step in await state.load_steps(f"run-{number:03}")]
        assert stored == [f"{step}:{number}" for step in range(5)]
    await state.aclose()


async def test_writes_of_one_run_that_wait_together_are_synced_together(
    store: Path, make_run: MakeRun, make_step: MakeStep
) -> None:
    disk = SlowDisk()
    state = FileState(store, disk=disk)
    await state.create_run(make_run(owner="a", epoch=1), 60.0)
    disk.go_on.clear()
    disk.syncing.clear()
    disk.syncs = 0
    first = asyncio.create_task(state.append_steps("run-1", 1, [make_step("0:a")]))
    assert await asyncio.to_thread(disk.syncing.wait, PATIENCE_S)
    writes = [asyncio.create_task(state.append_steps("run-1", 1, [make_step(f"{n}:b")])) for n in range(50)]
    await asyncio.sleep(0)
    assert not any(write.done() for write in (first, *writes)), "nothing is acknowledged before it is on disk"
    disk.go_on.set()
    await asyncio.gather(first, *writes)
    assert disk.syncs == 2
    assert len(await state.load_steps("run-1")) == 51
    await state.aclose()


@pytest.mark.parametrize(("synchronous", "sync", "syncs"), [("full", True, 130), ("full", False, 2), ("off", True, 0)])
async def test_what_is_synced_is_what_was_asked_for(
    store: Path, make_run: MakeRun, make_step: MakeStep, synchronous: str, sync: bool, syncs: int
) -> None:
    disk = SlowDisk()
    state = FileState(store, disk=disk, synchronous=synchronous)
    await state.create_run(make_run(owner="a", epoch=1), 60.0)
    disk.syncs = 0
    for number in range(130):
        await state.append_steps("run-1", 1, [make_step(f"{number}:a")], sync=sync)
    assert UNSYNCED_LINES == 64
    assert disk.syncs == syncs
    await state.aclose()


async def test_write_that_cannot_be_encoded_fails_alone(store: Path, make_run: MakeRun, make_step: MakeStep) -> None:
    state = FileState(store)
    await state.create_run(make_run(owner="a", epoch=1), 60.0)
    works: list[Any] = [state.append_steps("run-1", 1, [make_step(f"{n}:a", attempts=10**n)]) for n in range(25)]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    refused = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, StateError)]
    assert refused == [20, 21, 22, 23, 24], "numbers of more than 64 bits"
    assert [step.path for step in await state.load_steps("run-1")] == [f"{n}:a" for n in range(20)]
    await state.aclose()


def test_result_for_a_loop_that_was_closed_is_dropped(store: Path, make_run: MakeRun, make_step: MakeStep) -> None:
    disk = SlowDisk()
    state = FileState(store, disk=disk)
    asyncio.run(state.create_run(make_run(owner="a", epoch=1), 60.0))
    disk.go_on.clear()
    disk.syncing.clear()

    async def leaves() -> None:
        write = asyncio.create_task(state.append_steps("run-1", 1, [make_step("0:a")]))
        assert await asyncio.to_thread(disk.syncing.wait, PATIENCE_S)
        write.cancel()

    asyncio.run(leaves())
    disk.go_on.set()

    async def after() -> list[str]:
        stored = [step.path for step in await state.load_steps("run-1")]
        await state.aclose()
        return stored

    assert asyncio.run(after()) == ["0:a"]
    assert threads() == []
