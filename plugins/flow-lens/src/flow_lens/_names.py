"""Names in exported spans: those that flow-otel gives to the spans of living runs, so that both are found alike.

The ``gen_ai.*`` names are those of the semantic conventions for generative AI; ``flow.*`` are ours.
"""

from __future__ import annotations

NAMES_VERSION = 1
"""Raised when a name here changes or goes away; told with every span as an attribute of the scope."""
SCOPE_NAMES_VERSION = "flow.names.version"

INVOKE_WORKFLOW = "invoke_workflow"
OPERATION = "gen_ai.operation.name"
WORKFLOW_NAME = "gen_ai.workflow.name"
CONVERSATION_ID = "gen_ai.conversation.id"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
ERROR_TYPE = "error.type"
EXCEPTION_EVENT = "exception"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"

RUN_ID = "flow.run.id"
RUN_STATUS = "flow.run.status"
STEP_PATH = "flow.step.path"
STEP_KIND = "flow.step.kind"
STEP_NAME = "flow.step.name"
STEP_STATUS = "flow.step.status"
STEP_ATTEMPTS = "flow.step.attempts"
STEP_FALLBACK = "flow.step.fallback"
STEP_ITERATIONS = "flow.step.iterations"
STEP_BRANCH = "flow.step.branch"
STEP_INPUT = "flow.step.input"
STEP_OUTPUT = "flow.step.output"
COST = "flow.usage.cost_usd"
TOTAL_COST = "flow.usage.total.cost_usd"
TOTAL_INPUT_TOKENS = "flow.usage.total.input_tokens"
TOTAL_OUTPUT_TOKENS = "flow.usage.total.output_tokens"
LINK_REASON = "flow.link.reason"
PAUSE_EVENT = "flow.pause"
PAUSE_QUESTION = "flow.pause.question"
