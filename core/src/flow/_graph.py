"""Validation of a pipeline as it is written: what can be known to be wrong without running an agent.

======== ======== =================================================================================================
rule     severity finding
======== ======== =================================================================================================
FLOW-A1  error    a step has no agent
FLOW-A2  error    an agent is neither callable nor has ``run``
FLOW-A3  warning  a setting that the agent does not take has no effect
FLOW-B1  error    binding is refused for another reason
FLOW-F1  error    fallbacks lead back to their own step
FLOW-K1  error    no plugin runs steps of this kind
FLOW-P1  warning  a pipeline is empty and passes its input through
FLOW-T1  error    the output of a step does not fit the input of the next
FLOW-T2  warning  the output of a step is declared as ``object``, the next one takes something narrower
FLOW-T3  error    a fallback does not fit the step before or after the one it stands in for
FLOW-V1  error    a field of a step holds an object of the wrong class
======== ======== =================================================================================================

Paths are those of running, such as ``1:fan/left/0:score``; a fallback is ``fallback`` below its step. What is not
annotated is taken to fit.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from ._agents import is_pydantic_ai, read_signature, target_of
from ._discovery import PluginKind, provider_of
from ._kernel import Binder, Services, default_kernel
from ._pipeline import Pipeline, require_pipeline
from ._policies import Cache
from ._settings import did_you_mean
from ._step import BaseStep, Step
from ._subflow import SubWorkflow
from ._types import accepts, type_name
from ._usage import UsageLimits
from ._validators import AgentProcessors, BaseValidator, ValidationPlugin
from .errors import ConfigurationError, FlowError, PluginError

if TYPE_CHECKING:
    from ._kernel import Kernel

Severity: TypeAlias = Literal["error", "warning", "info"]
Node: TypeAlias = BaseStep[Any, Any] | Pipeline[Any, Any]


@attrs.frozen
class Finding:
    """Something about a pipeline that is wrong or doubtful.

    :param rule_id: the rule, such as ``"FLOW-T1"``; it stays the same in later versions.
    :param path: the step it concerns, empty for the pipeline itself.

    >>> print(Finding("error", "FLOW-A1", "0:draft", "step 'draft' has no agent", "Give it one"))
    error FLOW-A1 at 0:draft: step 'draft' has no agent. Give it one
    """

    severity: Severity
    rule_id: str
    path: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f" at {self.path}" if self.path else ""
        return f"{self.severity} {self.rule_id}{place}: {self.message}" + (
            f". {self.suggestion}" if self.suggestion else ""
        )


@attrs.frozen
class ValidationReport:
    """What `Pipeline.validate_graph` found.

    >>> from flow import Step
    >>> report = (Step("ask", None) >> Step("shout", str.upper)).validate_graph()
    >>> report.is_valid, [finding.path for finding in report.errors]
    (False, ['0:ask'])
    """

    findings: tuple[Finding, ...] = ()

    @property
    def is_valid(self) -> bool:
        """True when no finding is an error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the pipeline from running as it is meant."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that are worth a look."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or "nothing found"


def validate_graph(pipeline: Node, *, raise_on_error: bool = False, kernel: Kernel | None = None) -> ValidationReport:
    """Look for mistakes in a pipeline, and in everything inside it, without running an agent.

    :param raise_on_error: raise `ConfigurationError` that lists the findings when there is an error among them.
    :param kernel: whose plugins count; those of this process when ``None``.

    >>> from flow import Step
    >>> def length(text: str) -> int: ...
    >>> print(validate_graph(Step("length", length) >> Step("shout", str.upper)).findings[0].message)
    step 'shout' takes str, but step 'length' returns int
    """
    pipeline = require_pipeline(pipeline)
    kernel = default_kernel() if kernel is None else kernel
    report = ValidationReport(tuple(_examine(pipeline, "", kernel, ())))
    if report.is_valid:
        report = ValidationReport((*report.findings, *_binding_findings(pipeline, kernel)))
    if raise_on_error and not report.is_valid:
        listing = "\n".join(f"- {finding}" for finding in report.findings)
        raise ConfigurationError(f"pipeline {pipeline.name!r} is not valid:\n{listing}")
    return report


