"""Policies: values attached to a step that say how it is to be run, cached and recovered."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ._converters import as_frozenset, as_tuple
from .errors import ErrorCategory, FlowError

if TYPE_CHECKING:
    from ._step import BaseStep


class RecoveryAction(enum.StrEnum):
    """What to do about a failed attempt."""

    RETRY = "retry"
    FALLBACK = "fallback"
    USE_VALUE = "use_value"
    SKIP = "skip"
    FAIL = "fail"
    ESCALATE = "escalate"
    CIRCUIT_BREAK = "circuit_break"


@attrs.frozen
class Recovery:
    """The decision of `flow_choose_recovery`: an action, seconds to wait before a retry, a value to use instead.

    >>> Recovery(RecoveryAction.RETRY, delay_s=1.5).delay_s
    1.5
    """

    action: RecoveryAction
    delay_s: float = 0.0
    value: Any = None


@attrs.frozen(kw_only=True)
class ErrorContext:
    """An exception, and where it happened.

    >>> ErrorContext.from_exception(ValueError("x"), step_name="parse").step_name
    'parse'
    """

    error: BaseException
    step_name: str = ""
    path: str = ""
    attempt: int = 1
    category: ErrorCategory = ErrorCategory.UNKNOWN

    @classmethod
    def from_exception(
        cls, error: BaseException, *, step_name: str = "", path: str = "", attempt: int = 1
    ) -> ErrorContext:
        """Describe `error`; flow's own errors know their category, others are classified by the hooks."""
        category = error.category if isinstance(error, FlowError) else ErrorCategory.UNKNOWN
        return cls(error=error, step_name=step_name, path=path, attempt=attempt, category=category)


@attrs.frozen(kw_only=True)
class Failure:
    """A failed attempt, as `flow_choose_recovery` sees it."""

    step: BaseStep[Any, Any]
    path: str
    error: BaseException
    category: ErrorCategory
    attempt: int


def _as_types(value: object) -> tuple[type[BaseException], ...]:
    return tuple(value) if isinstance(value, (set, frozenset, list, tuple)) else (value,)  # type: ignore[return-value]


@attrs.frozen(kw_only=True)
class RecoveryStrategy:
    """What to do about failures that match by type, by text or by category.

    Delays grow twofold from `retry_delay_seconds` up to `max_delay_seconds`; with `jitter` a random part of the
    delay is used, so that many clients do not return at the same moment.

    >>> strategy = RecoveryStrategy(name="gateway", error_patterns=["502"], max_retries=3)
    >>> strategy.matches(RuntimeError("502 from upstream"), ErrorCategory.UNKNOWN)
    True
    """

    name: str
    error_types: frozenset[type[BaseException]] | tuple[type[BaseException], ...] = attrs.field(
        default=(), converter=_as_types
    )
    error_patterns: Sequence[str] = attrs.field(default=(), converter=as_tuple)
    applies_to_categories: frozenset[ErrorCategory] = attrs.field(default=frozenset(), converter=as_frozenset)
    max_retries: int = attrs.field(default=3, validator=attrs.validators.ge(0))
    retry_delay_seconds: float = attrs.field(default=1.0, validator=attrs.validators.ge(0))
    max_delay_seconds: float = attrs.field(default=60.0, validator=attrs.validators.ge(0))
    jitter: bool = True
    primary_action: RecoveryAction = RecoveryAction.RETRY
    fallback_actions: Sequence[RecoveryAction] = attrs.field(default=(), converter=as_tuple)
    fallback_value: Any = None

    def matches(self, error: BaseException, category: ErrorCategory) -> bool:
        """Tell whether this strategy covers `error`; a strategy that names nothing covers every error."""
        if not (self.error_types or self.error_patterns or self.applies_to_categories):
            return True
        if isinstance(error, tuple(self.error_types)) or category in self.applies_to_categories:
            return True
        text = str(error)
        return any(pattern in text for pattern in self.error_patterns)

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt number `attempt` (1 for the first)."""
        full = min(self.max_delay_seconds, self.retry_delay_seconds * 2 ** min(attempt - 1, 60))
        return random.uniform(0, full) if self.jitter else full  # noqa: S311  (spreads load, guards nothing)

    def decide(self, attempt: int) -> Recovery:
        """Return the action for failed attempt number `attempt`."""
        if self.primary_action is RecoveryAction.RETRY:
            if attempt <= self.max_retries:
                return Recovery(RecoveryAction.RETRY, delay_s=self.delay(attempt))
            action = next((a for a in self.fallback_actions if a is not RecoveryAction.RETRY), RecoveryAction.FAIL)
            return Recovery(action, value=self.fallback_value)
        return Recovery(self.primary_action, value=self.fallback_value)


@attrs.frozen
class Cache:
    """Reuse the result of an equal computation.

    :param ttl: seconds a result stays valid; ``None`` keeps it until the cache needs the room.
    :param key: ``key(data, context)`` returns what identifies the computation; the input itself when ``None``.
    """

    ttl: float | None = None
    key: Callable[..., Any] | None = None


@attrs.frozen
class Estimate:
    """What one call is expected to cost: reserved before it, so that parallel steps cannot overspend together."""

    cost_usd: float = 0.0
    tokens: int = 0


@attrs.frozen
class PlaceOn:
    """Run the step on the engine at `url`, such as ``"dask://scheduler:8786"``."""

    url: str
