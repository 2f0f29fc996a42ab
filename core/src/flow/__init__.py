"""flow: a plugin-based workflow framework for AI pipelines.

A pipeline is data. Binding turns it into functions. Running calls the functions.

    >>> from flow import Flow, step
    >>> @step
    ... async def greet(name: str) -> str:
    ...     return f"hello {name}"
    >>> Flow(greet).run("Ada").output
    'hello Ada'

This door is lazy: a name is imported when it is first used, so that ``import flow`` costs 2 ms instead of 90 and the
command line starts without Pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._agents import bind_callable, call_user
    from ._context import PipelineContext
    from ._decorator import step
    from ._event_json import event_schema
    from ._events import EVENT_SCHEMA, Event, EventKind
    from ._flow import Flow
    from ._graph import Finding, ValidationReport
    from ._handle import RunHandle
    from ._kernel import Binder, Kernel
    from ._lease import lease_clock, lease_is_over
    from ._merge import MergePolicy
    from ._pipeline import Pipeline
    from ._policies import (
        Cache,
        ErrorContext,
        Estimate,
        Failure,
        PlaceOn,
        Recovery,
        RecoveryAction,
        RecoveryStrategy,
    )
    from ._protocols import (
        INTERNAL_METADATA,
        AsyncAgentProtocol,
        CacheBackend,
        ContextAwareAgentProtocol,
        Engine,
        Execute,
        Layer,
        RunRecord,
        StateBackend,
        StepRecord,
        Tracer,
        Wrap,
        Wrapper,
        holds_text,
        search_texts,
    )
    from ._resources import AppResources
    from ._results import DECISIONS, Pending, RunResult, RunStatus, StepResult
    from ._run import Run, Scope, StepRun
    from ._run_ids import check_run_id
    from ._settings import Settings
    from ._step import BaseStep, Step
    from ._stream import StreamChunk
    from ._structure import structure
    from ._structure_diff import describe_differences
    from ._usage import Usage, UsageLimits
    from ._validators import (
        AgentProcessors,
        BaseValidator,
        PluginOutcome,
        ValidationPlugin,
        ValidationResult,
        validator,
    )
    from .errors import (
        AnswerInvalid,
        CancelSignal,
        CheckFailed,
        CircuitOpen,
        ConfigurationError,
        ContextConflict,
        ControlSignal,
        DeadlineExceeded,
        ErrorCategory,
        Escalated,
        FallbackLoop,
        FlowError,
        InfiniteRedirect,
        InterruptSignal,
        LeaseLost,
        MissingAgentError,
        NotPaused,
        PauseSignal,
        PipelineChanged,
        PluginError,
        PluginFailed,
        ReplayIncomplete,
        RunFailed,
        RunningLoopError,
        RunNotFound,
        RunOwned,
        SerializationError,
        SettingsError,
        StateBusy,
        StateCorrupt,
        StateError,
        StepFailed,
        StepTimeout,
        UsageLimitExceeded,
        ValidationFailed,
    )
    from .hookspecs import hookimpl

__all__ = [
    "AgentProcessors",
    "AnswerInvalid",
    "AppResources",
    "AsyncAgentProtocol",
    "BaseStep",
    "BaseValidator",
    "Binder",
    "Cache",
    "CacheBackend",
    "CancelSignal",
    "CheckFailed",
    "CircuitOpen",
    "ConfigurationError",
    "ContextAwareAgentProtocol",
    "ContextConflict",
    "ControlSignal",
    "DECISIONS",
    "DeadlineExceeded",
    "EVENT_SCHEMA",
    "Engine",
    "ErrorCategory",
    "ErrorContext",
    "Escalated",
    "Estimate",
    "Event",
    "EventKind",
    "Execute",
    "Failure",
    "FallbackLoop",
    "Finding",
    "Flow",
    "FlowError",
    "INTERNAL_METADATA",
    "InfiniteRedirect",
    "InterruptSignal",
    "Kernel",
    "Layer",
    "LeaseLost",
    "MergePolicy",
    "MissingAgentError",
    "NotPaused",
    "PauseSignal",
    "Pending",
    "Pipeline",
    "PipelineChanged",
    "PipelineContext",
    "PlaceOn",
    "PluginError",
    "PluginFailed",
    "PluginOutcome",
    "Recovery",
    "RecoveryAction",
    "RecoveryStrategy",
    "ReplayIncomplete",
    "Run",
    "RunFailed",
    "RunHandle",
    "RunNotFound",
    "RunOwned",
    "RunRecord",
    "RunResult",
    "RunStatus",
    "RunningLoopError",
    "Scope",
    "SerializationError",
    "Settings",
    "SettingsError",
    "StateBackend",
    "StateBusy",
    "StateCorrupt",
    "StateError",
    "Step",
    "StepFailed",
    "StepRecord",
    "StepResult",
    "StepRun",
    "StepTimeout",
    "StreamChunk",
    "Tracer",
    "Usage",
    "UsageLimitExceeded",
    "UsageLimits",
    "ValidationFailed",
    "ValidationPlugin",
    "ValidationReport",
    "ValidationResult",
    "Wrap",
    "Wrapper",
    "__version__",
    "bind_callable",
    "call_user",
    "check_run_id",
    "describe_differences",
    "event_schema",
    "holds_text",
    "hookimpl",
    "lease_clock",
    "lease_is_over",
    "search_texts",
    "step",
    "structure",
    "validator",
]

__version__ = "0.1.0"

_HOMES = {
    "_agents": "bind_callable call_user",
    "_context": "PipelineContext",
    "_decorator": "step",
    "_event_json": "event_schema",
    "_events": "EVENT_SCHEMA Event EventKind",
    "_flow": "Flow",
    "_graph": "Finding ValidationReport",
    "_handle": "RunHandle",
    "_kernel": "Binder Kernel",
    "_lease": "lease_clock lease_is_over",
    "_merge": "MergePolicy",
    "_pipeline": "Pipeline",
    "_policies": "Cache ErrorContext Estimate Failure PlaceOn Recovery RecoveryAction RecoveryStrategy",
    "_protocols": "AsyncAgentProtocol CacheBackend ContextAwareAgentProtocol Engine Execute INTERNAL_METADATA Layer "
    "RunRecord StateBackend StepRecord Tracer Wrap Wrapper holds_text search_texts",
    "_resources": "AppResources",
    "_results": "DECISIONS Pending RunResult RunStatus StepResult",
    "_run": "Run Scope StepRun",
    "_run_ids": "check_run_id",
    "_settings": "Settings",
    "_step": "BaseStep Step",
    "_stream": "StreamChunk",
    "_structure": "structure",
    "_structure_diff": "describe_differences",
    "_usage": "Usage UsageLimits",
    "_validators": "AgentProcessors BaseValidator PluginOutcome ValidationPlugin ValidationResult validator",
    "errors": "AnswerInvalid CancelSignal CheckFailed CircuitOpen ConfigurationError ContextConflict ControlSignal "
    "DeadlineExceeded ErrorCategory Escalated FallbackLoop FlowError InfiniteRedirect InterruptSignal "
    "LeaseLost MissingAgentError NotPaused PauseSignal PipelineChanged PluginError PluginFailed "
    "ReplayIncomplete RunFailed "
    "RunNotFound RunOwned RunningLoopError SerializationError SettingsError StateBusy StateCorrupt StateError "
    "StepFailed StepTimeout UsageLimitExceeded ValidationFailed",
    "hookspecs": "hookimpl",
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'flow' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"flow.{module}"), name)
    if isinstance(value, type) and value.__module__.startswith("flow."):
        value.__module__ = "flow"  # tracebacks and reprs show the public name
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