def _examine(item: Node, path: str, kernel: Kernel, above: tuple[Node, ...]) -> Iterator[Finding]:
    """Go through `item`, its fallback and its children; `above` is what led here."""
    if any(item is earlier for earlier in above):
        names = " -> ".join(repr(node.name) for node in (*above, item) if isinstance(node, BaseStep))
        yield Finding("error", "FLOW-F1", path, f"fallbacks lead in a circle: {names}", "Let the last one have none")
        return
    yield from _kind_findings(item, path, kernel)
    yield from _sequence_findings(item, path) if isinstance(item, Pipeline) else _step_findings(item, path)
    inside: list[tuple[str, Node]] = list(item.children().items())
    if isinstance(item, SubWorkflow):
        inside = [("", item.pipeline)]  # its steps come directly below it
    if isinstance(item, BaseStep) and isinstance(item.fallback, (BaseStep, Pipeline)):
        inside.append(("fallback", item.fallback))
    for segment, child in inside:
        yield from _examine(child, _join(path, segment), kernel, (*above, item))


def _join(path: str, segment: str) -> str:
    return f"{path}/{segment}" if path and segment else path or segment


def _binding_findings(pipeline: Node, kernel: Kernel) -> Iterator[Finding]:
    try:
        kernel.bind(pipeline)
    except FlowError as error:
        yield Finding("error", "FLOW-B1", error.path or "", error.message, error.hint or "")
    except Exception as error:  # noqa: BLE001  whatever a plugin raises here refuses the pipeline, so it is reported
        yield Finding("error", "FLOW-B1", "", f"binding raises {type(error).__name__}: {error}")


# -- kinds --


def _kind_findings(item: Node, path: str, kernel: Kernel) -> Iterator[Finding]:
    if kernel.plugins.find(PluginKind.STEPS, item.kind) is not None:
        try:
            kernel.plugins.load(PluginKind.STEPS, item.kind)
        except PluginError as error:
            yield Finding("error", "FLOW-K1", path, error.message, error.hint or "")
    elif not _is_bound_by_a_module(item, kernel):
        provider = provider_of(PluginKind.STEPS, item.kind)
        hint = f"pip install {provider}" if provider else "See flow plugins list --kind steps --all"
        message = f"step {item.name!r} is of kind {item.kind!r}, which no installed plugin runs"
        yield Finding("error", "FLOW-K1", path, message, hint)


def _is_bound_by_a_module(item: Node, kernel: Kernel) -> bool:
    """Tell whether a plugin runs `item` although none declares its kind, such as one given to `Kernel(plugins=...)`."""
    try:
        return kernel.hook.flow_bind_step(step=item, binder=Binder(kernel, "", Services())) is not None
    except Exception:  # noqa: BLE001  it is somebody's kind; what is wrong is found when everything is bound
        return True


# -- one step --

_CURES = {
    "validators": "Subclass BaseValidator, or decorate a function with @validator",
    "plugins": "Subclass ValidationPlugin",
    "fallback": 'Wrap it: Step("name", agent)',
    "processors": "Write AgentProcessors(prompt_processors=[...], output_processors=[...])",
    "cache": "Write Cache(ttl=seconds)",
    "usage_limits": "Write UsageLimits(total_cost_usd_limit=1.0)",
}


def _step_findings(step: BaseStep[Any, Any], path: str) -> Iterator[Finding]:
    yield from _class_findings(step, path)
    if isinstance(step, Step):
        yield from _agent_findings(step, path)


def _class_findings(step: BaseStep[Any, Any], path: str) -> Iterator[Finding]:
    held: list[tuple[str, Any, tuple[type, ...]]] = [
        *(("validators", item, (BaseValidator,)) for item in step.validators),
        *(("plugins", item, (ValidationPlugin,)) for item in step.plugins),
        ("fallback", step.fallback, (BaseStep, Pipeline)),
        ("processors", step.processors, (AgentProcessors,)),
        ("cache", step.cache, (Cache,)),
        ("usage_limits", step.usage_limits, (UsageLimits,)),
    ]
    for field, value, kinds in held:
        if value is not None and not isinstance(value, kinds):
            is_class = isinstance(value, type) and issubclass(value, kinds)
            cure = f"Write {value.__name__}(...)" if is_class else _CURES[field]
            message = f"step {step.name!r}: {field} holds {value!r:.60}, which is no {kinds[0].__name__}"
            yield Finding("error", "FLOW-V1", path, message, cure)


