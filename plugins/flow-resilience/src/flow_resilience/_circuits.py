"""Circuit breakers as policies: their settings, the registry of the process, and the calls that go through one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from flow import BaseStep, CircuitOpen, ErrorCategory, EventKind, Execute, Scope, StepFailed, StepResult

from ._breaker import CLOSED, HALF_OPEN, Breaker, BreakerState, Change, Rejected
from ._checks import a_name, above_zero, above_zero_or_none, count, share_or_none
from ._clock import now
from ._registry import Shared

if TYPE_CHECKING:
    from flow import Binder

logger = logging.getLogger("flow")

FAILURES_OF_THE_RESOURCE = frozenset(
    {
        ErrorCategory.TIMEOUT,
        ErrorCategory.NETWORK,
        ErrorCategory.RATE_LIMIT,
        ErrorCategory.RESOURCE,
        ErrorCategory.EXTERNAL_SERVICE,
        ErrorCategory.UNKNOWN,
    }
)
"""Categories that speak of the resource; a refused output, a wrong request or a mistake in the program does not."""


def _categories(value: Iterable[Any]) -> frozenset[ErrorCategory]:
    return frozenset(ErrorCategory(item) for item in value)


@attrs.frozen
class CircuitBreaker:
    """Stops calling a resource that fails, and tries it again after a while.

    The circuit `name` is shared by all steps, runs and event loops of the process. It opens when `failures` calls have
    failed within `window` seconds; with `rate`, when these are also that share of all calls. While it is open, calls
    fail at once with `CircuitOpen`, which says how long it stays so. After `open_for` seconds, `probes` calls are let
    through: when they go well it closes, when one fails it opens again.

    :param slow_call: seconds after which a call that goes well counts as a failure.
    :param counts: the categories of failures that count.

    >>> CircuitBreaker("openai", failures=5).state.state
    <CircuitState.CLOSED: 'closed'>
    """

    name: str = attrs.field(validator=a_name)
    failures: int = attrs.field(default=5, validator=count)
    window: float = attrs.field(default=60.0, validator=above_zero)
    open_for: float = attrs.field(default=30.0, validator=above_zero)
    probes: int = attrs.field(default=1, validator=count)
    rate: float | None = attrs.field(default=None, validator=share_or_none)
    slow_call: float | None = attrs.field(default=None, validator=above_zero_or_none)
    counts: frozenset[ErrorCategory] = attrs.field(
        default=FAILURES_OF_THE_RESOURCE, converter=_categories, kw_only=True
    )

    @property
    def state(self) -> BreakerState:
        """What the circuit is doing now. Raises `ConfigurationError` when its name is used with other settings."""
        return circuits.of(self).look(now())

    @staticmethod
    def states() -> Mapping[str, BreakerState]:
        """Return what all circuits of this process are doing, by name."""
        return {name: breaker.look(now()) for name, breaker in sorted(circuits.states().items())}

    @staticmethod
    def forget() -> None:
        """Forget all circuits, for tests: steps that are bound later begin with new ones."""
        circuits.clear()

    def force_open(self, reason: str = "by hand") -> None:
        """Open the circuit, for example while the resource is being maintained."""
        breaker = circuits.of(self)
        _log(breaker, breaker.open(now(), reason))

    def reset(self, reason: str = "by hand") -> None:
        """Close the circuit and forget its failures."""
        breaker = circuits.of(self)
        _log(breaker, breaker.close(now(), reason))

    async def open_circuit(self, scope: Scope) -> None:
        """Open the circuit because a recovery strategy of the step says so (`RecoveryAction.CIRCUIT_BREAK`)."""
        breaker = circuits.of(self)
        await _tell(breaker, breaker.open(now(), "a recovery strategy"), scope)

    def describe(self) -> str:
        """Say in words what opens the circuit."""
        share = "" if self.rate is None else f", {self.rate:.0%} of the calls,"
        return f"{self.failures} failures{share} within {self.window:g} s"


circuits: Shared[CircuitBreaker, Breaker] = Shared(Breaker)


def breaker_state(name: str) -> BreakerState:
    """Return what the circuit `name` is doing; `KeyError` when no step that was bound in this process has it."""
    states = CircuitBreaker.states()
    if name not in states:
        raise KeyError(f"no circuit breaker {name!r} in this process; there are: {', '.join(states) or 'none'}")
    return states[name]


def through_circuit(policy: CircuitBreaker, step: BaseStep[Any, Any], binder: Binder, execute: Execute) -> Execute:
    """Return `execute` as seen by the circuit of `policy`."""
    breaker = circuits.of(policy)
    counts, classify = policy.counts, binder.kernel.hook.flow_classify_error
    notes_success = policy.rate is not None or policy.slow_call is not None

    async def report(error: BaseException, period: int, scope: Scope) -> None:
        category = classify(error=error, step=step)
        if isinstance(error, CircuitOpen) or category not in counts:
            breaker.abandon(period)
            return
        await _tell(breaker, breaker.fail(period, now(), f"{type(error).__name__}: {error}"), scope)

    async def call(data: Any, scope: Scope) -> StepResult:
        period = breaker.period  # before the state: whatever changes in between makes the call one of an earlier period
        if breaker.state is not CLOSED:
            period = await _admitted(breaker, scope)
        started = now() if notes_success else 0.0
        try:
            result = await execute(data, scope)
        except Exception as error:
            await report(error, period, scope)
            raise
        except BaseException:
            breaker.abandon(period)
            raise
        if not result.success:
            await report(result.error or StepFailed(result.feedback or "failed"), period, scope)
        elif notes_success or breaker.state is HALF_OPEN:
            time = now()
            change = breaker.succeed(period, time, time - started)
            if change is not None:
                await _tell(breaker, change, scope)
        return result

    return call


def refusal_of(policy: CircuitBreaker) -> Callable[[Scope], None]:
    """Return what raises `CircuitOpen` at once, before a call waits for anything."""
    breaker = circuits.of(policy)

    def refuse(scope: Scope) -> None:
        if breaker.state is not CLOSED:
            try:
                breaker.check(now())
            except Rejected as rejected:
                raise _circuit_open(breaker, rejected, scope) from None

    return refuse


async def _admitted(breaker: Breaker, scope: Scope) -> int:
    try:
        period, change = breaker.admit(now())
    except Rejected as rejected:
        raise _circuit_open(breaker, rejected, scope) from None
    if change is not None:
        try:
            await _tell(breaker, change, scope)
        except BaseException:  # cancelled before the call began
            breaker.abandon(period)
            raise
    return period


def _circuit_open(breaker: Breaker, rejected: Rejected, scope: Scope) -> CircuitOpen:
    wait = rejected.retry_after
    why = f"is open for another {wait:.3g} s" if wait else "is being probed"
    return CircuitOpen(f"circuit breaker {breaker.name!r} {why}", retry_after=wait, path=scope.path)


async def _tell(breaker: Breaker, change: Change | None, scope: Scope) -> None:
    if change is None:
        return
    _log(breaker, change)
    if scope.run.observers is not None:
        detail = {
            "name": breaker.name,
            "from": change.before.value,
            "to": change.after.value,
            "reason": change.reason,
            "retry_after": breaker.look(now()).retry_after,
        }
        await scope.run.publish(EventKind.BREAKER, scope.path, detail=detail)


def _log(breaker: Breaker, change: Change | None) -> None:
    if change is not None:
        level = logging.INFO if change.after is CLOSED else logging.WARNING
        words = (breaker.name, change.before, change.after, change.reason)
        logger.log(level, "circuit breaker %r: %s -> %s (%s)", *words)
