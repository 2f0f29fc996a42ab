"""`validate_graph` finds what is wrong with a pipeline, says where and what helps, and runs nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from types import ModuleType
from typing import Annotated, Any

import attrs
import pytest
from pydantic import BaseModel, Field

from core.tests.fake_site import Site
from flow import (
    AgentProcessors,
    BaseStep,
    BaseValidator,
    Cache,
    ConfigurationError,
    Finding,
    Kernel,
    Pipeline,
    Settings,
    Step,
    StepResult,
    UsageLimits,
    ValidationPlugin,
    ValidationReport,
    ValidationResult,
    hookimpl,
    step,
    validator,
)
from flow._graph import validate_graph

Validate = Callable[..., ValidationReport]


class Doc(BaseModel):
    title: str


@step
async def count(text: str) -> int:
    raise AssertionError("an agent ran")


@step
def spell(number: int) -> str:
    raise AssertionError("an agent ran")


@step
def guess(text: str) -> int | str:
    raise AssertionError("an agent ran")


@step
def load(text: str) -> object:
    raise AssertionError("an agent ran")


@step
def read(text: str) -> dict[str, Any]:
    raise AssertionError("an agent ran")


@step
def title(doc: Doc) -> str:
    raise AssertionError("an agent ran")


@step
def measure(length: Annotated[float, Field(gt=0)]) -> float:
    raise AssertionError("an agent ran")


@step
async def stream(text: str) -> AsyncIterator[str]:
    yield text


async def ask(question: str, *, temperature: float = 1.0) -> str:
    raise AssertionError("an agent ran")


class NotEmpty(BaseValidator):
    name = "not_empty"

    async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
        return ValidationResult(is_valid=bool(output))


class Style(ValidationPlugin):
    async def check(self, output: Any, *, context: Any = None) -> Any: ...


@attrs.frozen(kw_only=True)
class Fan(BaseStep[str, Any]):
    """A container that no plugin runs."""

    kind = "fan"

    branches: Mapping[str, BaseStep[Any, Any] | Pipeline[Any, Any]]

    def children(self) -> Mapping[str, BaseStep[Any, Any] | Pipeline[Any, Any]]:
        return self.branches


@attrs.frozen(kw_only=True)
class Loop(BaseStep[Any, Any]):
    """Of a kind that flow-loop provides."""

    kind = "loop"


class FanPlugin:
    @hookimpl
    def flow_bind_step(self, step: Any, binder: Any) -> Any:
        if not isinstance(step, Fan):
            return None
        for label, child in step.children().items():
            binder.bind(child, label)

        async def run(data: Any, scope: Any) -> StepResult:
            return StepResult.ok(step, data)

        return run


@pytest.fixture
def validate() -> Validate:
    """Validate with a kernel that sees the kernel's own plugins and one that runs `Fan`."""
    kernel = Kernel(Settings(), only=[], plugins=[FanPlugin()])

    def call(pipeline: Any, **options: Any) -> ValidationReport:
        return validate_graph(pipeline, **{"kernel": kernel, **options})

    return call


def summary(report: ValidationReport) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.rule_id, finding.path) for finding in report.findings]


# -- what is fine --


@pytest.mark.parametrize(
    "pipeline",
    [
        count >> spell >> count,
        count >> count.evolve(name="again", agent=lambda number: number) >> spell,
        Step("upper", str.upper) >> Step("strip", str.strip),
        Step("upper", str.upper) >> count,
        Step("same", lambda item: item) >> Step("same", lambda item: item) >> Step("same", lambda item: item),
        read >> title,
        count >> measure >> measure,
        stream.evolve(retries=3) >> count,
        count >> Step("anything", lambda item: item) >> title,
        count >> spell.evolve(fallback=Step("cheap", lambda number: "")) >> count,
        Pipeline([count, spell]).as_step("inner") >> count,
        Step("ask", ask, temperature=0.5, retries=2),
        count.evolve(validators=[NotEmpty(), validator(bool)], plugins=[Style()], cache=Cache(), retries=1),
        count.evolve(processors=AgentProcessors(), usage_limits=UsageLimits(), timeout=3),
        Fan(name="fan", branches={"left": count >> spell, "right": spell}),
        count,
    ],
)
def test_a_pipeline_that_can_run_has_no_findings(pipeline: Any, validate: Validate) -> None:
    report = validate(pipeline)
    assert report.findings == ()
    assert report.is_valid
    assert str(report) == "nothing found"


