"""The default error policy: what sort of failure an exception is, and what follows from it."""

from __future__ import annotations

import asyncio
from typing import Any

from .._policies import Failure, Recovery, RecoveryAction, RecoveryStrategy
from ..errors import ControlSignal, ErrorCategory, FlowError
from ..hookspecs import hookimpl

_BY_TYPE: tuple[tuple[tuple[type[BaseException], ...], ErrorCategory], ...] = (
    ((ControlSignal,), ErrorCategory.CONTROL_FLOW),
    ((asyncio.CancelledError,), ErrorCategory.CANCELLED),
    ((TimeoutError,), ErrorCategory.TIMEOUT),
    ((ConnectionError,), ErrorCategory.NETWORK),
    ((MemoryError, BlockingIOError), ErrorCategory.RESOURCE),
    ((PermissionError,), ErrorCategory.AUTHENTICATION),
    # Mistakes in the program: the next attempt would fail in the same way.
    ((TypeError, NameError, ImportError, NotImplementedError, SyntaxError), ErrorCategory.CONFIGURATION),
    ((OSError,), ErrorCategory.EXTERNAL_SERVICE),
    ((LookupError, ArithmeticError, UnicodeError), ErrorCategory.DATA),
)

_FINAL = frozenset(
    {ErrorCategory.CONTROL_FLOW, ErrorCategory.CANCELLED, ErrorCategory.CONFIGURATION, ErrorCategory.USAGE}
)


@hookimpl(trylast=True)
def flow_classify_error(error: BaseException, step: Any) -> ErrorCategory:
    """Classify by exception type; flow's own errors say it themselves."""
    if isinstance(error, FlowError) and error.category is not ErrorCategory.UNKNOWN:
        return error.category
    return next((category for types, category in _BY_TYPE if isinstance(error, types)), ErrorCategory.UNKNOWN)


@hookimpl(trylast=True)
def flow_choose_recovery(failure: Failure) -> Recovery:
    """Follow the step's strategies, then its ``retries``; programming errors are not retried."""
    for policy in failure.step.policies:
        if isinstance(policy, RecoveryStrategy) and policy.matches(failure.error, failure.category):
            return policy.decide(failure.attempt)
    if failure.attempt <= failure.step.retries and failure.category not in _FINAL:
        return Recovery(RecoveryAction.RETRY)
    return Recovery(RecoveryAction.FALLBACK)
