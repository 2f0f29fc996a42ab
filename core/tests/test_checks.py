"""The CHECK layer: declared types, processors, validation plugins and validators."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Protocol

import pytest
from pydantic import BaseModel, Field

from flow import (
    AgentProcessors,
    BaseValidator,
    ConfigurationError,
    InfiniteRedirect,
    PipelineContext,
    PluginFailed,
    PluginOutcome,
    RunResult,
    Step,
    StepRun,
    ValidationFailed,
    ValidationPlugin,
    ValidationResult,
    validator,
)

Run = Callable[..., RunResult[Any]]


async def same(value: Any) -> Any:
    return value


class Article(BaseModel):
    title: str
    words: int = 0


@validator
def polite(text: Any) -> tuple[bool, str]:
    return "damn" not in str(text), "mind your language"


@validator(name="long_enough")
async def long_enough(text: Any) -> bool:
    return len(str(text)) > 3


class StyleGuide(ValidationPlugin):
    def __init__(self, *outcomes: PluginOutcome) -> None:
        self.outcomes = list(outcomes)
        self.seen: list[Any] = []

    async def check(self, output: Any, *, context: Any = None) -> PluginOutcome:
        self.seen.append(output)
        return self.outcomes.pop(0) if self.outcomes else PluginOutcome(success=True)


OK = PluginOutcome(success=True)


class Tone(enum.StrEnum):
    CALM = "calm"


# -- declared types --


def test_a_dictionary_becomes_the_declared_model(run: Run) -> None:
    async def title(article: Article) -> str:
        return article.title

    assert run(Step("t", title), {"title": "On Rivers"}).output == "On Rivers"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"words": 1}, "title: Field required"),
        ({"title": "x", "words": "many"}, "words: Input should be a valid integer"),
    ],
)
def test_a_wrong_input_fails_the_step_naming_field_and_type(data: Any, reason: str, run: Run) -> None:
    async def title(article: Article) -> str:
        raise AssertionError("must not run")

    result = run(Step("t", title), data)
    assert isinstance(result.error, ValidationFailed)
    assert f"Validation failed: input: {reason}" in str(result.error)
    assert "declares Article and got dict" in str(result.error)


@pytest.mark.parametrize(("declared", "data"), [(int, "5"), (str, 5), (str, b"x"), (bool, 1), (int, 1.5)])
def test_scalars_are_not_converted(declared: Any, data: Any, run: Run) -> None:
    async def agent(value: Any) -> Any:
        return value

    agent.__annotations__ = {"value": declared}
    assert isinstance(run(Step("a", agent), data).error, ValidationFailed)


class Wanted(Protocol):
    def read(self) -> str: ...


@pytest.mark.parametrize(
    ("declared", "value"),
    [(int, True), (dict, defaultdict(list)), (Iterable[int], [1, 2]), (Wanted, object()), (str, Tone.CALM)],
)
def test_values_of_a_declared_type_are_handed_on_as_they_are(declared: Any, value: Any, run: Run) -> None:
    async def agent(value: Any) -> Any:
        return value

    agent.__annotations__ = {"value": declared}
    assert run(Step("a", agent), value).output is value


def test_constraints_in_annotations_hold(run: Run) -> None:
    async def positive(value: Annotated[int, Field(gt=0)]) -> int:
        return value

    assert run(Step("p", positive), 1).success
    assert not run(Step("p", positive), 0).success


@pytest.mark.parametrize(
    ("validate", "checked_in", "checked_out"),
    [("in", True, False), ("out", False, True), ("both", True, True), ("none", False, False)],
)
def test_what_is_checked_is_a_choice(validate: Any, checked_in: bool, checked_out: bool, run: Run) -> None:
    async def wrong(value: int) -> int:
        return "text"  # type: ignore[return-value]

    step = Step("w", wrong, validate=validate)
    assert run(step, "no number").success is not (checked_in or checked_out)
    assert run(step, 1).success is not checked_out


def test_a_wrong_output_is_kept_for_inspection(run: Run) -> None:
    async def wrong(value: int) -> int:
        return "text"  # type: ignore[return-value]

    result = run(Step("w", wrong, validate="out"), 1)
    assert result.step_history[0].output == "text"
    assert "Validation failed: output" in str(result.step_history[0].feedback)


def test_untyped_and_unknown_types_are_not_checked(run: Run) -> None:
    class Opaque:
        pass

    async def agent(value: Opaque) -> Opaque:
        return value

    thing = Opaque()
    assert run(Step("a", agent), thing).output is thing
    assert run(Step("a", lambda value: value), "anything").output == "anything"


# -- validators --


def test_a_refusal_fails_the_step_and_keeps_the_output(run: Run) -> None:
    step = run(Step("a", same, validators=[polite]), "damn").step_history[0]
    assert (step.success, step.output, step.feedback) == (
        False,
        "damn",
        "Validation failed: polite: mind your language",
    )
    assert isinstance(step.error, ValidationFailed)


def test_a_validation_failure_is_retried_and_the_feedback_reaches_the_agent(run: Run) -> None:
    feedback = []

    async def writer(_: Any, *, run: StepRun) -> str:
        feedback.append(run.feedback)
        return "damn" if run.attempt == 1 else "friendly"

    result = run(Step("a", writer, validators=[polite], retries=1), 1)
    assert (result.output, result.step_history[0].attempts) == ("friendly", 2)
    assert feedback == [None, "Validation failed: polite: mind your language"]
    assert result.step_history[0].metadata["validation_passed"] is True


def test_all_refusals_are_told(run: Run) -> None:
    plugin = StyleGuide(PluginOutcome(success=False, feedback="no style"))
    step = run(Step("a", same, validators=[polite, long_enough], plugins=[plugin]), "damn").step_history[0]
    assert step.feedback == "Plugin failed: no style; Validation failed: polite: mind your language"
    assert isinstance(step.error, PluginFailed)


def test_without_strict_the_step_succeeds_and_the_refusal_is_recorded(run: Run) -> None:
    step = run(Step("a", same, validators=[polite], strict=False), "damn").step_history[0]
    assert (step.success, step.output) == (True, "damn")
    assert step.metadata["validation_passed"] is False
    assert step.metadata["validation_feedback"] == step.feedback == "Validation failed: polite: mind your language"


def test_a_strict_gate_drops_what_it_refuses(run: Run) -> None:
    gate = Step.validate_step(name="gate", agent=same, validators=[polite], strict=True)
    assert run(gate, "damn").step_history[0].output is None
    assert run(gate, "fine").output == "fine"


def test_a_validator_that_raises_or_answers_nonsense_refuses(run: Run) -> None:
    class Broken(BaseValidator):
        name = "broken"

        async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
            if output == "raise":
                raise RuntimeError("oops")
            return "yes"  # type: ignore[return-value]

    step = Step("a", same, validators=[Broken()])
    assert run(step, "raise").step_history[0].feedback == "Validation failed: broken: RuntimeError: oops"
    assert "returned str instead of a ValidationResult" in str(run(step, "x").step_history[0].feedback)


def test_a_validator_sees_the_context(run: Run) -> None:
    class Banned(PipelineContext):
        words: list[str] = []

    class NotBanned(BaseValidator):
        name = "not_banned"

        async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
            return ValidationResult(is_valid=output not in context.words)

    options = {"context_model": Banned, "initial_context": {"words": ["x"]}}
    step = Step("a", same, validators=[NotBanned()])
    assert not run(step, "x", **options).success
    assert run(step, "y", **options).success


@pytest.mark.parametrize("field", ["validators", "plugins"])
def test_what_is_no_check_is_refused_when_the_step_is_bound(field: str, run: Run) -> None:
    with pytest.raises(ConfigurationError, match=r"step 'a': .* is not a"):
        run(Step("a", same, **{field: [len]}), 1)


# -- validation plugins --


def test_a_plugin_failure_is_retried(run: Run) -> None:
    plugin = StyleGuide(PluginOutcome(success=False, feedback="once"), OK)
    result = run(Step("a", same, plugins=[plugin], retries=2), 1)
    assert (result.success, result.step_history[0].attempts) == (True, 2)
    always = StyleGuide(*(PluginOutcome(success=False, feedback="no") for _ in range(9)))
    failed = run(Step("a", same, plugins=[always], retries=2), 1).step_history[0]
    assert (failed.attempts, failed.feedback) == (3, "Plugin failed: no")


def test_a_new_solution_replaces_the_output_and_is_validated(run: Run) -> None:
    plugin = StyleGuide(PluginOutcome(success=True, new_solution="damn better"))
    result = run(Step("a", same, plugins=[plugin], validators=[polite]), "fine")
    assert result.step_history[0].output == "damn better"
    assert not result.success


def test_plugins_run_by_priority(run: Run) -> None:
    order: list[str] = []

    def plugin(label: str, rank: int) -> ValidationPlugin:
        class Ranked(ValidationPlugin):
            priority = rank

            async def check(self, output: Any, *, context: Any = None) -> PluginOutcome:
                order.append(label)
                return OK

        return Ranked()

    run(Step("a", same, plugins=[plugin("low", 1), plugin("high", 10), plugin("same", 10)]), 1)
    assert order == ["high", "same", "low"]


def test_a_redirect_runs_another_agent_on_the_original_input(run: Run) -> None:
    async def expert(value: str) -> str:
        return f"expert on {value}"

    plugin = StyleGuide(PluginOutcome(success=False, redirect_to=expert), OK)
    result = run(Step("a", lambda value: "draft", plugins=[plugin]), "rivers")
    assert (result.output, plugin.seen) == ("expert on rivers", ["draft", "expert on rivers"])


def test_redirects_in_a_circle_are_an_error_also_for_unhashable_agents(run: Run) -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

        async def run(self, data: Any) -> Any:
            return data

    first, second = Unhashable(), Unhashable()
    outcomes = [PluginOutcome(success=False, redirect_to=agent) for agent in (first, second, first)]
    result = run(Step("a", same, plugins=[StyleGuide(*outcomes)], retries=5), 1)
    assert isinstance(result.error, InfiniteRedirect)
    assert result.step_history[0].attempts == 1


# -- processors --


def test_processors_change_what_goes_in_and_out(run: Run) -> None:
    async def exclaim(text: str) -> str:
        return text + "!"

    processors = AgentProcessors(prompt_processors=[str.strip, str.lower], output_processors=[exclaim])
    assert run(Step("a", same, processors=processors), " HI ").output == "hi!"


def test_identity_processors_change_nothing(run: Run) -> None:
    processors = AgentProcessors(prompt_processors=[lambda x: x], output_processors=[lambda x: x])
    assert run(Step("a", same, processors=processors), "00123").output == "00123"


def test_a_processor_that_raises_fails_the_step(run: Run) -> None:
    def broken(_: Any) -> Any:
        raise ValueError("cannot parse")

    result = run(Step("a", same, processors=AgentProcessors(output_processors=[broken])), 1)
    assert result.step_history[0].feedback == "Agent failed with ValueError: cannot parse"
    assert result.step_history[0].output is None
