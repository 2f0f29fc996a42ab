"""Policies: values attached to a step that say how it is to be run, cached and recovered."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from ._classification import classify, is_refused_request, retry_after_of, status_of
from ._converters import as_frozenset, as_tuple
from .errors import CircuitOpen, ConfigurationError, ErrorCategory

if TYPE_CHECKING:
    from ._run import Scope
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

    ``otherwise`` says what follows when the action cannot be taken (no time or budget is left for a retry, the step has
    no fallback) or fails too (the fallback). Without it the step's fallback follows, if it has not failed already.

    >>> Recovery(RecoveryAction.RETRY, delay_s=1.5).delay_s
    1.5
    """

    action: RecoveryAction
    delay_s: float = 0.0
    value: Any = None
    otherwise: Recovery | None = None


@attrs.frozen(kw_only=True)
class ErrorContext:
    """An exception, where it happened, and what is known about it.

    ``status`` is the HTTP status a service answered with, ``retry_after`` the seconds it asks to wait.

    >>> context = ErrorContext.from_exception(ConnectionError("reset"), step_name="fetch")
    >>> context.step_name, context.category
    ('fetch', <ErrorCategory.NETWORK: 'network'>)
    """

    error: BaseException
    step_name: str = ""
    path: str = ""
    attempt: int = 1
    category: ErrorCategory = ErrorCategory.UNKNOWN
    status: int | None = None
    retry_after: float | None = None

    @classmethod
    def from_exception(
        cls, error: BaseException, *, step_name: str = "", path: str = "", attempt: int = 1
    ) -> ErrorContext:
        """Describe `error`, whichever library it comes from; what plugins know about it is asked in a run only."""
        return cls(
            error=error,
            step_name=step_name,
            path=path,
            attempt=attempt,
            category=classify(error),
            status=status_of(error),
            retry_after=retry_after_of(error),
        )


@attrs.frozen(kw_only=True)
class Failure:
    """A failed attempt, as `flow_choose_recovery` sees it.

    ``step`` carries its own policies and behind them those of the flow. ``status`` and ``retry_after`` are what a
    service answered, if the error tells.
    """

    step: BaseStep[Any, Any]
    path: str
    error: BaseException
    category: ErrorCategory
    attempt: int
    status: int | None = None
    retry_after: float | None = None

    @property
    def is_final(self) -> bool:
        """True when another attempt would fail in the same way: a mistake in the program or in the request."""
        return self.category in _FINAL or is_refused_request(self.status)


_FINAL = frozenset(
    {ErrorCategory.CONTROL_FLOW, ErrorCategory.CANCELLED, ErrorCategory.CONFIGURATION, ErrorCategory.USAGE}
)


def _as_types(value: Any) -> tuple[type[BaseException], ...]:
    types: tuple[Any, ...] = tuple(value) if isinstance(value, (set, frozenset, list, tuple)) else (value,)
    for item in types:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise ConfigurationError(f"error_types holds exception types, got {item!r:.60}")
    # A set has no order, but structures and fingerprints must come out the same in every process.
    return tuple(sorted(types, key=lambda item: f"{item.__module__}.{item.__qualname__}"))


def _as_actions(value: Sequence[RecoveryAction]) -> tuple[RecoveryAction, ...]:
    return tuple(RecoveryAction(item) for item in value)


def _without_retry(strategy: RecoveryStrategy, attribute: Any, value: tuple[RecoveryAction, ...]) -> None:
    if RecoveryAction.RETRY in value:
        raise ConfigurationError(
            f"strategy {strategy.name!r}: RETRY cannot be one of fallback_actions, which follow when retrying is over",
            hint="Write primary_action=RecoveryAction.RETRY and max_retries",
        )


def _at_least_zero(strategy: RecoveryStrategy, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0):
        raise ConfigurationError(
            f"strategy {strategy.name!r}: {attribute.name} must be a number of at least 0, got {value!r}"
        )


