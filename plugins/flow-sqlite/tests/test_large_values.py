"""Large values are stored once, by their content, for as long as a run refers to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_sqlite._integrity import check
from flow_sqlite._rows import INLINE, content_hash

from flow import StateCorrupt

LARGE = b'"' + b"large " * 5000 + b'"'
OTHER = b'"' + b"other " * 5000 + b'"'


def _blobs(file: Path) -> set[bytes]:
    with closing(sqlite3.connect(file)) as connection:
        return {bytes(key) for (key,) in connection.execute("SELECT hash FROM blobs")}


async def test_equal_values_are_stored_once(
    file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened() as state:
        for run_id in ("run-1", "run-2"):
            epoch = await begun(state, run_id, input=LARGE, context=OTHER)
            steps = [make_step(f"{number}:s", output=LARGE, changes=OTHER, metadata=LARGE) for number in range(3)]
            await state.append_steps(run_id, epoch, steps)
            assert list(await state.load_steps(run_id)) == steps
            loaded = await state.load_run(run_id)
            assert (loaded.input, loaded.context) == (LARGE, OTHER)
            assert (await state.list_runs())[0].input == LARGE
        assert _blobs(file) == {content_hash(LARGE), content_hash(OTHER)}


@pytest.mark.parametrize("size", [INLINE - 1, INLINE, INLINE + 1])
async def test_values_around_the_limit_come_back(
    size: int, file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    value = b'"' + b"x" * (size - 2) + b'"'
    async with opened() as state:
        epoch = await begun(state)
        await state.append_steps("run-1", epoch, [make_step("0:a", output=value)])
        await state.update_run("run-1", epoch, pending=value)
        assert (await state.load_steps("run-1"))[0].output == value
        assert (await state.load_run("run-1")).pending == value
        assert len(_blobs(file)) == (size > INLINE)


async def test_text_that_looks_like_a_reference_is_text(
    opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened() as state:
        epoch = await begun(state)
        texts = [content_hash(LARGE).hex().encode(), b'{"hash": "' + content_hash(LARGE).hex().encode() + b'"}']
        steps = [make_step("0:a", output=LARGE), *(make_step(f"{text!r}", output=text) for text in texts)]
        await state.append_steps("run-1", epoch, steps)
        assert list(await state.load_steps("run-1")) == steps


async def test_value_goes_with_the_last_run_that_refers_to_it(
    file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened() as state:
        for run_id, value in (("run-1", LARGE), ("run-2", LARGE), ("run-3", OTHER)):
            epoch = await begun(state, run_id)
            await state.append_steps(run_id, epoch, [make_step("0:a", output=value)])
            await state.update_run(run_id, epoch, status="completed", owner=None, updated_at=100.0)
        await state.delete_run("run-1")
        assert _blobs(file) == {content_hash(LARGE), content_hash(OTHER)}
        await state.delete_run("run-2")
        assert _blobs(file) == {content_hash(OTHER)}
        assert await state.prune(older_than=200.0) == 1
        assert _blobs(file) == set()
    assert check(file).findings == []


async def test_deleted_content_is_overwritten(
    file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened() as state:
        for run_id in ("run-1", "run-2"):
            epoch = await begun(state, run_id)
            secret = b'"secret of ' + run_id.encode() + b'"'
            await state.append_steps(run_id, epoch, [make_step("0:a", output=secret)])
        await state.delete_run("run-1")
    content = file.read_bytes()
    assert b"secret of run-2" in content
    assert b"secret of run-1" not in content


async def test_missing_value_is_noticed(
    file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened() as state:
        epoch = await begun(state)
        await state.append_steps("run-1", epoch, [make_step("0:a", output=LARGE)])
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("DELETE FROM blobs")
            connection.commit()
        with pytest.raises(StateCorrupt, match="the large value"):
            await state.load_steps("run-1")
    assert check(file).findings == ["1 large values of steps.output are missing"]


async def test_refused_write_leaves_no_value_behind(
    file: Path, opened: Callable[..., Any], begun: Callable[..., Any], make_step: Callable[..., Any]
) -> None:
    async with opened() as state:
        epoch = await begun(state)
        refused = make_step("1:b", output=b'"not \xff text"')
        with pytest.raises(Exception, match="cannot be stored"):
            await state.append_steps("run-1", epoch, [make_step("0:a", output=LARGE), refused])
        assert _blobs(file) == set()


async def test_prune_of_many_runs_goes_in_parts(opened: Callable[..., Any], make_run: Callable[..., Any]) -> None:
    async with opened("?synchronous=off") as state:
        for number in range(450):
            await state.create_run(
                make_run(f"run-{number:03}", status="completed", created_at=float(number), updated_at=1.0)
            )
        assert await state.prune(older_than=2.0, keep=20) == 430
        assert [run.run_id for run in await state.list_runs(limit=100)] == [
            f"run-{number}" for number in range(449, 429, -1)
        ]
