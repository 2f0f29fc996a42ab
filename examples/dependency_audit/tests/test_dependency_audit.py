"""The audit as a run: of the environment the tests run in, on failing disks, on a budget, and what comes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from audit.disk import FAILING_DISK, Disk
from audit.models import AuditRequest, Family, Licence, Outcome, Partial, Report, Risk
from examples.dependency_audit import app
from examples.dependency_audit.tests.made_up_site import Site, flow_with_concurrency
from flow import RunResult, RunStatus

APP = Path(app.__file__)
MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software"

# -- the real environment


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult[Outcome], Report]:
    output = tmp_path_factory.mktemp("report")
    result = app.flow.run(AuditRequest(output=output, fail_on="never"))
    return result, Report.model_validate_json((output / "report.json").read_bytes())


@pytest.mark.parametrize("name", ["attrs", "flow-core", "pluggy", "pydantic"])
def test_installed_distribution_is_audited(real: tuple[RunResult[Outcome], Report], name: str) -> None:
    (found,) = [assessment for assessment in real[1].distributions if assessment.name == name]
    assert found.licence is not None
    assert found.licence.family is Family.PERMISSIVE
    assert found.integrity is not None
    assert found.integrity.verified > 0


def test_every_read_is_a_request_of_the_run(real: tuple[RunResult[Outcome], Report]) -> None:
    result, report = real
    assert result.usage.requests == report.totals.files_read > 4 * report.totals.distributions


def test_pipelines_are_valid() -> None:
    assert app.flow.pipeline.validate_graph().is_valid
    assert app.audit_one.validate_graph().is_valid


# -- fallback, failures of the disk, and the budget


def test_licence_is_read_from_its_text_when_nothing_else_states_it(site: Site) -> None:
    site.add("quiet", "License: see file", files={"INFO/licenses/LICENSE": f"Copyright\n\n{MIT.replace(' ', chr(10))}"})
    report = site.report()
    assert report.distributions[0].licence == Licence(
        family=Family.PERMISSIVE, expression="MIT", source="text of LICENSE"
    )
    assert report.totals.fallbacks == 1


class FailingDisk(Disk):
    """A disk whose first reads of some files fail."""

    def __init__(self, name: str, times: int) -> None:
        super().__init__()
        self.name = name
        self.failures = ["Input/output error"] * times

    def load(self, path: Path) -> bytes:
        if path.name == self.name and self.failures:
            raise OSError(self.failures.pop())
        return super().load(path)


class DiskThatLoses(Disk):
    """A disk that cannot read the metadata of some distributions."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.failed: list[Path] = []

    def load(self, path: Path) -> bytes:
        if path.parent.name.startswith(self.name):
            self.failed.append(path)
            raise OSError("Input/output error")
        return super().load(path)


@pytest.mark.parametrize("file", ["METADATA", "RECORD", "entry_points.txt"])
def test_read_that_fails_once_is_repeated(site: Site, file: str) -> None:
    site.add("fine", files={"INFO/entry_points.txt": "[some.plugins]\na = fine\n"})
    disk = FailingDisk(file, times=1)
    report = site.report(disk)
    assert disk.failures == []
    assert [found.risk for found in report.distributions] == [Risk.LOW]
    assert report.totals.retries == 1


def test_distribution_that_cannot_be_read_is_of_high_risk_and_others_are_audited(site: Site) -> None:
    site.add("broken")
    site.add("fine")
    broken, fine = site.report(DiskThatLoses("broken")).distributions
    assert (broken.risk, fine.risk) == (Risk.HIGH, Risk.LOW)
    assert "could not be audited" in broken.reasons[0].text
    assert "Input/output error" in broken.reasons[0].text


def test_disk_that_fails_again_and_again_is_read_no_more(site: Site) -> None:
    site.add("fine")
    for number in range(40):
        site.add(f"some{number:02}")
    disk = DiskThatLoses("some")
    fine, *others = site.report(disk).distributions
    assert fine.risk is Risk.LOW
    assert len(others) == 40
    assert {found.risk for found in others} == {Risk.HIGH}
    # Four read at a time, so three more reads may have begun when the circuit opens; three make up a distribution.
    assert FAILING_DISK.failures <= len(disk.failed) <= FAILING_DISK.failures + 3
    assert (
        sum("circuit breaker 'disk' is open" in found.reasons[0].text for found in others) >= 40 - len(disk.failed) // 3
    )


@pytest.mark.parametrize("how", ["nonsense", "forbidden"])
def test_what_is_no_fault_of_the_disk_stops_no_audit(site: Site, how: str) -> None:
    class Closed(Disk):
        def load(self, path: Path) -> bytes:
            if how == "forbidden" and path.parent.name.startswith("some"):
                raise PermissionError(13, "Permission denied")
            return super().load(path)

    for number in range(30):
        site.add(f"some{number:02}", metadata="nonsense")
    site.add("z_fine")
    *others, fine = site.report(Closed()).distributions
    assert fine.risk is Risk.LOW
    assert not any("circuit" in found.reasons[0].text for found in others)
    assert FAILING_DISK.state.failures == 0