@attrs.frozen(kw_only=True)
class RecoveryStrategy:
    """What to do about failures that match by type, by text or by category; one that names nothing covers all.

    Delays grow twofold from `retry_delay_seconds` up to `max_delay_seconds`; with `jitter` a random part of the
    delay is used, so that many clients do not return at the same moment. A service that says how long to wait
    (``Retry-After``) is given at least that time, up to `max_retry_after_seconds`.

    When retrying is over, or `primary_action` cannot be taken, `fallback_actions` are tried in their order, then the
    step's own fallback. `fallback_value` is what `RecoveryAction.USE_VALUE` uses: the same object each time. Mistakes
    in the program or in a request are retried by a strategy that names them only.

    :param max_retries: further attempts.
    :param max_retry_after_seconds: the longest a service may make a retry wait; `max_delay_seconds` when ``None``.

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
    max_retries: int = attrs.field(default=3, validator=_at_least_zero)
    retry_delay_seconds: float = attrs.field(default=1.0, validator=_at_least_zero)
    max_delay_seconds: float = attrs.field(default=60.0, validator=_at_least_zero)
    max_retry_after_seconds: float | None = attrs.field(default=None, validator=_at_least_zero)
    jitter: bool = True
    primary_action: RecoveryAction = attrs.field(default=RecoveryAction.RETRY, converter=RecoveryAction)
    fallback_actions: Sequence[RecoveryAction] = attrs.field(
        default=(), converter=_as_actions, validator=_without_retry
    )
    fallback_value: Any = None

    @property
    def covers_everything(self) -> bool:
        """True when the strategy names no error."""
        return not (self.error_types or self.error_patterns or self.applies_to_categories)

    def matches(self, error: BaseException, category: ErrorCategory) -> bool:
        """Tell whether this strategy covers `error`: its type, a piece of its text, or its category is named."""
        if self.covers_everything:
            return True
        if isinstance(error, tuple(self.error_types)) or category in self.applies_to_categories:
            return True
        text = str(error)
        return any(pattern in text for pattern in self.error_patterns)

    def longest_delay(self, attempt: int) -> float:
        """Return the seconds after failed attempt number `attempt` (1 for the first) that jitter takes a part of."""
        return min(self.max_delay_seconds, self.retry_delay_seconds * 2.0 ** min(attempt - 1, 60))

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait after failed attempt number `attempt`, `retry_after` at least."""
        full = self.longest_delay(attempt)
        own = random.uniform(0, full) if self.jitter else full  # noqa: S311  (spreads load, guards nothing)
        if retry_after is None:
            return own
        cap = self.max_delay_seconds if self.max_retry_after_seconds is None else self.max_retry_after_seconds
        return max(own, min(retry_after, cap))

    def decide(self, failure: Failure) -> Recovery:
        """Return the action for a failed attempt that this strategy matches."""
        after = self._following(self.fallback_actions)
        if self.primary_action is not RecoveryAction.RETRY:
            return Recovery(self.primary_action, value=self.fallback_value, otherwise=after)
        if failure.attempt <= self.max_retries and self._may_retry(failure):
            delay = self.delay(failure.attempt, failure.retry_after)
            return Recovery(RecoveryAction.RETRY, delay_s=delay, otherwise=after)
        return after or Recovery(RecoveryAction.FALLBACK)

    def _may_retry(self, failure: Failure) -> bool:
        if isinstance(failure.error, CircuitOpen):  # its fallback is to run at once; only a wait it would have is kept
            return self.longest_delay(failure.attempt) >= failure.error.retry_after
        return not (failure.is_final and self.covers_everything)

    def _following(self, actions: Sequence[RecoveryAction]) -> Recovery | None:
        chain: Recovery | None = None
        for action in reversed(actions):
            chain = Recovery(action, value=self.fallback_value, otherwise=chain)
        return chain


@runtime_checkable
class OpensCircuit(Protocol):
    """A policy that can stop the calls of its step: `RecoveryAction.CIRCUIT_BREAK` makes it do so."""

    async def open_circuit(self, scope: Scope) -> None:
        """Let no call through for a while; `scope` is that of the step whose failure is the reason."""
        ...


@attrs.frozen
class Cache:
    """Reuse the result of an equal computation.

    :param ttl: seconds a result stays valid; ``None`` keeps it until the cache needs the room.
    :param key: ``key(data, context)`` returns what identifies the computation; the input itself when ``None``.
    """

    ttl: float | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.gt(0)))
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
