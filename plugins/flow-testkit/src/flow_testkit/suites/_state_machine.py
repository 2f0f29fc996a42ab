"""A state backend against a model of one: whatever is done to both, they agree.

Kept apart from the rest of the suite, so that only the test that needs Hypothesis imports it.
"""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar, TypeVar

import attrs
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from flow import LeaseLost, RunNotFound, RunOwned, RunRecord, StateBackend, StateError, StepRecord, Usage
from flow_testkit.suites._clocks import owner_that_is_gone
from flow_testkit.suites._records import run_record, step_record
from flow_testkit.suites._state_subject import AT_ONCE, HOUR, OWNER, RIVAL, StateSubject

T = TypeVar("T")

# A failure is made short, which takes seconds, but not explained, which would take as long again.
PHASES = (Phase.generate, Phase.shrink)
BEGIN = 1_700_000_000.0
FAR_AWAY = 9_000_000_000.0
UNFINISHED = ("running", "paused", "interrupted")
FREE: dict[str, Any] = {"wake_at": None, "owner": None}

RUN_IDS = ("run-0", "run-1", "run-2", "run-10")
WHICH_IS_UNKNOWN = 9
WHICH = st.sampled_from(range(WHICH_IS_UNKNOWN + 1))
CLAIMANTS = st.sampled_from([OWNER, RIVAL, "gone"])
# All of them and all times that pass are multiples of 20 s: a lease never ends while the model and the store are asked.
LEASES = st.sampled_from([AT_ONCE, 60.0, HOUR])
PATHS = st.sampled_from(["0:a", "1:b", "10:k", "1:b/0:x", "1:b/answer", "2:'; --"])
LAG = st.sampled_from([0, 0, 0, 1])  # how many epochs a writer is behind
CHANGES: dict[str, dict[str, Any]] = {
    "go on": {"status": "running", "error": None, "wake_at": None, "recoveries": 1},
    "spend": {"usage": Usage(0.1, 1, 2, 3), "metadata": {"app": "ü.py"}},
    "pause": {"status": "paused", "pending": b'[{"path": "1:b"}]', "wake_at": BEGIN + 50.0, "owner": None},
    "interrupt": {"status": "interrupted", "owner": None},
    "complete": {"status": "completed", "error": None, "pending": None, **FREE},
    "fail": {"status": "failed", "error": "step '1:b' failed", **FREE},
    "cancel": {"status": "cancelled", "error": "cancelled", "pending": None, **FREE},
    "park": {"status": "dead", "recoveries": 6, "owner": None},
}
FILTERS: list[dict[str, Any]] = [
    {},
    {"status": "running"},
    {"status": "paused", "due": BEGIN + 50.0},
    {"due": BEGIN + 49.0},
    {"pipeline": "audit"},
    {"pipeline": "audit", "status": "completed"},
    {"since": BEGIN + 2.0},
    {"since": BEGIN + 2.0, "pipeline": "audit", "status": "running"},
    {"id_prefix": "run-1"},
    {"text": "AUDIT", "status": "completed"},
    {"min_cost_usd": 0.1},
]


