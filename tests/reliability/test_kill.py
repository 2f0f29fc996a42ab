"""Processes killed at random moments: what was acknowledged is there and not done again; the result is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.reliability.campaigns import kill_at_random
from tests.reliability.measured import note
from tests.reliability.scale import amount
from tests.reliability.stores import LASTING


@pytest.mark.parametrize("durability", ["full", "normal"])
@pytest.mark.parametrize("kind", LASTING)
def test_killed_processes_lose_nothing_that_was_acknowledged(
    kind: str, durability: Any, tmp_path: Path, seed: int
) -> None:
    figures = kill_at_random(kind, tmp_path, seed, amount(200, 30, 5), durability=durability)
    note("kill", f"{kind}, durability={durability}", figures)


@pytest.mark.parametrize("kind", LASTING)
def test_killed_interpreters_lose_nothing_either(kind: str, tmp_path: Path, seed: int) -> None:
    figures = kill_at_random(kind, tmp_path, seed, amount(50, 3, 1), fresh_share=1.0)
    note("kill", f"{kind}, fresh interpreters", figures)
