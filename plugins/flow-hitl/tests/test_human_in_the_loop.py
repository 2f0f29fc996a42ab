"""A run that asks: it pauses, and goes on with the answer."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from flow_hitl import HumanInTheLoop, human_in_the_loop
from flow_testkit import StubAgent
from pydantic import BaseModel, Field, SecretStr

from flow import (
    AnswerInvalid,
    BaseValidator,
    Cache,
    ConfigurationError,
    Flow,
    NotPaused,
    Pipeline,
    PipelineContext,
    RunFailed,
    RunStatus,
    StateBackend,
    StateError,
    Step,
    StepFailed,
    StepRecord,
    ValidationResult,
)

MakeFlow = Callable[..., Flow[Any, Any]]


class Label(BaseModel):
    sarcastic: bool
    certainty: float = Field(ge=0, le=1)


@dataclasses.dataclass
class Verdict:
    text: str


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def label(*, name: str = "label", **settings: Any) -> HumanInTheLoop[Any, Any]:
    return human_in_the_loop(name, "Is {{ data }} spam?", **settings)


# -- asking and answering


async def test_a_run_pauses_with_its_question_and_goes_on_with_the_answer(flow: MakeFlow) -> None:
    before, after = StubAgent(["buy now"]), StubAgent(["done"])
    runner = flow(Step("before", before) >> label() >> Step("after", after))
    paused = await runner.run_async("post", run_id="r")
    assert (paused.status, paused.success) == (RunStatus.PAUSED, False)
    assert [(item.path, item.message) for item in paused.pending] == [("1:label", "Is buy now spam?")]
    assert [item.name for item in paused.step_history] == ["before"]
    with pytest.raises(RunFailed, match=r"waits for an answer \(1:label: Is buy now spam"):
        _ = paused.output

    result = await runner.resume_async("r", "yes")
    assert (result.output, after.inputs) == ("done", ["yes"])
    assert [item.name for item in result.step_history] == ["before", "label", "after"]
    assert result.step("label").output == "yes"
    assert before.call_count == 1
    assert result.final_pipeline_context.hitl_history == [
        {"path": "1:label", "message": "Is buy now spam?", "answer": "yes"}
    ]
    with pytest.raises(NotPaused):
        await runner.resume_async("r", "no")


async def test_another_process_answers(flow: MakeFlow) -> None:
    def make() -> Flow[Any, Any]:
        return flow(label(input_schema=Label) >> Step("certainty", lambda answer: answer.certainty))

    paused = await make().run_async("post")
    result = await make().resume_async(paused.run_id, {"sarcastic": True, "certainty": 0.9})
    assert (result.output, result.step("label").output) == (0.9, Label(sarcastic=True, certainty=0.9))
    assert result.final_pipeline_context.hitl_history[0]["answer"] == {"sarcastic": True, "certainty": 0.9}


@pytest.mark.parametrize("durability", ["full", "normal", "exit"])
async def test_it_waits_however_durable_the_run_is(flow: MakeFlow, durability: str) -> None:
    before = StubAgent(["buy now"])
    pipeline = Step("before", before) >> label() >> label(name="again")
    await flow(pipeline, durability=durability).run_async("post", run_id="r")
    await flow(pipeline, durability=durability).resume_async("r", "maybe")
    result = await flow(pipeline, durability=durability).resume_async("r", "yes")
    assert (result.output, before.call_count) == ("yes", 1)
    assert [item["answer"] for item in result.final_pipeline_context.hitl_history] == ["maybe", "yes"]


async def test_a_run_is_resumed_from_what_was_printed_of_it(flow: MakeFlow) -> None:
    printed = json.dumps((await flow(label()).run_async("post")).to_dict())
    stored = json.loads(printed)
    answers = {item["path"]: "yes" for item in stored["pending"]}
    assert (await flow(label()).resume_async(stored["run_id"], answers=answers)).output == "yes"


async def test_two_questions_in_a_row_pause_twice(flow: MakeFlow) -> None:
    runner = flow(label(name="first") >> label(name="second"))
    first = await runner.run_async("post", run_id="r")
    second = await runner.resume_async("r", "maybe")
    result = await runner.resume_async("r", "sure")
    assert [run.pending[0].message for run in (first, second)] == ["Is post spam?", "Is maybe spam?"]
    assert (second.status, result.output) == (RunStatus.PAUSED, "sure")
    assert [(item["path"], item["answer"]) for item in result.final_pipeline_context.hitl_history] == [
        ("0:first", "maybe"),
        ("1:second", "sure"),
    ]


async def test_resuming_without_an_answer_asks_again(flow: MakeFlow) -> None:
    made: list[Any] = []

    def ask(data: Any) -> str:
        made.append(data)
        return f"Is {data} spam?"

    runner = flow(human_in_the_loop("label", ask))
    paused = await runner.run_async("post", run_id="r")
    again = await runner.resume_async("r")
    assert again.pending == paused.pending
    assert made == ["post"], "the message was made twice"
    assert (await runner.resume_async("r", "no")).output == "no"


async def test_without_a_message_the_input_is_shown(flow: MakeFlow) -> None:
    paused = await flow(human_in_the_loop("review")).run_async({"draft": 1})
    assert paused.pending[0].message == "{'draft': 1}"


@pytest.mark.parametrize("answer", ["", "text", 0, 3.5, False, None, [1, "a"], {"a": {"b": None}}], ids=repr)
async def test_any_plain_value_is_an_answer_when_no_schema_says_otherwise(flow: MakeFlow, answer: Any) -> None:
    runner = flow(label())
    paused = await runner.run_async("post")
    assert paused.pending[0].schema in (None, {})
    result = await runner.resume_async(paused.run_id, answers={"0:label": answer})
    assert result.success, f"{result.error}"
    assert (result.output, result.final_pipeline_context.hitl_history[0]["answer"]) == (answer, answer)


async def test_an_answer_that_is_not_plain_needs_a_schema(flow: MakeFlow) -> None:
    paused = await flow(label()).run_async("post")
    with pytest.raises(AnswerInvalid, match="0:label"):
        await flow(label()).resume_async(paused.run_id, object())
    assert (await flow(label()).resume_async(paused.run_id, "yes")).success


# -- crashes


class Torn:
    """A store that fails, once: while it writes the record of a step, or that the run is paused."""

    def __init__(self, store: StateBackend, where: str) -> None:
        self._store = store
        self._where: str | None = where

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        self._fail_at(*(record.path for record in records))
        await self._store.append_steps(run_id, epoch, records, sync=sync)

    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        self._fail_at(changes.get("status"))
        await self._store.update_run(run_id, epoch, sync=sync, **changes)

    def _fail_at(self, *places: str | None) -> None:
        if self._where in places:
            self._where = None
            raise StateError("the disk is gone")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_an_accepted_answer_survives_a_crash(flow: MakeFlow, store: StateBackend) -> None:
    pipeline = label(input_schema=Label) >> Step("certainty", lambda answer: answer.certainty)
    await flow(pipeline).run_async("post", run_id="r")
    with pytest.raises(StateError, match="the disk is gone"):
        await flow(pipeline, state=Torn(store, "0:label")).resume_async("r", {"sarcastic": True, "certainty": 0.9})
    result = await flow(pipeline).resume_async("r")
    assert result.success, f"{result.pending}"
    assert result.output == 0.9
    assert result.final_pipeline_context.hitl_history == [
        {"path": "0:label", "message": "Is post spam?", "answer": {"sarcastic": True, "certainty": 0.9}}
    ]


async def test_a_secret_answer_is_asked_for_again_after_a_crash(flow: MakeFlow, store: StateBackend) -> None:
    pipeline = label(input_schema=SecretStr) >> Step("length", lambda secret: len(secret.get_secret_value()))
    paused = await flow(pipeline).run_async("post", run_id="r")
    with pytest.raises(StateError, match="the disk is gone"):
        await flow(pipeline, state=Torn(store, "0:label")).resume_async("r", "hunter2")
    again = await flow(pipeline).resume_async("r")
    assert (again.status, again.pending) == (RunStatus.PAUSED, paused.pending)
    assert (await flow(pipeline).resume_async("r", "hunter2")).output == 7


async def test_the_deadline_of_a_question_survives_a_crash(flow: MakeFlow, store: StateBackend, watch: Any) -> None:
    paused = await flow(label(timeout=60)).run_async("post", run_id="r")
    watch.pass_by(20)
    with pytest.raises(StateError, match="the disk is gone"):
        await flow(label(timeout=60), state=Torn(store, "paused")).resume_async("r")
    watch.pass_by(20)
    again = await flow(label(timeout=60)).resume_async("r")
    assert (again.pending, again.pending[0].deadline) == (paused.pending, watch.now + 20)


# -- messages


async def test_a_message_may_be_an_async_function(flow: MakeFlow) -> None:
    async def ask(data: Any, context: Any) -> str:
        return f"{context.initial_prompt} as {data}?"

    paused = await flow(Step("upper", str.upper) >> human_in_the_loop("label", ask)).run_async("post")
    assert paused.pending[0].message == "post as POST?"


@pytest.mark.parametrize(
    ("message", "feedback"),
    [
        (lambda data: data.missing, "message 'lambda' raised AttributeError: 'str' object has no attribute 'missing'"),
        (lambda data: 7, "the message must be a text, got int"),
        ("{{ data.title }}", "names {{ data.title }}, but data is of type str and has no 'title'; it has no fields"),
        ("{{ context.titel }}", "and has no 'titel'; it has: initial_prompt, scratchpad, hitl_history, command_log"),
    ],
    ids=["raises", "no text", "data", "context"],
)
async def test_a_message_that_cannot_be_made_fails_the_step(flow: MakeFlow, message: Any, feedback: str) -> None:
    result = await flow(human_in_the_loop("label", message)).run_async("post")
    assert isinstance(result.error, StepFailed)
    assert (result.failed_path, str(result.error).startswith("step 'label': ")) == ("0:label", True)
    assert feedback in result.error.message


async def test_retries_make_a_message_that_could_not_be_made(flow: MakeFlow) -> None:
    texts = iter([None, "Is it spam?"])
    runner = flow(human_in_the_loop("label", lambda data: next(texts), retries=1))
    paused = await runner.run_async("post", run_id="r")
    assert paused.pending[0].message.startswith(
        "Is it spam?\n(another attempt, after: step 'label': the message must be"
    )
    assert (await runner.resume_async("r", "yes")).output == "yes"


async def test_half_a_character_in_a_message_does_not_keep_the_run_from_being_stored(flow: MakeFlow) -> None:
    paused = await flow(human_in_the_loop("label", lambda data: "what is \ud800?")).run_async("post")
    assert paused.pending[0].message == "what is \\ud800?"


# -- answers of a type

TYPED: dict[str, tuple[Any, Any, Any]] = {
    "model": (Label, {"sarcastic": "yes", "certainty": 1}, Label(sarcastic=True, certainty=1.0)),
    "dataclass": (Verdict, {"text": "fine"}, Verdict("fine")),
    "literal": (Literal["spam", "ham"], "ham", "ham"),
    "bool": (bool, "no", False),
    "int": (int, "36", 36),
    "list": (list[int], [1, 2], [1, 2]),
    "list as text": (list[int], "[1, 2]", [1, 2]),
    "model as text": (Label, '{"sarcastic": true, "certainty": 0.5}', Label(sarcastic=True, certainty=0.5)),
    "enum": (Colour, "red", Colour.RED),
    "decimal": (Decimal, "1.5", Decimal("1.5")),
    "optional": (int | None, None, None),
    "constrained": (Annotated[str, Field(min_length=2)], "ok", "ok"),
    "bytes": (bytes, "/w==", b"\xff"),
}


@pytest.mark.parametrize(("schema", "answer", "typed"), TYPED.values(), ids=TYPED)
async def test_the_output_is_the_typed_answer(flow: MakeFlow, schema: Any, answer: Any, typed: Any) -> None:
    later = StubAgent([ValueError("once"), "done"])
    pipeline = label(input_schema=schema) >> Step("later", later)
    paused = await flow(pipeline).run_async("post", run_id="r")
    assert paused.pending[0].schema
    json.dumps(paused.pending[0].schema)
    failed = await flow(pipeline).resume_async("r", answers={"0:label": answer})
    assert (failed.failed_path, later.inputs) == ("1:later", [typed])
    result = await flow(pipeline).resume_async("r")
    assert result.success, f"{result.error}"
    assert later.inputs == [typed, typed]
    assert type(later.inputs[1]) is type(typed)
    assert len(result.final_pipeline_context.hitl_history) == 1
    json.dumps(result.final_pipeline_context.hitl_history)


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (Label, {"sarcastic": "perhaps", "certainty": 0.5}),
        (Label, {"sarcastic": True, "certainty": 2}),
        (Label, "not JSON"),
        (Label, {}),
        (Literal["spam", "ham"], "eggs"),
        (bool, "perhaps"),
        (int, "many"),
        (list[int], [1, "b"]),
    ],
)
async def test_an_answer_that_does_not_fit_is_refused_and_the_run_stays_paused(
    flow: MakeFlow, schema: Any, answer: Any
) -> None:
    before = StubAgent(["buy now"])
    runner = flow(Step("before", before) >> label(input_schema=schema))
    paused = await runner.run_async("post", run_id="r")
    with pytest.raises(AnswerInvalid, match="1:label"):
        await runner.resume_async("r", answer)
    again = await runner.resume_async("r")
    assert (again.status, again.pending, before.call_count) == (RunStatus.PAUSED, paused.pending, 1)


async def test_a_later_valid_answer_is_taken(flow: MakeFlow) -> None:
    paused = await flow(label(input_schema=bool)).run_async("post")
    with pytest.raises(AnswerInvalid):
        await flow(label(input_schema=bool)).resume_async(paused.run_id, "perhaps")
    assert (await flow(label(input_schema=bool)).resume_async(paused.run_id, True)).output is True


class Lazy:
    """No type that Pydantic knows."""


@pytest.mark.parametrize("schema", [{"type": "string"}, 7, "Missing", Lazy, Callable[[], int]], ids=repr)
def test_what_is_no_type_of_answers_is_refused_when_the_step_is_bound(flow: MakeFlow, schema: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"step 'label': input_schema .* is no type of answers"):
        flow(label(input_schema=schema)).run("post")


def test_a_default_that_is_no_json_does_not_disturb_the_schema(flow: MakeFlow) -> None:
    class Choice(BaseModel):
        of: Any = object()

    schema = flow(label(input_schema=Choice)).run("post").pending[0].schema or {}
    assert schema["properties"] == {"of": {"title": "Of"}}


async def test_the_type_of_the_answer_is_that_of_the_output() -> None:
    async def count(number: int) -> int:
        return number

    fits = label(input_schema=int) >> Step("count", count)
    assert fits.validate_graph().is_valid
    findings = (label(input_schema=str) >> Step("count", count)).validate_graph().findings
    assert [finding.message for finding in findings] == ["step 'count' takes int, but step 'label' returns str"]
    assert label().declared_types() == (Any, Any)


# -- secrets


async def test_a_secret_answer_is_nowhere_in_clear(flow: MakeFlow, store: StateBackend) -> None:
    seen = []

    async def use(key: SecretStr) -> str:
        seen.append(key.get_secret_value())
        return "ok"

    runner = flow(label(input_schema=SecretStr) >> Step("use", use))
    await runner.run_async("post", run_id="r")
    result = await runner.resume_async("r", "hunter2")
    assert (result.output, seen) == ("ok", ["hunter2"])
    assert result.final_pipeline_context.hitl_history[0]["answer"] == "**********"
    assert "hunter2" not in repr(await store.load_steps("r")) + repr(await store.load_run("r")) + repr(result.to_dict())


# -- settings that every step has


class Short(BaseValidator):
    name = "short"

    async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
        return ValidationResult(is_valid=len(output) < 5, feedback="too long", validator_name=self.name)


@pytest.mark.parametrize(
    "settings",
    [
        {"retries": 3},
        {"fallback": Step("instead", StubAgent(["never"]))},
        {"retries": 1, "fallback": Step("instead", StubAgent(["never"])), "validators": [Short()]},
        {"cache": Cache()},
        {"strict": False, "validators": [Short()]},
    ],
    ids=lambda settings: "+".join(settings),
)
async def test_a_pause_is_never_a_failure(flow: MakeFlow, settings: dict[str, Any]) -> None:
    runner = flow(label(**settings), cache="memory://")
    paused = await runner.run_async("post", run_id="r")
    assert (paused.status, paused.step_history) == (RunStatus.PAUSED, [])
    result = await runner.resume_async("r", "yes")
    assert (result.output, result.step("label").attempts) == ("yes", 1)


async def test_a_refused_answer_fails_the_step(flow: MakeFlow) -> None:
    runner = flow(label(validators=[Short()]))
    await runner.run_async("post", run_id="r")
    result = await runner.resume_async("r", "much too long")
    assert (result.status, result.step("label").feedback) == (
        RunStatus.FAILED,
        "Validation failed: short: too long",
    )
    assert result.final_pipeline_context.hitl_history == []


async def test_a_failed_question_is_asked_again_when_the_run_is_resumed(flow: MakeFlow) -> None:
    runner = flow(label(validators=[Short()]))
    await runner.run_async("post", run_id="r")
    await runner.resume_async("r", "much too long")
    again = await runner.resume_async("r")
    assert (again.status, again.pending[0].message) == (RunStatus.PAUSED, "Is post spam?")
    result = await runner.resume_async("r", "yes")
    assert (result.output, len(result.final_pipeline_context.hitl_history)) == ("yes", 1)


async def test_retries_ask_again_and_say_why(flow: MakeFlow) -> None:
    runner = flow(label(validators=[Short()], retries=1))
    await runner.run_async("post", run_id="r")
    again = await runner.resume_async("r", "much too long")
    assert again.status is RunStatus.PAUSED
    assert again.pending[0].message == "Is post spam?\n(another attempt, after: Validation failed: short: too long)"
    result = await runner.resume_async("r", "yes")
    assert (result.output, [item["answer"] for item in result.final_pipeline_context.hitl_history]) == ("yes", ["yes"])


async def test_a_cached_answer_is_not_asked_for_again(flow: MakeFlow) -> None:
    runner = flow(label(cache=Cache()), cache="memory://")
    first, second = await runner.run_async("post"), await runner.run_async("post")
    assert (first.status, second.status) == (RunStatus.PAUSED, RunStatus.PAUSED), "a pause was cached"
    await runner.resume_async(first.run_id, "yes")
    third = await runner.run_async("post")
    assert (third.output, third.step_history[0].cached) == ("yes", True)
    assert (await runner.run_async("another post")).status is RunStatus.PAUSED


# -- inside sub-workflows


@pytest.mark.parametrize("kind", ["pipeline", "flow", "two levels"])
async def test_a_question_in_a_sub_workflow_pauses_the_whole_run(flow: MakeFlow, kind: str) -> None:
    before, after = StubAgent(["buy now"]), StubAgent(["done"])
    inner: Pipeline[Any, Any] = Step("before", before) >> label()
    sub = flow(inner).as_step("sub") if kind == "flow" else inner.as_step("sub")
    outer = Pipeline((sub,)).as_step("outer") if kind == "two levels" else sub
    path = "0:outer/0:sub/1:label" if kind == "two levels" else "0:sub/1:label"
    runner = flow(outer >> Step("after", after))
    paused = await runner.run_async("post", run_id="r")
    assert (paused.status, [item.path for item in paused.pending]) == (RunStatus.PAUSED, [path])
    assert after.call_count == 0
    result = await runner.resume_async("r", answers={path: "yes"})
    assert (result.output, before.call_count, after.inputs) == ("done", 1, ["yes"])
    assert [item["path"] for item in result.final_pipeline_context.hitl_history] == [path]


async def test_an_answer_is_for_one_attempt_of_what_is_around_it(flow: MakeFlow) -> None:
    """The draft that was approved must be the draft that is published."""
    draft, publish = StubAgent(["one", "two"]), StubAgent([ValueError("network"), "published"])
    sub = (Step("draft", draft) >> label() >> Step("publish", publish)).as_step("sub").evolve(retries=1)
    runner = flow(sub)
    assert (await runner.run_async("post", run_id="r")).pending[0].message == "Is one spam?"
    again = await runner.resume_async("r", "no")
    assert (again.status, [item.message for item in again.pending]) == (RunStatus.PAUSED, ["Is two spam?"])
    result = await runner.resume_async("r", "never")
    assert (result.output, publish.inputs, draft.call_count) == ("published", ["no", "never"], 2)
    assert [item["message"] for item in result.final_pipeline_context.hitl_history] == ["Is two spam?"]


async def test_a_retried_sub_workflow_keeps_what_had_finished_before_the_pause(flow: MakeFlow) -> None:
    before = StubAgent([ValueError("once"), "two"])
    runner = flow((Step("before", before) >> label()).as_step("sub").evolve(retries=1))
    assert (await runner.run_async("post", run_id="r")).pending[0].message == "Is two spam?"
    assert ((await runner.resume_async("r", "no")).output, before.call_count) == ("no", 2)


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("nested", [False, True], ids=["step", "sub-workflow"])
async def test_a_person_may_be_the_fallback(flow: MakeFlow, retries: int, nested: bool) -> None:
    broken = Step("broken", StubAgent([ValueError("down")] * 9))
    step = Pipeline((broken,)).as_step("sub") if nested else broken
    runner = flow(step.evolve(fallback=label(), retries=retries))
    paused = await runner.run_async("post", run_id="r")
    path = f"0:{step.name}/fallback"
    assert (paused.status, [item.path for item in paused.pending]) == (RunStatus.PAUSED, [path])
    result = await runner.resume_async("r", "yes")
    assert result.success, f"{result.error or result.pending}"
    assert (result.output, result.step_history[0].metadata["fallback_triggered"]) == ("yes", True)


# -- the history


class NoHistory(BaseModel):
    topic: str = "rivers"


class Interaction(BaseModel):
    path: str
    message: str
    answer: Any


class TypedHistory(BaseModel, validate_assignment=True):
    hitl_history: list[Interaction] = []


class FrozenHistory(BaseModel, frozen=True):
    hitl_history: list[Any] = []


class ExtraHistory(PipelineContext):
    topic: str = "rivers"


@pytest.mark.parametrize("model", [NoHistory, TypedHistory, FrozenHistory, ExtraHistory])
async def test_a_context_of_ones_own_gets_the_history_if_it_has_a_place_for_it(
    flow: MakeFlow, model: type[BaseModel]
) -> None:
    runner = flow(label() >> label(name="again"), context_model=model)
    await runner.run_async("post", run_id="r")
    await runner.resume_async("r", "maybe")
    result = await runner.resume_async("r", "yes")
    assert result.output == "yes", f"{result.error}"
    history = result.final_pipeline_context.model_dump().get("hitl_history", [{"answer": "maybe"}, {"answer": "yes"}])
    assert [item["answer"] for item in history] == ["maybe", "yes"]


async def test_the_history_is_kept_once_when_the_run_fails_later_and_is_resumed(flow: MakeFlow) -> None:
    later = StubAgent([ValueError("once"), ValueError("twice"), "done"])
    runner = flow(label() >> Step("later", later))
    await runner.run_async("post", run_id="r")
    await runner.resume_async("r", "yes")
    await runner.resume_async("r")
    result = await runner.resume_async("r")
    assert (result.output, result.step_history[0].replayed) == ("done", True)
    assert len(result.final_pipeline_context.hitl_history) == 1


def test_they_are_methods_of_step_when_installed() -> None:
    assert isinstance(Step.human_in_the_loop(name="a", message_for_user="b"), HumanInTheLoop)
    assert Step.approval("a", "b").kind == "approval"