class SlowDisk(Disk):
    """A disk whose first reads take until four are made at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = threading.Condition()
        self.readers = self.most = 0

    def load(self, path: Path) -> bytes:
        with self.turn:
            self.readers += 1
            self.most = max(self.most, self.readers)
            self.turn.notify_all()
            assert self.turn.wait_for(lambda: self.most >= 4, timeout=10)
        try:
            return super().load(path)
        finally:
            with self.turn:
                self.readers -= 1


def test_slow_disk_is_read_by_four_at_a_time(site: Site) -> None:
    for number in range(16):
        site.add(f"some{number:02}")
    disk = SlowDisk()
    assert site.run(disk).success
    assert disk.most == 4


def test_spent_budget_ends_the_run_and_keeps_what_was_found(site: Site) -> None:
    for number in range(6):
        site.add(f"some{number}")
    site.run()
    before = (site.output / "report.json").read_bytes()
    result = flow_with_concurrency(1).run(site.request(budget=9))
    assert (result.status, result.failed_path) == (RunStatus.LIMIT_EXCEEDED, "2:audit_each/2/2:verify_files")
    assert str(result.error).startswith("Request limit of 9 exceeded")
    assert str(site.output / "partial.json") in str(result.error)
    assert result.usage.requests == 9
    assert (site.output / "report.json").read_bytes() == before
    partial = Partial.model_validate_json((site.output / "partial.json").read_bytes())
    assert [found.name for found in partial.distributions] == ["some0", "some1"]
    assert partial.unaudited == ("some2", "some3", "some4", "some5")


def test_budget_that_is_just_enough_passes(site: Site) -> None:
    site.add("some")
    needed = site.run().usage.requests
    assert site.run(budget=needed).success
    assert site.run(budget=needed - 1).status is RunStatus.LIMIT_EXCEEDED
    assert (site.output / "partial.json").exists()
    site.run()
    assert not (site.output / "partial.json").exists()


def test_budget_covers_the_survey(site: Site) -> None:
    for name in ("one", "two"):
        site.add(name, files={"INFO/entry_points.txt": f"[some.plugins]\na = {name}\n"})
    result = site.run(budget=1)
    assert (result.status, result.failed_path) == (RunStatus.LIMIT_EXCEEDED, "1:survey")


def test_spent_budget_stops_the_audits_beside_it(site: Site) -> None:
    for number in range(40):
        site.add(f"some{number}")
    result = site.run(budget=20)
    assert result.status is RunStatus.LIMIT_EXCEEDED
    assert result.usage.requests <= 20
    audited = [step for step in result.step("audit_each").children if step.name == "respond" and step.success]
    assert len(audited) == len(Partial.model_validate_json((site.output / "partial.json").read_bytes()).distributions)
    assert len(audited) <= 5


# -- one distribution after the other, in the result of the run


def test_steps_of_a_distribution_are_children_in_the_result(site: Site) -> None:
    site.add("broken", "Requires-Dist: gone")
    site.add("fine")
    result = site.run()
    assert result.step("2:audit_each/1/0:read_metadata").success
    assert result.step("2:audit_each/0/6:respond").metadata["executed_branch_key"] == "high"
    assert result.step("2:audit_each/1/6:respond").metadata["executed_branch_key"] == "low"
    assert [step.path for step in result.step("2:audit_each/1/6:respond").children] == [
        "2:audit_each/1/6:respond/low/0:accept"
    ]


def test_counts_of_all_distributions_are_added_up(site: Site) -> None:
    for name in ("one", "two", "three"):
        site.add(name, "License: see file", files={"INFO/licenses/LICENSE": MIT})
    context = site.run().final_pipeline_context
    assert (context.files_verified, context.fallbacks) == (9, 3)
    assert context.bytes_verified > 3 * len(MIT)


def test_run_in_which_nothing_can_be_audited_fails(site: Site) -> None:
    site.add("broken", metadata="nonsense")
    result = site.run()
    assert (result.status, result.failed_path) == (RunStatus.FAILED, "2:audit_each/0/0:read_metadata")
    assert "states no name or no version" in str(result.error)
    assert not site.output.exists()


# -- the report and the verdict


def test_distributions_stand_in_the_same_order_in_every_report(site: Site) -> None:
    for name in ("c", "a", "B", "d"):
        site.add(name)
    reports = []
    for number in (1, 4):
        flow_with_concurrency(number).run(site.request())
        reports.append(site.written())
    assert [found.name for found in reports[0].distributions] == ["a", "b", "c", "d"]
    assert reports[0].distributions == reports[1].distributions


def test_report_has_the_fields_that_programs_rely_on(site: Site) -> None:
    site.add("some")
    site.run()
    data = json.loads((site.output / "report.json").read_text(encoding="utf-8"))
    assert data["schema_version"] == 1
    assert set(data) == set(Report.model_json_schema()["properties"])
    assert set(data["distributions"][0]) == {
        "name", "version", "summary", "location", "risk", "reasons", "verdict", "waiver",
        "licence", "integrity", "wiring", "maturity",
    }  # fmt: skip
    assert data["distributions"][0]["licence"] == {
        "family": "permissive",
        "expression": "MIT",
        "source": "License-Expression",
    }


def test_markdown_begins_with_what_needs_attention(site: Site) -> None:
    site.add("broken", "Requires-Dist: gone", "Summary: a | b")
    site.add("fine")
    site.run()
    lines = (site.output / "report.md").read_text(encoding="utf-8").splitlines()
    assert "**2 distributions: 1 high, 0 medium, 1 low risk.**" in lines
    assert "**Violations:** broken." in lines
    todo = "Install what it requires, in a version that fits."
    assert f"| **high** | broken 1.0 | Dependencies: not installed: gone. | {todo} |" in lines


def test_report_that_cannot_be_replaced_stays_whole(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("some")
    site.run()
    before = {path.name: path.read_bytes() for path in site.output.iterdir()}

    def refuse(*_: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    result = site.run()
    assert (result.status, result.failed_path) == (RunStatus.FAILED, "5:write_report")
    assert {path.name: path.read_bytes() for path in site.output.iterdir()} == before


def test_violation_fails_the_run_after_the_report_was_written(site: Site) -> None:
    site.add("broken", "Requires-Dist: gone")
    result = site.run()
    assert (result.status, result.failed_path) == (RunStatus.FAILED, "6:enforce_policy")
    assert "1 of 1 distributions (broken)" in str(result.error)
    assert site.written().violations == ("broken",)


@pytest.mark.parametrize(("fail_on", "passes"), [("low", False), ("medium", False), ("high", True), ("never", True)])
def test_risk_that_fails_the_run_is_chosen(site: Site, fail_on: str, passes: bool) -> None:
    site.add("medium", record=False)
    assert site.run(fail_on=fail_on).success is passes


def test_waiver_accepts_the_risk_of_a_distribution(site: Site, tmp_path: Path) -> None:
    site.add("broken", "Requires-Dist: gone")
    policy = tmp_path / "policy.toml"
    policy.write_text('[waivers]\nBroken = "replaced next week"\n', encoding="utf-8")
    assert site.run(policy=policy).success
    assert site.written().distributions[0].waiver == "replaced next week"


def test_policy_to_start_from_refuses_strong_copyleft(site: Site) -> None:
    site.add("viral", "License: GPLv3")
    site.add("fine")
    result = site.run(policy=APP.parent / "policy.toml")
    assert not result.success
    assert site.written().violations == ("viral",)


@pytest.mark.parametrize(
    ("request_", "policy", "message"),
    [
        ({"only": ("nothing",)}, "", "not installed: nothing"),
        ({"paths": (Path("nowhere"),)}, "", "there is no folder"),
        ({"policy": Path("nowhere.toml")}, "", "there is no policy file nowhere.toml"),
        ({}, "[licences", "is no TOML"),
        ({}, "[licenses]", "licenses: Extra inputs are not permitted"),
        ({}, "[licences]\ndeny = ['strong copilefft']", "there is no family 'strong copilefft'"),
    ],
)
def test_request_that_makes_no_sense_says_why(
    site: Site, tmp_path: Path, request_: dict[str, Any], policy: str, message: str
) -> None:
    site.add("some")
    if policy:
        request_ = {"policy": tmp_path / "policy.toml"}
        request_["policy"].write_text(policy, encoding="utf-8")
    result = app.flow.run(AuditRequest(**{"paths": (site.folder,), "output": site.output, **request_}))
    assert message in str(result.error)
    assert not site.output.exists()


def test_every_value_between_steps_can_be_stored(site: Site) -> None:
    site.add("broken", "Requires-Dist: gone", "Requires-Dist: =2")
    site.add("fine")
    site.add("nonsense", metadata="nonsense")
    site.add("quiet", "License: see file", files={"INFO/licenses/LICENSE": MIT})
    stored = app.flow.evolve(state="memory://")
    assert stored.run(site.request(fail_on="never")).success


def test_empty_environment_is_refused(site: Site) -> None:
    assert "no distributions in" in str(site.run().error)


# -- from the command line


def flow_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flow", "run", str(APP), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_command_prints_the_outcome_and_exits_with_0(site: Site) -> None:
    site.add("fine")
    ran = flow_run("--input", json.dumps({"paths": [str(site.folder)], "output": str(site.output)}))
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["report"] == str(site.output / "report.md")


def test_command_names_the_violation_and_exits_with_1(site: Site) -> None:
    site.add("broken", "Requires-Dist: gone")
    ran = flow_run("--input", json.dumps({"paths": [str(site.folder)], "output": str(site.output)}))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "Validation failed: policy: 1 of 1 distributions (broken)" in ran.stderr
    assert "Traceback" not in ran.stderr
