"""The guard: a suite that does not run as it was written fails, and says why."""

from __future__ import annotations

import pytest

# Imported here, or pytester would import it, and all of flow, anew for every session.
from flow_testkit.suites import ValidatorSuite

pytest_plugins = ["pytester"]

LIGHT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")

PREAMBLE = """
import pytest
from flow_testkit import ValidatorSuite
from flow import BaseValidator, ValidationResult

class Short(BaseValidator):
    name = "short"
    async def validate(self, output, *, context=None):
        return ValidationResult(is_valid=len(str(output)) < 9, feedback="too long", validator_name=self.name)

class Made(ValidatorSuite):
    accepts = ["ab"]
    rejects = ["much too long"]
    def make_validator(self):
        return Short()
"""


@pytest.fixture
def session(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def run(session: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    session.makepyfile(test_it=PREAMBLE + body)
    return session.runpytest_inprocess(*LIGHT, *arguments)


def test_sound_suite_passes(session: pytest.Pytester) -> None:
    result = run(session, "class TestShort(Made): pass")
    result.assert_outcomes(passed=10)


def test_further_tests_are_welcome(session: pytest.Pytester) -> None:
    result = run(session, "class TestShort(Made):\n    def test_more(self): pass")
    result.assert_outcomes(passed=11)


@pytest.mark.parametrize(
    ("change", "verb"),
    [
        ("def test_is_a_validator_with_a_name(self): pass", "overrides"),
        ("test_is_a_validator_with_a_name = None", "deletes"),
        ("@pytest.mark.xfail\n    def test_is_a_validator_with_a_name(self): assert 0", "overrides"),
        ("@pytest.mark.skip(reason='later')\n    def test_is_a_validator_with_a_name(self): pass", "overrides"),
    ],
    ids=["overridden", "deleted", "xfail without a reason", "skipped"],
)
def test_changed_standard_test_fails(session: pytest.Pytester, change: str, verb: str) -> None:
    result = run(session, f"class TestShort(Made):\n    {change}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            f"TestShort {verb} the standard test test_is_a_validator_with_a_name of ValidatorSuite.*",
            '    @pytest.mark.xfail(reason="...")',
            "    def test_is_a_validator_with_a_name(self):",
            "        super().test_is_a_validator_with_a_name()",
        ]
    )


def test_change_in_a_class_between_fails(session: pytest.Pytester) -> None:
    result = run(session, "class Between(Made):\n    test_accepts = None\nclass TestShort(Between): pass")
    result.assert_outcomes(passed=9, failed=1)
    result.stdout.fnmatch_lines(["TestShort deletes the standard test test_accepts of ValidatorSuite.*"])


def test_expected_failure_with_a_reason_is_accepted(session: pytest.Pytester) -> None:
    body = """
class TestShort(Made):
    @pytest.mark.xfail(reason="Short has no manners")
    @pytest.mark.asyncio
    async def test_strange_output_is_no_exception(self):
        await super().test_strange_output_is_no_exception()
        raise AssertionError
"""
    run(session, body).assert_outcomes(passed=9, xfailed=1)


def test_async_test_is_shown_as_async(session: pytest.Pytester) -> None:
    result = run(session, "class TestShort(Made):\n    def test_strange_output_is_no_exception(self): pass")
    result.stdout.fnmatch_lines(["    async def test_strange_output_is_no_exception(self):", "        await super()*"])


@pytest.mark.parametrize("mark", ["skip", "xfail(reason='all of it')"])
def test_suite_marked_as_a_whole_fails(session: pytest.Pytester, mark: str) -> None:
    result = run(session, f"@pytest.mark.{mark}\nclass TestShort(Made): pass")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["TestShort is marked as a whole*"])


def test_class_with_another_name_fails(session: pytest.Pytester) -> None:
    result = run(session, "class ShortConformance(Made): pass")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["nothing was collected from ShortConformance*", "Call it TestShortConformance."])


def test_base_of_other_suites_may_have_any_name(session: pytest.Pytester) -> None:
    result = run(session, "class Between(Made): pass\nclass TestShort(Between): pass")
    result.assert_outcomes(passed=10)


def test_configured_names_count(session: pytest.Pytester) -> None:
    result = run(session, "class ShortConformance(Made): pass", "-o", "python_classes=*Conformance")
    result.assert_outcomes(passed=10)


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("class TestShort(Made):\n    __test__ = False", ()),
        ("class TestShort(Made): pass", ("-o", "python_functions=check_*")),
    ],
    ids=["switched off", "other function names"],
)
def test_empty_collection_fails(session: pytest.Pytester, body: str, arguments: tuple[str, ...]) -> None:
    result = run(session, body, *arguments)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["nothing was collected from TestShort*"])


def test_single_test_may_be_chosen(session: pytest.Pytester) -> None:
    result = run(session, "class TestShort(Made): pass", "-k", "strange")
    result.assert_outcomes(passed=1, deselected=9)


def test_missing_factory_says_what_to_write(session: pytest.Pytester) -> None:
    source = f"""
from flow_testkit import {ValidatorSuite.__name__}

class TestShort(ValidatorSuite):
    accepts = ["a"]
    rejects = ["b"]
"""
    session.makepyfile(test_it=source)
    result = session.runpytest_inprocess(*LIGHT)
    result.assert_outcomes(failed=10)
    result.stdout.fnmatch_lines(
        [
            "TestShort has no make_validator(self). Write:",
            "    def make_validator(self):",
            "        return MaxLength(5)",
        ]
    )


@pytest.mark.parametrize(
    ("suite", "method"),
    [
        ("StepTypeSuite", "make_step(self)"),
        ("StateBackendSuite", "make_state(self)"),
        ("CacheBackendSuite", "make_cache(self)"),
        ("TracerSuite", "make_tracer(self)"),
        ("PolicySuite", "make_policy(self)"),
    ],
)
def test_every_suite_says_which_factory_is_missing(session: pytest.Pytester, suite: str, method: str) -> None:
    session.makepyfile(test_it=f"from flow_testkit import {suite}\nclass TestIt({suite}): pass")
    result = session.runpytest_inprocess(*LIGHT, "-x")
    result.stdout.fnmatch_lines([f"TestIt has no {method}. Write:", f"    def {method}:"])


@pytest.mark.parametrize(
    ("declared", "method"),
    [("has_children", "make_step_around(self, child)"), ("runs_agent", "make_step_with(self, agent)")],
)
def test_declared_capability_needs_its_factory(session: pytest.Pytester, declared: str, method: str) -> None:
    source = f"""
from flow import Step
from flow_testkit import StepTypeSuite

class TestIt(StepTypeSuite):
    {declared} = True
    def make_step(self):
        return Step("a", str.upper)
"""
    session.makepyfile(test_it=source)
    result = session.runpytest_inprocess(*LIGHT, "-k", "usage_counts_once and alone")
    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines([f"TestIt has no {method}. Write:"])


def test_other_classes_are_left_alone(session: pytest.Pytester) -> None:
    result = run(session, "class Helper: pass\nclass TestOther:\n    def test_it(self): pass")
    # `Made` itself is a suite that nobody subclasses here.
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["nothing was collected from Made*"])
