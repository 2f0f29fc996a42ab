"""Refinement: a generator and a critic that take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flow_loop import Refine, Refinement, refine_until
from flow_testkit import StubAgent
from pydantic import ValidationError

from flow import (
    BaseStep,
    ConfigurationError,
    Flow,
    PauseSignal,
    Pipeline,
    StateBackend,
    Step,
    StepFailed,
    StepRun,
    Usage,
    UsageLimits,
    structure,
)

MakeFlow = Callable[..., Flow[Any, Any]]


def verdicts(*feedback: str | None) -> StubAgent:
    """A critic that gives feedback until it says ``None``."""
    return StubAgent([{"is_complete": text is None, "feedback": text} for text in feedback])


def refining(generator: Any, critic: Any, **settings: Any) -> Refine[Any, Any]:
    return refine_until("refine", Step("generator", generator), Step("critic", critic), **settings)


# -- turns


async def test_the_generator_gets_input_and_feedback_and_its_artifact_is_the_output(flow: MakeFlow) -> None:
    generator, critic = StubAgent(["draft", "better"]), verdicts("longer", None)
    result = await flow(refining(generator, critic)).run_async("topic")
    assert result.output == "better"
    assert generator.inputs == [
        {"original_input": "topic", "feedback": None},
        {"original_input": "topic", "feedback": "longer"},
    ]
    assert critic.inputs == ["draft", "better"]
    assert result.step_history[0].metadata == {"iterations": 2, "exit_reason": "condition"}


async def test_every_turn_has_paths_of_its_own(flow: MakeFlow) -> None:
    result = await flow(refining(StubAgent([1, 2]), verdicts("more", None))).run_async(0)
    assert [found.path for found in result.walk()] == [
        "0:refine",
        "0:refine/i1/0:generator",
        "0:refine/i1/critic/0:critic",
        "0:refine/i2/0:generator",
        "0:refine/i2/critic/0:critic",
    ]


async def test_the_last_feedback_is_that_of_the_result(flow: MakeFlow) -> None:
    critic = StubAgent([Refinement(is_complete=False, feedback="meh"), Refinement(is_complete=True, feedback="fine")])
    result = await flow(refining(StubAgent([1, 2]), critic)).run_async(0)
    assert (result.output, result.step_history[0].feedback) == (2, "fine")


async def test_exhaustion_returns_the_last_artifact_with_the_last_feedback(flow: MakeFlow) -> None:
    generator, critic = StubAgent(["one", "two", "three"]), verdicts("a", "b", "c")
    result = await flow(refining(generator, critic, max_refinements=3)).run_async(0)
    own = result.step_history[0]
    assert (result.output, own.feedback, own.attempts) == ("three", "c", 3)
    assert own.metadata == {"iterations": 3, "exit_reason": "max_loops"}


async def test_exhaustion_may_fail_the_step(flow: MakeFlow) -> None:
    step = refining(StubAgent([1, 2]), verdicts("a", "b"), max_refinements=2, on_exhausted="fail")
    result = await flow(step).run_async(0)
    own = result.step_history[0]
    assert result.status == "failed"
    assert own.feedback == "reached max_refinements (2); the last feedback: b"
    assert (own.output, own.metadata) == (2, {"iterations": 2, "exit_reason": "max_loops"})


async def test_generator_and_critic_may_be_pipelines_and_refinements(flow: MakeFlow) -> None:
    async def unpack(task: dict[str, Any]) -> int:
        return (task["original_input"] or 0) + (1 if task["feedback"] else 0)

    async def past_two(n: int) -> Refinement:
        return Refinement(is_complete=n >= 2, feedback="bigger")

    inner = refine_until("inner", Step("unpack", unpack), Step("content", StubAgent([{"is_complete": True}] * 9)))
    outer = refine_until(
        "outer",
        Step("take", unpack) >> inner.evolve(generator=Step("add", _add)),
        Step("id", _same) >> Step("c", past_two),
    )
    result = await flow(outer).run_async(1)
    assert (result.output, result.step_history[0].metadata["iterations"]) == (2, 1)


async def _add(task: dict[str, Any]) -> int:
    return int(task["original_input"]) + 1


async def _same(n: int) -> int:
    return n


async def test_concurrent_runs_do_not_mix_artifacts_and_feedback(flow: MakeFlow) -> None:
    async def generate(task: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        return f"{task['original_input']}<{task['feedback']}"

    async def judge(artifact: str) -> Refinement:
        await asyncio.sleep(0)
        name, _, feedback = artifact.partition("<")
        return Refinement(is_complete=feedback != "None", feedback=f"for {name}")

    results = await flow(refining(generate, judge)).run_many([f"n{i}" for i in range(20)])
    assert [result.output for result in results] == [f"n{i}<for n{i}" for i in range(20)]


# -- verdicts


class Verdict:
    is_complete = True
    feedback = "looks like one"


@pytest.mark.parametrize(
    ("verdict", "feedback"),
    [
        (Refinement(is_complete=True, feedback="x"), "x"),
        ({"is_complete": True}, None),
        (Verdict(), "looks like one"),
    ],
    ids=["Refinement", "mapping", "object"],
)
async def test_a_verdict_may_be_a_refinement_or_look_like_one(flow: MakeFlow, verdict: Any, feedback: str) -> None:
    result = await flow(refining(StubAgent([1]), StubAgent([verdict]))).run_async(0)
    assert (result.output, result.step_history[0].feedback) == (1, feedback)


@pytest.mark.parametrize("verdict", ["yes", True, None, {}, {"is_complete": True, "score": 1}], ids=repr)
async def test_what_is_no_verdict_fails_the_step(flow: MakeFlow, verdict: Any) -> None:
    result = await flow(refining(StubAgent([1]), StubAgent([verdict]))).run_async(0)
    assert result.status == "failed"
    assert isinstance(result.error, StepFailed)
    own = result.step_history[0]
    assert f"the critic returned {type(verdict).__name__} instead of a Refinement" in (own.feedback or "")
    assert own.metadata == {"iterations": 1}


def test_a_refinement_has_no_other_fields() -> None:
    with pytest.raises(ValidationError, match="score"):
        Refinement(is_complete=True, score=3)  # type: ignore[call-arg]


# -- failures and bounds


@pytest.mark.parametrize("who", ["generator", "critic"])
async def test_a_failing_part_ends_the_refinement(flow: MakeFlow, who: str) -> None:
    agents: dict[str, Any] = {"generator": StubAgent([1, 2]), "critic": verdicts("more", "more")}
    agents[who] = StubAgent([{"is_complete": False}, ValueError("broken")])
    result = await flow(refining(**agents)).run_async(0)
    own = result.step_history[0]
    assert (result.status, own.metadata) == ("failed", {"iterations": 2, "exit_reason": "body_failed"})
    assert own.feedback == f"iteration 2 failed at {result.failed_path!r}: Agent failed with ValueError: broken"
    assert (result.failed_path or "").endswith(f"0:{who}")


@pytest.mark.parametrize("bound", [0, -1, None, True, 1.5], ids=repr)
def test_a_bound_that_is_none_is_refused(bound: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_refinements must be a whole number of at least 1"):
        refining(StubAgent([]), StubAgent([]), max_refinements=bound)


async def test_usage_is_that_of_all_turns_and_limits_hold(flow: MakeFlow) -> None:
    async def spend(task: Any, *, run: StepRun) -> dict[str, Any]:
        run.usage.add(cost_usd=0.25)
        return {"is_complete": False}

    step = refining(spend, spend, max_refinements=2)
    assert (await flow(step).run_async(0)).usage == Usage(cost_usd=1.0)
    limited = await flow(step, usage_limits=UsageLimits(total_cost_usd_limit=0.5)).run_async(0)
    assert (limited.status, limited.total_cost_usd) == ("limit_exceeded", 0.75)


# -- journal


async def test_a_refinement_goes_on_at_the_part_that_failed(flow: MakeFlow, store: StateBackend) -> None:
    generator = StubAgent(["one", "two"])
    critic = StubAgent([{"is_complete": False, "feedback": "more"}, ValueError("once"), {"is_complete": True}])
    runner = flow(refining(generator, critic), state=store)
    assert (await runner.run_async("topic", run_id="r")).failed_path == "0:refine/i2/critic/0:critic"
    result = await runner.resume_async("r")
    assert (result.output, generator.call_count, critic.call_count) == ("two", 2, 3)
    records = {record.path: record for record in await store.load_steps("r")}
    assert orjson.loads(records["0:refine"].metadata or b"") == {"iterations": 2, "exit_reason": "condition"}


async def test_a_critic_may_be_a_human(flow: MakeFlow) -> None:
    asked: list[str] = []

    async def judge(artifact: str) -> Refinement:
        asked.append(artifact)
        if asked.count(artifact) == 1:
            raise PauseSignal(f"is {artifact} fine?")
        return Refinement(is_complete=artifact == "two", feedback="another")

    generator = StubAgent(["one", "two"])
    runner = flow(refining(generator, judge), state="memory://")
    first = await runner.run_async(0, run_id="r")
    second = await runner.resume_async("r")
    last = await runner.resume_async("r")
    assert [first.pending[0].message, second.pending[0].message] == ["is one fine?", "is two fine?"]
    assert (last.output, generator.call_count) == ("two", 2)


# -- structure


def test_children_are_generator_and_critic() -> None:
    step = refining(StubAgent([]), StubAgent([]))
    assert list(step.children()) == ["generator", "critic"]
    assert list(structure(step)["children"]) == ["generator", "critic"]


@pytest.mark.parametrize(
    "change", [{"generator": Step("g", _same)}, {"critic": Step("g", _same)}, {"max_refinements": 6}], ids=str
)
def test_the_fingerprint_tells_changes(change: dict[str, Any]) -> None:
    step: BaseStep[Any, Any] = refining(_same, _same)
    assert Pipeline((step.evolve(**change),)).fingerprint != Pipeline((step,)).fingerprint


def test_the_type_is_that_of_the_artifact() -> None:
    assert refining(_add, _same).declared_types() == (Any, int)


def test_validation_looks_into_both_parts() -> None:
    report = Pipeline((refine_until("refine", Step("a"), Step("b")),)).validate_graph()
    assert [finding.path for finding in report.findings] == ["0:refine/generator/0:a", "0:refine/critic/0:b"]


def test_it_is_a_method_of_step_when_installed() -> None:
    assert isinstance(Step.refine_until("refine", Step("a", _same), Step("b", _same)), Refine)