# -- agents and settings --


def test_a_step_without_an_agent_is_an_error(validate: Validate) -> None:
    report = validate(count >> Step("nothing"))
    assert summary(report) == [("error", "FLOW-A1", "1:nothing")]
    assert str(report) == "error FLOW-A1 at 1:nothing: step 'nothing' has no agent. Write Step(\"nothing\", agent)"


@pytest.mark.parametrize("agent", [5, "text", object(), Doc(title="x")])
def test_an_agent_that_cannot_be_called_is_an_error(agent: Any, validate: Validate) -> None:
    (finding,) = validate(Step("wrong", agent)).errors
    assert (finding.rule_id, finding.path) == ("FLOW-A2", "0:wrong")
    assert finding.message.startswith("step 'wrong': ")
    assert type(agent).__name__ in finding.message
    assert "run(data)" in finding.suggestion


@pytest.mark.parametrize(
    ("settings", "suggestion"),
    [
        ({"temperatur": 0.5}, "Did you mean temperature?"),
        ({"retry": 3}, "Did you mean retries?"),
        ({"time_out": 3}, "Did you mean timeout?"),
        ({"zzz": 3}, "Leave it out, or make it a parameter of the agent"),
        ({"question": "?"}, "Leave it out, or make it a parameter of the agent"),
    ],
)
def test_a_setting_that_the_agent_does_not_take_is_a_warning(
    settings: dict[str, Any], suggestion: str, validate: Validate
) -> None:
    report = validate(Step("ask", ask, **settings))
    assert report.is_valid
    (finding,) = report.warnings
    assert (finding.rule_id, finding.path, finding.suggestion) == ("FLOW-A3", "0:ask", suggestion)
    assert next(iter(settings)) in finding.message


def test_an_agent_without_a_readable_signature_takes_no_settings(validate: Validate) -> None:
    assert summary(validate(Step("text", str, retry=1))) == [("warning", "FLOW-A3", "0:text")]


def test_an_agent_that_takes_everything_takes_every_setting(validate: Validate) -> None:
    async def open_ended(text: str, **settings: Any) -> str:
        return text

    assert validate(Step("x", open_ended, retry=3)).findings == ()


# -- types --


@pytest.mark.parametrize(
    ("pipeline", "path", "parts"),
    [
        (Pipeline([count, count]), "1:count", ["takes str", "returns int"]),
        (Pipeline([count, title]), "1:title", ["takes Doc", "returns int", "'title'", "'count'"]),
        (Pipeline([guess, spell]), "1:spell", ["takes int", "returns int | str"]),
        (Pipeline([spell, Step("upper", bytes.upper)]), "1:upper", ["takes bytes", "returns str"]),
        (Pipeline([count, Fan(name="fan", branches={})]), "1:fan", ["takes str", "returns int"]),
        (Pipeline([(spell >> count).as_step("sub"), title]), "1:title", ["'sub' returns int"]),
    ],
)
def test_an_output_that_does_not_fit_the_next_input_is_an_error(
    pipeline: Any, path: str, parts: list[str], validate: Validate
) -> None:
    (finding,) = validate(pipeline).findings
    assert (finding.severity, finding.rule_id, finding.path) == ("error", "FLOW-T1", path)
    assert all(part in finding.message for part in parts)
    assert "put a step between them" in finding.suggestion


def test_types_of_the_same_name_are_told_apart(validate: Validate) -> None:
    class Doc(BaseModel):
        other: int

    def take(doc: Any) -> None: ...

    take.__annotations__["doc"] = Doc
    give = Step("give", lambda text: text).evolve(agent=ForeignDoc())
    message = validate(Pipeline([give, Step("take", take)])).errors[0].message
    assert message.count("Doc") == 2
    assert "test_types_of_the_same_name_are_told_apart" in message


class ForeignDoc:
    async def run(self, text: str) -> Doc:
        raise AssertionError("an agent ran")


def test_an_output_declared_as_object_is_a_warning(validate: Validate) -> None:
    report = validate(Pipeline([load, spell]))
    assert report.is_valid
    assert summary(report) == [("warning", "FLOW-T2", "1:spell")]
    assert report.findings[0].suggestion == "Annotate what 'load' returns"


