"""Engines with one thing taken away: a campaign that does not notice is no proof of anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability import campaigns, disk, mutants, rows, test_code_change
from tests.reliability.measured import note
from tests.reliability.oracle import Violation
from tests.reliability.scale import SOAK, THOROUGH
from tests.reliability.stores import LASTING

SEED = 7
LEASE_S = 0.4


def killed(kind: str, folder: Path, mutant: str) -> None:
    campaigns.kill_at_random(kind, folder, SEED, 20, mutant=mutant)


def died(kind: str, folder: Path, mutant: str) -> None:
    campaigns.die_at_each_write(kind, folder, "after", stride=9, mutant=mutant)


def died_answering(kind: str, folder: Path, mutant: str) -> None:
    campaigns.die_at_each_write(kind, folder, "before", first=20, only="append", mutant=mutant)


def refused(kind: str, folder: Path, mutant: str) -> None:
    campaigns.fail_at_each_write(kind, folder, stride=5, mutant=mutant)


def raced(kind: str, folder: Path, mutant: str) -> None:
    campaigns.race(kind, folder, 2, mutant=mutant)


def outlived(kind: str, folder: Path, mutant: str) -> None:
    campaigns.outlive_a_lease(kind, folder, LEASE_S, mutant=mutant)


def woken(kind: str, folder: Path, mutant: str) -> None:
    campaigns.take_over(kind, folder, LEASE_S, "stop", mutant=mutant)


def inherited(kind: str, folder: Path, mutant: str) -> None:
    campaigns.take_over(kind, folder, 30.0, "kill", mutant=mutant)


def poisoned(kind: str, folder: Path, mutant: str) -> None:
    if campaigns.poison(kind, folder, mutant=mutant) != (6, "dead"):
        raise Violation("a run that kills its process is not parked")


def edited(kind: str, folder: Path, mutant: str) -> None:
    edit, _ = test_code_change.SEMANTIC["another agent"]
    asyncio.run(test_code_change.resume_edited(kind, folder, edit, mutant))


def altered(kind: str, folder: Path, mutant: str) -> None:
    rows.alter_rows(kind, folder, SEED, 25, mutant=mutant)


def synced(kind: str, folder: Path, mutant: str) -> None:
    with mutants.mutated(mutant):
        disk.wait_for_the_disk(kind, folder, 3)


Campaign = Callable[[str, Path, str], None]
NOTICED_BY: dict[str, Campaign] = {
    "leases are not looked at": raced,
    "leases are not renewed": outlived,
    "the dead keep their leases": inherited,
    "writes are not fenced": woken,
    "steps are acknowledged before they are stored": killed,
    "failed writes are ignored": refused,
    "answers are not stored": died_answering,
    "results need not survive a loss of power": died,
    "ends are not stored": died,
    "recoveries are not counted": poisoned,
    "the journal is not consulted": died,
    "what was spent is not counted again": died,
    "context changes are not replayed": died,
    "pipelines are not compared": edited,
    "keys differ between processes": died,
    "checksums are not compared": altered,
    "sqlite does not wait for the disk": synced,
    "files are not forced to disk": synced,
}
ONLY_FOR = {"sqlite does not wait for the disk": "sqlite", "files are not forced to disk": "file"}


def cases() -> list[tuple[str, str]]:
    """Each mutation with the stores it concerns; in the short form one store each, in turn."""
    everything = [(name, kind) for name in NOTICED_BY for kind in LASTING if kind in ONLY_FOR.get(name, kind)]
    if SOAK:
        return everything
    turn = [(name, ONLY_FOR.get(name, LASTING[number % 2])) for number, name in enumerate(NOTICED_BY)]
    return turn if THOROUGH else turn[::6]


@pytest.mark.parametrize(("mutant", "kind"), cases())
def test_a_mutation_is_noticed(mutant: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(Violation) as noticed:
        NOTICED_BY[mutant](kind, tmp_path, mutant)
    note("mutants", f"{kind}, {mutant}", f"noticed: {str(noticed.value).splitlines()[-1].strip():.110}")


@pytest.mark.parametrize("kind", LASTING)
@pytest.mark.parametrize(
    "campaign", [killed, died, refused, raced, outlived, woken, inherited, poisoned, edited, altered, synced]
)
@pytest.mark.skipif(not SOAK, reason="each of them passes in the tests of its own bar")
def test_without_a_mutation_the_same_campaigns_pass(campaign: Campaign, kind: str, tmp_path: Path) -> None:
    campaign(kind, tmp_path, "")


def test_every_mutation_has_a_campaign() -> None:
    assert set(NOTICED_BY) == set(mutants.MUTANTS)
