"""Circuit breakers around steps: what counts, what is rejected, probes, recovery, events, sharing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from flow_resilience import Bulkhead, CircuitBreaker, CircuitState, Classification, RateLimit, breaker_state
from flow_testkit import FakeClock

from flow import (
    CircuitOpen,
    ConfigurationError,
    ErrorCategory,
    Event,
    EventKind,
    Flow,
    PauseSignal,
    RecoveryAction,
    RecoveryStrategy,
    RunResult,
    RunStatus,
    Step,
    ValidationFailed,
)

Run = Callable[..., RunResult[Any]]
MakeFlow = Callable[..., Flow[Any, Any]]


class Service:
    """An agent whose errors are set from outside."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.calls = 0
        self.takes = 0.0

    async def run(self, data: Any) -> Any:
        self.calls += 1
        if self.takes:
            await asyncio.sleep(self.takes)
        if self.error is not None:
            raise self.error
        return data


def state() -> CircuitState:
    return breaker_state("service").state


def guarded(service: Service, **settings: Any) -> Step[Any, Any]:
    breaker = {name: settings.pop(name) for name in ("failures", "probes", "rate", "slow_call") if name in settings}
    policies = [CircuitBreaker("service", **{"failures": 2, **breaker}), *settings.pop("policies", ())]
    return Step("call", service, policies=policies, **settings)


def test_it_opens_rejects_and_closes_again(run: Run, clock: FakeClock) -> None:
    service = Service(ConnectionError("down"))
    step = guarded(service)
    assert [run(step).success for _ in range(2)] == [False, False]
    assert state() is CircuitState.OPEN
    clock.advance(10)
    rejected = run(step)
    assert isinstance(rejected.error, CircuitOpen)
    assert rejected.error.retry_after == pytest.approx(20)
    assert rejected.error.path == "0:call"
    assert str(rejected.error) == "circuit breaker 'service' is open for another 20 s"
    assert service.calls == 2
    clock.advance(20)
    service.error = None
    assert run(step).success
    assert state() is CircuitState.CLOSED


def test_a_probe_that_fails_opens_it_again(run: Run, clock: FakeClock) -> None:
    service = Service(ConnectionError("down"))
    step = guarded(service, failures=1)
    run(step)
    clock.advance(30)
    assert not run(step).success
    assert isinstance(run(step).error, CircuitOpen)
    assert service.calls == 2


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (ConnectionError("x"), True),
        (TimeoutError("x"), True),
        (RuntimeError("x"), True),
        (TypeError("x"), False),
        (KeyError("x"), False),
        (ValidationFailed("x"), False),
        (PermissionError("x"), False),
        (CircuitOpen("another one", retry_after=1), False),
    ],
    ids=repr,
)
def test_only_what_speaks_of_the_resource_counts(error: Exception, counts: bool, run: Run) -> None:
    run(guarded(Service(error), failures=1))
    assert (state() is CircuitState.OPEN) is counts


def test_what_counts_can_be_chosen(run: Run) -> None:
    breaker = CircuitBreaker("service", failures=1, counts=frozenset({ErrorCategory.DATA}))
    run(Step("call", Service(ConnectionError()), policies=[breaker]))
    assert state() is CircuitState.CLOSED
    run(Step("call", Service(KeyError()), policies=[breaker]))
    assert state() is CircuitState.OPEN


def test_a_classification_of_the_flow_decides_what_counts(run: Run) -> None:
    rules = Classification(types={RuntimeError: ErrorCategory.DATA})
    run(guarded(Service(RuntimeError("x")), failures=1), policies=[rules])
    assert state() is CircuitState.CLOSED


def test_attempts_count_and_a_timeout_is_a_failure(run: Run) -> None:
    service = Service()
    service.takes = 100
    result = run(guarded(service, timeout=5.0, retries=5))
    assert service.calls == 2  # the third attempt was rejected, and a rejection is not repeated
    assert isinstance(result.error, CircuitOpen)


def test_slow_calls_count_if_asked(run: Run) -> None:
    service = Service()
    service.takes = 3
    step = guarded(service, slow_call=2.0)
    assert [run(step).success for _ in range(2)] == [True, True]
    assert state() is CircuitState.OPEN


