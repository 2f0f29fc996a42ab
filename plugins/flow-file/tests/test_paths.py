"""No name leads out of the store, no link is followed, and nobody else may read what is in it."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_file import FileState

from flow import ConfigurationError, RunRecord, StateError, StepRecord

MakeRun = Callable[..., RunRecord]
MakeStep = Callable[..., StepRecord]

VECTORS = [
    "", ".", "..", "...", "/", "//", "\\", "~", "-", "_", "../secret", "../../secret", "..\\secret", "../secret.jsonl",
    "/etc/passwd", "/secret", "./run-1", "run-1/", "run-1/.", "run-1/../../secret", "runs/../run-1", "a/b", "a\\b",
    "%2e%2e%2fsecret", "..%2fsecret", "%00", "run-1\0", "run-1\0.jsonl", "run-1\n", "\nrun-1", " run-1", "run-1 ",
    "run 1", ".hidden", "-rf", "run-1.jsonl", "run-1.1", "index.jsonl", "C:secret", "run:1", "run*", "$HOME", "`id`",
    "ünïcødé", "\u202erun", "\u2024\u2024/secret", "\uff0e\uff0e/secret", "x" * 129, "x" * 5000, "\udce4",
]  # fmt: skip
NO_TEXT = [None, 7, b"run-1", ["run-1"], Path("run-1")]

WORKS: dict[str, Callable[[FileState, Any, MakeRun, MakeStep], Any]] = {
    "create": lambda state, name, run, step: state.create_run(run(name)),
    "load": lambda state, name, run, step: state.load_run(name),
    "claim": lambda state, name, run, step: state.claim_run(name, "a", 60.0),
    "renew": lambda state, name, run, step: state.renew_run(name, 1, 60.0),
    "append": lambda state, name, run, step: state.append_steps(name, 1, [step("0:a")]),
    "steps": lambda state, name, run, step: state.load_steps(name),
    "update": lambda state, name, run, step: state.update_run(name, 1, status="failed"),
    "delete": lambda state, name, run, step: state.delete_run(name),
    "save pipeline": lambda state, name, run, step: state.save_pipeline(name, b"{}"),
    "load pipeline": lambda state, name, run, step: state.load_pipeline(name),
}
SECRET = b'{"do not": "read"}\n'


@pytest.fixture
async def state(store: Path, make_run: MakeRun) -> AsyncIterator[FileState]:
    state = FileState(store)
    await state.create_run(make_run("there", owner="a", epoch=1), 60.0)
    yield state
    await state.aclose()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the store that nobody may touch."""
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(SECRET)
    os.utime(secret, ns=(1, 1))
    return secret


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a directory: times and contents."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, b"" if path.is_dir() else path.read_bytes())
        for path in root.rglob("*")
        if not path.is_symlink()
    }


@pytest.mark.parametrize("work", sorted(WORKS))
async def test_what_is_no_id_is_refused_before_it_is_a_path(
    state: FileState, secret: Path, tmp_path: Path, work: str, make_run: MakeRun, make_step: MakeStep
) -> None:
    before = tree(tmp_path)
    os.utime(secret, ns=(1, 1))
    for name in VECTORS:
        with pytest.raises(ConfigurationError, match="cannot be a"):
            await WORKS[work](state, name, make_run, make_step)
    assert secret.stat().st_atime_ns == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize("work", sorted(set(WORKS) - {"save pipeline", "load pipeline"}))
async def test_what_is_no_text_is_refused(state: FileState, work: str, make_run: MakeRun, make_step: MakeStep) -> None:
    for name in NO_TEXT:
        with pytest.raises(ConfigurationError, match="cannot be a run id"):
            await WORKS[work](state, name, make_run, make_step)


@pytest.mark.parametrize("work", ["create", "load", "claim", "renew", "append", "steps", "update"])
@pytest.mark.parametrize("target", ["secret.jsonl", "nowhere.jsonl"])
async def test_link_in_the_place_of_a_journal_is_not_followed(
    state: FileState, store: Path, secret: Path, work: str, target: str, make_run: MakeRun, make_step: MakeStep
) -> None:
    (store / "runs" / "run-1.jsonl").symlink_to(secret.with_name(target))
    with pytest.raises(StateError, match=r"run-1\.jsonl.*[Ss]ymbolic link"):
        await WORKS[work](state, "run-1", make_run, make_step)
    assert secret.read_bytes() == SECRET
    assert not secret.with_name("nowhere.jsonl").exists()