def _agent_findings(step: Step[Any, Any], path: str) -> Iterator[Finding]:
    if step.agent is None:
        yield Finding("error", "FLOW-A1", path, f"step {step.name!r} has no agent", f'Write Step("{step.name}", agent)')
        return
    if is_pydantic_ai(step.agent):  # takes every setting as a setting of its model
        return
    try:
        function = target_of(step.agent)
    except ConfigurationError as error:
        yield Finding("error", "FLOW-A2", path, f"step {step.name!r}: {error.message}", error.hint or "")
        return
    taken = read_signature(function, step.settings).settings
    for setting in step.settings:
        if setting not in taken:
            choices = [field.name for field in attrs.fields(Step)] + _parameters(function)
            cure = did_you_mean(setting, choices, 0.6) or "Leave it out, or make it a parameter of the agent"
            message = f"step {step.name!r}: the agent does not take {setting}, so it has no effect"
            yield Finding("warning", "FLOW-A3", path, message, cure)


def _parameters(function: Any) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)[1:]
    except (TypeError, ValueError):
        return []


# -- what follows what --


@attrs.frozen(eq=False)
class _Place:
    """A step, or one of the fallbacks that may stand in for it."""

    node: Node
    path: str
    is_fallback: bool = False

    def __str__(self) -> str:
        return f"{'fallback' if self.is_fallback else 'step'} {self.node.name!r}"


def _sequence_findings(pipeline: Pipeline[Any, Any], path: str) -> Iterator[Finding]:
    if not pipeline.steps:
        message = f"pipeline {pipeline.name!r} is empty and passes its input through"
        yield Finding("warning", "FLOW-P1", path, message, "Add a step, or leave it out")
    places = [_Place(step, _join(path, segment)) for segment, step in pipeline.children().items()]
    for before, after in pairwise(places):
        for giver in _with_fallbacks(before):
            for taker in _with_fallbacks(after):
                yield from _misfits(giver, taker)


def _with_fallbacks(place: _Place) -> list[_Place]:
    places = [place]
    while isinstance(node := places[-1].node, BaseStep) and isinstance(node.fallback, (BaseStep, Pipeline)):
        if any(node.fallback is other.node for other in places):
            break
        places.append(_Place(node.fallback, f"{places[-1].path}/fallback", True))
    return places


def _misfits(giver: _Place, taker: _Place) -> Iterator[Finding]:
    given, wanted = _output_of(giver.node), _input_of(taker.node)
    if accepts(wanted, given):
        return
    names = type_name(given), type_name(wanted)
    gives, takes = names if names[0] != names[1] else (str(given), str(wanted))
    message = f"{taker} takes {takes}, but {giver} returns {gives}"
    path = giver.path if giver.is_fallback and not taker.is_fallback else taker.path
    if accepts(wanted, given, object_fits=True):
        yield Finding("warning", "FLOW-T2", path, message, f"Annotate what {giver.node.name!r} returns")
        return
    rule = "FLOW-T3" if giver.is_fallback or taker.is_fallback else "FLOW-T1"
    cure = f"Make the types agree, or put a step between them that turns {gives} into {takes}"
    yield Finding("error", rule, path, message, cure)


def _input_of(node: Node) -> Any:
    if isinstance(node, Pipeline):
        return _input_of(node.steps[0]) if node.steps else Any
    processors = node.processors
    if isinstance(processors, AgentProcessors) and processors.prompt_processors:
        return Any  # they come before the declared type is checked
    return _input_of(node.pipeline) if isinstance(node, SubWorkflow) else node.declared_types()[0]


def _output_of(node: Node) -> Any:
    if isinstance(node, Pipeline):
        return _output_of(node.steps[-1]) if node.steps else Any
    processors = node.processors
    if isinstance(processors, AgentProcessors) and processors.output_processors and node.validate in ("in", "none"):
        return Any  # they come last, unless the output is checked after them
    return _output_of(node.pipeline) if isinstance(node, SubWorkflow) else node.declared_types()[1]
