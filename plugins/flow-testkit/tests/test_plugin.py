"""The pytest plugin: light, and without flow until a test needs it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import flow_testkit
import pytest

pytest_plugins = ["pytester"]


def test_plugin_is_registered() -> None:
    assert [entry.value for entry in entry_points(group="pytest11", name="flow")] == ["flow_testkit.plugin"]


def test_loading_the_plugin_imports_neither_flow_nor_pydantic() -> None:
    program = (
        "import flow_testkit.plugin, sys; print(sorted({'flow', 'pydantic', 'attrs', 'asyncio'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() in ("[]", "['asyncio']")  # pytest may bring asyncio itself


def test_session_without_flow_tests_never_imports_flow(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import sys

        class NotASuite: pass

        class TestIt:
            def test_it(self):
                assert "flow" not in sys.modules
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)


def test_fixtures_are_listed_with_what_they_are(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--fixtures", "-p", "no:cacheprovider", "-p", "no:asyncio")
    for fixture in ("flow_kernel", "recording_observer", "fake_clock", "flow_tester"):
        result.stdout.fnmatch_lines([f"{fixture}*"])


def test_door_is_sorted_and_complete() -> None:
    assert list(flow_testkit.__all__) == sorted(set(flow_testkit.__all__))
    assert dir(flow_testkit) == flow_testkit.__all__
    for name in flow_testkit.__all__:
        assert getattr(flow_testkit, name).__doc__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'flow_testkit' has no attribute 'Nothing'"):
        flow_testkit.Nothing  # noqa: B018
