"""Replays, which execute nothing, and forks, which execute the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow import (
    BaseStep,
    ConfigurationError,
    Execute,
    Flow,
    Kernel,
    PauseSignal,
    Pipeline,
    PipelineChanged,
    PipelineContext,
    ReplayIncomplete,
    RunNotFound,
    RunOwned,
    RunStatus,
    Scope,
    Settings,
    StateError,
    Step,
    StepRecord,
    StepResult,
    StepRun,
    UsageLimits,
    hookimpl,
)
from flow._builtin.memory_state import MemoryState
from flow._replay import before
from flow.errors import CancelSignal


@attrs.frozen(kw_only=True)
class Repeat(BaseStep[Any, Any]):
    """Runs its body some times, one after another: a container whose iterations are called ``i1``, ``i2``."""

    kind = "repeat"
    body: Pipeline[Any, Any]
    times: int = 3

    def children(self) -> Mapping[str, BaseStep[Any, Any] | Pipeline[Any, Any]]:
        return {"body": self.body}


@attrs.frozen(kw_only=True)
class Both(BaseStep[Any, Any]):
    """Runs two branches at the same time."""

    kind = "both"
    left: Pipeline[Any, Any]
    right: Pipeline[Any, Any]

    def children(self) -> Mapping[str, BaseStep[Any, Any] | Pipeline[Any, Any]]:
        return {"left": self.left, "right": self.right}


class Containers:
    """The plugin of both."""

    @hookimpl
    def flow_bind_step(self, step: Any, binder: Any) -> Execute | None:
        if isinstance(step, Repeat):
            body = binder.bind(step.body)

            async def repeat(data: Any, scope: Scope) -> StepResult:
                for number in range(1, step.times + 1):
                    result = await body(data, scope.child(f"i{number}"))
                    if not result.success:
                        return StepResult.failed(step, result.feedback or "", result.error)
                    data = result.output
                return StepResult.ok(step, data)

            return repeat
        if isinstance(step, Both):
            branches = {label: binder.bind(child) for label, child in step.children().items()}

            async def both(data: Any, scope: Scope) -> StepResult:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(run(data, scope.branch(name))) for name, run in branches.items()]
                results = [task.result() for task in tasks]
                failed = next((result for result in results if not result.success), None)
                if failed is not None:
                    return StepResult.failed(step, failed.feedback or "", failed.error)
                return StepResult.ok(step, [result.output for result in results])

            return both
        return None


KERNEL = Kernel(Settings(), only=[], plugins=[Containers()])


class Calls(PipelineContext):
    seen: list[str] = []


class Play:
    """A pipeline whose every execution of an agent is written down."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken: set[str] = set()
        self.store = MemoryState()

    def step(self, name: str) -> Step[Any, Any]:
        async def agent(data: Any, *, context: Calls, run: StepRun) -> str:
            self.calls.append(run.path)
            await asyncio.sleep(0)  # branches that run beside this one begin now
            run.usage.add(cost_usd=0.25)
            if name in self.broken:
                raise ValueError(f"{name} is broken") from OSError("the disk is full")
            context.seen = [*context.seen, name]
            return f"{data}{name}"

        return Step(name, agent)

    def pipe(self, names: str) -> Pipeline[Any, Any]:
        return Pipeline([self.step(name) for name in names])

    def flow(self, *steps: Any, **options: Any) -> Flow[Any, Any]:
        return Flow(Pipeline(steps), context_model=Calls, state=self.store, kernel=KERNEL, **options)

    def taken(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls

    async def stored(self, run_id: str) -> Any:
        return await self.store.load_run(run_id), await self.store.load_steps(run_id)


@pytest.fixture
def play() -> Play:
    return Play()


def nested(play: Play) -> Flow[Any, Any]:
    loop = Repeat(name="loop", body=play.pipe("bc"))
    fan = Both(name="fan", left=play.pipe("de"), right=play.pipe("f"))
    return play.flow(play.step("a"), loop, fan, play.step("g"))


# -- replays


async def test_a_replay_returns_what_was_recorded_and_executes_nothing(play: Play) -> None:
    flow = nested(play)
    first = await flow.run_async("x", run_id="r")
    stored = await play.stored("r")
    play.taken()
    again = await flow.replay_async("r")
    assert play.taken() == []
    assert (again.status, again.output) == (RunStatus.COMPLETED, first.output)
    assert all(result.replayed for result in again.walk())
    assert {step.path: step.output for step in again.walk()} == {step.path: step.output for step in first.walk()}
    assert again.usage == first.usage
    assert again.final_pipeline_context == first.final_pipeline_context
    assert await play.stored("r") == stored, "nothing is written"


async def test_a_replay_of_a_failed_run_fails_as_it_did(play: Play) -> None:
    play.broken = {"c"}
    flow = nested(play)
    first = await flow.run_async("x", run_id="r")
    play.taken()
    play.broken = set()
    again = await flow.replay_async("r")
    assert play.taken() == []
    assert (again.status, again.failed_path) == (RunStatus.FAILED, "1:loop/i1/1:c") == (first.status, first.failed_path)
    assert "ValueError: c is broken; caused by OSError: the disk is full" in str(again.step("1:loop/i1/1:c").error)
    assert again.step("1:loop/i1/1:c").feedback == "Agent failed with ValueError: c is broken"
    assert again.usage == first.usage


async def test_a_replay_asks_what_was_asked_and_gives_the_answers_that_were_given(play: Play) -> None:
    async def ask(data: str) -> str:
        play.calls.append("asked")
        raise PauseSignal(f"is {data} right?", schema={"type": "boolean"})

    flow = play.flow(play.step("a"), Repeat(name="loop", body=Pipeline([play.step("b"), Step("ask", ask)])))
    await flow.run_async("x", run_id="r")
    play.taken()
    again = await flow.replay_async("r")
    assert play.taken() == []
    assert again.status is RunStatus.PAUSED
    assert [(asked.path, asked.message, asked.schema) for asked in again.pending] == [
        ("1:loop/i1/1:ask", "is xab right?", {"type": "boolean"})
    ]


async def test_a_replay_says_where_the_recording_of_a_crashed_run_ends(play: Play) -> None:
    flow = nested(play)
    await flow.run_async("x", run_id="r")
    run, steps = await play.stored("r")
    kept = [step for step in steps if step.path in ("0:a", "1:loop/i1/0:b", "1:loop/i1/1:c", "1:loop/i2/0:b")]
    await play.store.create_run(attrs.evolve(run, run_id="crashed", status="running", owner=None))
    await play.store.append_steps("crashed", run.epoch, kept)
    play.taken()
    again = await flow.replay_async("crashed")
    assert play.taken() == []
    assert again.status is RunStatus.INTERRUPTED
    assert isinstance(again.error, ReplayIncomplete)
    assert again.error.path == "1:loop/i2/1:c"
    assert "nothing is recorded of step '1:loop/i2/1:c': the run was running then" in str(again.error)
    assert [step.path for step in again.walk() if step.success] == [step.path for step in kept]


@pytest.mark.parametrize("name", ["cancelled", "limit_exceeded"])
async def test_a_replay_says_how_a_run_was_stopped(play: Play, name: str) -> None:
    async def cancel(data: Any) -> None:
        play.calls.append("cancelled")
        raise CancelSignal

    steps = [play.step("a"), Step("cancel", cancel)] if name == "cancelled" else [play.step("a"), play.step("b")]
    flow = play.flow(*steps, usage_limits=UsageLimits(total_cost_usd_limit=0.4))
    first = await flow.run_async("x", run_id="r")
    assert first.status == name
    play.taken()
    assert (await flow.replay_async("r")).status == name
    assert play.taken() == []


async def test_a_changed_pipeline_is_refused_unless_it_is_wanted(play: Play) -> None:
    await play.flow(play.step("a"), play.step("b")).run_async("x", run_id="r")
    changed = play.flow(play.step("a"), play.step("b"), play.step("c"))
    for work in (changed.replay_async("r"), changed.fork_async("r", "1:b")):
        with pytest.raises(PipelineChanged, match=r"\+ 2:c \(step\) is new"):
            await work
    play.taken()
    again = await changed.replay_async("r", on_change="continue")
    assert (again.output if again.success else None, type(again.error)) == (None, ReplayIncomplete)
    assert play.taken() == []
    assert (await changed.fork_async("r", "1:b", on_change="continue")).output == "xabc"
    assert play.taken() == ["1:b", "2:c"]


async def test_what_cannot_be_replayed_is_refused(play: Play) -> None:
    flow = play.flow(play.step("a"))
    with pytest.raises(RunNotFound):
        await flow.replay_async("unknown")
    with pytest.raises(ConfigurationError, match="no state store"):
        await Flow(play.step("a"), kernel=KERNEL).replay_async("r")
    with pytest.raises(ConfigurationError, match="on_change"):
        await flow.replay_async("r", on_change="maybe")  # type: ignore[arg-type]
    gate = asyncio.Event()

    async def wait(data: Any) -> None:
        await gate.wait()

    waiting = play.flow(Step("wait", wait))
    handle = waiting.start("x", run_id="live")
    await asyncio.sleep(0)
    with pytest.raises(RunOwned):
        await waiting.replay_async("live")
    gate.set()
    await handle


def test_programs_that_are_not_async_replay_and_fork_too(play: Play) -> None:
    flow = play.flow(play.step("a"), play.step("b"))
    flow.run("x", run_id="r")
    assert flow.replay("r").output == "xab"
    assert flow.fork("r", "1:b", run_id_new="s").run_id == "s"


# -- forks

LAST = "1:loop/i3/0:b 1:loop/i3/1:c 2:fan/left/0:d 2:fan/left/1:e 2:fan/right/0:f 3:g"
"""What is executed of the nested pipeline from the last iteration on."""


@pytest.mark.parametrize(
    ("at", "executed"),
    [
        ("0:a", f"0:a 1:loop/i1/0:b 1:loop/i1/1:c 1:loop/i2/0:b 1:loop/i2/1:c {LAST}"),
        ("1:loop/i2/1:c", f"1:loop/i2/1:c {LAST}"),
        ("1:loop/i3", LAST),
        ("2:fan/left/1:e", "2:fan/left/1:e 3:g"),
        ("2:fan", "2:fan/left/0:d 2:fan/left/1:e 2:fan/right/0:f 3:g"),
        ("3:g", "3:g"),
    ],
)
async def test_a_fork_executes_the_step_and_what_follows_it(play: Play, at: str, executed: str) -> None:
    flow = nested(play)
    first = await flow.run_async("x", run_id="r", metadata={"ticket": "A-1"})
    stored = await play.stored("r")
    play.taken()
    result = await flow.fork_async("r", at)
    assert sorted(play.taken()) == executed.split()
    assert (result.status, result.output) == (RunStatus.COMPLETED, first.output)
    assert result.final_pipeline_context.seen == first.final_pipeline_context.seen
    assert result.usage == first.usage, "what is taken over counts as spent, and once"
    assert await play.stored("r") == stored, "the run it comes from stays as it is"
    new, _ = await play.stored(result.run_id)
    assert result.run_id != "r"
    assert {name: new.metadata[name] for name in ("ticket", "forked_from", "forked_at")} == {
        "ticket": "A-1", "forked_from": "r", "forked_at": at
    }  # fmt: skip
    assert (new.status, new.input) == ("completed", stored[0].input)
    assert (await flow.replay_async(result.run_id)).output == first.output, "it is a run as any other"


async def test_a_fork_of_a_failed_run_goes_on_differently(play: Play) -> None:
    play.broken = {"g"}
    flow = nested(play)
    assert (await flow.run_async("x", run_id="r")).status is RunStatus.FAILED
    play.broken = set()
    play.taken()
    assert (await flow.fork_async("r", "3:g")).success
    assert play.taken() == ["3:g"]


async def test_a_fork_that_fails_can_be_resumed(play: Play) -> None:
    flow = play.flow(play.step("a"), play.step("b"), play.step("c"))
    await flow.run_async("x", run_id="r")
    play.broken = {"c"}
    failed = await flow.fork_async("r", "1:b", run_id_new="s")
    assert failed.status is RunStatus.FAILED
    play.broken = set()
    play.taken()
    assert (await flow.resume_async("s")).output == "xabc"
    assert play.taken() == ["2:c"]


async def test_a_fork_at_a_question_asks_anew(play: Play) -> None:
    async def ask(data: str, *, run: StepRun) -> str:
        raise PauseSignal("right?")

    flow = play.flow(play.step("a"), Step("ask", ask))
    await flow.run_async("x", run_id="r")
    play.taken()
    result = await flow.fork_async("r", "1:ask")
    assert (result.status, play.taken()) == (RunStatus.PAUSED, [])
    assert result.pending[0].path == "1:ask"


async def test_a_path_that_is_not_there_is_refused_and_nothing_is_stored(play: Play) -> None:
    flow = nested(play)
    await flow.run_async("x", run_id="r")
    with pytest.raises(ConfigurationError, match=r"the run has no step at '1:loop/i9/0:b'") as caught:
        await flow.fork_async("r", "1:loop/i9/0:b")
    assert str(caught.value.hint).startswith("Did you mean 1:loop/i")
    assert [run.run_id for run in await play.store.list_runs()] == ["r"]


async def test_a_fork_leaves_a_run_alone_whose_id_it_was_to_have(play: Play) -> None:
    flow = play.flow(play.step("a"), play.step("b"))
    await flow.run_async("x", run_id="r")
    gate = asyncio.Event()

    async def wait(data: str) -> str:
        await gate.wait()
        return data

    other = play.flow(Step("wait", wait))
    handle = other.start("x", run_id="s")
    while await play.store.load_run("s") is None:
        await asyncio.sleep(0)
    before_it, _ = await play.stored("s")
    with pytest.raises(StateError, match="exists already"):
        await flow.fork_async("r", "1:b", run_id_new="s")
    assert (await play.stored("s"))[0] == before_it, "it is still executed by its owner"
    gate.set()
    assert (await handle).success


async def test_a_fork_that_cannot_be_stored_leaves_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = play.flow(play.step("a"), play.step("b"))
    await flow.run_async("x", run_id="r")

    async def full(*arguments: Any, **options: Any) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr(play.store, "append_steps", full)
    with pytest.raises(StateError, match="the disk is full"):
        await flow.fork_async("r", "1:b", run_id_new="s")
    assert [run.run_id for run in await play.store.list_runs()] == ["r"]


async def test_limits_and_ids_of_a_fork_are_its_own(play: Play) -> None:
    flow = play.flow(play.step("a"), play.step("b"))
    await flow.run_async("x", run_id="r")
    limited = await flow.fork_async("r", "1:b", run_id_new="s", usage_limits=UsageLimits(total_cost_usd_limit=0.3))
    assert (limited.run_id, limited.status) == ("s", RunStatus.LIMIT_EXCEEDED)
    with pytest.raises(ConfigurationError):
        await flow.fork_async("r", "1:b", run_id_new="../s")


# -- what a fork takes over, whatever the records are

SEGMENTS = st.sampled_from(["0:a", "1:b", "2:c", "i1", "i2", "i3", "left", "right", "7"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(PATHS, st.tuples(st.floats(0, 10), st.floats(0, 5)), min_size=1), st.data())
def test_nothing_at_around_or_after_the_step_is_taken_over(times: dict[str, Any], data: st.DataObject) -> None:
    finished = {"parent": "", "name": "s", "kind": "step", "status": "completed"}
    records = [StepRecord(path=path, started_at=at, latency_s=took, **finished) for path, (at, took) in times.items()]
    at = data.draw(st.sampled_from(sorted(times)))
    kept = {record.path for record in before(records, at)}
    ended = max(record.started_at + record.latency_s for record in records if f"{record.path}/".startswith(f"{at}/"))
    for record in records:
        path = record.path
        if f"{path}/".startswith(f"{at}/") or f"{at}/".startswith(f"{path}/"):
            assert path not in kept
            continue
        theirs, ours = next((a, b) for a, b in zip(path.split("/"), at.split("/"), strict=False) if a != b)
        if theirs[0].isdigit() and ours[0].isdigit() and ":" in theirs and ":" in ours:
            assert (path in kept) == (int(theirs[0]) < int(ours[0]))
        elif theirs[0] == ours[0] == "i":
            assert (path in kept) == (int(theirs[1:]) < int(ours[1:]))
        else:
            assert (path in kept) == (record.started_at < ended)
