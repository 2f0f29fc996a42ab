"""The audit with a state store: killed and continued, asked and answered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from audit.disk import Disk
from audit.models import Outcome, Risk
from examples.dependency_audit import app, demo
from examples.dependency_audit.tests.made_up_site import Site
from flow import AnswerInvalid, Flow, RunResult, RunStatus

TESTS = Path(__file__).parent
UNKNOWN = "License: ask our lawyers"

# -- killed, and continued by another process


class Audits:
    """Audits of a site as programs of their own, with a store and a ledger of what they read."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.ledger = site.folder.parent / "ledger"
        self.store = site.folder.parent / "runs.db"

    def run(self, *, die_at: int = 0, **request: Any) -> subprocess.CompletedProcess[str]:
        text = self.site.request(**request).model_dump_json()
        return self.flow("run", "audit_that_dies.py", "--run-id", "nightly", "--input", text, die_at=die_at)

    def flow(self, *arguments: str, die_at: int = 0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flow", *arguments, "--state", f"sqlite:///{self.store}"],
            cwd=TESTS,
            env={**os.environ, "LEDGER": str(self.ledger), "DIE_AT": str(die_at), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def reads(self) -> Counter[str]:
        return Counter(self.ledger.read_text(encoding="utf-8").splitlines())


@pytest.fixture
def audits(site: Site) -> Audits:
    for number in range(20):
        site.add(f"some{number:02}", files={"INFO/entry_points.txt": "[some.plugins]\na = some\n"})
    return Audits(site)


# 20 reads are the survey's, 2 are those of a distribution
@pytest.mark.parametrize("die_at", [1, 21, 30, 45, 60])
def test_killed_audit_is_continued_and_reads_again_only_what_it_was_reading(audits: Audits, die_at: int) -> None:
    assert audits.run(die_at=die_at).returncode == -signal.SIGKILL
    before, read = demo.finished_steps(audits.store), audits.reads()
    resumed = audits.flow("resume", "nightly")
    assert resumed.returncode == 0, resumed.stderr
    again = [name for name, times in audits.reads().items() if times > 1]
    unfinished = {name for name in read if not _is_finished(name, audits.site, before)}
    assert set(again) <= unfinished
    after = demo.finished_steps(audits.store)
    assert {path: after[path] for path in before} == before
    assert demo.audited(after) == audits.site.written().totals.distributions == 20


def _is_finished(name: str, site: Site, steps: dict[str, float]) -> bool:
    """Tell whether the step that reads a file was finished."""
    if name.endswith("entry_points.txt"):
        return "1:survey" in steps
    index = sorted(site.folder.glob("*.dist-info")).index(Path(name).parent)
    step = "0:read_metadata" if name.endswith("METADATA") else "2:verify_files"
    return f"2:audit_each/{index}/{step}" in steps


def test_report_of_a_continued_audit_counts_what_both_processes_have_read(audits: Audits) -> None:
    audits.run(die_at=45, sample=0)
    result = json.loads(audits.flow("resume", "nightly", "--json").stdout)
    reads = 20 + 20 * 2
    assert result["usage"]["requests"] == result["output"]["totals"]["files_read"] == reads


def test_spent_budget_stays_spent_when_the_audit_is_resumed(audits: Audits) -> None:
    assert audits.run(budget=30).returncode == 1
    read = audits.reads()
    resumed = audits.flow("resume", "nightly")
    assert resumed.returncode == 1
    assert "Request limit of 30 exceeded" in resumed.stderr
    assert audits.reads().total() < read.total() + 8  # what others at work have spent counts when they go on


# -- a person decides about unknown licences


def stored(site: Site) -> Flow[Any, Outcome]:
    return app.make_flow(Disk()).evolve(state=f"sqlite:///{site.folder.parent / 'runs.db'}")


def asked(site: Site, **request: Any) -> RunResult[Outcome]:
    return stored(site).run(site.request(unknown_licences="ask", **request))


@pytest.fixture
def unknown(site: Site) -> Site:
    """A site with two distributions whose licence is unknown, and one that is fine."""
    site.add("fine")
    site.add("murky", UNKNOWN)
    site.add("quiet", UNKNOWN, "Requires-Dist: gone")
    return site


def test_person_is_asked_once_about_all_unknown_licences(unknown: Site) -> None:
    result = asked(unknown)
    assert result.status is RunStatus.PAUSED
    (question,) = result.pending
    assert [line.split(",")[0] for line in question.message.splitlines()[1:]] == [
        "- murky 1.0 (not stated)",
        "- quiet 1.0 (not stated)",
    ]
    assert not unknown.output.exists()


def test_accepted_licence_is_no_risk_and_other_reasons_stay(unknown: Site) -> None:
    result = stored(unknown).resume(asked(unknown, fail_on="medium").run_id, "yes")
    report = unknown.written()
    assert (result.status, report.accepted, report.violations) == (RunStatus.FAILED, ("murky", "quiet"), ("quiet",))
    _, murky, quiet = report.distributions
    assert [(reason.risk, reason.text) for reason in murky.reasons] == [
        (Risk.LOW, "not stated: accepted by a person"),
    ]
    assert (murky.risk, murky.verdict) == (Risk.LOW, None)
    assert [reason.about for reason in quiet.reasons] == ["dependencies", "licence"]
    assert "accepted by a person" in (unknown.output / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("fail_on", ["high", "never"])
def test_refused_licence_fails_the_audit_after_the_report_was_written(unknown: Site, fail_on: str) -> None:
    result = stored(unknown).resume(asked(unknown, fail_on=fail_on).run_id, "no")
    assert (result.status, result.failed_path) == (RunStatus.FAILED, "6:enforce_policy")
    assert unknown.written().violations == ("murky", "quiet")
    assert "not stated: refused by a person" in unknown.written().distributions[1].reasons[0].text


def test_answer_that_is_none_leaves_the_audit_waiting(unknown: Site) -> None:
    paused = asked(unknown, fail_on="never")
    with pytest.raises(AnswerInvalid, match="yes or no"):
        stored(unknown).resume(paused.run_id, "perhaps")
    assert stored(unknown).resume(paused.run_id, True).success


@pytest.mark.parametrize(
    ("request_", "policy"),
    [
        ({}, ""),
        ({"unknown_licences": "ask", "only": ("fine",)}, ""),
        ({"unknown_licences": "ask"}, '[waivers]\nmurky = "read"\nquiet = "read"\n'),
    ],
    ids=["not wanted", "nothing unknown", "waived"],
)
def test_nobody_is_asked(unknown: Site, request_: dict[str, Any], policy: str) -> None:
    if policy:
        request_ = request_ | {"policy": unknown.folder.parent / "policy.toml"}
        request_["policy"].write_text(policy, encoding="utf-8")
    assert app.flow.run(unknown.request(fail_on="never", **request_)).success


def test_question_is_shown_and_answered_on_the_command_line(unknown: Site) -> None:
    audits = Audits(unknown)
    paused = audits.run(unknown_licences="ask", fail_on="never")
    assert paused.returncode == 0
    assert "murky 1.0 (not stated)" in paused.stderr
    assert "nightly" in audits.flow("runs", "--status", "paused").stdout
    answered = audits.flow("resume", "nightly", "--answer", "yes")
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["totals"]["distributions"] == 3


# -- the demo


def test_demo_shows_that_nothing_finished_is_executed_again(tmp_path: Path) -> None:
    shutil.copytree(TESTS.parent, tmp_path / "examples/dependency_audit")
    ran = subprocess.run(
        [sys.executable, "examples/dependency_audit/demo.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "one of them was killed" in ran.stdout
    assert "0 were executed again" in ran.stdout
    assert "accepted by a person for this audit: acme-pricing" in ran.stdout
