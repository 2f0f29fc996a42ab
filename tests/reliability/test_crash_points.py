"""The process ends, or the write fails, at every durable write in turn; each time the run is resumed to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.reliability.campaigns import cancel_at_each_write, die_at_each_write, fail_at_each_write
from tests.reliability.measured import note
from tests.reliability.scale import amount
from tests.reliability.stores import KINDS, LASTING


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("kind", LASTING)
def test_a_process_may_end_at_any_write(kind: str, how: str, tmp_path: Path) -> None:
    figures = die_at_each_write(kind, tmp_path, how, stride=amount(1, 3, 12))
    note("crash points", f"{kind}, process ends {how} each write", figures)
    assert figures.kills >= amount(30, 10, 2)


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("kind", LASTING)
def test_a_process_may_end_while_it_renews_its_lease(kind: str, how: str, tmp_path: Path) -> None:
    assert die_at_each_write(kind, tmp_path, how, only="renew", lease=0.3).kills == 1


@pytest.mark.parametrize("durability", ["full", "exit"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_write_may_fail(kind: str, durability: Any, tmp_path: Path) -> None:
    figures = fail_at_each_write(kind, tmp_path, durability=durability, stride=amount(1, 2, 6))
    note("crash points", f"{kind}, durability={durability}, each write fails", figures)
    assert figures.kills >= 1


@pytest.mark.parametrize("how", ["before", "after", "fail"])
@pytest.mark.parametrize("kind", LASTING)
def test_a_process_may_end_while_it_cancels_a_run(kind: str, how: str, tmp_path: Path) -> None:
    assert cancel_at_each_write(kind, tmp_path, how) == 2
