"""The programs of the guide that flow grew from run, and do what the guide says of them.

Programs that need packages which do not exist yet are marked with them; such a mark fails as soon as the program runs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from flow_testkit import StubAgent, assert_step_sequence

from flow import (
    AppResources,
    Flow,
    Pipeline,
    PluginOutcome,
    RunStatus,
    Step,
    StepRun,
    Usage,
    ValidationPlugin,
)
from tests.guide import programs
from tests.guide.running import PackageMissing, needs, run_program


class Reputations:
    """A database of authors."""

    def __init__(self, **known: float) -> None:
        self._known = known

    async def fetch_reputation(self, author: int) -> float | None:
        return self._known.get(f"author{author}")


class StyleGuidePlugin(ValidationPlugin):
    """Refuses shouting."""

    async def check(self, output: Any, *, context: Any = None) -> PluginOutcome:
        return PluginOutcome(success=not str(output).isupper(), feedback="do not shout")


def stubs(*names: str, answer: str = "{name} done") -> dict[str, StubAgent]:
    """Agents that answer once, by name."""
    return {name: StubAgent([answer.format(name=name)]) for name in names}


async def triage_names(**known: float) -> dict[str, Any]:
    """What the guide's first chapter defines, with a database behind it."""
    names = await run_program(programs.BASIC_AGENT)
    names = await run_program(programs.CONTEXT_AGENT, Any=Any, **_own(names))
    names = await run_program(programs.STEPS, **_own(names))
    return {**names, "resources": AppResources(db=Reputations(**known))}


def _own(names: dict[str, Any]) -> dict[str, Any]:
    """The names a program has defined, without those that Python puts into every namespace."""
    return {name: value for name, value in names.items() if not name.startswith("__")}


POST = {"content": "What a lovely Monday.", "author_id": 7}


# -- 1. steps


@pytest.mark.parametrize(("known", "reputation"), [({"author7": 0.9}, 0.9), ({}, 0.5)], ids=["known", "unknown"])
async def test_agent_reads_resources_and_returns_a_model(known: dict[str, float], reputation: float) -> None:
    names = await triage_names(**known)
    result = await Flow(names["triage_step"], resources=names["resources"]).run_async(POST)
    assert isinstance(result.output, names["TriageContext"])
    assert result.output.author_reputation == reputation
    assert result.output.post_content == POST["content"]


async def test_agent_writes_to_the_typed_context() -> None:
    names = await triage_names()
    result = await Flow(names["research_step"], context_model=names["ResearchContext"]).run_async("python")
    assert result.output == "Research plan for The History of the Python Programming Language"
    assert result.final_pipeline_context.research_topic == "The History of the Python Programming Language"
    assert result.final_pipeline_context.sources_found == 0


async def test_steps_bear_the_names_they_were_given() -> None:
    names = await triage_names()
    assert [names["triage_step"].name, names["research_step"].name] == ["TriagePost", "PlanResearch"]


# -- 2. control flow


async def branch_names(**known: float) -> dict[str, Any]:
    names = await triage_names(**known)
    agents = stubs("high_risk_agent", "logging_agent")
    review = StubAgent(["reviewed"])
    program = await run_program(programs.BRANCH, make_review_agent=lambda: review, **agents, **_own(names))
    return {**program, "resources": names["resources"]}


@pytest.mark.parametrize(
    ("reputation", "taken"), [(0.1, "Escalate"), (0.4, "Review"), (0.9, "AutoApprove")], ids=["low", "middle", "high"]
)
async def test_branch_is_chosen_by_the_context(reputation: float, taken: str) -> None:
    names = await branch_names()
    context = {"post_content": "", "author_id": 7, "author_reputation": reputation}
    flow = Flow(names["router_step"], context_model=names["TriageContext"])
    result = await flow.run_async("post", initial_context=context)
    assert result.success
    assert_step_sequence(result, ["RouteContent", taken], nested=True)


def sarcasm_agent(*confidences: float) -> StubAgent:
    return StubAgent([{"confidence": confidence} for confidence in confidences])


@pytest.mark.parametrize(
    ("confidences", "success"), [((0.5, 0.99), True), ((0.1, 0.2, 0.3), False)], ids=["sure", "unsure"]
)
async def test_loop_ends_when_the_condition_holds_or_the_loops_are_used_up(
    confidences: tuple[float, ...], success: bool
) -> None:
    agent = sarcasm_agent(*confidences)
    names = await run_program(programs.LOOP, Step=Step, Pipeline=Pipeline, sarcasm_agent=agent)
    result = await Flow(names["refine_step"]).run_async("post")
    assert result.success is success
    assert agent.call_count == len(confidences)


