"""What a step's spans are called and say, prepared once, when the step is bound."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs

from flow import BaseStep, Binder, RecoveryStrategy, Step
from flow_otel import _names as names
from flow_otel._tool import AsTool


@attrs.frozen(eq=False)
class Plan:
    """The spans of one bound step.

    :ivar name: what its span is called.
    :ivar operation: the operation of the GenAI conventions that the step is, if it is one.
    :ivar attributes: those that are known before the step runs, and do not depend on it.
    :ivar plain: nothing is told of a success at once: no cache, no fallback, nothing inside.
    :ivar retried: the step may be tried more than once.
    :ivar usage_names: the attributes for input and output tokens that the step has used itself.
    """

    step: BaseStep[Any, Any]
    name: str
    operation: str | None
    attributes: Mapping[str, str] | None
    plain: bool
    retried: bool
    usage_names: tuple[str, str]
    classify: Callable[..., Any]
    _labels: dict[str, dict[str, str]] = attrs.field(factory=dict)

    def labels(self, pipeline: str) -> dict[str, str]:
        """Return what tells the metrics of this step from those of others: names that stand in the program."""
        found = self._labels.get(pipeline)
        if found is None:
            # Two and not more: each label makes a measurement a quarter dearer.
            found = self._labels[pipeline] = {names.WORKFLOW_NAME: pipeline, names.STEP_NAME: self.step.name}
        return found


def plan_of(step: BaseStep[Any, Any], binder: Binder) -> Plan:
    """Prepare the spans of a step."""
    agent = _agent_object(step)
    operation, attributes = _operation(step, agent, binder.policy(step, AsTool))
    retried = may_be_retried(step, binder)
    return Plan(
        step=step,
        name=_span_name(step, attributes),
        operation=operation,
        attributes=attributes,
        plain=_is_plain(step, operation),
        retried=retried,
        usage_names=_usage_names(agent),
        classify=partial(binder.kernel.hook.flow_classify_error, step=step),
    )


def _is_plain(step: BaseStep[Any, Any], operation: str | None) -> bool:
    # By its kind and not by its class: the decorator makes steps of a class of its own.
    calls_a_function = step.kind == Step.kind and operation is None and not step.children()
    return calls_a_function and step.cache is None and step.fallback is None


def may_be_retried(step: BaseStep[Any, Any], binder: Binder) -> bool:
    """Tell whether `step`, or a strategy that covers it, asks for further attempts."""
    policies = step.policies if step.children() else (*step.policies, *binder.services.policies)
    return bool(step.retries) or any(isinstance(policy, RecoveryStrategy) for policy in policies)


def _agent_object(step: BaseStep[Any, Any]) -> Any:
    """Return the agent of a step that is an object with ``run``; ``None`` for functions."""
    agent = step.agent if isinstance(step, Step) else None
    if agent is None or isinstance(agent, (type, partial)) or inspect.isroutine(agent):
        return None
    return agent if inspect.getattr_static(agent, "run", None) is not None else None


def _operation(
    step: BaseStep[Any, Any], agent: Any, tool: AsTool | None
) -> tuple[str | None, Mapping[str, str] | None]:
    told = {names.STEP_KIND: step.kind, names.STEP_NAME: step.name}
    if tool is not None:
        called = {
            names.OPERATION: names.EXECUTE_TOOL,
            names.TOOL_NAME: tool.name or step.name,
            names.TOOL_TYPE: tool.type,
        }
        described = {} if tool.description is None else {names.TOOL_DESCRIPTION: tool.description}
        return names.EXECUTE_TOOL, {**called, **described, **told}
    if agent is not None:
        called = {names.OPERATION: names.INVOKE_AGENT, names.AGENT_NAME: _name_of(agent) or step.name}
        return names.INVOKE_AGENT, {**called, **told}
    return None, None


def _span_name(step: BaseStep[Any, Any], attributes: Mapping[str, str] | None) -> str:
    if attributes is None:
        return f"{step.kind} {step.name}"
    target = attributes.get(names.TOOL_NAME) or attributes[names.AGENT_NAME]
    return f"{attributes[names.OPERATION]} {target}"


def _name_of(agent: Any) -> str | None:
    """Return the name that an agent has itself, as those of PydanticAI may."""
    try:
        name = agent.name
    except AttributeError:
        return None
    return name if isinstance(name, str) and name else None


def _usage_names(agent: Any) -> tuple[str, str]:
    """Return where tokens are told. PydanticAI tells them on spans inside, so that here they would count twice."""
    if any(cls.__module__.partition(".")[0] == "pydantic_ai" for cls in type(agent).__mro__):
        return names.AGGREGATED_INPUT_TOKENS, names.AGGREGATED_OUTPUT_TOKENS
    return names.INPUT_TOKENS, names.OUTPUT_TOKENS
