"""What may be wrong with a distribution is found and named."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from audit.models import Risk
from examples.dependency_audit.tests.made_up_site import Site


def test_flawless_distribution_is_of_low_risk(site: Site) -> None:
    site.add("fine", "Requires-Dist: other>=1", "Requires-Python: >=3.8")
    site.add("other")
    assert [(found.name, found.risk, found.reasons) for found in site.report().distributions] == [
        ("fine", Risk.LOW, ()),
        ("other", Risk.LOW, ()),
    ]


BROKEN: dict[str, tuple[dict[str, Any], Risk, str, str]] = {
    "missing RECORD": ({"record": False}, Risk.MEDIUM, "integrity", "no RECORD"),
    "unknown licence": ({"lines": ["License: Ours"]}, Risk.MEDIUM, "licence", "licence not stated"),
    "copyleft": ({"lines": ["License: GPLv3"]}, Risk.MEDIUM, "licence", "GPL-3.0-only (strong copyleft)"),
    "absent requirement": ({"lines": ["Requires-Dist: gone>=2"]}, Risk.HIGH, "dependencies", "not installed: gone>=2"),
    "conflicting requirement": (
        {"lines": ["Requires-Dist: other>=2"]},
        Risk.MEDIUM,
        "dependencies",
        "other>=2 (1.0 is installed)",
    ),
    "unreadable requirement": ({"lines": ["Requires-Dist: =2"]}, Risk.MEDIUM, "dependencies", "=2 (cannot be read)"),
    "other Python": ({"lines": ["Requires-Python: <3"]}, Risk.MEDIUM, "dependencies", "not made for Python"),
    "abandoned": (
        {"lines": ["Classifier: Development Status :: 7 - Inactive"]},
        Risk.MEDIUM,
        "maturity",
        "calls itself inactive",
    ),
    "entry point without module": (
        {"files": {"INFO/entry_points.txt": "[console_scripts]\nrun = nowhere.main:run\n"}},
        Risk.MEDIUM,
        "entry points",
        "lead nowhere: script run = nowhere.main:run",
    ),
    "duplicate entry point": (
        {"files": {"INFO/entry_points.txt": "[console_scripts]\nrun = broken:a\nrun = broken:b\n"}},
        Risk.MEDIUM,
        "entry points",
        "'run' in section 'console_scripts' already exists",
    ),
    "metadata without a name": ({"metadata": "nonsense"}, Risk.HIGH, "metadata", "states no name or no version"),
    "metadata of something else": (
        {"metadata": "Metadata-Version: 2.4\nName: other\nVersion: 1.0\n"},
        Risk.HIGH,
        "metadata",
        "broken-1.0.dist-info holds the metadata of other 1.0",
    ),
}


@pytest.mark.parametrize(("how", "risk", "about", "text"), BROKEN.values(), ids=list(BROKEN))
def test_flaw_is_reported(site: Site, how: dict[str, Any], risk: Risk, about: str, text: str) -> None:
    site.add("other")
    site.add("broken", *how.pop("lines", ()), **how)
    found = site.audit("broken")
    assert (found.risk, found.reasons[0].about) == (risk, about)
    assert text in found.reasons[0].text


def test_requirement_of_an_extra_is_not_missed(site: Site) -> None:
    site.add("fine", "Provides-Extra: more", 'Requires-Dist: gone; extra == "more"')
    assert site.audit("fine").reasons == ()


def test_missing_metadata_file_is_reported(site: Site) -> None:
    site.add("other")
    (site.add("broken") / "METADATA").unlink()
    assert "there is no METADATA" in site.audit("broken").reasons[0].text


def test_missing_file_is_reported(site: Site) -> None:
    site.add("broken")
    (site.folder / "broken.py").unlink()
    assert [(reason.risk, reason.text) for reason in site.audit("broken").reasons] == [
        (Risk.MEDIUM, "missing: broken.py")
    ]


@pytest.mark.parametrize(("content", "sample"), [("x = 2\n", 8), ("import evil\n", 0)], ids=["by hash", "by size"])
def test_altered_file_is_of_high_risk(site: Site, content: str, sample: int) -> None:
    site.add("broken")
    (site.folder / "broken.py").write_text(content, encoding="utf-8")
    found = site.audit("broken", sample=sample)
    assert (found.risk, found.reasons[0].text) == (Risk.HIGH, "changed since installation: broken.py")


def test_sample_of_files_changes_with_the_day(site: Site) -> None:
    site.add("large", files={f"large_{number}.py": f"x = {number}\n" for number in range(40)})
    (site.folder / "large_7.py").write_text("x = 8\n", encoding="utf-8")
    days = [date(2026, 1, day) for day in range(1, 29)]
    assert 0 < sum(site.audit("large", sample=8, today=day).risk is Risk.HIGH for day in days) < len(days)


def test_script_of_two_distributions_is_reported_for_both(site: Site) -> None:
    for name in ("one", "two"):
        site.add(name, files={"INFO/entry_points.txt": f"[console_scripts]\nrun = {name}:run\n"})
    assert [found.reasons[0].text for found in site.report().distributions] == [
        "one overwrites the other: script run (also two)",
        "one overwrites the other: script run (also one)",
    ]


def test_plugin_name_of_two_distributions_is_only_remarked(site: Site) -> None:
    for name in ("one", "two"):
        site.add(name, files={"INFO/entry_points.txt": f"[some.plugins]\nrun = {name}\n"})
    assert [found.risk for found in site.report().distributions] == [Risk.LOW, Risk.LOW]


def test_second_installation_of_a_name_is_reported(site: Site) -> None:
    site.add("twice")
    site.add("twice", version="2.0")
    assert "installed more than once: also 2.0" in site.audit("twice").reasons[0].text
