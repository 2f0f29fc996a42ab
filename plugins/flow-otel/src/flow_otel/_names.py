"""Every name that leaves the process: spans, attributes, events, metrics.

The ``gen_ai.*`` names are those of the semantic conventions for generative AI, which are still in development and are
renamed now and then; ``flow.*`` are ours, for what the conventions do not know. `NAMES_VERSION` is told with every span
and metric as an attribute of the instrumentation scope, and is raised when a name here changes or goes away.
"""

from __future__ import annotations

NAMES_VERSION = 1

SCOPE = "flow_otel"
SCOPE_NAMES_VERSION = "flow.names.version"

# -- spans: "{operation} {target}" ------------------------------------------------------------------------------------

INVOKE_WORKFLOW = "invoke_workflow"
INVOKE_AGENT = "invoke_agent"
EXECUTE_TOOL = "execute_tool"
ATTEMPT = "attempt"

# -- attributes: conventions ------------------------------------------------------------------------------------------

OPERATION = "gen_ai.operation.name"
WORKFLOW_NAME = "gen_ai.workflow.name"
AGENT_NAME = "gen_ai.agent.name"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_DESCRIPTION = "gen_ai.tool.description"
CONVERSATION_ID = "gen_ai.conversation.id"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
AGGREGATED_INPUT_TOKENS = "gen_ai.aggregated_usage.input_tokens"
AGGREGATED_OUTPUT_TOKENS = "gen_ai.aggregated_usage.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  (the name of an attribute)
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
ERROR_TYPE = "error.type"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"

# -- attributes: ours -------------------------------------------------------------------------------------------------

RUN_ID = "flow.run.id"
RUN_STATUS = "flow.run.status"
RUN_RESUMED = "flow.run.resumed"
RUN_FORKED_FROM = "flow.run.forked_from"
STEP_PATH = "flow.step.path"
STEP_KIND = "flow.step.kind"
STEP_NAME = "flow.step.name"
STEP_STATUS = "flow.step.status"
STEP_ATTEMPT = "flow.step.attempt"
STEP_ATTEMPTS = "flow.step.attempts"
STEP_CACHED = "flow.step.cached"
STEP_REPLAYED = "flow.step.replayed"
STEP_FALLBACK = "flow.step.fallback"
STEP_RECOVERY = "flow.step.recovery"
STEP_RETRY_REFUSED = "flow.step.retry_refused"
STEP_ITERATIONS = "flow.step.iterations"
STEP_BRANCH = "flow.step.branch"
STEP_INPUT = "flow.step.input"
STEP_OUTPUT = "flow.step.output"
ERROR_CATEGORY = "flow.error.category"
COST = "flow.usage.cost_usd"
"""What the step of the span spent itself, in US dollars; sums over a trace are right."""
TOTAL_COST = "flow.usage.total.cost_usd"
"""What was spent in the span and in all spans inside it."""
TOTAL_INPUT_TOKENS = "flow.usage.total.input_tokens"
TOTAL_OUTPUT_TOKENS = "flow.usage.total.output_tokens"
LINK_REASON = "flow.link.reason"

# -- span events ------------------------------------------------------------------------------------------------------

EXCEPTION_EVENT = "exception"
RETRY_EVENT = "flow.retry"
RETRY_WAIT = "flow.retry.wait_s"
FALLBACK_EVENT = "flow.fallback"
FALLBACK_REASON = "flow.fallback.reason"
PAUSE_EVENT = "flow.pause"
PAUSE_QUESTION = "flow.pause.question"
PAUSE_DEADLINE = "flow.pause.deadline"
CHUNKS_EVENT = "flow.chunks"
CHUNKS_COUNT = "flow.chunks.count"
CHUNKS_CHARACTERS = "flow.chunks.characters"
CHUNKS_BYTES = "flow.chunks.bytes"
CHUNKS_FIRST = "flow.chunks.first_s"

# -- metrics ----------------------------------------------------------------------------------------------------------

RUN_DURATION = "gen_ai.invoke_workflow.duration"
AGENT_DURATION = "gen_ai.invoke_agent.duration"
TOOL_DURATION = "gen_ai.execute_tool.duration"
STEP_DURATION = "flow.step.duration"
ATTEMPTS = "flow.step.attempts"
FAILURES = "flow.step.failures"
CACHE_LOOKUPS = "flow.step.cache.lookups"
CACHE_OUTCOME = "flow.step.cache.outcome"
TOKENS = "flow.usage.tokens"
COSTS = "flow.usage.cost"

RUN_BUCKETS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
"""Seconds; the boundaries that the conventions advise for workflows."""
STEP_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds; from a function of a millisecond to a person who answers at once."""
CALL_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Seconds; the boundaries that the conventions advise for agents and tools."""
