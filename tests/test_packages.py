"""What the packages say of themselves is true: entry points, requirements, shipped files, and the list of batteries."""

from __future__ import annotations

from importlib.metadata import EntryPoint, distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.workspace import FIRST_PARTY, PACKAGES, ROOT, Package

pytestmark = pytest.mark.check

GROUPS = {
    "flow.cache",
    "flow.commands",
    "flow.dsl",
    "flow.engines",
    "flow.policies",
    "flow.renderers",
    "flow.state",
    "flow.steps",
    "flow.tracers",
    "flow.validators",
}
DEVELOPMENT_TOOLS = {"flow-testkit"}


def declared(package: Package) -> set[EntryPoint]:
    """The entry points in pyproject.toml."""
    groups = dict(package.project.get("entry-points", {}))
    groups["console_scripts"] = package.project.get("scripts", {})
    return {EntryPoint(name, value, group) for group, entries in groups.items() for name, value in entries.items()}


ENTRY_POINTS = [
    pytest.param(entry_point, id=f"{package.name}:{entry_point.group}:{entry_point.name}")
    for package in PACKAGES
    for entry_point in sorted(declared(package), key=lambda entry_point: (entry_point.group, entry_point.name))
]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_entry_point_leads_somewhere(entry_point: EntryPoint) -> None:
    assert entry_point.load() is not None


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_entry_point_is_in_a_group_that_is_read(entry_point: EntryPoint) -> None:
    assert entry_point.group in GROUPS or not entry_point.group.startswith("flow")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_installed_metadata_is_that_of_the_sources(package: Package) -> None:
    installed = distribution(package.name)
    assert {(entry.group, entry.name, entry.value) for entry in installed.entry_points} == {
        (entry.group, entry.name, entry.value) for entry in declared(package)
    }
    assert installed.version == package.project["version"]
    assert {Requirement(line) for line in installed.requires or () if "extra ==" not in line} == set(
        package.requires.values()
    )


@pytest.mark.parametrize(
    "package", [package for package in PACKAGES if package.modules], ids=lambda package: package.name
)
def test_every_file_of_the_sources_is_shipped(package: Package) -> None:
    """In the matrix, where the wheel is installed, this proves that it misses no marker, template or module."""
    for module in package.modules:
        spec = find_spec(module)
        assert spec is not None
        installed, here = Path(spec.origin or "").parent, package.folder / "src" / module
        files = [
            path.relative_to(here) for path in here.rglob("*") if path.is_file() and "__pycache__" not in path.parts
        ]
        assert [file.as_posix() for file in files if not (installed / file).exists()] == []


def test_flow_all_lists_every_first_party_plugin() -> None:
    packages = {package.name: package for package in FIRST_PARTY}
    batteries = packages.pop("flow-all")
    assert set(batteries.requires) == {"flow-core", *packages} - DEVELOPMENT_TOOLS
    assert batteries.modules == []


def test_packages_have_one_licence() -> None:
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
