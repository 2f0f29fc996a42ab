"""The suites catch what is wrong: each of these implementations is broken in a known way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from flow_testkit import StateBackendSuite
from flow_testkit.suites import _clocks, _records, _state_machine, _suite
from hypothesis import Phase

from flow import Kernel, Settings, StateBackend

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
        "TestLosesWritesThatMeet": {
            "test_writes_at_the_same_time_are_all_kept",
            "test_records_of_one_call_stay_in_order_when_calls_meet",
        },
        "TestLosesWrites": {
            "test_writes_at_the_same_time_are_all_kept",
            "test_steps_are_in_the_order_of_writing",
            "test_does_what_a_model_does",
        },
        "TestLosesAllButTheFirst": {"test_steps_written_together_are_in_their_order", "test_does_what_a_model_does"},
        "TestLosesWhatIsNotSynced": {"test_runs_survive_reopening"},
        "TestUpdatesHalf": {
            "test_update_changes_what_it_names",
            "test_run_is_given_back",
            "test_does_what_a_model_does",
        },
        "TestWritesBackWhatItRead": {"test_updates_at_the_same_time_are_all_kept"},
        "TestOverwrites": {
            "test_run_id_is_taken_once",
            "test_one_of_many_runs_with_one_id_is_created",
            "test_does_what_a_model_does",
        },
        "TestForgetsWhenClosed": {
            "test_runs_survive_reopening",
            "test_run_is_resumed_by_another_flow",
            "test_writes_of_another_process_are_seen_at_once",
            "test_does_what_a_model_does",
        },
        "TestHasNoDescriptions": {"test_description_of_a_pipeline_is_kept"},
        "TestReorders": {"test_steps_are_in_the_order_of_writing", "test_does_what_a_model_does"},
        "TestReordersWhatIsWrittenTogether": {"test_steps_written_together_are_in_their_order"},
        "TestOldestFirst": {"test_runs_are_listed_newest_first", "test_runs_are_listed_in_pages"},
        "TestDoesNotFence": {
            "test_writes_of_an_earlier_owner_are_refused",
            "test_run_can_be_created_claimed",
            "test_does_what_a_model_does",
        },
        "TestFencesOnlyAppends": {
            "test_writes_of_an_earlier_owner_are_refused",
            "test_writes_of_an_epoch_that_was_never_given_are_refused",
        },
        "TestFencesBeforeItWrites": {"test_writes_that_meet_a_claim_come_before_it_or_not_at_all"},
        "TestTearsBatches": {"test_refused_record_takes_those_of_its_call_with_it"},
        "TestFencesAfterTheFirst": {"test_writes_of_an_earlier_owner_are_refused", "test_does_what_a_model_does"},
        "TestCutsRecords": {"test_large_and_deep_records_are_kept"},
        "TestDuplicates": {
            "test_later_record_replaces_an_earlier_one",
            "test_later_record_replaces_an_earlier_one_of_the_same_call",
            "test_what_was_read_does_not_change",
            "test_does_what_a_model_does",
        },
        "TestReadsStale": {"test_update_is_seen_at_once", "test_does_what_a_model_does"},
        "TestReadsItsOwn": {"test_writes_of_another_process_are_seen_at_once"},
        "TestDoesNotLease": {
            "test_leased_run_is_refused_to_others",
            "test_one_of_many_claims_wins",
            "test_lease_ends",
            "test_does_what_a_model_does",
        },
        "TestClaimsInTwoSteps": {"test_one_of_many_claims_wins"},
        "TestCreatesUnclaimed": {"test_run_can_be_created_claimed"},
        "TestLeasesForEver": {"test_lease_ends"},
        "TestNeverRenews": {
            "test_renewed_lease_lasts",
            "test_lease_that_is_over_can_be_renewed_unless_somebody_claimed",
            "test_end_of_the_lease_can_be_read",
        },
        "TestLeasesByTheWallClock": {
            "test_wall_clock_does_not_matter",
            "test_run_of_a_process_that_is_gone_is_taken_over_at_once",
        },
        "TestHoldsOn": {"test_run_is_given_back", "test_end_of_a_run_is_stored"},
        "TestDeletesByPrefix": {"test_delete_takes_one_run"},
        "TestFiltersThePage": {"test_runs_are_filtered"},
        "TestListsLittle": {"test_listed_runs_are_whole"},
        "TestKnowsNoTimes": {"test_runs_are_found_by_when_they_began", "test_runs_that_are_due_are_found"},
        "TestFindsIdsAnywhere": {"test_runs_are_found_by_how_their_ids_begin"},
        "TestSearchesTheInput": {"test_runs_are_found_by_text"},
        "TestCountsNoCents": {"test_runs_are_found_by_what_they_cost"},
        "TestPrunesEverything": {
            "test_prune_takes_runs_that_have_ended",
            "test_prune_keeps_the_newest",
            "test_prune_takes_the_journals",
        },
        "TestPrunesByTheBeginning": {
            "test_prune_counts_from_the_last_change",
            "test_prune_keeps_the_newest",
            "test_prune_of_many_runs",
        },
        "TestIsBoundToItsLoop": {"test_event_loops_come_and_go", "test_threads_have_event_loops_of_their_own"},
        "TestHangsWhenCancelled": {"test_cancelled_write_is_whole_or_not_there"},
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
        "TestKeepsObjects": {"test_what_it_keeps_with_a_run_can_be_stored"},
        "TestRepeatsAttempts": {"test_changes_no_result"},
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

# Each of the classic ways to break a store is caught twice: by a test that says what is wrong, and by the model.
CLASSIC = {
    "lost write": "TestLosesWrites",
    "reordering": "TestReorders",
    "no fencing": "TestDoesNotFence",
    "torn write": "TestFencesAfterTheFirst",
    "duplicate": "TestDuplicates",
    "stale read": "TestReadsStale",
}

SOUND = {
    "step_types": ["TestSound"],
    "state_backends": ["TestSound", "TestSoundAndKept"],
    "other_kinds": ["TestSoundPolicy"],
}


@pytest.mark.parametrize("kind", CAUGHT)
def test_suites_catch_what_is_wrong(kind: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_suite, "PATIENCE_S", 0.3)
    monkeypatch.setattr(_state_machine, "PHASES", [Phase.generate])
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


@pytest.mark.parametrize("cls", CLASSIC.values(), ids=list(CLASSIC))
def test_classic_faults_of_stores_are_caught_by_a_test_and_by_the_model(cls: str) -> None:
    caught = CAUGHT["state_backends"][cls]
    assert "test_does_what_a_model_does" in caught
    assert len(caught) > 1


def test_machine_of_the_state_suite_meets_every_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kernel(Settings(), only=()).open_state("memory://")

    class Subject(StateBackendSuite):
        def make_state(self) -> StateBackend:
            return kept

    subject = Subject()
    subject._clocks = _clocks.MovableClocks(monkeypatch)
    missing = {f"{name}: done" for name in ("append", "claim", "create", "renew", "update")}
    missing |= {f"{name}: {error}" for name in ("append", "renew", "update") for error in ("LeaseLost", "RunNotFound")}
    missing |= {"claim: RunNotFound", "claim: RunOwned", "create: StateError"}
    missing |= {f"{name}: {found}" for name in ("delete", "prune", "list") for found in (True, False)}
    for _round in range(20):  # others each time: what is met in which order is up to Hypothesis
        missing -= set(_state_machine.run_machine(subject, examples=25, steps=50, derandomize=False))
        if not missing:
            break
    assert sorted(missing) == []


@pytest.mark.parametrize(
    "record", [_records.run_record(), _records.step_record("0:outer/1:inner")], ids=["run", "step"]
)
def test_records_of_the_state_suite_leave_no_field_at_its_default(record: Any) -> None:
    values = attrs.asdict(record, recurse=False)
    at_default = {field.name for field in attrs.fields(type(record)) if values[field.name] == field.default}
    # The suite itself sets the status: a new run is running.
    assert at_default - set(_records.KEPT_BY_THE_STORE) - {"status"} == set()