async def test_run_pauses_for_a_person_and_goes_on_with_the_answer() -> None:
    names = await run_program(programs.HUMAN_IN_THE_LOOP)
    flow = Flow(names["hitl_step"] >> Step("Shout", str.upper), state="memory://")
    paused = await flow.run_async("post")
    assert paused.status is RunStatus.PAUSED
    assert paused.pending[0].message == "Please label this post as sarcastic or not."
    assert (await flow.resume_async(paused.run_id, "sarcastic")).output == "SARCASTIC"


async def test_refinement_goes_on_until_the_critic_is_content() -> None:
    from flow_loop import Refinement

    critic = StubAgent(
        [Refinement(is_complete=False, feedback="no tests"), Refinement(is_complete=True, feedback=None)]
    )
    generator = StubAgent(["draft", "draft with tests"])
    names = {"Step": Step, "Pipeline": Pipeline, "code_agent": generator, "make_review_agent": lambda: critic}
    program = await run_program(programs.REFINEMENT, **names)
    result = await Flow(program["refine_step"]).run_async("a parser")
    assert result.output == "draft with tests"
    assert generator.inputs[1] == {"original_input": "a parser", "feedback": "no tests"}


# -- 3. context


async def test_context_is_written_by_an_agent_and_returned_by_the_run() -> None:
    names = await run_program(programs.CONTEXT)
    names = await run_program(programs.CONTEXT_IN_AGENT, **_own(names))
    agent = type("DecisionAgent", (), {"run": names["run"]})()
    names = await run_program(programs.CONTEXT_IN_RUNNER, pipeline=Step("Decide", agent), **_own(names))
    result = await names["runner"].run_async("approved", initial_context={"post_id": 1})
    assert result.success
    assert result.final_pipeline_context.final_disposition == "approved"
    assert result.final_pipeline_context.triage_decision is None


async def test_context_inherits_what_every_context_has() -> None:
    model = (await run_program(programs.EXTENDED_CONTEXT))["ResearchContext"]
    assert {"initial_prompt", "scratchpad", "hitl_history", "command_log", "research_topic"} <= set(model.model_fields)
    result = await Flow(Step("Echo", StubAgent(["done"])), context_model=model).run_async("a question")
    assert result.final_pipeline_context.initial_prompt == "a question"


# -- 4. validation


async def quality_gate(answer: str) -> Step[Any, Any]:
    names = await run_program(programs.VALIDATOR)
    fixtures = {"make_validator_agent": lambda: StubAgent([answer]), "StyleGuidePlugin": StyleGuidePlugin}
    gate: Step[Any, Any] = (await run_program(programs.QUALITY_GATE, **fixtures, **_own(names)))["quality_gate"]
    return gate


@pytest.mark.parametrize(
    ("answer", "refusals"),
    [
        ("It is fine.", []),
        ("His SSN: 078-05-1120", ["Validation failed: NoPII: PII detected"]),
        ("IT IS FINE", ["Plugin failed: do not shout"]),
        ("SSN: 078-05-1120", ["Plugin failed: do not shout", "Validation failed: NoPII: PII detected"]),
    ],
    ids=["good", "validator", "plugin", "both"],
)
async def test_strict_gate_fails_the_step_with_every_refusal(answer: str, refusals: list[str]) -> None:
    result = await Flow(await quality_gate(answer)).run_async("why?")
    assert result.success is (not refusals)
    assert (result.step_history[0].feedback or "") == "; ".join(refusals)
    assert result.step_history[0].output == (answer if not refusals else None)


async def test_gate_that_is_not_strict_passes_and_records_the_refusal() -> None:
    gate = (await quality_gate("SSN: 078-05-1120")).evolve(strict=False)
    result = await Flow(gate).run_async("why?")
    assert result.output == "SSN: 078-05-1120"
    assert result.step_history[0].metadata["validation_passed"] is False
    assert "PII detected" in result.step_history[0].metadata["validation_feedback"]


# -- 5. cost and tracing


@pytest.mark.parametrize(
    ("costs", "status"), [((0.25, 0.25), "completed"), ((0.25, 0.26), "limit_exceeded")], ids=["at", "over"]
)
async def test_run_ends_when_it_costs_more_than_allowed(costs: tuple[float, ...], status: str) -> None:
    agents = [StubAgent(["x"], usage=Usage(cost_usd=cost)) for cost in costs]
    pipeline: Pipeline[Any, Any] = Pipeline([Step(f"call{index}", agent) for index, agent in enumerate(agents)])
    names = await run_program(programs.COST_CONTROL, pipeline=pipeline)
    result = await names["runner"].run_async("go")
    assert result.status == status
    assert result.total_cost_usd == pytest.approx(sum(costs))
    if status != "completed":
        assert str(result.error).startswith("Cost limit of $0.5")