def test_processors_make_types_unknown(validate: Validate) -> None:
    before = AgentProcessors(prompt_processors=[str])
    after = AgentProcessors(output_processors=[str])
    assert validate(Pipeline([count, count.evolve(processors=before)])).findings == ()
    assert validate(Pipeline([count.evolve(processors=after), count])).findings == ()
    checked = count.evolve(processors=after, validate="both")
    assert not validate(Pipeline([checked, count])).is_valid


def test_the_edge_of_a_nested_pipeline_is_checked_where_it_is(validate: Validate) -> None:
    inner = Pipeline([count, count]).as_step("inner")
    assert summary(validate(spell >> inner)) == [("error", "FLOW-T1", "1:inner/1:count")]
    empty = Pipeline().as_step("empty")
    assert summary(validate(Pipeline([count, empty, count]))) == [("warning", "FLOW-P1", "1:empty")]


# -- fallbacks --


def test_a_fallback_must_take_what_the_step_before_returns(validate: Validate) -> None:
    main = spell.evolve(fallback=count.evolve(name="cheap"))
    (finding,) = validate(Pipeline([count, main, count])).findings[:1]
    assert (finding.severity, finding.rule_id, finding.path) == ("error", "FLOW-T3", "1:spell/fallback")
    assert finding.message == "fallback 'cheap' takes str, but step 'count' returns int"


def test_a_fallback_must_return_what_the_step_after_takes(validate: Validate) -> None:
    wrong = Step("cheap", lambda number: 0).evolve(agent=_returns_bytes)
    deep = spell.evolve(fallback=spell.evolve(name="second", fallback=wrong))
    (finding,) = validate(Pipeline([count, deep, count])).findings
    assert (finding.rule_id, finding.path) == ("FLOW-T3", "1:spell/fallback/fallback")
    assert finding.message == "step 'count' takes str, but fallback 'cheap' returns bytes"


def _returns_bytes(number: int) -> bytes:
    raise AssertionError("an agent ran")


def test_a_fallback_for_a_bad_input_may_take_another_type(validate: Validate) -> None:
    assert validate(count.evolve(fallback=Step("repair", _returns_bytes))).findings == ()


def test_what_is_wrong_inside_a_fallback_is_found(validate: Validate) -> None:
    inner = Pipeline([count, Step("nothing")]).as_step("plan b")
    assert summary(validate(count.evolve(fallback=inner))) == [("error", "FLOW-A1", "0:count/fallback/1:nothing")]


def test_fallbacks_in_a_circle_are_an_error(validate: Validate) -> None:
    first, second = Step("first", ask), Step("second", ask)
    object.__setattr__(first, "fallback", second)
    object.__setattr__(second, "fallback", first)
    (finding,) = validate(first >> Step("end", ask)).findings
    assert (finding.severity, finding.rule_id) == ("error", "FLOW-F1")
    assert finding.path == "0:first/fallback/fallback"
    assert "'first' -> 'second' -> 'first'" in finding.message


def test_a_step_may_be_its_own_fallback_once(validate: Validate) -> None:
    assert validate(count.evolve(fallback=count)).findings == ()


# -- kinds, structure and classes --


def test_a_kind_that_nobody_runs_is_an_error_with_the_package_to_install(validate: Validate) -> None:
    report = validate(count >> Step("anything", lambda item: item) >> Loop(name="improve"))
    assert summary(report) == [("error", "FLOW-K1", "2:improve")]
    assert report.findings[0].message == "step 'improve' is of kind 'loop', which no installed plugin runs"
    assert report.findings[0].suggestion == "pip install flow-loop"


def test_a_kind_that_nobody_knows_is_an_error(kernel: Kernel) -> None:
    (finding,) = validate_graph(Fan(name="fan", branches={}), kernel=kernel).findings
    assert (finding.rule_id, finding.suggestion) == ("FLOW-K1", "See flow plugins list --kind steps --all")


def test_a_kind_whose_plugin_is_broken_is_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.step("loop", "raise RuntimeError('no such device')")
    monkeypatch.syspath_prepend(str(site.packages))
    (finding,) = validate_graph(Loop(name="improve"), kernel=Kernel(Settings())).findings
    assert (finding.rule_id, finding.path) == ("FLOW-K1", "0:improve")
    assert "no such device" in finding.message
    assert "flow plugins block loop" in finding.suggestion


def test_the_steps_of_a_kind_that_nobody_runs_are_checked_too(kernel: Kernel) -> None:
    fan = Fan(name="fan", branches={"left": count >> Step("nothing"), "right": Step("nothing")})
    assert summary(validate_graph(count >> Step("x", ask) >> fan, kernel=kernel)) == [
        ("error", "FLOW-T1", "1:x"),
        ("error", "FLOW-K1", "2:fan"),
        ("error", "FLOW-A1", "2:fan/left/1:nothing"),
        ("error", "FLOW-A1", "2:fan/right"),
    ]


