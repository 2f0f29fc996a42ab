"""Durable runs: who executes them, how they are recovered, answered, changed and stopped."""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Sequence
from typing import Any

import attrs
import orjson
import pytest
from pydantic import BaseModel, SecretStr

from flow import (
    AnswerInvalid,
    BaseStep,
    ConfigurationError,
    Flow,
    Kernel,
    LeaseLost,
    NotPaused,
    PauseSignal,
    Pipeline,
    PipelineChanged,
    PipelineContext,
    RunNotFound,
    RunOwned,
    RunRecord,
    RunResult,
    Settings,
    StateCorrupt,
    StateError,
    Step,
    StepRecord,
    StepResult,
    StepRun,
    UsageLimits,
    hookimpl,
)
from flow._builtin.memory_state import MemoryState
from flow._lease import lease_clock, lease_is_over, new_owner, retire_owner


async def upper(text: str) -> str:
    return text.upper()


async def lower(text: str) -> str:
    return text.lower()


class Label(BaseModel):
    name: str
    score: int = 0


@attrs.frozen(kw_only=True)
class Ask(BaseStep[Any, Any]):
    kind = "ask"
    schema: Any = None

    def answer_type(self) -> Any:
        return self.schema

    def declared_types(self) -> tuple[Any, Any]:
        return Any, Any if self.schema is None else self.schema


@attrs.frozen(kw_only=True)
class Both(BaseStep[Any, Any]):
    """Runs its branches side by side, so that two questions may wait at once."""

    kind = "both"
    left: Any
    right: Any

    def children(self) -> dict[str, Any]:
        return {"left": self.left, "right": self.right}


class Waiting:
    """Binds `Ask` and `Both`."""

    @hookimpl
    def flow_bind_step(self, step: Any, binder: Any) -> Any:
        if isinstance(step, Ask):

            async def ask(data: Any, scope: Any) -> StepResult:
                answers = scope.run.answers
                if scope.path not in answers:
                    raise PauseSignal(f"what is {data}?", deadline=None if step.schema else time.time())
                return StepResult.ok(step, answers[scope.path])

            return ask
        if isinstance(step, Both):
            branches = {label: binder.bind(child) for label, child in step.children().items()}

            async def both(data: Any, scope: Any) -> StepResult:
                tasks = [asyncio.ensure_future(run(data, scope.child(label))) for label, run in branches.items()]
                done = await asyncio.gather(*tasks, return_exceptions=True)
                signals = [signal for signal in done if isinstance(signal, PauseSignal)]
                if signals:
                    raise PauseSignal.join(signals)
                if not all(result.success for result in done):
                    return StepResult.failed(step, "a branch failed")
                return StepResult.ok(step, [result.output for result in done])

            return both
        return None


@pytest.fixture
def asking() -> Kernel:
    return Kernel(Settings(), plugins=[Waiting()])


class Growing(PipelineContext):
    words: list[str] = []


# -- what is written, and when --


