"""A span around each step, current while it runs."""

from __future__ import annotations

import logging
import time
from typing import Any

import attrs
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, Tracer, get_current_span, set_span_in_context

from flow import BaseStep, Binder, Execute, Scope, StepResult, Wrap
from flow.privacy import withhold
from flow_otel import _names as names
from flow_otel._content import contents_around
from flow_otel._endings import Ending, ending_of_attempt
from flow_otel._metrics import Instruments
from flow_otel._options import Options
from flow_otel._plans import Plan, may_be_retried, plan_of
from flow_otel._runs import RunState

logger = logging.getLogger("flow.otel")

_clock = time.perf_counter


@attrs.define(eq=False)
class Sinks:
    """Where spans go, and metrics if they are wanted, and the runs whose steps are traced."""

    tracer: Tracer
    instruments: Instruments | None
    options: Options
    runs: dict[str, RunState]
    _complained: bool = False

    def state_of(self, scope: Scope) -> RunState:
        """Return what is known of the run of a step."""
        return self.runs.get(scope.run.run_id) or RunState()

    def complain(self, error: Exception) -> None:
        """Log `error`, the first time: what traces a step must not make it fail."""
        if not self._complained:
            self._complained = True
            logger.warning("a step could not be traced; runs go on, and this is not repeated", exc_info=error)


def steps_of(step: BaseStep[Any, Any], binder: Binder, sinks: Sinks) -> Wrap:
    """Return what goes around a step."""
    plan, start_span, runs = plan_of(step, binder), sinks.tracer.start_span, sinks.runs
    name, attributes, instruments, kind = plan.name, plan.attributes, sinks.instruments, step.kind
    plain = plan.plain and not sinks.options.content
    tells_name = attributes is None and not plan.plain  # that of a plain step stands in the name of its span
    is_fallback, has_fallback = binder.segment == "fallback", step.fallback is not None

    def wrap(execute: Execute) -> Execute:
        # One function, because it runs once per step: 0.1 µs for each call that is not made, 20 or so for the span.
        async def traced(data: Any, scope: Scope) -> StepResult:
            run = scope.run
            state = runs.get(run.run_id) or RunState()
            try:
                span = start_span(name, attributes=attributes)
                if span.is_recording():
                    # Set afterwards, which costs half of handing them over in a dictionary made for each step.
                    span.set_attribute(names.STEP_PATH, scope.path)
                    if tells_name:
                        span.set_attribute(names.STEP_KIND, kind)
                        span.set_attribute(names.STEP_NAME, step.name)
                if is_fallback or has_fallback:
                    _note_fallback(state, scope, data, plan, span)
                token = attach(set_span_in_context(span))
            except Exception as error:  # noqa: BLE001  whatever a sampler or a processor raises
                sinks.complain(error)
                return await execute(data, scope)
            if state.input is None and scope.parent is run.root:
                state.input = data
            started = _clock()
            try:
                result = await execute(data, scope)
            except BaseException as error:
                detach(token)
                _end(plan, sinks, span, scope, state, data, started, error)
                raise
            detach(token)
            path = scope.path
            told = result.replayed or result.attempts > 1 or path in state.notes or path in state.failed_at
            if plain and result.success and not told:
                try:
                    span.end()
                    if instruments is not None:
                        instruments.success(plan, run.pipeline, _clock() - started, set_span_in_context(span))
                except Exception as error:  # noqa: BLE001  whatever a processor raises
                    sinks.complain(error)
            else:
                _end(plan, sinks, span, scope, state, data, started, result)
            return result

        return traced

    return wrap


def _end(
    plan: Plan,
    sinks: Sinks,
    span: Span,
    scope: Scope,
    state: RunState,
    data: Any,
    started: float,
    outcome: StepResult | BaseException,
) -> None:
    ending = Ending(plan, span, scope, state, data, started, _clock() - started, sinks.instruments, sinks.options)
    try:
        if isinstance(outcome, StepResult):
            ending.returned(outcome)
        else:
            ending.raised(outcome)
    except Exception as error:  # noqa: BLE001  whatever a processor raises
        sinks.complain(error)


def _note_fallback(state: RunState, scope: Scope, data: Any, plan: Plan, span: Span) -> None:
    """Tell the span of a step that has failed what runs instead; only it knows that the failure is not the end."""
    instead_of: Span | None = state.fallbacks.pop(scope.path, None)
    if instead_of is not None and instead_of.is_recording() and scope.parent is not None:
        reason = withhold(scope.parent.feedback or "", contents_around(scope.parent, data, state.input))
        instead_of.add_event(names.FALLBACK_EVENT, {names.STEP_NAME: plan.step.name, names.FALLBACK_REASON: reason})
    if plan.step.fallback is not None:
        state.fallbacks[f"{scope.path}/fallback"] = span


# -- attempts ---------------------------------------------------------------------------------------------------------


def attempts_of(step: BaseStep[Any, Any], binder: Binder, sinks: Sinks) -> Wrap | None:
    """Return what goes around each attempt of a step, if it asks for retries: a span inside the step's."""
    if not may_be_retried(step, binder):
        return None
    start_span, name = sinks.tracer.start_span, step.name

    def wrap(execute: Execute) -> Execute:
        async def traced(data: Any, scope: Scope) -> StepResult:
            number, state = scope.attempt, sinks.state_of(scope)
            try:
                if number > 1:
                    _tell_retry(state, scope)
                span = start_span(f"{names.ATTEMPT} {number}")
                if span.is_recording():
                    span.set_attribute(names.STEP_ATTEMPT, number)
                    span.set_attribute(names.STEP_NAME, name)
                token = attach(set_span_in_context(span))
            except Exception as error:  # noqa: BLE001  whatever a sampler or a processor raises
                sinks.complain(error)
                return await execute(data, scope)
            failure: BaseException | None = None
            try:
                result = await execute(data, scope)
                failure = None if result.success else result.error
            except BaseException as raised:
                failure = raised
                raise
            finally:
                detach(token)
                try:
                    ending_of_attempt(span, scope, state, data, failure, content=sinks.options.content)
                except Exception as error:  # noqa: BLE001  whatever a processor raises
                    sinks.complain(error)
            return result

        return traced

    return wrap


def _tell_retry(state: RunState, scope: Scope) -> None:
    """Tell the step's span, which is the one around this attempt, that it is tried again."""
    told: dict[str, Any] = {names.STEP_ATTEMPT: scope.attempt}
    failed_at = state.failed_at.pop(scope.path, None)
    if failed_at is not None:
        told[names.RETRY_WAIT] = _clock() - failed_at
    get_current_span().add_event(names.RETRY_EVENT, told)
