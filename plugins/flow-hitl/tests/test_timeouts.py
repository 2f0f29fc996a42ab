"""What happens when nobody answers in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import pytest
from flow_hitl import approval, human_in_the_loop
from flow_testkit import StubAgent

from flow import BaseStep, ConfigurationError, Flow, RunStatus, StateBackend, Step, StepTimeout

MakeFlow = Callable[..., Flow[Any, Any]]

HOUR = 3600.0


def ask(*, name: str = "label", **settings: Any) -> BaseStep[Any, Any]:
    return human_in_the_loop(name, "Is {{ data }} spam?", **{"timeout": HOUR, **settings})


async def test_a_question_without_a_timeout_waits_for_ever(flow: MakeFlow, watch: Any) -> None:
    runner = flow(ask(timeout=None))
    paused = await runner.run_async("post", run_id="r")
    assert paused.pending[0].deadline is None
    watch.pass_by(1e9)
    assert (await runner.resume_async("r")).status is RunStatus.PAUSED


async def test_deadlines_are_epoch_seconds(flow: MakeFlow) -> None:
    before = time.time()
    paused = await flow(ask()).run_async("post")
    assert before + HOUR <= (paused.pending[0].deadline or 0) <= time.time() + HOUR


async def test_the_deadline_counts_from_the_first_time_the_question_was_asked(flow: MakeFlow, watch: Any) -> None:
    paused = await flow(ask()).run_async("post", run_id="r")
    first = watch.now + HOUR
    assert paused.pending[0].deadline == first
    for _ in range(3):
        watch.pass_by(HOUR / 4)
        again = await flow(ask()).resume_async("r")
        assert (again.pending[0].deadline, again.pending[0].since) == (first, paused.pending[0].since)


@pytest.mark.parametrize("late", [0, 1, 1e9], ids=["at once", "a second", "years"])
async def test_the_default_applies_after_the_deadline(flow: MakeFlow, watch: Any, late: float) -> None:
    later = StubAgent(["done"])
    pipeline = ask(input_schema=Literal["spam", "ham"], default="ham") >> Step("later", later)
    await flow(pipeline).run_async("post", run_id="r")
    watch.pass_by(HOUR + late)
    result = await flow(pipeline).resume_async("r")
    assert (result.output, later.inputs) == ("done", ["ham"])
    assert result.step("label").metadata == {"default_applied": True}
    assert result.final_pipeline_context.hitl_history == [
        {"path": "0:label", "message": "Is post spam?", "answer": "ham", "default": True}
    ]


async def test_just_before_the_deadline_it_still_waits(flow: MakeFlow, watch: Any) -> None:
    await flow(ask(default="ham")).run_async("post", run_id="r")
    watch.pass_by(HOUR - 0.001)
    assert (await flow(ask(default="ham")).resume_async("r")).status is RunStatus.PAUSED


async def test_without_a_default_the_step_fails_after_the_deadline(flow: MakeFlow, watch: Any) -> None:
    await flow(ask()).run_async("post", run_id="r")
    watch.pass_by(HOUR)
    result = await flow(ask()).resume_async("r")
    assert (result.status, result.failed_path) == (RunStatus.FAILED, "0:label")
    assert isinstance(result.error, StepTimeout)
    assert str(result.error) == "nobody answered the question at '0:label' within 3600 s"
    assert result.final_pipeline_context.hitl_history == []


async def test_a_question_that_timed_out_is_asked_anew_when_the_run_is_resumed(flow: MakeFlow, watch: Any) -> None:
    await flow(ask()).run_async("post", run_id="r")
    watch.pass_by(HOUR)
    await flow(ask()).resume_async("r")
    watch.pass_by(HOUR)
    again = await flow(ask()).resume_async("r")
    assert (again.status, again.pending[0].deadline) == (RunStatus.PAUSED, watch.now + HOUR)
    assert (await flow(ask()).resume_async("r", "yes")).output == "yes"


@pytest.mark.parametrize(
    "make", [lambda: ask(retries=1), lambda: approval("label", timeout=HOUR, on_reject=ask(), retries=1)]
)
async def test_retries_ask_anew_with_a_new_deadline(flow: MakeFlow, watch: Any, make: Any) -> None:
    await flow(make()).run_async("post", run_id="r")
    watch.pass_by(HOUR + 1)
    again = await flow(make()).resume_async("r")
    assert (again.status, again.pending[0].deadline) == (RunStatus.PAUSED, watch.now + HOUR)
    assert again.pending[0].message.endswith(
        "(another attempt, after: nobody answered the question at '0:label' within 3600 s)"
    )


async def test_a_fallback_takes_over_when_nobody_answers(flow: MakeFlow, watch: Any) -> None:
    runner = flow(ask(fallback=Step("guess", StubAgent(["ham"]))))
    await runner.run_async("post", run_id="r")
    watch.pass_by(HOUR)
    assert (await runner.resume_async("r")).output == "ham"


async def test_a_late_answer_counts_as_long_as_nothing_else_has_happened(flow: MakeFlow, watch: Any) -> None:
    await flow(ask(default="ham")).run_async("post", run_id="r")
    watch.pass_by(2 * HOUR)
    result = await flow(ask(default="ham")).resume_async("r", "spam")
    assert (result.output, result.step_history[0].metadata) == ("spam", {})


@pytest.mark.parametrize(("default", "output"), [(True, "it"), ("yes", "it"), (False, "shelved"), ("no", "shelved")])
async def test_a_decision_may_have_a_default(flow: MakeFlow, watch: Any, default: Any, output: str) -> None:
    shelve = Step("shelve", StubAgent(["shelved"]))
    runner = flow(approval("publish", timeout=HOUR, default=default, on_reject=shelve))
    await runner.run_async("it", run_id="r")
    watch.pass_by(HOUR)
    result = await runner.resume_async("r")
    assert (result.output, result.step_history[0].metadata["default_applied"]) == (output, True)


async def test_a_default_that_a_run_changes_is_whole_in_the_next(flow: MakeFlow, watch: Any) -> None:
    runner = flow(ask(default=["ham"]) >> Step("add", lambda labels: labels.append("x") or labels))
    for run_id in ("one", "two"):
        await runner.run_async("post", run_id=run_id)
        watch.pass_by(HOUR)
        assert (await runner.resume_async(run_id)).output == ["ham", "x"]


async def test_none_may_be_a_default(flow: MakeFlow, watch: Any) -> None:
    await flow(ask(default=None)).run_async("post", run_id="r")
    watch.pass_by(HOUR)
    result = await flow(ask(default=None)).resume_async("r")
    assert (result.success, result.output) == (True, None)


async def test_runs_whose_time_is_over_are_found_and_resumed(flow: MakeFlow, watch: Any, store: StateBackend) -> None:
    """The watch is far in the past, so that for everybody else each deadline is over."""
    await flow(ask(default="ham")).run_async("due", run_id="due")
    await flow(ask(timeout=None)).run_async("open", run_id="open")
    watch.pass_by(HOUR)
    assert [result.output for result in await flow(ask(default="ham")).recover_async()] == ["ham"]
    stored = {run_id: await store.load_run(run_id) for run_id in ("due", "open")}
    assert {run_id: run.status for run_id, run in stored.items() if run} == {"due": "completed", "open": "paused"}


@pytest.mark.parametrize("timeout", [0, -1, "60", True, float("nan")], ids=repr)
def test_a_timeout_is_a_time(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout is a number of seconds above 0"):
        ask(timeout=timeout)


@pytest.mark.parametrize("make", [human_in_the_loop, approval])
def test_a_default_needs_a_timeout(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="has a default but no timeout"):
        make("label", "Is it?", default=True)


@pytest.mark.parametrize(
    "step",
    [ask(input_schema=int, default="many"), approval("publish", timeout=HOUR, default="perhaps")],
    ids=["int", "approval"],
)
def test_a_default_fits_the_type_of_the_answer(flow: MakeFlow, step: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"step {step.name!r}: the default .* is no answer"):
        flow(step).run("post")