class Recording(MemoryState):
    """Notes each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[Any, ...]] = []

    async def create_run(self, run: RunRecord, lease_s: float = 0.0, *, sync: bool = True) -> None:
        self.writes.append(("create", run.status, run.owner is not None, lease_s, sync))
        await super().create_run(run, lease_s, sync=sync)

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        self.writes.append(("append", [record.path for record in records], sync))
        await super().append_steps(run_id, epoch, records, sync=sync)

    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        self.writes.append(("update", changes["status"], sync))
        await super().update_run(run_id, epoch, sync=sync, **changes)


@pytest.mark.parametrize(
    ("durability", "writes"),
    [
        ("full", [("append", ["0:a"], True), ("append", ["1:b"], True), ("update", "completed", True)]),
        ("normal", [("append", ["0:a"], False), ("append", ["1:b"], False), ("update", "completed", False)]),
        ("exit", [("append", ["0:a", "1:b"], True), ("update", "completed", True)]),
        ("off", []),
    ],
)
async def test_durability_says_when_a_result_is_written(durability: Any, writes: list[Any]) -> None:
    store = Recording()
    flow = Flow(Step("a", upper) >> Step("b", lower), state=store, durability=durability, lease=7.0)
    assert (await flow.run_async("X")).output == "x"
    created = [("create", "running", True, 7.0, durability != "normal")] if writes else []
    assert store.writes == created + writes


async def test_without_durability_nothing_can_be_resumed() -> None:
    with pytest.raises(ConfigurationError, match="no state store"):
        await Flow(Step("a", upper), state=MemoryState(), durability="off").resume_async("r")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"durability": "most"}, "durability is one of 'full', 'normal', 'exit', 'off', got 'most'"),
        ({"lease": 0}, "lease is a number of seconds above 0"),
        ({"lease": None}, "lease is a number of seconds above 0"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Flow(Step("a", upper), **options)


async def test_metadata_is_kept_with_the_run() -> None:
    store = MemoryState()
    flow = Flow(Step("a", upper), state=store)
    await flow.run_async("x", run_id="r", metadata={"tenant": "acme"})
    stored = await store.load_run("r")
    assert stored is not None
    assert stored.metadata == {"tenant": "acme", "input": "typed"}
    with pytest.raises(ConfigurationError, match="metadata holds texts only"):
        await flow.run_async("x", metadata={"n": 1})  # type: ignore[dict-item]


# -- leases --


def test_a_lease_is_over_when_its_execution_has_ended_or_its_time_has_come() -> None:
    owner = new_owner()
    assert not lease_is_over(owner, lease_clock() + 60, 0.0)
    assert lease_is_over(owner, lease_clock() - 1, time.time() + 60)
    retire_owner(owner)
    assert lease_is_over(owner, lease_clock() + 60, time.time() + 60)


@pytest.mark.parametrize(
    ("owner", "over"),
    [
        (None, True),
        ("somebody", False),
        ("{place} 1@1/1", True),  # the first process was not started in the first tick
        ("{place} 999999999@5/1", True),
        ("elsewhere:{boot}:1 999999999@5/1", False),  # another container: its process ids are not ours
        ("elsewhere:00000000:1 1@1/1", False),
    ],
)
def test_an_owner_that_cannot_be_alive_holds_no_lease(owner: str | None, over: bool) -> None:
    own = new_owner()
    retire_owner(own)
    place = own.partition(" ")[0]
    named = owner and owner.format(place=place, boot=place.split(":")[1])
    assert lease_is_over(named, lease_clock() + 60, time.time() + 60) is over


def test_a_lease_from_another_boot_ends_by_the_wall_clock() -> None:
    assert lease_is_over("elsewhere:00000000:1 1@1/1", lease_clock() + 1e9, time.time() - 1)


async def test_a_run_that_is_executed_cannot_be_resumed_by_another_flow() -> None:
    store, started, go_on = MemoryState(), asyncio.Event(), asyncio.Event()

    async def slow(text: str) -> str:
        started.set()
        await go_on.wait()
        return text

    pipeline = Pipeline.from_step(Step("slow", slow))
    first, second = Flow(pipeline, state=store), Flow(pipeline, state=store)
    handle = first.start("x", run_id="r")
    await started.wait()
    for flow in (first, second):
        with pytest.raises(RunOwned):
            await flow.resume_async("r")
    assert await second.recover_async() == []
    go_on.set()
    assert (await handle).output == "x"


async def test_the_lease_is_renewed_while_the_run_goes_on() -> None:
    renewed = asyncio.Event()

    class Watched(MemoryState):
        async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
            await super().renew_run(run_id, epoch, lease_s)
            renewed.set()

    async def waits(text: str) -> str:
        await renewed.wait()
        renewed.clear()
        await renewed.wait()
        return text

    assert (await Flow(Step("a", waits), state=Watched(), lease=0.03).run_async("x")).output == "x"


async def test_a_run_whose_lease_was_taken_over_is_stopped() -> None:
    class Taken(MemoryState):
        async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
            raise LeaseLost("taken over")

    async def waits(text: str) -> str:
        await asyncio.Event().wait()
        return text

    with pytest.raises(LeaseLost, match="taken over"):
        await Flow(Step("a", waits), state=Taken(), lease=0.03).run_async("x")


async def test_a_lease_that_cannot_be_renewed_once_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[int] = []
    renewed = asyncio.Event()

    class Busy(MemoryState):
        async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
            tried.append(epoch)
            if len(tried) == 1:
                raise StateError("the disk is slow")
            renewed.set()

    async def waits(text: str) -> str:
        await renewed.wait()
        return text

    assert (await Flow(Step("a", waits), state=Busy(), lease=0.03).run_async("x")).success
    assert "could not be renewed" in caplog.text


async def test_a_run_that_could_not_be_written_is_free_for_the_next_attempt() -> None:
    class FailsOnce(MemoryState):
        broken = True

        async def append_steps(self, run_id: str, epoch: int, records: Any, *, sync: bool = True) -> None:
            if self.broken:
                raise StateError("the disk is full")
            await super().append_steps(run_id, epoch, records, sync=sync)

    store = FailsOnce()
    flow = Flow(Step("a", upper), state=store)
    with pytest.raises(StateError, match="the disk is full"):
        await flow.run_async("x", run_id="r")
    store.broken = False
    assert (await flow.resume_async("r")).output == "X"


# -- interrupting and cancelling --


async def test_an_interrupted_run_is_left_to_be_recovered() -> None:
    store, calls = MemoryState(), []

    async def slow(text: str) -> str:
        calls.append(text)
        if len(calls) == 1:
            await flow.interrupt("r")
            await asyncio.Event().wait()
        return text

    flow = Flow(Step("a", upper) >> Step("slow", slow), state=store)
    stopped = await flow.run_async("x", run_id="r")
    assert stopped.status == "interrupted"
    stored = await store.load_run("r")
    assert stored is not None
    assert (stored.status, stored.owner) == ("interrupted", None)
    (recovered,) = await flow.recover_async()
    assert recovered.output == "X"
    assert [step.replayed for step in recovered.step_history] == [True, False]
    assert await flow.recover_async() == []
    assert not await flow.interrupt()


async def test_a_stored_run_that_nobody_executes_can_be_cancelled(asking: Kernel) -> None:
    store = MemoryState()
    flow = Flow(Ask(name="ask", schema=str), state=store, kernel=asking)
    await flow.run_async("x", run_id="r")
    assert await flow.cancel("r") is True
    assert await flow.cancel("r") is False
    assert await flow.cancel("unknown") is False
    stored = await store.load_run("r")
    assert stored is not None
    assert (stored.status, stored.pending) == ("cancelled", None)
    with pytest.raises(NotPaused, match="is cancelled"):
        await flow.resume_async("r", "yes")


# -- recovering --


async def orphan(store: MemoryState, flow: Flow[Any, Any], run_id: str, **fields: Any) -> None:
    """Store a run as a process leaves it that is killed while it executes the first step."""
    await flow.run_async("x", run_id=run_id)
    run = store._runs[run_id]
    changed = {"status": "running", "owner": None} | fields
    store._runs[run_id] = attrs.evolve(run, **changed)
    store._steps[run_id] = {}


async def test_recovering_resumes_everything_orphaned_oldest_first() -> None:
    store, calls = MemoryState(), []

    async def note(text: str) -> str:
        calls.append(text)
        return text

    flow, other = Flow(Step("note", note), state=store), Flow(Step("other", note), state=store)
    for run_id in ("r1", "r2"):
        await orphan(store, flow, run_id)
    await orphan(store, other, "another-pipeline")
    await flow.run_async("x", run_id="done")
    calls.clear()
    recovered = await flow.recover_async(concurrency=1)
    assert [(result.run_id, result.output) for result in recovered] == [("r1", "x"), ("r2", "x")]
    assert len(calls) == 2


async def test_a_run_that_kills_its_process_again_and_again_is_parked() -> None:
    store = MemoryState()
    flow = Flow(Step("a", upper), state=store)
    await orphan(store, flow, "r", recoveries=5)
    assert await flow.recover_async() == []
    parked = await store.load_run("r")
    assert parked is not None
    assert (parked.status, parked.owner) == ("dead", None)
    assert parked.error is not None
    assert "its process died in 6 executions" in parked.error
    assert await flow.recover_async() == []
    assert (await flow.resume_async("r")).output == "X"  # somebody says so


async def test_each_recovery_after_a_crash_is_counted_and_others_are_not(asking: Kernel) -> None:
    store = MemoryState()
    flow = Flow(Step("a", upper) >> Ask(name="ask"), state=store, kernel=asking)
    await orphan(store, flow, "r")
    for expected in (1, 1):  # the second time the run is paused, which is no crash
        await flow.recover_async()
        stored = await store.load_run("r")
        assert stored is not None
        assert stored.recoveries == expected


async def test_a_paused_run_whose_time_is_over_is_recovered_and_others_wait(asking: Kernel) -> None:
    store = MemoryState()
    due = Flow(Ask(name="ask"), state=store, kernel=asking)
    waiting = Flow(Ask(name="ask", schema=str), state=store, kernel=asking)
    await due.run_async("x", run_id="due")
    await waiting.run_async("x", run_id="waiting")
    assert [result.run_id for result in await due.recover_async()] == ["due"]
    assert await waiting.recover_async() == []


async def test_a_changed_pipeline_is_not_recovered_unless_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryState()
    await orphan(store, Flow(Pipeline([Step("a", upper)], name="p"), state=store), "r")
    changed = Flow(Pipeline([Step("b", upper)], name="p"), state=store)
    assert await changed.recover_async() == []
    assert "not recovered" in caplog.text
    assert [result.output for result in await changed.recover_async(on_change="continue")] == ["X"]


async def test_recovering_opens_no_further_run_when_everything_is_interrupted() -> None:
    store, calls = MemoryState(), []

    async def stops(text: str) -> str:
        calls.append(text)
        if len(calls) == 4:
            await flow.interrupt()
            await asyncio.Event().wait()
        return text

    flow = Flow(Step("stops", stops), state=store)
    for run_id in ("r1", "r2", "r3"):
        await orphan(store, flow, run_id)
    (stopped,) = await flow.recover_async(concurrency=1)
    assert (stopped.run_id, stopped.status) == ("r1", "interrupted")
    assert len(await flow.recover_async()) == 3


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"max_recoveries": 0}])
async def test_recovering_refuses_numbers_that_mean_nothing(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="must be at least 1"):
        await Flow(Step("a", upper), state="memory://").recover_async(**wrong)  # type: ignore[arg-type]


async def test_a_run_that_completed_is_only_replayed(asking: Kernel) -> None:
    store = Recording()
    flow = Flow(Step("a", upper), state=store)
    await flow.run_async("x", run_id="r", deadline=60)
    before, written = await store.load_run("r"), len(store.writes)
    store._runs["r"] = attrs.evolve(before, deadline_at=time.time() - 60)
    result = await flow.resume_async("r")
    assert (result.status, result.output, result.step_history[0].replayed) == ("completed", "X", True)
    assert len(store.writes) == written


async def test_a_run_that_cannot_be_read_is_left_as_it_is_and_others_are_recovered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Damaged(MemoryState):
        async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
            if run_id == "bad":
                raise StateError("the journal is damaged")
            return await super().load_steps(run_id)

    store = Damaged()
    flow = Flow(Step("a", upper), state=store)
    for run_id in ("bad", "good"):
        await orphan(store, flow, run_id)
    assert [result.run_id for result in await flow.recover_async()] == ["good"]
    assert "run bad is not recovered: the journal is damaged" in caplog.text
    left = await store.load_run("bad")
    assert left is not None
    assert (left.status, left.recoveries, left.owner) == ("running", 0, None)


@pytest.mark.parametrize("damage", ["output", "changes", "metadata", "input", "context"])
async def test_what_cannot_be_read_back_is_the_stores_fault_and_changes_nothing(damage: str) -> None:
    store = MemoryState()

    async def count(text: str, *, context: Growing) -> int:
        context.words.append(text)
        return len(text)

    async def fails(number: int) -> int:
        raise ValueError("broken")

    flow = Flow(Step("count", count) >> Step("fails", fails), state=store, context_model=Growing)
    await flow.run_async("x", run_id="r")
    record = store._steps["r"]["0:count"]
    if damage in ("input", "context"):
        store._runs["r"] = attrs.evolve(store._runs["r"], **{damage: b'{"words": 7'})
    else:
        store._steps["r"]["0:count"] = attrs.evolve(record, **{damage: b'{"set": {"words": 7'})
    before = await store.load_run("r")
    with pytest.raises(StateCorrupt, match="cannot be read"):
        await flow.resume_async("r")
    after = await store.load_run("r")
    assert before is not None
    assert after is not None
    assert (after.status, after.error, after.owner) == (before.status, before.error, None)


async def test_a_message_that_quotes_half_a_character_is_stored() -> None:
    async def fails(text: str) -> str:
        raise ValueError("cannot read '\ud800'")

    store = MemoryState()
    await Flow(Step("fails", fails), state=store).run_async("x", run_id="r")
    stored, (step,) = await store.load_run("r"), await store.load_steps("r")
    assert stored is not None
    for text in (stored.error, step.error, step.feedback):
        assert text is not None
        assert "cannot read '\\ud800'" in text


async def test_that_a_run_is_executed_matters_more_than_how_its_pipeline_has_changed() -> None:
    store, started, go_on = MemoryState(), asyncio.Event(), asyncio.Event()

    async def slow(text: str) -> str:
        started.set()
        await go_on.wait()
        return text

    handle = Flow(Step("slow", slow), state=store).start("x", run_id="r")
    await started.wait()
    with pytest.raises(RunOwned):
        await Flow(Step("other", slow), state=store).resume_async("r")
    go_on.set()
    await handle


# -- changed pipelines --

A, B, C = Step("a", upper), Step("b", upper), Step("c", upper)


async def to_int(text: str) -> int:
    return len(text)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (A >> B.evolve(retries=2) >> C, "~ 1:b: retries is 2, was not set"),
        (A >> Step("b", to_int) >> Step("c", to_int), "~ 1:b: output is int, was str"),
        (A >> Step("b", lower) >> C, "~ 1:b: agent is"),
        (A >> C, "- 1:b (step) is gone"),
        (A >> B >> Step("new", upper) >> C, "+ 2:new (step) is new"),
        (A >> B >> Step("renamed", upper), "- 2:c (step) is gone"),
        (A >> C >> B, "has moved to"),
        (A >> (B >> C).as_step("sub"), "+ 1:sub (pipeline) is new"),
    ],
)
async def test_a_changed_pipeline_is_refused_with_the_difference(changed: Any, line: str) -> None:
    store = MemoryState()
    await Flow(Pipeline(list(A >> B >> C), name="p"), state=store).run_async("x", run_id="r")
    with pytest.raises(PipelineChanged) as refused:
        await Flow(Pipeline(list(changed), name="p"), state=store).resume_async("r")
    assert line in str(refused.value)


async def test_a_pipeline_that_looks_the_same_is_resumed() -> None:
    store = MemoryState()
    await Flow(A >> B, state=store).run_async("x", run_id="r")
    same = Flow(Step("a", upper, metadata={"note": "only a comment"}) >> B, state=store)
    assert (await same.resume_async("r")).output == "X"


# -- answers --


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("schema", "answer", "typed"),
    [
        (Label, {"name": "n", "score": 3}, Label(name="n", score=3)),
        (Label, '{"name": "n"}', Label(name="n")),
        (Label, Label(name="n"), Label(name="n")),
        (bool, "yes", True),
        (list[int], "[1, 2]", [1, 2]),
        (Colour, "red", Colour.RED),
        (str, "12", "12"),
        (int | None, "null", None),
        (None, {"any": ["thing"]}, {"any": ["thing"]}),
    ],
)
async def test_answers_arrive_as_their_declared_type(asking: Kernel, schema: Any, answer: Any, typed: Any) -> None:
    flow = Flow(Ask(name="ask", schema=schema), state="memory://", kernel=asking)
    await flow.run_async("x", run_id="r")
    assert (await flow.resume_async("r", answers={"0:ask": answer})).output == typed


@pytest.mark.parametrize("wrong", ["perhaps", {"score": "many"}, 12, '{"name": 1}'])
async def test_an_invalid_answer_is_refused_and_the_run_stays_paused(asking: Kernel, wrong: Any) -> None:
    store = MemoryState()
    flow = Flow(Ask(name="ask", schema=Label), state=store, kernel=asking)
    await flow.run_async("x", run_id="r")
    before = await store.load_run("r")
    with pytest.raises(AnswerInvalid, match=r"no answer to the question at '0:ask'") as refused:
        await flow.resume_async("r", wrong)
    assert refused.value.path == "0:ask"
    assert await store.load_run("r") == before
    assert (await flow.resume_async("r", {"name": "n"})).output == Label(name="n")


async def test_questions_that_wait_at_once_are_answered_in_any_order(asking: Kernel) -> None:
    pipeline = Both(name="both", left=Ask(name="l", schema=int), right=Ask(name="r", schema=int))
    flow = Flow(pipeline, state="memory://", kernel=asking)
    paused = await flow.run_async("x", run_id="r")
    paths = [item.path for item in paused.pending]
    assert len(paths) == 2
    with pytest.raises(ConfigurationError, match="waits for 2 answers"):
        await flow.resume_async("r", 1)
    half = await flow.resume_async("r", answers={paths[1]: 2})
    assert [item.path for item in half.pending] == paths[:1]
    assert half.pending[0].since == paused.pending[0].since
    assert (await flow.resume_async("r", 1)).output == [1, 2]


async def test_an_accepted_answer_survives_a_crash(asking: Kernel) -> None:
    class DiesOnce(MemoryState):
        dies = False

        async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
            if self.dies and changes.get("status") == "running":
                self.dies = False
                raise StateError("the process is killed here")
            await super().update_run(run_id, epoch, sync=sync, **changes)

    store = DiesOnce()
    flow = Flow(Ask(name="ask", schema=Label), state=store, kernel=asking)
    await flow.run_async("x", run_id="r")
    store.dies = True
    with pytest.raises(StateError, match="killed"):
        await flow.resume_async("r", {"name": "n"})
    assert (await flow.resume_async("r")).output == Label(name="n")


async def test_an_answer_given_to_a_fallback_outlives_the_attempts_before_it(asking: Kernel) -> None:
    async def fails(_: Any) -> Any:
        raise ValueError("always")

    store = MemoryState()
    container = Both(
        name="c", left=Step("l", fails), right=Step("r", upper), retries=1, fallback=Ask(name="ask", schema=str)
    )
    flow = Flow(container, state=store, kernel=asking)
    paused = await flow.run_async("x", run_id="r")
    assert [item.path for item in paused.pending] == ["0:c/fallback"]
    resumed = await flow.resume_async("r", "fine")
    assert resumed.output == "fine"


async def test_a_secret_answer_is_used_and_never_written(asking: Kernel) -> None:
    store = MemoryState()
    seen: list[str] = []

    async def check(secret: SecretStr) -> str:
        seen.append(secret.get_secret_value())
        return "done"

    flow = Flow(Ask(name="ask", schema=SecretStr) >> Step("check", check), state=store, kernel=asking)
    await flow.run_async("x", run_id="r")
    assert (await flow.resume_async("r", "canary-1")).output == "done"
    assert seen == ["canary-1"]
    everything = [*await store.load_steps("r"), await store.load_run("r")]
    assert "canary-1" not in repr(everything)


async def test_an_answer_without_schema_must_be_storable(asking: Kernel) -> None:
    flow = Flow(Ask(name="ask"), state="memory://", kernel=asking)
    await flow.run_async("x", run_id="r")
    with pytest.raises(AnswerInvalid, match="cannot be stored"):
        await flow.resume_async("r", object())


async def test_questions_keep_their_first_deadline(asking: Kernel) -> None:
    store = MemoryState()
    flow = Flow(Ask(name="ask"), state=store, kernel=asking)
    first = (await flow.run_async("x", run_id="r")).pending[0]
    stored = await store.load_run("r")
    assert stored is not None
    assert stored.wake_at == first.deadline
    assert orjson.loads(stored.pending or b"")[0]["message"] == "what is x?"
    again = (await flow.resume_async("r")).pending[0]
    assert (again.since, again.deadline) == (first.since, first.deadline)


async def test_an_interruption_does_not_forget_when_a_question_was_first_asked(asking: Kernel) -> None:
    store = MemoryState()
    interrupts = True

    async def stops(text: str) -> str:
        if interrupts:
            await flow.interrupt("r")
            await asyncio.Event().wait()
        return text

    asks_then_stops = Pipeline([Ask(name="first"), Step("stops", stops)])
    flow = Flow(Both(name="both", left=asks_then_stops, right=Ask(name="second")), state=store, kernel=asking)
    paused = await flow.run_async("x", run_id="r")
    first, second = sorted(paused.pending, key=lambda item: item.path)
    stopped = await flow.resume_async("r", answers={first.path: "go on"})
    assert stopped.status == "interrupted"
    interrupts = False
    again = await flow.resume_async("r")
    assert [(item.path, item.since) for item in again.pending] == [(second.path, second.since)]


# -- context changes, deadlines, ids --


async def test_a_journal_grows_with_the_steps_and_not_with_the_context() -> None:
    store = MemoryState()

    async def add(number: int, *, context: Growing) -> int:
        context.words.append("x" * 50)
        return number + 1

    steps = Pipeline([Step(f"s{index}", add) for index in range(200)])
    await Flow(steps, state=store, context_model=Growing).run_async(0, run_id="r")
    sizes = [len(record.changes or b"") for record in await store.load_steps("r")]
    assert max(sizes) == min(sizes)
    resumed = await Flow(steps, state=store, context_model=Growing).resume_async("r")
    assert len(resumed.final_pipeline_context.words) == 200


async def test_a_run_whose_deadline_has_passed_goes_on_only_with_a_new_one() -> None:
    store = MemoryState()
    blocked = True

    async def slow(text: str) -> str:
        if blocked:
            await asyncio.Event().wait()
        return text

    flow = Flow(Step("slow", slow), state=store)
    assert (await flow.run_async("x", run_id="r", deadline=0.01)).status == "deadline_exceeded"
    assert (await flow.resume_async("r")).status == "deadline_exceeded"
    blocked = False
    assert (await flow.resume_async("r", deadline=60)).output == "x"


def spending(cost: float) -> Step[Any, Any]:
    async def spend(text: str, *, run: StepRun) -> str:
        run.usage.add(cost_usd=cost)
        return text

    return Step("spend", spend)


async def test_limits_of_one_run_are_kept_with_it_until_others_are_given() -> None:
    pipeline = Pipeline([spending(0.1), spending(0.1).evolve(name="again")])
    flow = Flow(pipeline, state="memory://", usage_limits=UsageLimits(total_cost_usd_limit=1))
    own = UsageLimits(total_cost_usd_limit=0.15)
    assert (await flow.run_async("x", run_id="r", usage_limits=own)).status == "limit_exceeded"
    stopped = await flow.resume_async("r")
    assert (stopped.status, str(stopped.error)) == ("limit_exceeded", "Cost limit of $0.15 exceeded")
    more = await flow.resume_async("r", usage_limits=UsageLimits(total_cost_usd_limit=0.2))
    assert (more.output, more.total_cost_usd) == ("x", pytest.approx(0.2))
    assert (await flow.run_async("x")).success  # other runs have the flow's limits


async def test_the_tighter_of_the_limits_counts() -> None:
    flow = Flow(spending(0.5), usage_limits=UsageLimits(total_cost_usd_limit=0.4, requests_limit=3))
    loose = UsageLimits(total_cost_usd_limit=5, total_tokens_limit=7)
    assert (await flow.run_async("x", usage_limits=loose)).status == "limit_exceeded"
    assert loose.tightened_by(flow.usage_limits) == UsageLimits(
        total_cost_usd_limit=0.4, requests_limit=3, total_tokens_limit=7
    )


class Flaky(Exception):
    pass


@pytest.mark.parametrize(
    ("retry_on", "calls"), [(Flaky, 3), ((ValueError, Flaky), 3), (ValueError, 1), ((), 1)], ids=repr
)
async def test_a_failed_run_is_retried_from_the_failed_step_on_the_named_causes(retry_on: Any, calls: int) -> None:
    ran: list[str] = []

    async def first(text: str) -> str:
        ran.append("first")
        return text

    async def flaky(text: str) -> str:
        ran.append("flaky")
        if ran.count("flaky") < 3:
            raise Flaky("not yet")
        return text

    flow = Flow(Step("first", first) >> Step("flaky", flaky), max_retries=2, retry_on=retry_on)
    assert (await flow.run_async("x")).success is (calls == 3)
    assert (ran.count("first"), ran.count("flaky")) == (1, calls)


@pytest.mark.parametrize("wrong", [42, "ValueError", (ValueError, "x"), BaseException])
def test_what_is_retried_on_must_be_exceptions(wrong: Any) -> None:
    with pytest.raises((ConfigurationError, TypeError), match=r"retry_on holds exception types|not iterable"):
        Flow(Step("a", upper), max_retries=1, retry_on=wrong)


async def test_listeners_learn_of_resumes_cancellations_limits_and_deadlines() -> None:
    kinds: list[str] = []
    flow = Flow(
        spending(0.5), state="memory://", hooks=[lambda event: kinds.append(event.kind)], usage_limits=UsageLimits()
    )
    await flow.run_async("x", run_id="r", usage_limits=UsageLimits(total_cost_usd_limit=0.1))
    assert kinds == ["run.started", "step.started", "step.limit", "step.finished", "run.finished"]
    kinds.clear()
    await flow.resume_async("r", usage_limits=UsageLimits())
    assert kinds[:2] == ["run.started", "run.resumed"]
    kinds.clear()

    async def cancels(text: str) -> str:
        await stopping.cancel("c")
        await asyncio.Event().wait()
        return text

    stopping = Flow(Step("cancels", cancels), hooks=[lambda event: kinds.append(event.kind)])
    await stopping.run_async("x", run_id="c")
    assert kinds[2:] == ["run.cancelling", "step.cancelled", "run.cancelled", "run.finished"]
    kinds.clear()

    async def slow(text: str) -> str:
        await asyncio.Event().wait()
        return text

    await Flow(Step("slow", slow), hooks=[lambda event: kinds.append(event.kind)]).run_async("x", deadline=0.01)
    assert kinds == ["run.started", "step.started", "run.deadline", "step.cancelled", "run.finished"]


@pytest.mark.parametrize("run_id", ["../x", "a/b", "..", "a\n", "%00", "", "x" * 129, None, 7])
async def test_ids_are_checked_before_anything_is_looked_up(run_id: Any) -> None:
    flow = Flow(Step("a", upper), state="memory://")
    for method in (flow.resume_async, flow.cancel):
        with pytest.raises(ConfigurationError, match="cannot be a run id"):
            await method(run_id)


async def test_unknown_runs_are_not_found() -> None:
    with pytest.raises(RunNotFound, match="no run has the id 'nobody'"):
        await Flow(Step("a", upper), state="memory://").resume_async("nobody")


def test_the_blocking_facade_resumes_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    store = MemoryState()
    flow = Flow(Step("a", upper), state=store)
    flow.run("x", run_id="r")
    assert flow.resume("r").output == "X"
    assert flow.recover() == []


async def test_what_was_spent_before_is_in_the_books_before_anything_runs_again() -> None:
    """Two branches had spent half each when the run failed: a further cent of one of them is too much at once."""
    broken, calls = True, []

    async def spend(text: str, *, run: StepRun) -> str:
        calls.append(run.path)
        run.usage.add(cost_usd=0.5)
        if broken:
            raise ValueError("broken")
        return text

    pipeline = Both(name="both", left=Step("l", spend), right=Step("r", spend))
    flow = Flow(pipeline, state="memory://", kernel=Kernel(Settings(), plugins=[Waiting()]))
    first = await flow.run_async("x", run_id="r", usage_limits=UsageLimits(total_cost_usd_limit=1))
    assert (first.status, first.total_cost_usd) == ("failed", pytest.approx(1.0))
    broken = False
    calls.clear()
    stopped = await flow.resume_async("r", usage_limits=UsageLimits(total_cost_usd_limit=0.9))
    assert (stopped.status, calls, stopped.total_cost_usd) == ("limit_exceeded", [], pytest.approx(1.0))
    done = await flow.resume_async("r", usage_limits=UsageLimits(total_cost_usd_limit=2))
    assert (done.status, done.total_cost_usd) == ("completed", pytest.approx(2.0))
    assert (await flow.resume_async("r")).total_cost_usd == pytest.approx(2.0)


async def test_a_container_that_failed_and_whose_inside_went_on_is_not_counted_twice() -> None:
    """Its record says what it had spent in all; what ran inside it later has records that say so, too."""

    class DiesWhenDone(MemoryState):
        dies = False

        async def append_steps(self, run_id: str, epoch: int, records: Any, *, sync: bool = True) -> None:
            if self.dies and records[0].path == "0:both":
                raise StateError("killed before the container is recorded")
            await super().append_steps(run_id, epoch, records, sync=sync)

    calls: list[str] = []

    async def spend(text: str, *, run: StepRun) -> str:
        calls.append(run.path)
        run.usage.add(cost_usd=1)
        if calls.count(run.path) == 1 and run.path.endswith("right"):
            raise ValueError("broken")
        return text

    store = DiesWhenDone()
    pipeline = Both(name="both", left=Step("l", spend), right=Step("r", spend))
    flow = Flow(pipeline, state=store, kernel=Kernel(Settings(), plugins=[Waiting()]))
    assert (await flow.run_async("x", run_id="r")).total_cost_usd == 2
    store.dies = True
    with pytest.raises(StateError, match="killed"):
        await flow.resume_async("r")
    store.dies = False
    done = await flow.resume_async("r")
    assert (done.status, done.total_cost_usd, len(calls)) == ("completed", 3, 3)


async def test_what_was_spent_inside_a_container_that_was_in_flight_counts() -> None:
    """The process died between two branches: the container has no record, the branch that finished has one."""

    class DiesAfterOne(MemoryState):
        dies = True

        async def append_steps(self, run_id: str, epoch: int, records: Any, *, sync: bool = True) -> None:
            await super().append_steps(run_id, epoch, records, sync=sync)
            if self.dies:
                raise StateError("killed")

    store = DiesAfterOne()
    inner = Both(name="inner", left=spending(0.5), right=Step("r", upper))
    flow = Flow(
        Both(name="outer", left=inner, right=Step("r", upper)),
        state=store,
        kernel=Kernel(Settings(), plugins=[Waiting()]),
    )
    with pytest.raises(StateError, match="killed"):
        await flow.run_async("x", run_id="r")
    store.dies = False
    assert (await flow.resume_async("r")).total_cost_usd == pytest.approx(0.5)
    assert (await flow.resume_async("r")).total_cost_usd == pytest.approx(0.5)


async def test_a_resumed_run_streams() -> None:
    broken = True

    async def talks(text: str, *, run: StepRun) -> str:
        if broken:
            raise ValueError("broken")
        for word in ("so", "it", "goes"):
            await run.emit(word)
        return text

    flow = Flow(Step("first", upper) >> Step("talks", talks), state="memory://")
    await flow.run_async("x", run_id="r")
    broken = False
    *chunks, result = [item async for item in flow.resume_stream_async("r")]
    assert [str(chunk) for chunk in chunks] == ["so", "it", "goes"]
    assert isinstance(result, RunResult)
    assert result.output == "X"


class Credentials(BaseModel):
    user: str
    key: SecretStr


@pytest.mark.parametrize("nested", [False, True])
async def test_a_step_that_returned_a_secret_is_executed_again(nested: bool) -> None:
    """It is not stored, and a mask in its place would be a wrong password for the steps that follow."""
    store, seen, fetched = MemoryState(), [], []

    async def fetch(user: str) -> Credentials:
        fetched.append(user)
        return Credentials(user=user, key=SecretStr(f"canary-{len(fetched)}"))

    async def use(credentials: Credentials) -> str:
        seen.append(credentials.key.get_secret_value())
        if len(seen) == 1:
            raise ValueError("not yet")
        return "done"

    getting = Step("fetch", fetch) if not nested else Pipeline([Step("fetch", fetch)]).as_step("getting")
    flow = Flow(getting >> Step("use", use), state=store)
    await flow.run_async("ada", run_id="r")
    assert (await flow.resume_async("r")).output == "done"
    assert seen == ["canary-1", "canary-2"]
    assert "canary" not in repr([*await store.load_steps("r"), await store.load_run("r")])
