"""The default error policy: what sort of failure an exception is, and what follows from it."""

from __future__ import annotations

from typing import Any

from .._classification import classify
from .._policies import Failure, Recovery, RecoveryAction, RecoveryStrategy
from ..errors import CircuitOpen, ErrorCategory
from ..hookspecs import hookimpl

LONGEST_RETRY_AFTER = 60.0
"""Seconds that a service may make an attempt of a step with ``retries`` wait; a `RecoveryStrategy` has its own cap."""


@hookimpl(trylast=True)
def flow_classify_error(error: BaseException, step: Any) -> ErrorCategory:
    """Classify by what the error says of itself, by the status of a response, by type, by cause."""
    return classify(error)


@hookimpl(trylast=True)
def flow_choose_recovery(failure: Failure) -> Recovery:
    """Follow the first strategy that matches, then ``retries``; what would only fail again is not retried."""
    for policy in failure.step.policies:
        if isinstance(policy, RecoveryStrategy) and policy.matches(failure.error, failure.category):
            return policy.decide(failure)
    if failure.attempt > failure.step.retries or failure.is_final or isinstance(failure.error, CircuitOpen):
        return Recovery(RecoveryAction.FALLBACK)
    return Recovery(RecoveryAction.RETRY, delay_s=min(failure.retry_after or 0.0, LONGEST_RETRY_AFTER))
