"""The list of runs: what stands in it, the next page, and what happens where a run is damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_lens._listing import Listing, next_page
from flow_lens._screen import Screen, width_of
from flow_lens._stored import listed
from hypothesis import given
from hypothesis import strategies as st

from flow import RunRecord, StateCorrupt, Usage
from flow.cli import Filters

START = 1_700_000_000.0


class Damaged:
    """A store of which some runs cannot be read."""

    def __init__(self, runs: list[RunRecord], bad: set[str]) -> None:
        self.runs, self.bad, self.calls = runs, bad, 0

    async def list_runs(
        self, *, status: str | None = None, limit: int = 20, offset: int = 0, **_: Any
    ) -> list[RunRecord]:
        self.calls += 1
        found = [run for run in self.runs if status in (None, run.status)][offset : offset + limit]
        for run in found:
            if run.run_id in self.bad:
                raise StateCorrupt(f"run {run.run_id!r} is damaged")
        return found


def runs(count: int) -> list[RunRecord]:
    return [
        RunRecord(
            run_id=f"run-{number:03}",
            pipeline="essay",
            fingerprint="f",
            status=("failed", "completed")[number % 2],
            created_at=START - number,
        )
        for number in range(count)
    ]


@given(
    st.integers(1, 90),
    st.sets(st.integers(0, 89), max_size=9),
    st.integers(0, 30),
    st.one_of(st.none(), st.integers(1, 40)),
)
def test_runs_beside_damaged_ones_are_listed(count: int, bad: set[int], offset: int, limit: int | None) -> None:
    import asyncio

    everything = runs(count)
    names = {f"run-{number:03}" for number in bad if number < count}
    store: Any = Damaged(everything, names)
    intact = [run for run in everything if run.run_id not in names]
    filters = Filters(limit=limit, offset=offset)
    if names and not intact and len(names) == 1:
        with pytest.raises(StateCorrupt):
            asyncio.run(listed(store, filters))
        return
    found = asyncio.run(listed(store, filters))
    if not found.damaged:  # no damaged one was met
        assert list(found.runs) == everything[offset:][:limit]
    else:
        assert list(found.runs) == intact[offset:][:limit]
        assert found.more == (limit is not None and len(intact) > offset + limit)
        assert {error.message for error in found.damaged} <= {f"run {name!r} is damaged" for name in names}


async def test_damaged_runs_of_several_statuses_are_named_once() -> None:
    store: Any = Damaged(runs(10), {"run-001", "run-004"})
    found = await listed(store, Filters(statuses=["failed", "completed"], limit=20))
    assert [run.run_id for run in found.runs] == [run.run_id for run in runs(10) if run.run_id[-1] not in "14"]
    assert len(found.damaged) == 2


async def test_a_store_that_is_damaged_as_a_whole_is_an_error() -> None:
    class Broken:
        async def list_runs(self, **_: Any) -> list[RunRecord]:
            raise StateCorrupt("the file is no database")

    store: Any = Broken()
    with pytest.raises(StateCorrupt, match="no database"):
        await listed(store, Filters(limit=20))


def test_the_next_page_repeats_the_filters_as_a_shell_takes_them() -> None:
    assert next_page([("--status", "failed"), ("--text", "it's"), ("--since", None)], 20) == (
        "flow lens list --status failed --text 'it'\"'\"'s' --offset 20"
    )


def test_in_a_pipe_a_run_is_one_line_with_its_whole_id(make_run: Callable[..., RunRecord]) -> None:
    run = make_run("a" * 64, status="failed", error="no\nluck \x1b[31m sk-live-0123456789", usage=Usage(cost_usd=1.5))
    screen = Screen(width=80, terminal=False)
    header, text = [screen.text(line) for line in Listing([run], screen).lines()]
    assert header.split() == ["RUN", "PIPELINE", "STATUS", "STARTED", "TOOK", "COST", "TOKENS", "REMARK"]
    assert text.split()[:4] == ["a" * 64, "essay", "failed", "2023-11-14T22:13:20.000+00:00"]
    assert text.endswith("no luck \\x1b[31m ****")


records = st.builds(
    RunRecord,
    run_id=st.from_regex(r"[a-z0-9]{1,40}", fullmatch=True),
    pipeline=st.text(max_size=60),
    fingerprint=st.just("f"),
    status=st.sampled_from(["completed", "failed", "paused", "deadline_exceeded", "odd\x1b"]),
    created_at=st.floats(1e9, 2e9),
    updated_at=st.floats(1e9, 2e9),
    error=st.one_of(st.none(), st.text(max_size=300)),
    usage=st.builds(Usage, cost_usd=st.floats(0, 1e6), output_tokens=st.integers(0, 10**10)),
)


@given(st.lists(records, min_size=1, max_size=6), st.integers(40, 160), st.booleans())
def test_no_line_of_the_list_is_wider_than_the_screen(found: list[RunRecord], width: int, ascii_only: bool) -> None:
    screen = Screen(width=width, ascii=ascii_only)
    lines = list(Listing(found, screen).lines())
    assert [line for line in lines if width_of(line) > width] == []
    assert all(screen.text(line).isprintable() for line in lines)