@attrs.define
class ModelRun:
    """A run as it has to be: its record, the end of its lease on the clock of the model, its journal by path."""

    record: RunRecord
    lease_until: float
    steps: dict[str, StepRecord] = attrs.field(factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether nothing will go on with it."""
        return self.record.status not in UNFINISHED


class StateBackendMachine(RuleBasedStateMachine):
    """Does to a backend what processes do to it, and to a model in dictionaries the same.

    :cvar subject: makes the backend.
    :cvar seen: how often each operation ended in which way, over all examples.
    """

    subject: ClassVar[StateSubject]
    seen: ClassVar[Counter[str]] = Counter()
    _examples = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.example = next(self._examples)
        self.runs: dict[str, ModelRun] = {}
        self.pipelines: dict[str, bytes] = {}
        self.now = 0.0
        self.counter = itertools.count(1)
        self.loop = asyncio.Runner()
        self.state: StateBackend = self.wait(self.subject.open_state())
        self.wait(self._clear())

    def teardown(self) -> None:
        """Close the backend and its event loop."""
        self.wait(self.state.aclose())
        self.loop.close()

    # -- what processes do --

    @initialize(lease_s=LEASES)
    def begin(self, lease_s: float) -> None:
        """Most of what can happen needs runs."""
        self.create("run-1", OWNER, lease_s, "audit")
        self.create("run-2", None, lease_s, "audit")

    @rule(
        run_id=st.sampled_from(RUN_IDS),
        owner=st.sampled_from([None, OWNER, "gone"]),
        lease_s=LEASES,
        pipeline=st.sampled_from(["audit", "report"]),
        sync=st.booleans(),
    )
    def create(self, run_id: str, owner: str | None, lease_s: float, pipeline: str, sync: bool = True) -> None:
        """Begin a run."""
        # In one test every backend opens the same store: an example must not meet what one before it has left behind.
        run_id = f"x{self.example}-{run_id}"
        moment = BEGIN + next(self.counter)
        fields: dict[str, Any] = {"created_at": moment, "updated_at": moment, "wake_at": None, "pipeline": pipeline}
        record = run_record(run_id, **fields, owner=self._owner(owner), epoch=int(owner is not None))
        expected = StateError if run_id in self.runs else None
        if self.attempt("create", self.state.create_run(record, lease_s, sync=sync), expected):
            self.runs[run_id] = ModelRun(record, self.now + lease_s)
        self.agree(run_id)

    @rule(which=WHICH, owner=CLAIMANTS, lease_s=LEASES)
    def claim(self, which: int, owner: str, lease_s: float) -> None:
        """Resume or recover a run."""
        run_id = self._run_id(which)
        claimant = self._owner(owner) or OWNER
        model = self.runs.get(run_id)
        expected = RunNotFound if model is None else RunOwned if self._is_owned(model, claimant) else None
        epoch = self.attempt("claim", self.state.claim_run(run_id, claimant, lease_s), expected)
        if model is not None and epoch:
            assert epoch > model.record.epoch, "an epoch has to be higher than the one before"
            model.record = attrs.evolve(model.record, owner=claimant, epoch=epoch)
            model.lease_until = self.now + lease_s
        self.agree(run_id)

    @rule(which=WHICH, lag=LAG, lease_s=LEASES)
    def renew(self, which: int, lag: int, lease_s: float) -> None:
        """Show that the owner is alive."""
        run_id = self._run_id(which)
        model, epoch, expected = self._writer(run_id, lag)
        if self.attempt("renew", self.state.renew_run(run_id, epoch, lease_s), expected):
            model.lease_until = self.now + lease_s
        self.agree(run_id)

    @rule(which=WHICH, lag=LAG, paths=st.lists(PATHS, max_size=4), sync=st.booleans())
    def append(self, which: int, lag: int, paths: list[str], sync: bool) -> None:
        """Finish steps, or answer questions."""
        run_id = self._run_id(which)
        records = [step_record(path, feedback=f"write {next(self.counter)}") for path in paths]
        model, epoch, expected = self._writer(run_id, lag)
        if self.attempt("append", self.state.append_steps(run_id, epoch, records, sync=sync), expected):
            for record in records:
                model.steps.pop(record.path, None)
                model.steps[record.path] = record
        self.agree(run_id)

    @rule(which=WHICH, lag=LAG, change=st.sampled_from(sorted(CHANGES)), sync=st.booleans())
    def update(self, which: int, lag: int, change: str, sync: bool) -> None:
        """Pause a run, end it, go on with it."""
        run_id = self._run_id(which)
        model, epoch, expected = self._writer(run_id, lag)
        if self.attempt("update", self.state.update_run(run_id, epoch, sync=sync, **CHANGES[change]), expected):
            model.record = attrs.evolve(model.record, **CHANGES[change])
        self.agree(run_id)

    @precondition(lambda self: len(self.runs) > 1)
    @rule(which=WHICH)
    def delete(self, which: int) -> None:
        """Forget a run."""
        run_id = self._run_id(which)
        known = self.runs.pop(run_id, None) is not None
        assert self.wait(self.state.delete_run(run_id)) is known
        self.seen[f"delete: {known}"] += 1
        self.agree(run_id)

    @precondition(lambda self: self.has_ended_runs())
    @rule(which=WHICH, keep=st.integers(0, 2), everything=st.booleans())
    def prune(self, which: int, keep: int, everything: bool) -> None:
        """Forget runs that have ended, those that are older than another or all."""
        run_id = self._run_id(which)
        older_than = FAR_AWAY if everything or run_id not in self.runs else self.runs[run_id].record.updated_at
        ended = [model.record for model in self._newest() if model.has_ended]
        old = [record.run_id for record in ended[keep:] if record.updated_at < older_than]
        assert self.wait(self.state.prune(older_than=older_than, keep=keep)) == len(old)
        self.seen[f"prune: {bool(old)}"] += 1
        for forgotten in old:
            del self.runs[forgotten]
            self.agree(forgotten)
        self.list_everything()

    @rule(number=st.integers(0, 2))
    def describe(self, number: int) -> None:
        """Keep the description of a pipeline, and read those that were kept."""
        fingerprint = f"f{self.example}x{number}"
        self.pipelines[fingerprint] = f'{{"number": {number}}}'.encode()
        self.wait(self.state.save_pipeline(fingerprint, self.pipelines[fingerprint]))
        for known, structure in self.pipelines.items():
            assert self.wait(self.state.load_pipeline(known)) == structure

    # -- what happens around them --

    @rule(seconds=st.sampled_from([20.0, 60.0, HOUR]))
    def let_time_pass(self, seconds: float) -> None:
        """Wait."""
        self.subject.let_time_pass(seconds)
        self.now += seconds

    @precondition(lambda self: self.subject.survives_reopen)
    @rule()
    def reopen(self) -> None:
        """End the process and begin another."""
        self.wait(self.state.aclose())
        self.state = self.wait(self.subject.open_state())
        for run_id in self.runs:
            self.agree(run_id)

    @rule(filters=st.sampled_from(FILTERS), limit=st.integers(1, 3), offset=st.integers(0, 2))
    def list_some(self, filters: dict[str, Any], limit: int, offset: int) -> None:
        """Look for runs."""
        fitting = [model.record for model in self._newest() if _fits(model.record, **filters)]
        found = self.wait(self.state.list_runs(**filters, limit=limit, offset=offset))
        _require_equal(found, fitting[offset : offset + limit])
        self.seen[f"list: {bool(found)}"] += 1

    @rule()
    def list_everything(self) -> None:
        """Look at all runs."""
        _require_equal(self.wait(self.state.list_runs()), [model.record for model in self._newest()])

    # -- the comparison --

    def has_ended_runs(self) -> bool:
        """Whether there is something to prune."""
        return any(model.has_ended for model in self.runs.values())

    def attempt(self, name: str, work: Awaitable[T], expected: type[Exception] | None) -> T | bool:
        """Await `work`, which has to end as expected; return what it returned, or True for nothing."""
        self.seen[f"{name}: {expected.__name__ if expected else 'done'}"] += 1
        if expected is None:
            outcome = self.wait(work)
            return True if outcome is None else outcome
        with pytest.raises(expected):
            self.wait(work)
        return False

    def agree(self, run_id: str) -> None:
        """Compare what is stored of a run with the model."""
        model = self.runs.get(run_id)
        record = self.wait(self.state.load_run(run_id))
        steps = self.wait(self.state.load_steps(run_id))
        if model is None:
            assert record is None
            assert list(steps) == []
            return
        assert record is not None, f"{run_id} is not in the store"
        _require_equal([record], [model.record])
        model.record = attrs.evolve(model.record, updated_at=record.updated_at)
        assert list(steps) == list(model.steps.values())

    def wait(self, work: Awaitable[T]) -> T:
        """Return what `work` returns."""

        async def awaits() -> T:
            return await work

        return self.loop.run(awaits())

    async def _clear(self) -> None:
        # So that listings show the runs of this example only.
        for run in await self.state.list_runs(limit=1000):
            await self.state.delete_run(run.run_id)

    def _run_id(self, which: int) -> str:
        if which == WHICH_IS_UNKNOWN or not self.runs:
            return "nobody"
        return list(self.runs)[which % len(self.runs)]

    def _writer(self, run_id: str, lag: int) -> tuple[ModelRun, int, type[Exception] | None]:
        """Return the run, the epoch of somebody who is `lag` claims behind, and what a write of theirs ends with."""
        model = self.runs.get(run_id)
        if model is None:
            return ModelRun(run_record(run_id), 0.0), 1, RunNotFound
        behind = lag if self.subject.has_leases else 0
        return model, model.record.epoch - behind, LeaseLost if behind else None

    def _owner(self, name: str | None) -> str | None:
        if name is None or not self.subject.has_leases:
            return None
        return owner_that_is_gone() if name == "gone" else name

    def _is_owned(self, model: ModelRun, claimant: str) -> bool:
        free = (None, claimant, owner_that_is_gone())
        return self.subject.has_leases and model.record.owner not in free and self.now < model.lease_until

    def _newest(self) -> list[ModelRun]:
        return sorted(self.runs.values(), key=lambda model: model.record.created_at, reverse=True)


def _fits(
    record: RunRecord,
    status: str | None = None,
    pipeline: str | None = None,
    since: float | None = None,
    due: float | None = None,
    id_prefix: str = "",
    text: str = "",
    min_cost_usd: float = 0.0,
) -> bool:
    texts = [record.run_id, record.pipeline, record.error or "", *record.metadata.values()]
    return (
        status in (None, record.status)
        and pipeline in (None, record.pipeline)
        and (since is None or record.created_at >= since)
        and (due is None or (record.wake_at is not None and record.wake_at <= due))
        and record.run_id.startswith(id_prefix)
        and any(text.lower() in told.lower() for told in texts)
        and record.usage.cost_usd >= min_cost_usd
    )


def _require_equal(found: Sequence[RunRecord], expected: Sequence[RunRecord]) -> None:
    """Compare records without the times that a store writes down by itself."""
    kept: dict[str, Any] = {"updated_at": 0.0, "lease_until": 0.0}
    assert [attrs.evolve(run, **kept) for run in found] == [attrs.evolve(run, **kept) for run in expected]


def run_suite(subject: StateSubject) -> None:
    """Run 25 examples of 30 steps, always the same; with ``FLOW_TEST_SOAK=1`` 300 of 50, others each time."""
    if os.environ.get("FLOW_TEST_SOAK") == "1":
        run_machine(subject, examples=300, steps=50, derandomize=False)
    else:
        run_machine(subject, examples=25, steps=30)


def run_machine(subject: StateSubject, *, examples: int, steps: int, derandomize: bool = True) -> Counter[str]:
    """Run the machine on the backends of `subject` and return what happened how often."""
    seen: Counter[str] = Counter()
    machine = type("StateBackend", (StateBackendMachine,), {"subject": subject, "seen": seen})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=derandomize,
            phases=PHASES,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
    return seen