async def test_console_shows_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = Step("Greet", StubAgent(["hello", "hello again"]))
    names = await run_program(programs.TRACING, Flow=Flow, pipeline=pipeline)
    assert (await names["runner"].run_async("Ada")).success
    printed = "".join(capsys.readouterr())
    assert "Greet" in printed
    assert "Ada" in printed, "log_inputs=True shows what goes in"


async def test_default_tracer_shows_names_and_no_content(capsys: pytest.CaptureFixture[str]) -> None:
    runner = Flow(Step("Greet", StubAgent(["a secret answer"])), local_tracer="default")
    assert (await runner.run_async("a secret question")).success
    printed = "".join(capsys.readouterr())
    assert "Greet" in printed
    assert "secret" not in printed


# -- 6. composition


async def test_steps_and_pipelines_compose_into_one() -> None:
    names = stubs("format_agent", "send_agent")
    steps = {f"{name}_step": Step(name, StubAgent([name])) for name in ("triage", "router", "refine")}
    pipeline = (await run_program(programs.STEP_COMPOSITION, **names, **steps))["main_pipeline"]
    result = await Flow(pipeline).run_async("post")
    assert_step_sequence(result, ["triage", "router", "refine", "Format", "Notify"])
    assert result.output == "send_agent done"


async def test_steps_of_all_chapters_compose_into_one() -> None:
    names = await branch_names(author7=0.1)
    names["high_risk_agent"].outputs[0] = {"confidence": 0.0}
    names |= await run_program(programs.LOOP, sarcasm_agent=sarcasm_agent(0.99), **_own(names))
    names |= stubs("format_agent", "send_agent")
    names = await run_program(programs.STEP_COMPOSITION, **_own(names))
    flow = Flow(names["main_pipeline"], context_model=names["TriageContext"], resources=names["resources"])
    context = {"post_content": "", "author_id": 7, "author_reputation": 0.1}
    result = await flow.run_async(POST, initial_context=context)
    assert result.output == "send_agent done"
    assert_step_sequence(result, ["TriagePost", "RouteContent", "RefineSarcasm", "Format", "Notify"])


async def test_pipelines_chain_into_a_workflow() -> None:
    agents = [f"{verb}_agent" for verb in ("extract", "transform", "analyze", "validate", "format", "send")]
    workflow = (await run_program(programs.PIPELINE_COMPOSITION, **stubs(*agents)))["workflow"]
    result = await Flow(workflow).run_async("data")
    assert_step_sequence(result, ["Extract", "Transform", "Analyze", "Validate", "Format", "Send"])
    assert [step.output for step in result.step_history] == [f"{agent} done" for agent in agents]


# -- 7. tuning


@needs("flow-agents")
async def test_models_are_read_from_the_environment_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(programs.MODELS_IN_ENVIRONMENT)
    monkeypatch.chdir(tmp_path)
    settings = (await run_program(programs.AGENT_IMPORTS))["settings"]
    assert settings.default_solution_model == "openai:gpt-3.5-turbo"
    assert settings.default_review_model == "openai:gpt-4"


@needs("flow-agents")
async def test_agent_takes_model_and_settings() -> None:
    agent = (await run_program(programs.AGENT_SETTINGS))["agent"]
    assert Step("Ask", agent).declared_types()[1] is str


class TunableAgent:
    """Remembers the temperature of each call."""

    def __init__(self) -> None:
        self.temperatures: list[float | None] = []

    async def run(self, data: str, *, run: StepRun, temperature: float | None = None) -> str:
        self.temperatures.append(temperature)
        if run.path == "1:solution" and run.attempt <= 3:
            raise ConnectionError("not yet")
        return data