def test_an_empty_pipeline_is_a_warning(validate: Validate) -> None:
    report = validate(Pipeline(name="later"))
    assert summary(report) == [("warning", "FLOW-P1", "")]
    assert report.findings[0].message == "pipeline 'later' is empty and passes its input through"
    assert report.is_valid


@pytest.mark.parametrize(
    ("field", "value", "suggestion"),
    [
        ("validators", [len], "Subclass BaseValidator, or decorate a function with @validator"),
        ("validators", [NotEmpty], "Write NotEmpty(...)"),
        ("plugins", [NotEmpty()], "Subclass ValidationPlugin"),
        ("plugins", [Style], "Write Style(...)"),
        ("fallback", len, 'Wrap it: Step("name", agent)'),
        ("processors", [str], "Write AgentProcessors(prompt_processors=[...], output_processors=[...])"),
        ("cache", True, "Write Cache(ttl=seconds)"),
        ("cache", Cache, "Write Cache(...)"),
        ("usage_limits", {"total_cost_usd_limit": 1.0}, "Write UsageLimits(total_cost_usd_limit=1.0)"),
    ],
)
def test_a_field_with_an_object_of_the_wrong_class_is_an_error(
    field: str, value: Any, suggestion: str, validate: Validate
) -> None:
    (finding,) = validate(count.evolve(**{field: value})).findings
    assert (finding.severity, finding.rule_id, finding.path) == ("error", "FLOW-V1", "0:count")
    assert field in finding.message
    assert finding.suggestion == suggestion


# -- binding --


def test_what_refuses_to_be_bound_is_an_error() -> None:
    refusing = ModuleType("refusing")

    @hookimpl
    def flow_wrap_step(step: Any, binder: Any) -> Any:
        raise ConfigurationError(f"step {step.name!r} is not for me", hint="Take another")

    refusing.__dict__["flow_wrap_step"] = flow_wrap_step
    report = validate_graph(count, kernel=Kernel(Settings(), only=[], plugins=[refusing]))
    assert report.errors == (Finding("error", "FLOW-B1", "", "step 'count' is not for me", "Take another"),)


def test_a_plugin_that_breaks_while_binding_is_an_error() -> None:
    class Broken:
        @hookimpl
        def flow_bind_step(self, step: Any, binder: Any) -> Any:
            raise KeyError("oops")

    (finding,) = validate_graph(Loop(name="x"), kernel=Kernel(Settings(), only=[], plugins=[Broken()])).findings
    assert (finding.rule_id, finding.message) == ("FLOW-B1", "binding raises KeyError: 'oops'")


# -- the report --


def test_a_report_lists_errors_and_warnings() -> None:
    error = Finding("error", "FLOW-A1", "0:x", "no agent", "Give it one")
    warning = Finding("warning", "FLOW-P1", "", "empty")
    info = Finding("info", "FLOW-I1", "", "by the way")
    report = ValidationReport((error, warning, info))
    assert (report.errors, report.warnings, report.is_valid) == ((error,), (warning,), False)
    assert str(report).splitlines() == [
        "error FLOW-A1 at 0:x: no agent. Give it one",
        "warning FLOW-P1: empty",
        "info FLOW-I1: by the way",
    ]


def test_errors_can_be_raised(validate: Validate) -> None:
    pipeline = Pipeline([count, count, Step("nothing")], name="audit")
    with pytest.raises(ConfigurationError) as caught:
        validate(pipeline, raise_on_error=True)
    message = str(caught.value)
    assert message.startswith("pipeline 'audit' is not valid:\n- error FLOW-T1 at 1:count: ")
    assert "\n- error FLOW-A1 at 2:nothing: " in message


def test_warnings_are_not_raised(validate: Validate) -> None:
    assert validate(Pipeline(), raise_on_error=True).warnings


def test_a_pipeline_validates_itself() -> None:
    assert not Pipeline([count, count]).validate_graph().is_valid
    with pytest.raises(ConfigurationError, match="FLOW-T1"):
        Pipeline([count, count]).validate_graph(raise_on_error=True)


def test_what_is_no_pipeline_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="wrap it"):
        validate_graph(len)  # type: ignore[arg-type]
