"""Metrics of runs and steps: how long, how often, what it cost."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from flow import StepResult, Usage
from flow_otel import _names as names
from flow_otel._failures import type_of
from flow_otel._plans import Plan
from flow_otel._runs import Outcome


class Instruments:
    """The instruments of one meter."""

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, buckets: tuple[float, ...], what: str) -> Any:
            return meter.create_histogram(name, "s", what, explicit_bucket_boundaries_advisory=buckets)

        self._run = histogram(names.RUN_DURATION, names.RUN_BUCKETS, "How long runs take.")
        self._step = histogram(names.STEP_DURATION, names.STEP_BUCKETS, "How long steps take, all attempts included.")
        self._of_operation = {
            names.INVOKE_AGENT: histogram(names.AGENT_DURATION, names.CALL_BUCKETS, "How long agents take."),
            names.EXECUTE_TOOL: histogram(names.TOOL_DURATION, names.CALL_BUCKETS, "How long tools take."),
        }
        self._attempts = meter.create_counter(names.ATTEMPTS, "{attempt}", "Attempts of steps that may be retried.")
        self._failures = meter.create_counter(names.FAILURES, "{failure}", "Steps that failed, by sort of failure.")
        self._cache = meter.create_counter(names.CACHE_LOOKUPS, "{lookup}", "Steps that asked the cache.")
        self._tokens = meter.create_counter(names.TOKENS, "{token}", "Tokens that steps have used.")
        self._cost = meter.create_counter(names.COSTS, "USD", "Money that steps have spent.")

    def run(self, pipeline: str, seconds: float, outcome: Outcome, around: Context) -> None:
        """Count a run that has ended."""
        told = {names.WORKFLOW_NAME: pipeline, names.RUN_STATUS: outcome.status.value}
        if outcome.failed:
            told[names.ERROR_TYPE] = type_of(outcome.error) if outcome.error is not None else outcome.status.value
        self._run.record(seconds, told, around)

    def success(self, plan: Plan, pipeline: str, seconds: float, around: Context) -> None:
        """Count a plain step that has succeeded at once."""
        labels = plan.labels(pipeline)
        self._step.record(seconds, labels, around)
        if plan.retried:
            self._attempts.add(1, labels)

    def step(
        self, labels: dict[str, str], plan: Plan, seconds: float, error: BaseException | None, around: Context
    ) -> None:
        """Count a step that has ended; `around` holds its span, which becomes an example of what was measured."""
        told = labels if error is None else {**labels, names.ERROR_TYPE: type_of(error)}
        self._step.record(seconds, told, around)
        if plan.operation is not None and plan.attributes is not None:
            kept = (names.OPERATION, names.AGENT_NAME, names.TOOL_NAME)
            own = {name: value for name, value in plan.attributes.items() if name in kept}
            self._of_operation[plan.operation].record(seconds, own if error is None else {**own, **told}, around)

    def result(self, labels: dict[str, str], plan: Plan, result: StepResult) -> None:
        """Count what a step tells that may be retried or cached."""
        if plan.retried and not result.cached:
            self._attempts.add(result.attempts, labels)
        if plan.step.cache is not None:
            self._cache.add(1, {**labels, names.CACHE_OUTCOME: "hit" if result.cached else "miss"})

    def failure(self, labels: dict[str, str], category: str) -> None:
        """Count a failed step."""
        self._failures.add(1, {**labels, names.ERROR_CATEGORY: category})

    def spent(self, labels: dict[str, str], usage: Usage) -> None:
        """Count what a step has spent itself."""
        if usage.cost_usd:
            self._cost.add(usage.cost_usd, labels)
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if count:
                self._tokens.add(count, {**labels, names.TOKEN_TYPE: kind})
