"""What concurrent runs cost the disk: their steps share commits, and no step is acknowledged before its commit."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.disk import STEPS, wait_for_the_disk
from tests.reliability.measured import note

RUNS = 100
WRITES = STEPS + 2  # the run is created and ended


def test_a_hundred_runs_share_their_commits(tmp_path: Path) -> None:
    commits = wait_for_the_disk("sqlite", tmp_path, RUNS)
    note("group commit", f"sqlite, {RUNS} runs at once", f"{commits:.3f} commits per acknowledged write")
    assert commits <= 1 / 8


def test_a_run_alone_commits_once_for_each_write(tmp_path: Path) -> None:
    commits = wait_for_the_disk("sqlite", tmp_path, 1)
    assert WRITES <= commits * WRITES <= WRITES + 4  # the schema, the description of the pipeline


def test_a_file_is_forced_to_disk_once_for_each_write(tmp_path: Path) -> None:
    syncs = wait_for_the_disk("file", tmp_path, RUNS)
    note("group commit", f"file, {RUNS} runs at once", f"{syncs:.3f} syncs per acknowledged write")
    assert syncs <= 2.5