async def test_link_in_the_place_of_a_journal_is_not_listed(state: FileState, store: Path, secret: Path) -> None:
    (store / "runs" / "run-1.jsonl").symlink_to(secret)
    assert [run.run_id for run in await state.list_runs()] == ["there"]
    assert secret.stat().st_atime_ns == 1


async def test_link_is_not_followed_by_renewals_and_pipelines(
    state: FileState, store: Path, secret: Path, make_run: MakeRun
) -> None:
    (store / "leases" / "there.1").symlink_to(secret)
    (store / "pipelines" / "f1.json").symlink_to(secret)
    for work in (state.renew_run("there", 1, 60.0), state.save_pipeline("f1", b"{}"), state.load_pipeline("f1")):
        with pytest.raises(StateError, match=r"[Ss]ymbolic link"):
            await work
    assert secret.read_bytes() == SECRET


@pytest.mark.parametrize("folder", ["runs", "leases", "pipelines"])
async def test_link_in_the_place_of_a_directory_is_not_followed(
    store: Path, tmp_path: Path, folder: str, make_run: MakeRun
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store.mkdir()
    (store / folder).symlink_to(elsewhere)
    state = FileState(store)
    with pytest.raises(StateError, match=r"[Ss]ymbolic link"):
        await state.create_run(make_run())
    assert list(elsewhere.iterdir()) == []
    await state.aclose()


async def test_link_in_the_place_of_the_index_is_not_followed(
    state: FileState, store: Path, secret: Path, make_run: MakeRun
) -> None:
    await state.aclose()
    (store / "index.jsonl").unlink()
    (store / "index.jsonl").symlink_to(secret)
    for work in (state.create_run(make_run()), state.list_runs()):
        with pytest.raises(StateError, match=r"[Ss]ymbolic link"):
            await work
    assert secret.read_bytes() == SECRET


@pytest.mark.parametrize("kind", ["pipe", "directory"])
async def test_what_is_no_file_is_refused_and_nobody_waits_for_it(
    state: FileState, store: Path, kind: str, make_run: MakeRun, make_step: MakeStep
) -> None:
    path = store / "runs" / "run-1.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    for work in ("create", "load", "claim", "append"):
        with pytest.raises(StateError, match=r"run-1\.jsonl"):
            await WORKS[work](state, "run-1", make_run, make_step)
    assert [run.run_id for run in await state.list_runs()] == ["there"]


async def test_other_files_in_the_directory_are_no_runs(state: FileState, store: Path) -> None:
    for name in ("notes.txt", ".hidden.jsonl", "a b.jsonl", "run-1.jsonl~", ".jsonl"):
        (store / "runs" / name).write_bytes(SECRET)
    assert [run.run_id for run in await state.list_runs()] == ["there"]


# -- permissions


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


async def test_nobody_else_may_read_whatever_the_umask(
    tmp_path: Path, umask: int, make_run: MakeRun, make_step: MakeStep
) -> None:
    store = tmp_path / "made" / "too" / "store"
    state = FileState(store)
    await state.save_pipeline("f1", b"{}")
    for run_id in ("run-1", "run-2"):
        await state.create_run(make_run(run_id, owner="a", epoch=1), 60.0)
        await state.append_steps(run_id, 1, [make_step("0:a")])
        await state.renew_run(run_id, 1, 60.0)
    await state.update_run("run-2", 1, status="completed", owner=None)
    await state.list_runs()
    await state.aclose()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "made").rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert len([path for path in modes if path.is_file()]) == 5


async def test_directory_that_is_there_keeps_its_mode(store: Path, make_run: MakeRun) -> None:
    store.mkdir(mode=0o750)
    state = FileState(store)
    await state.create_run(make_run())
    await state.aclose()
    assert stat.S_IMODE(store.stat().st_mode) == 0o750
    assert stat.S_IMODE((store / "runs").stat().st_mode) == 0o700


async def test_nothing_is_made_before_something_is_stored(store: Path) -> None:
    state = FileState(store)
    assert await state.load_run("run-1") is None
    assert list(await state.load_steps("run-1")) == []
    assert list(await state.list_runs()) == []
    assert await state.delete_run("run-1") is False
    assert await state.prune(older_than=9e9) == 0
    assert await state.load_pipeline("f1") is None
    await state.aclose()
    assert not store.exists()
