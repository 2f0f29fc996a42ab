"""The package is loaded with every kernel: it must cost nothing where it is not used."""

from __future__ import annotations

import subprocess
import sys

import flow_resilience
import pytest

PROGRAM = """
import sys
from flow import Flow, Kernel, Settings, Step

kernel = Kernel(Settings(), only=["flow-resilience"])
assert Flow(Step("upper", str.upper, retries=1), kernel=kernel).run("x").output == "X"
assert "flow_resilience._hooks" in sys.modules
print(sorted(name for name in sys.modules if name.startswith("flow_resilience.")))
"""


def test_a_program_without_its_policies_imports_the_hooks_only() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "['flow_resilience._hooks']"


@pytest.mark.parametrize("name", flow_resilience.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert name in dir(flow_resilience)
    assert getattr(flow_resilience, name).__name__ == name


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Breaker'"):
        flow_resilience.Breaker  # noqa: B018
