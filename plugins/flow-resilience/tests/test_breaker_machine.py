"""The circuit breaker against a model of it that remembers everything and is slow."""

from __future__ import annotations

from typing import Any

import pytest
from flow_resilience import CircuitBreaker, CircuitState
from flow_resilience._breaker import SLICES, Breaker, Rejected
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

WINDOW = 60.0  # so that a slice of the window is one second
FAILURES = 3
OPEN_FOR = 30.0


class BreakerMachine(RuleBasedStateMachine):
    """Calls begin, end in any order and way, or are forgotten about, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.state = CircuitState.CLOSED
        self.opened_at = 0.0
        self.outcomes: list[tuple[float, bool]] = []  # of this period: when, and whether it failed
        self.running: list[tuple[int, bool]] = []  # period, and whether the call is a probe of the present half-open
        self.period_probes = 0
        self.period_successes = 0

    @initialize(probes=st.integers(1, 3), rate=st.sampled_from([None, 0.5, 1.0]))
    def make(self, probes: int, rate: float | None) -> None:
        self.settings = CircuitBreaker(
            "machine", failures=FAILURES, window=WINDOW, open_for=OPEN_FOR, probes=probes, rate=rate, slow_call=5.0
        )
        self.breaker = Breaker(self.settings)

    def change_to(self, state: CircuitState) -> None:
        self.state = state
        self.opened_at = self.now
        self.outcomes.clear()
        self.running = [(period, False) for period, _ in self.running]
        self.period_probes = self.period_successes = 0

    def window_says_open(self) -> bool:
        if self.settings.rate is None:
            return sum(failed and time > self.now - WINDOW for time, failed in self.outcomes) >= FAILURES
        recent = [failed for time, failed in self.outcomes if int(time) > int(self.now) - SLICES]
        return sum(recent) >= FAILURES and sum(recent) / len(recent) >= self.settings.rate

    @rule(seconds=st.sampled_from([0.0, 0.25, 1.0, 7.0, 29.0, 30.0, 59.0, 60.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        expected_wait = None
        if self.state is CircuitState.OPEN:
            if self.now < self.opened_at + OPEN_FOR:
                expected_wait = self.opened_at + OPEN_FOR - self.now
            else:
                self.change_to(CircuitState.HALF_OPEN)
        if self.state is CircuitState.HALF_OPEN:
            if self.period_probes + self.period_successes >= self.settings.probes:
                expected_wait = 0.0
            else:
                self.period_probes += 1
        if expected_wait is None:
            period, _ = self.breaker.admit(self.now)
            self.running.append((period, self.state is CircuitState.HALF_OPEN))
            return
        with pytest.raises(Rejected) as rejected:
            self.breaker.admit(self.now)
        assert rejected.value.retry_after == expected_wait

    def take(self, data: Any) -> tuple[int, bool]:
        return self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), took=st.sampled_from([0.1, 5.0]))
    def succeed(self, data: Any, took: float) -> None:
        period, probe = self.take(data)
        current = period == self.breaker.period
        self.breaker.succeed(period, self.now, took)
        if probe:
            self.period_probes -= 1
            self.period_successes += 1
            if self.period_successes == self.settings.probes:
                self.change_to(CircuitState.CLOSED)
        elif current and self.state is CircuitState.CLOSED:
            self.outcomes.append((self.now, False))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), slow=st.booleans())
    def fail(self, data: Any, slow: bool) -> None:
        period, probe = self.take(data)
        current = period == self.breaker.period
        if slow:
            self.breaker.succeed(period, self.now, 5.1)
        else:
            self.breaker.fail(period, self.now, "no answer")
        if probe:
            self.change_to(CircuitState.OPEN)
        elif current and self.state is CircuitState.CLOSED:
            self.outcomes.append((self.now, True))
            if self.window_says_open():
                self.change_to(CircuitState.OPEN)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def be_cancelled(self, data: Any) -> None:
        period, probe = self.take(data)
        self.breaker.abandon(period)
        if probe:
            self.period_probes -= 1

    @rule(closes=st.booleans())
    def by_hand(self, closes: bool) -> None:
        if closes:
            self.breaker.close(self.now, "by hand")
            self.change_to(CircuitState.CLOSED)
            return
        self.breaker.open(self.now, "by hand")
        if self.state is CircuitState.OPEN:
            self.opened_at = self.now
        else:
            self.change_to(CircuitState.OPEN)

    @invariant()
    def the_state_is_that_of_the_model(self) -> None:
        seen = self.breaker.look(self.now)
        assert seen.state is self.state
        assert seen.probes == self.period_probes

    @invariant()
    def never_more_probes_than_allowed(self) -> None:
        assert sum(probe for _, probe in self.running) <= self.settings.probes

    @invariant()
    def a_look_ahead_says_what_a_call_would_find(self) -> None:
        full = self.state is CircuitState.HALF_OPEN and (
            self.period_probes + self.period_successes >= self.settings.probes
        )
        if full or (self.state is CircuitState.OPEN and self.now < self.opened_at + OPEN_FOR):
            with pytest.raises(Rejected):
                self.breaker.check(self.now)
        else:
            self.breaker.check(self.now)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.breaker._times) <= FAILURES
        assert len(self.breaker._slices) <= SLICES


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
