"""Who owns a run is decided by the order of the lines in its journal, wherever a process is stopped."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from flow_file import FileState
from flow_file._disk import Disk
from flow_file._leases import Lease

from flow import LeaseLost, RunNotFound, RunOwned, RunRecord, StepRecord

MakeRun = Callable[..., RunRecord]
MakeStep = Callable[..., StepRecord]

PATIENCE_S = 20.0


class StoppingDisk(Disk):
    """Stops its process, so to speak, before or after one write to a file: `reached` is set, and `go_on` awaited."""

    def __init__(self, what: str, *, before: bool) -> None:
        self.what = what.encode()
        self.before = before
        self.reached, self.go_on = threading.Event(), threading.Event()

    def append(self, fd: int, data: bytes) -> None:
        is_it = self.what in data and not self.reached.is_set()
        if is_it and self.before:
            self._stop()
        super().append(fd, data)
        if is_it and not self.before:
            self._stop()

    def _stop(self) -> None:
        self.reached.set()
        assert self.go_on.wait(PATIENCE_S)

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, PATIENCE_S)


async def paths(state: FileState, run_id: str = "run-1") -> list[str]:
    return [step.path for step in await state.load_steps(run_id)]


async def taken_over(state: FileState, make_step: MakeStep) -> None:
    epoch = await state.claim_run("run-1", "next", 60.0)
    await state.append_steps("run-1", epoch, [make_step("9:next")])


async def test_write_that_lands_after_a_claim_is_void(store: Path, make_run: MakeRun, make_step: MakeStep) -> None:
    disk = StoppingDisk("0:late", before=True)
    stopped, other = FileState(store, disk=disk), FileState(store)
    await stopped.create_run(make_run(owner="a", epoch=1), 0.0)
    write = asyncio.create_task(stopped.append_steps("run-1", 1, [make_step("0:late")]))
    await disk.until_reached()
    await taken_over(other, make_step)
    disk.go_on.set()
    with pytest.raises(LeaseLost):
        await write
    assert b"0:late" in (store / "runs/run-1.jsonl").read_bytes(), "it is in the file, but does not count"
    await other.append_steps("run-1", 2, [make_step("10:more")])
    for state in (stopped, other):
        assert await paths(state) == ["9:next", "10:more"]
        await state.aclose()


async def test_write_that_landed_before_a_claim_counts(store: Path, make_run: MakeRun, make_step: MakeStep) -> None:
    disk = StoppingDisk("0:in time", before=False)
    stopped, other = FileState(store, disk=disk), FileState(store)
    await stopped.create_run(make_run(owner="a", epoch=1), 0.0)
    write = asyncio.create_task(stopped.append_steps("run-1", 1, [make_step("0:in time")]))
    await disk.until_reached()
    await taken_over(other, make_step)
    disk.go_on.set()
    assert await write is None
    with pytest.raises(LeaseLost):
        await stopped.append_steps("run-1", 1, [make_step("1:late")])
    for state in (stopped, other):
        assert await paths(state) == ["0:in time", "9:next"]
        await state.aclose()


async def test_of_two_claims_made_at_the_same_time_the_first_in_the_file_counts(
    store: Path, make_run: MakeRun, make_step: MakeStep
) -> None:
    disk = StoppingDisk('"claim"', before=True)
    stopped, other = FileState(store, disk=disk), FileState(store)
    await stopped.create_run(make_run())
    claim = asyncio.create_task(stopped.claim_run("run-1", "a", 60.0))
    await disk.until_reached()
    assert await other.claim_run("run-1", "b", 60.0) == 1
    disk.go_on.set()
    with pytest.raises(RunOwned, match="executed by b"):
        await claim
    run = await other.load_run("run-1")
    assert run is not None
    assert (run.owner, run.epoch) == ("b", 1)
    for state in (stopped, other):
        await state.aclose()


async def test_of_two_runs_created_at_the_same_time_the_first_in_the_file_counts(
    store: Path, make_run: MakeRun
) -> None:
    disk = StoppingDisk('"pipeline":"late"', before=True)
    stopped, other = FileState(store, disk=disk), FileState(store)
    await other.create_run(make_run("another"))
    create = asyncio.create_task(stopped.create_run(make_run(pipeline="late")))
    await disk.until_reached()
    await other.create_run(make_run(pipeline="early"))
    disk.go_on.set()
    with pytest.raises(Exception, match="exists already"):
        await create
    run = await stopped.load_run("run-1")
    assert run is not None
    assert run.pipeline == "early"
    for state in (stopped, other):
        await state.aclose()


async def test_write_to_a_run_that_is_deleted_meanwhile_is_refused(
    store: Path, make_run: MakeRun, make_step: MakeStep
) -> None:
    disk = StoppingDisk("0:late", before=True)
    stopped, other = FileState(store, disk=disk), FileState(store)
    await stopped.create_run(make_run(owner="a", epoch=1), 60.0)
    write = asyncio.create_task(stopped.append_steps("run-1", 1, [make_step("0:late")]))
    await disk.until_reached()
    assert await other.delete_run("run-1")
    await other.create_run(make_run(owner="a", epoch=1), 60.0)
    disk.go_on.set()
    with pytest.raises(RunNotFound):
        await write
    assert await paths(stopped) == []
    for state in (stopped, other):
        await state.aclose()


@pytest.mark.parametrize("before", [True, False])
async def test_listing_is_right_when_a_run_is_claimed_while_it_is_noted_as_free(
    store: Path, make_run: MakeRun, before: bool
) -> None:
    disk = StoppingDisk('"size"', before=before)
    stopped, other = FileState(store, disk=disk), FileState(store)
    await stopped.create_run(make_run(owner="a", epoch=1), 60.0)
    end = asyncio.create_task(stopped.update_run("run-1", 1, status="failed", owner=None))
    await disk.until_reached()
    assert [run.status for run in await other.list_runs()] == ["failed"]
    epoch = await other.claim_run("run-1", "b", 60.0)
    await other.update_run("run-1", epoch, status="running")
    disk.go_on.set()
    await end
    for state in (stopped, other):
        assert [(run.status, run.owner) for run in await state.list_runs()] == [("running", "b")]
        await state.aclose()


@pytest.mark.parametrize("before", [True, False])
async def test_listing_is_right_when_a_claim_is_on_its_way(store: Path, make_run: MakeRun, before: bool) -> None:
    disk = StoppingDisk('"claim"', before=before)
    stopped, warm, cold = FileState(store, disk=disk), FileState(store), FileState(store)
    await warm.create_run(make_run())
    assert [run.owner for run in await warm.list_runs()] == [None]
    claim = asyncio.create_task(stopped.claim_run("run-1", "a", 60.0))
    await disk.until_reached()
    owners = [None] if before else ["a"]
    for state in (warm, cold):  # the latter notes in the index what it finds
        assert [run.owner for run in await state.list_runs()] == owners
    disk.go_on.set()
    await claim
    for state in (warm, cold, stopped):
        assert [run.owner for run in await state.list_runs()] == ["a"]
        await state.aclose()


async def test_renewal_that_was_left_by_a_deleted_run_does_not_count(store: Path, make_run: MakeRun) -> None:
    state = FileState(store)
    await state.create_run(make_run(owner="a", epoch=1), 60.0)
    before = await state.load_run("run-1")
    state._leases.write("run-1", 1, b"0" * 32, Lease(0.0, 0.0))
    assert await state.load_run("run-1") == before
    with pytest.raises(RunOwned):
        await state.claim_run("run-1", "b", 60.0)
    await state.aclose()


async def test_renewal_of_a_former_owner_does_not_touch_the_lease_of_the_next(store: Path, make_run: MakeRun) -> None:
    first, second = FileState(store), FileState(store)
    await first.create_run(make_run(owner="a", epoch=1), 0.0)
    epoch = await second.claim_run("run-1", "b", 60.0)
    await second.renew_run("run-1", epoch, 60.0)
    before = await second.load_run("run-1")
    with pytest.raises(LeaseLost):
        await first.renew_run("run-1", 1, 0.0)
    first._leases.write("run-1", 1, b"", Lease(0.0, 0.0))  # it was stopped after it had looked whether it may
    assert await second.load_run("run-1") == before
    for state in (first, second):
        await state.aclose()


# -- real processes

fork = multiprocessing.get_context("fork")


def contend(store: Path, name: str, rounds: int, barrier: Any, answers: Any, make_step: MakeStep) -> None:
    async def main() -> None:
        state, won = FileState(store, synchronous="off"), []
        for number in range(rounds):
            run_id = f"run-{number}"
            barrier.wait(PATIENCE_S)
            try:
                epoch = await state.claim_run(run_id, name, 60.0)
            except RunOwned:
                continue
            for step in range(3):
                await state.append_steps(run_id, epoch, [make_step(f"{step}:{name}")])
            won.append(number)
        await state.aclose()
        answers.send(won)

    asyncio.run(main())


async def test_one_of_two_processes_gets_a_run(store: Path, make_run: MakeRun, make_step: MakeStep) -> None:
    rounds = 20
    state = FileState(store, synchronous="off")
    for number in range(rounds):
        await state.create_run(make_run(f"run-{number}"))
    await state.aclose()
    barrier, pipes, processes = fork.Barrier(2), [], []
    for name in ("a", "b"):
        receives, sends = fork.Pipe(duplex=False)
        process = fork.Process(target=contend, args=(store, name, rounds, barrier, sends, make_step))
        process.start()
        pipes.append(receives)
        processes.append(process)
    won = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    assert sorted(won[0] + won[1]) == list(range(rounds))
    for name, numbers in zip("ab", won, strict=True):
        for number in numbers:
            assert await paths(state, f"run-{number}") == [f"{step}:{name}" for step in range(3)]
    await state.aclose()


def goes_on_for_ever(store: Path, answers: Any, make_step: MakeStep) -> None:
    async def main() -> None:
        state, acknowledged = FileState(store), []
        epoch = await state.claim_run("run-1", "stopped", 0.0)
        for number in range(100_000):
            try:
                await state.append_steps("run-1", epoch, [make_step(f"{number}:old")])
            except LeaseLost:
                answers.send(acknowledged)
                return
            acknowledged.append(f"{number}:old")
            if number == 5:
                answers.send("under way")

    asyncio.run(main())


@pytest.mark.parametrize("turn", range(10))
async def test_process_that_is_stopped_anywhere_holds_nothing_up_and_loses_the_run(
    store: Path, make_run: MakeRun, make_step: MakeStep, turn: int
) -> None:
    state = FileState(store)
    await state.create_run(make_run())
    await state.aclose()
    receives, sends = fork.Pipe(duplex=False)
    process = fork.Process(target=goes_on_for_ever, args=(store, sends, make_step))
    process.start()
    assert receives.recv() == "under way"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    epoch = await state.claim_run("run-1", "next", 60.0)
    await state.append_steps("run-1", epoch, [make_step("0:new")])
    os.kill(process.pid, signal.SIGCONT)
    acknowledged = receives.recv()
    process.join(PATIENCE_S)
    assert await paths(state) == [*acknowledged, "0:new"]
    await state.aclose()


def in_a_new_loop(work: Callable[[Any], Coroutine[Any, Any, None]], answers: Any) -> None:
    asyncio.run(work(answers))


async def test_store_that_was_opened_before_a_fork_works_on_both_sides(
    store: Path, make_run: MakeRun, make_step: MakeStep
) -> None:
    state = FileState(store)
    await state.create_run(make_run(owner="a", epoch=1), 60.0)
    await state.append_steps("run-1", 1, [make_step("0:parent")])
    await state.list_runs()

    async def child(answers: Any) -> None:
        await state.append_steps("run-1", 1, [make_step("1:child")])
        await state.create_run(make_run("run-2"))
        answers.send([run.run_id for run in await state.list_runs()])
        await state.aclose()

    receives, sends = fork.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads stay behind: that is what is tested
        process = fork.Process(target=in_a_new_loop, args=(child, sends))
        process.start()
    assert await asyncio.to_thread(receives.recv) == ["run-2", "run-1"]
    await asyncio.to_thread(process.join, PATIENCE_S)
    await state.append_steps("run-1", 1, [make_step("2:parent")])
    assert await paths(state) == ["0:parent", "1:child", "2:parent"]
    assert {run.run_id for run in await state.list_runs()} == {"run-1", "run-2"}
    await state.aclose()