async def test_steps_override_settings_of_their_agent() -> None:
    agent = TunableAgent()
    pipeline = (await run_program(programs.STEP_SETTINGS, agent=agent))["pipeline"]
    assert [pipeline["review"].timeout, pipeline["solution"].retries] == [30, 3]
    result = await Flow(pipeline).run_async("a question")
    assert result.output == "a question"
    assert [step.attempts for step in result.step_history] == [1, 4]
    assert agent.temperatures == [None, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(("failures", "success"), [(2, True), (3, False)])
async def test_run_that_failed_is_continued_from_its_failed_step(failures: int, success: bool) -> None:
    first, second = StubAgent(["planned"]), StubAgent([ConnectionError("down")] * failures + ["done"])
    made: list[Flow[Any, Any]] = []

    def make(*args: Any, **options: Any) -> None:
        made.append(Flow(*args, **options))

    await run_program(programs.RUN_RETRIES, Flow=make, pipeline=Step("Plan", first) >> Step("Do", second))
    result = await made[0].run_async("go")
    assert result.success is success
    assert [first.call_count, second.call_count] == [1, 3]


# -- 8. further features


async def takes_text(data: str) -> int:
    return len(data)


@pytest.mark.parametrize(
    ("pipeline", "valid"),
    [
        (Step("Count", takes_text) >> Step("Show", StubAgent(["x"])), True),
        (Step("Count", takes_text) >> Step("Nothing"), False),
        (Pipeline([Step("Count", takes_text), Step("Again", takes_text)]), False),
    ],
    ids=["valid", "no agent", "wrong type"],
)
async def test_pipeline_is_validated_before_it_runs(
    pipeline: Pipeline[Any, Any], valid: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    names = await run_program(programs.GRAPH_VALIDATION, pipeline=pipeline)
    assert names["validation_report"].is_valid is valid
    printed = capsys.readouterr().out.splitlines()
    assert bool(printed) is not valid
    assert all(line.startswith("  - ") and len(line) > 10 for line in printed[1:])


PIPELINE_FILES = {
    "valid": ('from flow import Step\npipeline = Step("Shout", str.upper) >> Step("Strip", str.strip)\n', 0),
    "no agent": ('from flow import Step\npipeline = Step("Shout", str.upper) >> Step("Strip")\n', 1),
}


@pytest.mark.parametrize(("source", "code"), PIPELINE_FILES.values(), ids=PIPELINE_FILES)
def test_pipeline_is_validated_on_the_command_line(tmp_path: Path, source: str, code: int) -> None:
    (tmp_path / "my_pipeline.py").write_text(source)
    command = programs.COMMAND_LINE_VALIDATION.split()
    assert command[0] == "flow"
    done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("Strip" in done.stdout + done.stderr) is bool(code)


async def test_stream_yields_text_as_it_comes_and_then_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    async def write(prompt: str) -> AsyncIterator[str]:
        for word in (prompt, ", ", "world"):
            yield word

    names = await run_program(programs.STREAMING, runner=Flow(Step("Write", write)))
    assert names["result"].output == capsys.readouterr().out == "hello, world"


async def test_runner_becomes_a_step_of_another_pipeline() -> None:
    agents = stubs("agent_a", "agent_b", "start_agent", "end_agent")
    names: dict[str, Any] = {"Step": Step, **agents}
    inner = Step("A", agents["agent_a"]) >> Step("B", agents["agent_b"])
    names = await run_program(programs.PIPELINE_AS_STEP, runner=Flow(inner), **names)
    result = await Flow(names["main_pipeline"]).run_async("go")
    assert_step_sequence(result, ["Start", "SubWorkflow", "A", "B", "End"], nested=True)
    assert result.step("SubWorkflow").output == "agent_b done"
    assert agents["end_agent"].inputs == ["agent_b done"]


# -- 9. imports


@pytest.mark.parametrize("program", [programs.CORE_IMPORTS, programs.DOMAIN_IMPORTS], ids=["core", "domain"])
async def test_names_of_the_guide_can_be_imported(program: str) -> None:
    names = _own(await run_program(program))
    assert len(names) >= 4
    assert all(value is not None for value in names.values())


@needs("flow-agents")
async def test_agent_names_of_the_guide_can_be_imported() -> None:
    await run_program(programs.AGENT_IMPORTS)


@needs("flow-recipes")
async def test_task_and_candidate_of_the_guide_can_be_imported() -> None:
    await run_program(programs.RECIPE_IMPORTS)


async def test_telemetry_initialiser_of_the_guide_can_be_imported() -> None:
    await run_program(programs.TELEMETRY_IMPORTS)


async def test_stub_agent_and_gather_result_test_a_runner() -> None:
    names = await run_program(programs.DOMAIN_IMPORTS)
    agent = names["StubAgent"](["answer"])
    assert (await names["gather_result"](Flow(Step("Ask", agent)), "question")).output == "answer"


# -- the marks


async def test_mark_accepts_the_failure_it_names_and_no_other() -> None:
    async def loops() -> None:
        raise AttributeError("Step.loop_until comes from flow-loop: pip install flow-loop")

    with pytest.raises(PackageMissing, match="flow-loop"):
        await needs("flow-loop")(loops)()
    with pytest.raises(AttributeError, match="flow-loop"):
        await needs("flow-branch")(loops)()


async def test_mark_fails_once_the_program_runs() -> None:
    async def runs() -> None:
        pass

    (mark,) = needs("flow-loop")(runs).__dict__["pytestmark"]
    assert mark.name == "xfail"
    assert mark.kwargs["strict"] is True
    assert mark.kwargs["raises"] is PackageMissing
