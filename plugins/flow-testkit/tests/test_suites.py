"""The suites catch what is wrong: each of these implementations is broken in a known way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from flow_testkit.suites import _records, _suite

pytest_plugins = ["pytester"]

# What must fail, by class; other tests of the class may fail too. Nothing of a sound implementation fails.
CAUGHT = {
    "step_types": {
        "TestSwallowsSignals": {"test_control_signals_pass", "test_cancellation_leaves_nothing_behind"},
        "TestCountsUsageTwice": {"test_usage_counts_once"},
        "TestLosesUsage": {"test_usage_counts_once", "test_control_signals_pass", "test_children_are_bound_steps"},
        "TestCallsDirectly": {"test_children_are_bound_steps", "test_retries_of_a_child_are_its_own"},
        "TestBindsWhileRunning": {"test_dispatches_no_hook_while_running"},
        "TestKeepsState": {"test_runs_on_the_sample_input", "test_runs_at_the_same_time_do_not_meet"},
        "TestLeavesTasks": {"test_cancellation_leaves_nothing_behind", "test_timeout_ends_it"},
        "TestPathsOfItsOwn": {"test_paths_are_the_same_in_every_run"},
        "TestMixesRuns": {"test_usage_stays_in_its_run"},
        "TestHidesFailures": {"test_exception_inside_becomes_a_failed_result", "test_retries_run_it_again"},
        "TestLosesTheCause": {"test_cause_of_a_failure_is_kept", "test_exception_inside_becomes_a_failed_result"},
        "TestBindsEverything": {"test_plugin_binds_no_other_kind"},
        "TestHidesChildrenAndIsNotHashable": {"test_children_are_steps_by_label", "test_is_hashable"},
    },
    "state_backends": {
        "TestLosesWritesThatMeet": {"test_writes_at_the_same_time_are_all_kept"},
        "TestLosesWrites": {"test_writes_at_the_same_time_are_all_kept", "test_steps_are_in_the_order_of_writing"},
        "TestReorders": {"test_steps_are_in_the_order_of_writing"},
        "TestDoesNotFence": {"test_writes_of_an_earlier_owner_are_refused"},
        "TestDoesNotLease": {"test_leased_run_is_refused_to_others", "test_one_of_many_claims_wins"},
        "TestClaimsInTwoSteps": {"test_one_of_many_claims_wins"},
        "TestTears": {"test_large_and_deep_records_are_kept"},
        "TestDuplicates": {"test_later_record_replaces_an_earlier_one", "test_what_was_read_does_not_change"},
        "TestReadsStale": {"test_update_is_seen_at_once"},
        "TestUpdatesHalf": {"test_update_changes_what_it_names"},
        "TestOverwrites": {"test_run_id_is_taken_once"},
        "TestDeletesByPrefix": {"test_delete_takes_one_run"},
        "TestFiltersThePage": {"test_runs_are_filtered"},
        "TestForgetsWhenClosed": {"test_runs_survive_reopening", "test_run_is_resumed_by_another_flow"},
        "TestOldestFirst": {"test_runs_are_listed_newest_first", "test_runs_are_listed_in_pages"},
    },
    "other_kinds": {
        "TestForgetsNothingAndKeepsTheFirst": {
            "test_value_expires",
            "test_later_value_replaces_an_earlier_one",
            "test_values_survive_reopening",
        },
        "TestTakesEmptyForAMiss": {"test_value_comes_back", "test_keys_do_not_mix", "test_value_is_a_copy"},
        "TestRaises": {"test_changes_no_result"},
        "TestMeddles": {"test_changes_no_result"},
        "TestTells": {"test_shows_no_content"},
        "TestOneAtATime": {"test_runs_at_the_same_time_do_not_meet"},
        "TestNamelessAndSilent": {
            "test_is_a_validator_with_a_name",
            "test_rejects_and_says_why",
            "test_strange_output_is_no_exception",
        },
        "TestSorts": {"test_leaves_accepted_output_alone"},
        "TestListsNothing": {"test_accepts", "test_rejects_and_says_why"},
        "TestLosesSlots": {"test_cancelled_call_gives_back_what_it_took", "test_does_not_wrap_other_steps"},
        "TestHasNoEffectAndIsLoose": {"test_wraps_the_step_that_carries_it", "test_is_a_frozen_value"},
        "TestSwallowingPolicy": {"test_control_signals_pass", "test_failure_is_not_hidden"},
    },
}


SOUND = {"step_types": ["TestSound"], "state_backends": ["TestSound"], "other_kinds": ["TestSoundPolicy"]}


@pytest.mark.parametrize("kind", CAUGHT)
def test_suites_catch_what_is_wrong(kind: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_suite, "PATIENCE_S", 0.3)
    source = Path(__file__).with_name("mutants") / f"{kind}.py"
    file = pytester.makepyfile(test_mutants=source.read_text(encoding="utf-8")).name
    chosen = [f"{file}::{cls}::{name}" for cls, names in CAUGHT[kind].items() for name in sorted(names)]
    chosen += [f"{file}::{cls}" for cls in SOUND[kind]]
    ran = pytester.inline_run(
        "-q",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        *chosen,
    )
    passed, _, failed = ran.listoutcomes()
    failures = {report.nodeid.partition("[")[0] for report in failed}
    assert sorted(set(chosen[: -len(SOUND[kind])]) - failures) == [], "not caught"
    assert sorted(failures - set(chosen)) == [], "wrongly accused"
    assert passed


@pytest.mark.parametrize(
    "record", [_records.run_record(), _records.step_record("0:outer/1:inner")], ids=["run", "step"]
)
def test_records_of_the_state_suite_leave_no_field_at_its_default(record: Any) -> None:
    values = attrs.asdict(record, recurse=False)
    at_default = {field.name for field in attrs.fields(type(record)) if values[field.name] == field.default}
    # The suite itself sets the status: a new run is running.
    assert at_default - set(_records.KEPT_BY_THE_STORE) - {"status"} == set()
