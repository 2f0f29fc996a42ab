"""Several processes and one run: one executes it, the others are told at once; who was taken over writes nothing."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from tests.reliability.campaigns import outlive_a_lease, race, take_over
from tests.reliability.measured import note
from tests.reliability.scale import SOAK, amount
from tests.reliability.stores import LASTING

LEASE_S = 0.6
PROMPT_S = 1.0 if SOAK else 5.0
PATIENCE_S = 5.0
"""Within what time others are told, and take over; in the short form beside other tests on the same processors."""


@pytest.mark.parametrize(("racers", "rounds"), [(2, amount(50, 2)), (8, amount(50, 2))])
@pytest.mark.parametrize("kind", LASTING)
def test_one_of_those_who_resume_a_run_executes_it(kind: str, racers: int, rounds: int, tmp_path: Path) -> None:
    told = [race(kind, tmp_path / str(number), racers) for number in range(rounds)]
    figures = f"the last loser was told after {median(told):.2f} s, at worst {max(told):.2f} s"
    note("owners", f"{kind}, {racers} resume one run, {rounds} rounds", figures)
    assert median(told) < PROMPT_S
    assert max(told) < PATIENCE_S


@pytest.mark.parametrize("kind", LASTING)
def test_the_run_of_a_killed_process_is_taken_over_at_once(kind: str, tmp_path: Path) -> None:
    seconds = [take_over(kind, tmp_path / str(number), 30.0, "kill") for number in range(amount(20, 1))]
    note("owners", f"{kind}, taken over after kill -9", f"{max(seconds):.2f} s, {len(seconds)} times")
    assert median(seconds) < PROMPT_S
    assert max(seconds) < PATIENCE_S


@pytest.mark.parametrize("woken", ["stop", "late"])
@pytest.mark.parametrize("kind", LASTING)
def test_a_stopped_process_is_taken_over_when_its_lease_ends_and_writes_nothing_afterwards(
    kind: str, woken: str, tmp_path: Path
) -> None:
    seconds = [take_over(kind, tmp_path / str(number), LEASE_S, woken) for number in range(amount(20, 1))]
    note(
        "owners",
        f"{kind}, stopped, lease {LEASE_S} s, {woken}",
        f"taken over after {min(seconds):.2f}-{max(seconds):.2f} s",
    )
    assert median(seconds) <= LEASE_S + PROMPT_S
    assert max(seconds) <= LEASE_S + PATIENCE_S
    assert min(seconds) >= LEASE_S / 2


@pytest.mark.parametrize("kind", LASTING)
def test_a_living_process_keeps_its_run_for_longer_than_its_lease(kind: str, tmp_path: Path) -> None:
    outlive_a_lease(kind, tmp_path, 0.3)
