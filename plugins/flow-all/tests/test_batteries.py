"""What `pip install flow-all` gives: every plugin it names is there and each of its contributions can be loaded."""

from importlib.metadata import EntryPoint, distribution, requires

import pytest
from packaging.requirements import Requirement

BATTERIES = [Requirement(line) for line in requires("flow-all") or ()]
CONTRIBUTIONS = [
    pytest.param(entry_point, id=f"{battery.name}:{entry_point.group}:{entry_point.name}")
    for battery in BATTERIES
    for entry_point in distribution(battery.name).entry_points
    if entry_point.group.startswith("flow.")
]


@pytest.mark.parametrize("battery", BATTERIES, ids=str)
def test_battery_is_installed_in_the_range_asked_for(battery: Requirement) -> None:
    assert distribution(battery.name).version in battery.specifier


@pytest.mark.parametrize("contribution", CONTRIBUTIONS)
def test_contribution_of_a_battery_loads(contribution: EntryPoint) -> None:
    assert contribution.load() is not None


def test_flow_all_contains_no_code() -> None:
    files = distribution("flow-all").files or ()
    assert [file for file in files if file.suffix == ".py"] == []