def test_a_rate_needs_failures_and_a_share_of_them(run: Run) -> None:
    service = Service()
    step = guarded(service, rate=0.5)
    for error in (None, None, None, ConnectionError(), ConnectionError()):
        service.error = error
        run(step)
    assert state() is CircuitState.CLOSED  # 2 of 5
    run(step)
    assert state() is CircuitState.OPEN


def test_failures_outside_the_window_are_forgotten(run: Run, clock: FakeClock) -> None:
    step = guarded(Service(ConnectionError()))

    async def look() -> tuple[CircuitState, int]:
        seen = breaker_state("service")
        return seen.state, seen.failures

    run(step)
    clock.advance(60)
    assert clock.run(look()) == (CircuitState.CLOSED, 0)
    run(step)
    assert clock.run(look()) == (CircuitState.CLOSED, 1)


# -- probes


async def _concurrent_probes(step: Step[Any, Any], flow: MakeFlow, service: Service) -> list[RunResult[Any]]:
    runner = flow(step)
    service.error = ConnectionError()
    for _ in range(2):
        await runner.run_async(1)
    await asyncio.sleep(30)
    service.error, service.calls, service.takes = None, 0, 1.0
    return await runner.run_many(range(50))


@pytest.mark.parametrize("probes", [1, 3])
def test_no_more_probes_than_allowed_are_out_together(probes: int, flow: MakeFlow, clock: FakeClock) -> None:
    service = Service()
    results = clock.run(_concurrent_probes(guarded(service, probes=probes), flow, service))
    assert service.calls == probes
    assert sum(result.success for result in results) == probes
    assert {str(result.error) for result in results if not result.success} == {
        "circuit breaker 'service' is being probed"
    }
    assert state() is CircuitState.CLOSED


@pytest.mark.parametrize("ending", ["cancelled", "paused", "programming error", "outer timeout"])
def test_a_probe_that_says_nothing_gives_its_slot_back(ending: str, flow: MakeFlow, clock: FakeClock) -> None:
    service = Service(ConnectionError())
    runner = flow(guarded(service, failures=1))

    async def program() -> RunResult[Any]:
        await runner.run_async(1)
        await asyncio.sleep(30)
        service.error, service.takes = None, 5.0
        match ending:
            case "cancelled":
                handle = runner.start(1)
                await asyncio.sleep(1)
                assert breaker_state("service").probes == 1
                handle.cancel()
                assert (await handle).status is RunStatus.CANCELLED
            case "paused":
                service.error = PauseSignal("which?")
                assert (await runner.run_async(1)).status is RunStatus.PAUSED
            case "programming error":
                service.error = TypeError("ours")
                await runner.run_async(1)
            case _:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1):
                        await runner.run_async(1)
        assert breaker_state("service").probes == 0
        service.error = None
        return await runner.run_async(1)

    assert clock.run(program()).success
    assert state() is CircuitState.CLOSED


def test_a_call_from_before_the_change_does_not_count(flow: MakeFlow, clock: FakeClock) -> None:
    service = Service()
    runner = flow(guarded(service, failures=1))

    async def program() -> None:
        service.takes, service.error = 40.0, ConnectionError()
        late = runner.start(1)  # fails when the circuit is closed again
        await asyncio.sleep(1)
        service.takes = 0.0
        await runner.run_async(1)
        await asyncio.sleep(31)
        service.error = None
        assert (await runner.run_async(1)).success
        service.error = ConnectionError()
        await late

    clock.run(program())
    assert state() is CircuitState.CLOSED


# -- together with recovery


def test_the_fallback_runs_at_once_while_it_is_open(run: Run, clock: FakeClock) -> None:
    service = Service(ConnectionError())
    strategy = RecoveryStrategy(name="s", max_retries=5, retry_delay_seconds=1, jitter=False)
    step = guarded(service, failures=1, policies=[strategy], fallback=Step("cheap", Service()))
    assert run(step).output == "in"  # one attempt, one wait of 1 s, and the circuit is open
    assert (service.calls, clock.elapsed) == (1, 1.0)
    result = run(step)
    assert (service.calls, clock.elapsed) == (1, 1.0)
    assert result.step_history[0].metadata["fallback_triggered"] is True


