"""The guide's programs, as users wrote them: only the import lines and the name of the runner differ.

Where the guide shows a fragment, the names it leaves open come from the test that runs it.
"""

BASIC_AGENT = """
from flow import AppResources, AsyncAgentProtocol, PipelineContext

class TriageContext(PipelineContext):
    post_content: str
    author_id: int
    author_reputation: float

class TriageAgent(AsyncAgentProtocol[dict, TriageContext]):
    async def run(self, data: dict, *, resources: AppResources, **kwargs) -> TriageContext:
        reputation = await resources.db.fetch_reputation(data["author_id"]) or 0.5
        return TriageContext(
            post_content=data["content"],
            author_id=data["author_id"],
            author_reputation=reputation,
        )
"""

CONTEXT_AGENT = """
from flow import ContextAwareAgentProtocol, PipelineContext

class ResearchContext(PipelineContext):
    research_topic: str = "Unknown"
    sources_found: int = 0
    summary: str | None = None

class PlanResearchAgent(ContextAwareAgentProtocol[str, str, ResearchContext]):
    async def run(
        self,
        data: str,
        *,
        context: ResearchContext,
        **kwargs: Any,
    ) -> str:
        topic = "The History of the Python Programming Language"
        context.research_topic = topic
        return f"Research plan for {topic}"
"""

STEPS = """
from flow import Step
triage_step = Step("TriagePost", TriageAgent())
research_step = Step("PlanResearch", PlanResearchAgent())
"""

BRANCH = """
from flow import Step, Pipeline

def route(ctx: TriageContext, _):
    if ctx.author_reputation < 0.2: return "high_risk"
    if ctx.author_reputation < 0.6: return "standard_review"
    return "auto_approve"

router_step = Step.branch_on(
    name="RouteContent",
    condition_callable=route,
    branches={
        "high_risk": Pipeline.from_step(Step("Escalate", high_risk_agent)),
        "standard_review": Pipeline.from_step(Step("Review", make_review_agent())),
    },
    default_branch_pipeline=Pipeline.from_step(Step("AutoApprove", logging_agent)),
)
"""

LOOP = """
def is_confident(result, _): return result.get("confidence", 0) > 0.95

refine_step = Step.loop_until(
    name="RefineSarcasm",
    loop_body_pipeline=Pipeline.from_step(Step("Refine", sarcasm_agent)),
    exit_condition_callable=is_confident,
    max_loops=3,
)
"""

HUMAN_IN_THE_LOOP = """
from flow import Step

hitl_step = Step.human_in_the_loop(
    name="ManualReview",
    message_for_user="Please label this post as sarcastic or not."
)
"""

REFINEMENT = """
refine_step = Step.refine_until(
    name="RefineCode",
    generator_pipeline=Pipeline.from_step(Step("Generate", code_agent)),
    critic_pipeline=Pipeline.from_step(Step("Critique", make_review_agent())),
    max_refinements=5,
)
"""

CONTEXT = """
from flow import PipelineContext

class ModerationContext(PipelineContext):
    post_id: int
    triage_decision: str | None = None
    refinement_attempts: int = 0
    final_disposition: str | None = None
"""

EXTENDED_CONTEXT = """
from flow import PipelineContext
from pydantic import Field

class ResearchContext(PipelineContext):
    research_topic: str = "Unknown"
    sources_found: int = 0
    summary: str | None = None
"""

CONTEXT_IN_AGENT = """
async def run(self, decision: str, *, context: ModerationContext, **kwargs):
    context.final_disposition = decision
"""

CONTEXT_IN_RUNNER = """
from flow import Flow
runner = Flow(pipeline, context_model=ModerationContext)
"""

VALIDATOR = """
from flow import BaseValidator, ValidationResult

class NoPII(BaseValidator):
    name = "NoPII"
    async def validate(self, text: str, **_) -> ValidationResult:
        if "ssn:" in text.lower():
            return ValidationResult(is_valid=False, feedback="PII detected", validator_name=self.name)
        return ValidationResult(is_valid=True, validator_name=self.name)
"""

QUALITY_GATE = """
from flow import Step
quality_gate = Step.validate_step(
    name="CheckJustification",
    agent=make_validator_agent(),
    validators=[NoPII()],
    plugins=[StyleGuidePlugin()],
    strict=True,
)
"""

COST_CONTROL = """
from flow import Flow
from flow import UsageLimits

runner = Flow(pipeline, usage_limits=UsageLimits(total_cost_usd_limit=0.50))
"""

TRACING = """
from flow_console import ConsoleTracer

runner = Flow(pipeline, local_tracer="default")

custom_tracer = ConsoleTracer(level="debug", log_inputs=True)
runner = Flow(pipeline, local_tracer=custom_tracer)
"""

STEP_COMPOSITION = """
from flow import Step, Pipeline

analysis = triage_step >> router_step >> refine_step
notify = Step("Format", format_agent) >> Step("Notify", send_agent)

main_pipeline = analysis >> notify
"""

PIPELINE_COMPOSITION = """
from flow import Step, Pipeline

data_processing = Step("Extract", extract_agent) >> Step("Transform", transform_agent)
analysis = Step("Analyze", analyze_agent) >> Step("Validate", validate_agent)
reporting = Step("Format", format_agent) >> Step("Send", send_agent)

workflow = data_processing >> analysis >> reporting
"""

MODELS_IN_ENVIRONMENT = """
DEFAULT_SOLUTION_MODEL=openai:gpt-3.5-turbo
DEFAULT_REVIEW_MODEL=openai:gpt-4
"""

AGENT_SETTINGS = """
from flow_agents import make_agent_async

agent = make_agent_async(
    model="openai:gpt-4",
    system_prompt="You are an expert...",
    output_type=str,
    temperature=0.7,
    max_tokens=800,
    top_p=0.9
)
"""

STEP_SETTINGS = """
from flow import Step

pipeline = (
    Step.review(agent, timeout=30)
    >> Step.solution(agent, retries=3, temperature=0.5)
)
"""

RUN_RETRIES = """
Flow(pipeline, max_retries=2, retry_on_error=True)
"""

GRAPH_VALIDATION = """
from flow import Pipeline

validation_report = pipeline.validate_graph()
if not validation_report.is_valid:
    print("Pipeline validation failed:")
    for finding in validation_report.findings:
        print(f"  - {finding.message}")
"""

COMMAND_LINE_VALIDATION = """
flow validate my_pipeline.py
"""

STREAMING = """
async for chunk in runner.stream_async("hello"):
    if isinstance(chunk, str):
        print(chunk, end="")
    else:
        result = chunk
"""

PIPELINE_AS_STEP = """
sub_pipeline = Step("A", agent_a) >> Step("B", agent_b)
pipeline_step = runner.as_step(name="SubWorkflow")

main_pipeline = Step("Start", start_agent) >> pipeline_step >> Step("End", end_agent)
"""

CORE_IMPORTS = """
from flow import (
    Flow,
    Step,
    step,
    Pipeline,
)
"""

AGENT_IMPORTS = """
from flow_agents import (
    make_agent_async,
    settings,
)
"""

RECIPE_IMPORTS = """
from flow_recipes import (
    Task,
    Candidate,
)
"""

TELEMETRY_IMPORTS = """
from flow_otel import init_telemetry
"""

DOMAIN_IMPORTS = """
from flow import AsyncAgentProtocol, ContextAwareAgentProtocol

from pydantic import BaseModel
from flow import UsageLimits, RunResult

from flow import AppResources

from flow import BaseValidator, ValidationResult

from flow_console import ConsoleTracer

from flow_testkit import StubAgent, gather_result
"""
