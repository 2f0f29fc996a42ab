"""Approvals: the input goes on after a yes, something else happens after a no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from flow_hitl import Approval, approval
from flow_testkit import StubAgent
from pydantic import BaseModel

from flow import AnswerInvalid, Flow, Pipeline, RunStatus, StateBackend, Step, StepFailed, UsageLimits

MakeFlow = Callable[..., Flow[Any, Any]]

YES = [True, "true", "yes", "Yes", " YES\n", "y", "approve", "approved"]
NO = [False, "false", "no", "No", "n", "reject", "Rejected "]
NEITHER = ["", "maybe", "yes, but", 1, 0, [], {"approved": True}, "[true]", "1", "null"]


def publish(**settings: Any) -> Approval[Any, Any]:
    return approval("publish", "Publish {{ data }}?", **settings)


async def decide(runner: Flow[Any, Any], answer: Any, data: Any = "it") -> Any:
    paused = await runner.run_async(data)
    assert paused.status is RunStatus.PAUSED, f"{paused.error}"
    return await runner.resume_async(paused.run_id, answer)


@pytest.mark.parametrize("answer", YES, ids=repr)
async def test_a_yes_hands_the_input_on(flow: MakeFlow, answer: Any) -> None:
    after = StubAgent(["done"])
    result = await decide(flow(Step("draft", StubAgent([{"draft": 1}])) >> publish() >> Step("after", after)), answer)
    assert (result.output, after.inputs) == ("done", [{"draft": 1}])
    assert (result.step("publish").output, result.step("publish").metadata) == ({"draft": 1}, {"approved": True})
    assert result.final_pipeline_context.hitl_history == [
        {"path": "1:publish", "message": "Publish {'draft': 1}?", "answer": True}
    ]


@pytest.mark.parametrize("answer", NO, ids=repr)
async def test_a_no_fails_the_step(flow: MakeFlow, answer: Any) -> None:
    after = StubAgent(["done"])
    result = await decide(flow(publish() >> Step("after", after)), answer)
    assert (result.status, after.call_count, result.failed_path) == (RunStatus.FAILED, 0, "0:publish")
    assert (result.step("publish").feedback, result.step("publish").metadata) == (
        "rejected: 'Publish it?'",
        {"approved": False},
    )
    assert isinstance(result.error, StepFailed)


@pytest.mark.parametrize("answer", NEITHER, ids=repr)
async def test_anything_else_is_no_answer(flow: MakeFlow, answer: Any) -> None:
    runner = flow(publish())
    paused = await runner.run_async("it", run_id="r")
    with pytest.raises(AnswerInvalid, match="true or false, yes or no, approve or reject"):
        await runner.resume_async("r", answer)
    assert (await runner.resume_async("r")).pending == paused.pending


async def test_the_schema_of_the_answer_is_a_boolean(flow: MakeFlow) -> None:
    assert (await flow(publish()).run_async("it")).pending[0].schema == {"type": "boolean"}


@pytest.mark.parametrize("nested", [False, True], ids=["step", "pipeline"])
async def test_a_no_runs_what_stands_for_it(flow: MakeFlow, nested: bool) -> None:
    shelve = Step("shelve", StubAgent(["shelved"]))
    after = StubAgent(["done"])
    runner = flow(publish(on_reject=Pipeline((shelve,)) if nested else shelve) >> Step("after", after))
    result = await decide(runner, "no")
    assert (result.output, after.inputs) == ("done", ["shelved"])
    assert result.step("publish").metadata == {"approved": False}
    assert [child.path for child in result.step("publish").children] == ["0:publish/on_reject/0:shelve"]
    assert [item["answer"] for item in result.final_pipeline_context.hitl_history] == [False]


async def test_a_yes_does_not_run_it(flow: MakeFlow) -> None:
    shelve = StubAgent(["shelved"])
    assert (await decide(flow(publish(on_reject=Step("shelve", shelve))), "yes")).output == "it"
    assert shelve.call_count == 0


async def test_an_empty_pipeline_lets_a_no_pass(flow: MakeFlow) -> None:
    result = await decide(flow(publish(on_reject=Pipeline(()))), "no")
    assert (result.output, result.step_history[0].metadata) == ("it", {"approved": False})


async def test_a_failure_of_it_runs_it_again_with_the_same_decision(flow: MakeFlow) -> None:
    first, shelve = StubAgent(["noted"] * 2), StubAgent([ValueError("network"), "shelved"])
    runner = flow(publish(on_reject=Step("note", first) >> Step("shelve", shelve), retries=1))
    result = await decide(runner, "no")
    assert (result.output, shelve.call_count, first.call_count) == ("shelved", 2, 2)
    assert (result.step_history[0].attempts, len(result.final_pipeline_context.hitl_history)) == (2, 1)


async def test_a_run_that_failed_after_a_no_goes_on_with_the_same_decision(flow: MakeFlow) -> None:
    first, shelve = StubAgent(["noted"]), StubAgent([ValueError("network"), "shelved"])
    runner = flow(publish(on_reject=Step("note", first) >> Step("shelve", shelve)))
    failed = await decide(runner, "no")
    assert failed.status is RunStatus.FAILED
    result = await runner.resume_async(failed.run_id)
    assert result.success, f"{result.pending}"
    assert (result.output, first.call_count, shelve.call_count) == ("shelved", 1, 2)
    assert len(result.final_pipeline_context.hitl_history) == 1


async def test_a_failure_of_it_says_where(flow: MakeFlow) -> None:
    result = await decide(flow(publish(on_reject=Step("shelve", StubAgent([ValueError("network")])))), "no")
    assert result.failed_path == "0:publish/on_reject/0:shelve"
    assert result.step("publish").feedback.startswith(
        "what runs on a rejection failed at '0:publish/on_reject/0:shelve': Agent failed with"
    )


async def test_a_person_may_be_asked_once_more_after_a_no(flow: MakeFlow) -> None:
    note = StubAgent(["noted"])
    runner = flow(publish(on_reject=Step("note", note) >> approval("shelve", "Shelve {{ data }}?")))
    again = await decide(runner, "no")
    assert [item.path for item in again.pending] == ["0:publish/on_reject/1:shelve"]
    result = await runner.resume_async(again.run_id, "yes")
    assert (result.output, note.call_count) == ("noted", 1)
    history = result.final_pipeline_context.hitl_history
    assert sorted((item["path"], item["answer"]) for item in history) == [
        ("0:publish", False),
        ("0:publish/on_reject/1:shelve", True),
    ]


async def test_a_rejected_run_asks_again_when_it_is_resumed(flow: MakeFlow) -> None:
    draft = StubAgent(["it"])
    runner = flow(Step("draft", draft) >> publish())
    rejected = await decide(runner, "no")
    again = await runner.resume_async(rejected.run_id)
    assert (again.status, again.pending[0].message) == (RunStatus.PAUSED, "Publish it?")
    assert ((await runner.resume_async(again.run_id, "yes")).output, draft.call_count) == ("it", 1)


async def test_retries_ask_again_after_a_no(flow: MakeFlow) -> None:
    runner = flow(publish(retries=1))
    again = await decide(runner, "no")
    assert again.pending[0].message == "Publish it?\n(another attempt, after: rejected: 'Publish it?')"
    assert (await runner.resume_async(again.run_id, "yes")).output == "it"


async def test_a_fallback_takes_over_after_a_no(flow: MakeFlow) -> None:
    result = await decide(flow(publish(fallback=Step("shelve", StubAgent(["shelved"])))), "no")
    assert (result.output, result.step_history[0].metadata["fallback_triggered"]) == ("shelved", True)


async def test_what_it_spends_counts(flow: MakeFlow) -> None:
    async def spend(data: Any, *, run: Any) -> Any:
        run.usage.add(cost_usd=0.2)
        return data

    runner = flow(publish(on_reject=Step("spend", spend)), usage_limits=UsageLimits(total_cost_usd_limit=0.1))
    assert (await decide(runner, "no")).status is RunStatus.LIMIT_EXCEEDED


async def test_the_decision_is_in_the_journal(flow: MakeFlow, store: StateBackend) -> None:
    result = await decide(flow(publish()), "yes")
    records = {record.path: record for record in await store.load_steps(result.run_id)}
    assert records["0:publish"].metadata == b'{"approved":true}'


async def test_many_runs_wait_at_the_same_time(flow: MakeFlow) -> None:
    runner = flow(publish(on_reject=Step("shelve", lambda data: f"{data} is shelved")))
    paused = await runner.run_many(["a", "b", "c", "d"])
    answers = [True, False, True, False]
    results = await asyncio.gather(
        *(runner.resume_async(run.run_id, answer) for run, answer in zip(paused, answers, strict=True))
    )
    assert [result.output for result in results] == ["a", "b is shelved", "c", "d is shelved"]


class Draft(BaseModel):
    text: str


class Refusal(BaseModel):
    reason: str


async def write(topic: str) -> Draft:
    return Draft(text=topic)


async def refuse(draft: Draft) -> Refusal:
    return Refusal(reason=f"not {draft.text}")


async def send(value: Draft | Refusal) -> str:
    return f"{type(value).__name__}: {value}"


@pytest.mark.parametrize(("answer", "sent"), [("yes", "Draft: text='x'"), ("no", "Refusal: reason='not x'")])
async def test_typed_values_pass_through_also_when_the_run_is_resumed_later(
    flow: MakeFlow, answer: str, sent: str
) -> None:
    broken = True

    async def breaks(text: str) -> str:
        if broken:
            raise ValueError("broken")
        return text

    pipeline = Step("write", write) >> publish(on_reject=Step("refuse", refuse)) >> Step("send", send)
    runner = flow(pipeline >> Step("breaks", breaks))
    failed = await decide(runner, answer, "x")
    assert failed.status is RunStatus.FAILED
    broken = False
    resumed = await runner.resume_async(failed.run_id)
    assert (resumed.output, resumed.step("publish").replayed) == (sent, True)