def test_a_strategy_may_open_it(run: Run) -> None:
    strategy = RecoveryStrategy(
        name="s", error_patterns=["quota"], max_retries=0, fallback_actions=[RecoveryAction.CIRCUIT_BREAK]
    )
    service = Service(RuntimeError("quota used up"))
    step = guarded(service, failures=100, policies=[strategy], fallback=Step("cheap", Service()))
    result = run(step)
    assert (result.output, state()) == ("in", CircuitState.OPEN)
    assert result.step_history[0].metadata["recovery"] == "circuit_break"


def test_it_refuses_before_anything_is_waited_for(run: Run, clock: FakeClock) -> None:
    step = guarded(Service(ConnectionError()), failures=1, policies=[RateLimit(1, per=1000), Bulkhead(1)])
    for _ in range(5):
        run(step)
    assert clock.elapsed == 0


# -- what can be seen


def test_every_change_is_an_event(run: Run, clock: FakeClock) -> None:
    events: list[Event] = []
    service = Service(ConnectionError("down"))
    step = guarded(service, failures=1)
    run(step, hooks=[events.append])
    clock.advance(30)
    service.error = None
    run(step, hooks=[events.append])
    changes = [event for event in events if event.kind is EventKind.BREAKER]
    assert [(event.path, event.detail["from"], event.detail["to"]) for event in changes if event.detail] == [
        ("0:call", "closed", "open"),
        ("0:call", "open", "half_open"),
        ("0:call", "half_open", "closed"),
    ]
    assert changes[0].detail == {
        "name": "service",
        "from": "closed",
        "to": "open",
        "reason": "1 failures within 60 s; the last: ConnectionError: down",
        "retry_after": 30.0,
    }


def test_every_change_is_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run(guarded(Service(ConnectionError("down")), failures=1))
    assert [record.getMessage() for record in caplog.records if record.name == "flow"] == [
        "circuit breaker 'service': closed -> open (1 failures within 60 s; the last: ConnectionError: down)"
    ]


def test_states_can_be_read_and_set_by_hand(run: Run) -> None:
    breaker = CircuitBreaker("service")
    service = Service()
    step = Step("call", service, policies=[breaker])
    assert run(step).success
    assert list(CircuitBreaker.states()) == ["service"]
    assert breaker.state == breaker_state("service")
    breaker.force_open("maintenance")
    assert isinstance(run(step).error, CircuitOpen)
    breaker.reset()
    assert run(step).success
    assert service.calls == 2


def test_an_unknown_circuit_is_named_with_those_there_are(run: Run) -> None:
    run(guarded(Service()))
    with pytest.raises(KeyError, match="no circuit breaker 'other' in this process; there are: service"):
        breaker_state("other")


# -- one per name


def test_steps_flows_and_loops_share_it(flow: MakeFlow) -> None:
    failing, other = Service(ConnectionError()), Service()
    flow(guarded(failing, failures=1)).run("x")  # each on a loop of its own
    assert isinstance(flow(guarded(other, failures=1)).run("x").error, CircuitOpen)
    assert other.calls == 0


def test_one_name_has_one_set_of_settings(flow: MakeFlow) -> None:
    flow(guarded(Service())).run("x")
    with pytest.raises(ConfigurationError, match="'service' is used with different settings: failures 2 and 7"):
        flow(guarded(Service(), failures=7)).run("x")


@pytest.mark.parametrize("policy", [CircuitBreaker("a"), RateLimit(1), Bulkhead(1)], ids=lambda p: type(p).__name__)
def test_it_is_no_policy_of_a_flow(policy: Any, run: Run) -> None:
    with pytest.raises(ConfigurationError, match="is a policy of steps"):
        run(Step("call", str), policies=[policy])


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a", "failures": 0},
        {"name": "a", "window": 0},
        {"name": "a", "open_for": float("inf")},
        {"name": "a", "probes": True},
        {"name": "a", "rate": 1.5},
        {"name": "a", "slow_call": -1},
    ],
    ids=repr,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"CircuitBreaker: \w+ must be"):
        CircuitBreaker(**wrong)
