"""A machine that starts, crashes, resumes, answers, cancels and recovers runs in any order, beside a model of them."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from flow_hitl import human_in_the_loop
from flow_loop import loop_until
from flow_parallel import parallel
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from flow import AnswerInvalid, Flow, NotPaused, Pipeline, RunResult, StateError, Step
from tests.reliability.conftest import MEMORY
from tests.reliability.scale import SOAK, amount
from tests.reliability.stores import KINDS, completed_paths, kernel, open_store, url_of
from tests.reliability.witness import Fault, Faulty, Gone, Vanished

QUESTIONS = {"1:first": "1:first", "5:second": "5:second"}
SHRINK = "FLOW_TEST_SHRINK" in os.environ  # takes minutes with a store on disk
ENDED = ("completed", "cancelled", "dead")
OUTPUT = 3 * 2 + 1


@attrs.define
class Known:
    """What the model knows of a run.

    :ivar stored: paths that were seen in the store as completed: they must stay there and never be executed again.
    :ivar answered: questions whose answer was accepted.
    """

    status: str
    stored: set[str] = attrs.field(factory=set)
    answered: set[str] = attrs.field(factory=set)
    crashes: int = 0


class Engine(RuleBasedStateMachine):
    """Real flows on a real store. A crash is a store that nothing arrives at any more, and a process that is gone."""

    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=None if SOAK else MEMORY)
        self.store = open_store(url_of(self.kind, Path(self.folder.name)))
        self.loop = asyncio.Runner()
        self.runs: dict[str, Known] = {}
        self.executed: list[tuple[str, str]] = []
        self.broken = False

    def teardown(self) -> None:
        self.loop.run(self.store.aclose())
        self.loop.close()
        self.folder.cleanup()

    # -- what is run

    def step(self, label: str, change: Any) -> Step[Any, Any]:
        async def work(value: int, run: Any) -> int:
            self.executed.append((run.run_id, run.path))
            if self.broken and label == "fragile":
                raise ValueError("broken")
            return change(value)

        return Step(label, work)

    def pipeline(self) -> Pipeline[Any, Any]:
        same = self.step("same", lambda value: value)
        return Pipeline(
            [
                self.step("begin", lambda value: value),
                human_in_the_loop("first", "?", int),
                loop_until("grow", self.step("grown", lambda value: value * 2), lambda *_: True, max_loops=3),
                parallel("both", {"left": same >> self.step("fragile", lambda value: value), "right": same}),
                self.step("joined", lambda parts: parts["left"]),
                human_in_the_loop("second", "?", int),
                self.step("end", lambda value: value * 2 + 1),
            ],
            name="machine",
        )

    def flow(self, crash_after: int | None) -> Flow[Any, Any]:
        store: Any = Faulty(self.store, None if crash_after is None else Fault(crash_after, "vanish"))
        return Flow(self.pipeline(), state=store, kernel=kernel())

    # -- what is done

    def attempt(self, run_id: str, crash_after: int | None, **how: Any) -> RunResult[Any] | None:
        """Start or resume a run; ``None`` after a crash. Whatever happens, no step is executed that was stored."""
        flow, begun = self.flow(crash_after), len(self.executed)
        result = None
        try:
            if run_id in self.runs:
                result = self.loop.run(flow.resume_async(run_id, **how))
            else:
                self.runs[run_id] = Known("unknown")
                result = self.loop.run(flow.run_async(0, run_id=run_id))
        except (Vanished, Gone):
            self.runs[run_id].crashes += 1
        finally:
            self.compare(run_id, self.executed[begun:])
        if result is not None:
            assert self.runs[run_id].status == result.status.value
        return result

    def compare(self, run_id: str, executed: list[tuple[str, str]]) -> None:
        known = self.runs[run_id]
        again = {path for owner, path in executed if owner == run_id} & known.stored
        assert again == set(), f"executed again: {again}"
        assert len(executed) == len(set(executed)), f"executed twice: {executed}"
        record = self.loop.run(self.store.load_run(run_id))
        if record is None:
            assert known.stored == set()
            del self.runs[run_id]
            return
        stored = completed_paths(self.loop.run(self.store.load_steps(run_id)))
        assert known.stored <= stored, f"lost: {known.stored - stored}"
        known.stored, known.status = stored, record.status

    # -- rules

    crash = st.none() | st.integers(min_value=1, max_value=14)

    def some(self, data: Any, *statuses: str) -> str:
        return data.draw(st.sampled_from(sorted(run for run, known in self.runs.items() if known.status in statuses)))

    def any_is(self, *statuses: str) -> bool:
        return any(known.status in statuses for known in self.runs.values())

    @precondition(lambda self: len(self.runs) < 4)
    @rule(crash_after=crash)
    def start(self, crash_after: int | None) -> None:
        run_id = f"r{len(self.runs)}-{len(self.executed)}"
        result = self.attempt(run_id, crash_after)
        if result is not None:
            assert [item.path for item in result.pending] == ["1:first"]

    @precondition(lambda self: self.any_is("running", "failed", "interrupted"))
    @rule(crash_after=crash, data=st.data())
    def resume(self, crash_after: int | None, data: Any) -> None:
        self.attempt(self.some(data, "running", "failed", "interrupted"), crash_after)

    @precondition(lambda self: self.any_is("paused"))
    @rule(crash_after=crash, data=st.data())
    def answer(self, crash_after: int | None, data: Any) -> None:
        run_id = self.some(data, "paused")
        asked = self.questions(run_id)
        result = self.attempt(run_id, crash_after, answers={asked[0]: 3})
        if result is not None:
            self.runs[run_id].answered.add(asked[0])
            assert asked[0] not in [item.path for item in result.pending]
            if result.success:
                assert result.output == OUTPUT

    @precondition(lambda self: self.any_is("paused"))
    @rule(data=st.data())
    def answer_badly(self, data: Any) -> None:
        run_id = self.some(data, "paused")
        with pytest.raises(AnswerInvalid):
            self.attempt(run_id, None, answer="no number")
        assert self.runs[run_id].status == "paused"

    @precondition(lambda self: self.any_is("paused"))
    @rule(data=st.data())
    def resume_without_an_answer(self, data: Any) -> None:
        run_id = self.some(data, "paused")
        asked = self.questions(run_id)
        result = self.attempt(run_id, None)
        assert result is not None
        if not self.runs[run_id].crashes:  # otherwise an answer may have been stored just before the crash
            assert [item.path for item in result.pending] == asked

    @precondition(lambda self: self.any_is(*ENDED))
    @rule(data=st.data())
    def answer_what_is_over(self, data: Any) -> None:
        run_id = self.some(data, *ENDED)
        with pytest.raises((NotPaused, StateError)):
            self.attempt(run_id, None, answer=3)

    @precondition(lambda self: self.any_is("completed"))
    @rule(data=st.data())
    def resume_what_has_completed(self, data: Any) -> None:
        begun = len(self.executed)
        result = self.attempt(self.some(data, "completed"), None)
        assert result is not None
        assert result.output == OUTPUT
        assert len(self.executed) == begun

    @precondition(lambda self: self.any_is("running", "paused", "interrupted"))
    @rule(crash_after=st.none() | st.integers(1, 2), data=st.data())
    def cancel(self, crash_after: int | None, data: Any) -> None:
        run_id = self.some(data, "running", "paused", "interrupted")
        before = self.runs[run_id].status
        with suppress(Vanished, Gone):
            assert self.loop.run(self.flow(crash_after).cancel(run_id))
        self.compare(run_id, [])
        assert self.runs[run_id].status in ("cancelled", *([before] if crash_after else []))

    @rule(crash_after=crash)
    def recover(self, crash_after: int | None) -> None:
        begun = len(self.executed)
        orphans = {run_id for run_id, known in self.runs.items() if known.status in ("running", "interrupted")}
        results: list[RunResult[Any]] | None = None
        try:
            results = self.loop.run(self.flow(crash_after).recover_async())
        except* (Vanished, Gone):
            pass
        executed = self.executed[begun:]
        assert {run_id for run_id, _ in executed} <= orphans
        for run_id in list(self.runs):
            self.compare(run_id, [done for done in executed if done[0] == run_id])
        if results is not None:
            assert {result.run_id for result in results} | {
                r for r in orphans if self.runs[r].status == "dead"
            } == orphans
            assert not self.any_is("running", "interrupted")

    @rule(broken=st.booleans())
    def something_breaks(self, broken: bool) -> None:
        self.broken = broken

    def questions(self, run_id: str) -> list[str]:
        record = self.loop.run(self.store.load_run(run_id))
        assert record is not None
        return [path for path in QUESTIONS if path.encode() in (record.pending or b"")]

    # -- what always holds

    @invariant()
    def nobody_owns_what_nobody_executes(self) -> None:
        for run_id, known in self.runs.items():
            record = self.loop.run(self.store.load_run(run_id))
            assert record is not None
            assert record.status == known.status
            if known.status not in ("running", "paused", "failed"):
                assert record.owner is None


@pytest.mark.parametrize("kind", KINDS)
def test_runs_do_what_a_model_of_them_does(kind: str) -> None:
    machine = type(f"Engine_{kind}", (Engine,), {"kind": kind})
    lasting = 1 if kind == "memory" else 3
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=amount(300, 60, 10) // lasting,
            stateful_step_count=50 if SOAK else 25,
            deadline=None,
            derandomize=not SOAK,
            print_blob=True,
            database=None,
            phases=[Phase.generate] + ([Phase.shrink] if SHRINK else []),
            suppress_health_check=list(HealthCheck),
        ),
    )
