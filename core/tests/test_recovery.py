"""Recovery: waits, budgets, the chain of actions, strategies of a whole flow. The clock is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import attrs
import pytest

from core.tests.conftest import Recorder
from core.tests.skipping import run_skipping
from flow import (
    BaseStep,
    BaseValidator,
    Binder,
    CancelSignal,
    CircuitOpen,
    ConfigurationError,
    ErrorCategory,
    Event,
    EventKind,
    Execute,
    Failure,
    FallbackLoop,
    Flow,
    Kernel,
    PauseSignal,
    Pipeline,
    PluginFailed,
    PluginOutcome,
    Recovery,
    RecoveryAction,
    RecoveryStrategy,
    RunResult,
    RunStatus,
    Scope,
    Settings,
    Step,
    StepResult,
    StepRun,
    StepTimeout,
    ValidationFailed,
    ValidationPlugin,
    ValidationResult,
    hookimpl,
)
from flow.errors import Escalated


class Flaky:
    """Raises the given errors in turn, then returns the data."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.feedback: list[str | None] = []

    async def run(self, data: Any, *, run: StepRun) -> Any:
        self.calls += 1
        self.feedback.append(run.feedback)
        run.usage.add(cost_usd=1.0)
        if self.errors:
            raise self.errors.pop(0)
        return data


def down(times: int = 1000) -> Flaky:
    return Flaky(*(ConnectionError(f"down {index}") for index in range(1, times + 1)))


class HttpError(Exception):
    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"status {status}")
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = SimpleNamespace(status_code=status, headers=names)


def strategy(**settings: Any) -> RecoveryStrategy:
    return RecoveryStrategy(**{"name": "s", "jitter": False, "retry_delay_seconds": 1.0, **settings})


def skipping(pipeline: Any, data: Any = "in", **options: Any) -> tuple[RunResult[Any], float]:
    """Run a pipeline; return the result and the simulated seconds it took."""
    return run_skipping(Flow(pipeline, **{"kernel": Kernel(Settings(), only=[]), **options}).run_async(data))


# -- waiting


def test_waits_grow_twofold_up_to_the_cap() -> None:
    agent = down(4)
    result, seconds = skipping(Step("a", agent, policies=[strategy(max_retries=4, max_delay_seconds=3.0)]))
    assert (result.success, agent.calls, seconds) == (True, 5, 1.0 + 2.0 + 3.0 + 3.0)


def test_jitter_takes_any_part_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: low + (high - low) / 4)
    _, seconds = skipping(Step("a", down(2), policies=[strategy(jitter=True)]))
    assert seconds == 0.25 + 0.5


@pytest.mark.parametrize(
    ("settings", "asked", "seconds"),
    [
        ({}, "7", 7.0),
        ({}, "0.2", 1.0),  # the strategy's own wait is longer
        ({}, "500", 60.0),
        ({"max_delay_seconds": 5.0}, "500", 5.0),
        ({"max_delay_seconds": 5.0, "max_retry_after_seconds": 600.0}, "500", 500.0),
    ],
)
def test_a_service_is_given_the_time_it_asks_for(settings: dict[str, Any], asked: str, seconds: float) -> None:
    agent = Flaky(HttpError(429, retry_after=asked))
    result, waited = skipping(Step("a", agent, policies=[strategy(**settings)]))
    assert (result.success, waited) == (True, seconds)


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7.0), ("500", 60.0)])
def test_plain_retries_wait_only_when_a_service_asks_for_it(asked: str, seconds: float) -> None:
    agent = Flaky(ConnectionError(), HttpError(503, retry_after=asked))
    result, waited = skipping(Step("a", agent, retries=2))
    assert (result.success, waited) == (True, seconds)


def test_a_wait_that_outlasts_the_deadline_is_not_begun() -> None:
    agent = down()
    result, seconds = skipping(
        Step("a", agent, policies=[strategy(max_retries=9, retry_delay_seconds=4.0)]), deadline=10.0
    )
    assert (agent.calls, seconds) == (2, 4.0)  # the next wait would be 8 s
    assert result.status is RunStatus.FAILED
    assert isinstance(result.error.cause, ConnectionError)  # type: ignore[union-attr]
    assert result.step_history[0].metadata["retry_refused"] == "deadline"


def test_the_fallback_gets_the_time_that_a_retry_would_have_waited() -> None:
    step = Step("a", down(), policies=[strategy(retry_delay_seconds=30.0)], fallback=Step("b", Flaky()))
    result, seconds = skipping(step, deadline=10.0)
    assert (result.output, seconds) == ("in", 0.0)


async def test_cancelling_a_run_ends_its_wait(kernel: Kernel) -> None:
    waiting = asyncio.Event()

    def listen(event: Event) -> None:
        if event.kind is EventKind.RETRY:
            waiting.set()

    agent = down()
    step = Step("a", agent, policies=[strategy(retry_delay_seconds=3600.0, max_delay_seconds=3600.0)])
    handle = Flow(step, kernel=kernel, hooks=[listen]).start("x")
    await waiting.wait()
    handle.cancel()
    async with asyncio.timeout(10):
        result = await handle
    assert (result.status, agent.calls) == (RunStatus.CANCELLED, 1)


def test_a_wait_counts_for_no_attempt_and_holds_no_guard() -> None:
    inside = 0
    during_waits: list[int] = []

    class Guarding:
        @hookimpl
        def flow_wrap_step(self, step: Any, binder: Binder) -> Any:
            from flow import Layer, Wrapper

            def wrap(execute: Execute) -> Execute:
                async def guarded(data: Any, scope: Scope) -> StepResult:
                    nonlocal inside
                    inside += 1
                    try:
                        return await execute(data, scope)
                    finally:
                        inside -= 1

                return guarded

            return Wrapper(Layer.GUARD, wrap)

    def listen(event: Event) -> None:
        if event.kind is EventKind.RETRY:
            during_waits.append(inside)

    kernel = Kernel(Settings(), only=[], plugins=[Guarding()])
    step = Step("a", down(2), timeout=1.0, policies=[strategy(retry_delay_seconds=30.0)])
    result, seconds = skipping(step, kernel=kernel, hooks=[listen])
    assert (result.success, seconds, during_waits) == (True, 90.0, [0, 0])


def test_events_tell_what_failed_and_how_long_the_retry_waits(recorder: Recorder) -> None:
    skipping(Step("a", down(2), policies=[strategy()]), hooks=[recorder])
    assert [(event.attempt, str(event.error)) for event in recorder.of(EventKind.ATTEMPT_FAILED)] == [
        (1, "down 1"),
        (2, "down 2"),
    ]
    assert [(event.attempt, event.delay_s) for event in recorder.of(EventKind.RETRY)] == [(2, 1.0), (3, 2.0)]


# -- what is retried


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (ConnectionError(), 3),
        (ValueError(), 3),
        (HttpError(503), 3),
        (HttpError(429), 3),
        (HttpError(400), 1),
        (HttpError(401), 1),
        (HttpError(404), 1),
        (HttpError(402), 1),
        (TypeError(), 1),
        (CircuitOpen("open", retry_after=0.0), 1),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "policies", [[], [strategy(max_retries=2, retry_delay_seconds=0.0)]], ids=["plain", "strategy"]
)
def test_only_what_may_go_well_next_time_is_retried(error: Exception, calls: int, policies: list[Any]) -> None:
    if policies and isinstance(error, CircuitOpen):
        calls = 3  # its wait is over at once
    agent = Flaky(*[error] * 10)
    skipping(Step("a", agent, retries=2, policies=policies))
    assert agent.calls == calls


def test_a_strategy_that_names_a_mistake_retries_it() -> None:
    agent = Flaky(TypeError(), HttpError(404))
    named = strategy(error_types={TypeError}, applies_to_categories={ErrorCategory.CONFIGURATION})
    assert skipping(Step("a", agent, policies=[named]))[0].success


@pytest.mark.parametrize(
    ("retry_after", "calls", "waited"),
    [(30.0, 1, 0.0), (2.0, 3, 3.0)],  # the strategy waits 1 s, then 2: an open circuit is waited for if that is enough
)
def test_an_open_circuit_leads_to_the_fallback_unless_the_wait_fits(
    retry_after: float, calls: int, waited: float
) -> None:
    agent = Flaky(ConnectionError(), CircuitOpen("open", retry_after=retry_after))
    first = Flaky(CircuitOpen("open", retry_after=retry_after)) if calls == 1 else agent
    result, seconds = skipping(Step("a", first, policies=[strategy()], fallback=Step("b", Flaky())))
    assert (result.success, first.calls, seconds) == (True, calls, waited)


def test_the_first_strategy_that_matches_decides() -> None:
    policies = [
        strategy(error_types={KeyError}, max_retries=0),
        strategy(error_patterns=["down"], max_retries=1),
        strategy(max_retries=5),
    ]
    agent = down()
    skipping(Step("a", agent, retries=9, policies=policies))
    assert agent.calls == 2


# -- the chain of actions


@pytest.mark.parametrize(
    ("actions", "fallback", "output", "metadata"),
    [
        (["fallback", "use_value"], None, "value", {"recovery": "use_value"}),
        (["fallback", "use_value"], Flaky(), "in", {"fallback_triggered": True}),
        (["fallback", "use_value"], down(), "value", {"fallback_triggered": True, "recovery": "use_value"}),
        (["fallback", "fallback", "skip"], down(), "in", {"fallback_triggered": True, "recovery": "skip"}),
        (["circuit_break", "skip"], None, "in", {"recovery": "skip"}),
        (["circuit_break"], Flaky(), "in", {"fallback_triggered": True, "recovery": "circuit_break"}),
        (["use_value", "skip"], Flaky(), "value", {"recovery": "use_value"}),
        ([], Flaky(), "in", {"fallback_triggered": True}),
    ],
)
def test_actions_are_tried_in_their_order(
    actions: list[str], fallback: Flaky | None, output: str, metadata: dict[str, Any]
) -> None:
    policy = strategy(max_retries=0, fallback_actions=actions, fallback_value="value")
    second = None if fallback is None else Step("b", Flaky(*fallback.errors))
    result, _ = skipping(Step("a", down(), policies=[policy], fallback=second))
    found = dict(result.step_history[0].metadata)
    found.pop("original_error")
    assert (result.output, found) == (output, metadata)


@pytest.mark.parametrize(
    ("actions", "recovery"), [(["fail"], "fail"), (["escalate"], "escalate"), (["circuit_break", "fail"], "fail")]
)
def test_actions_that_fail_leave_the_fallback_out(actions: list[str], recovery: str) -> None:
    second = Flaky()
    step = Step("a", down(), policies=[strategy(max_retries=0, fallback_actions=actions)], fallback=Step("b", second))
    result, _ = skipping(step)
    assert (result.status, second.calls) == (RunStatus.FAILED, 0)
    assert result.step_history[0].metadata == {"recovery": recovery}
    assert result.step_history[0].feedback == "Agent failed with ConnectionError: down 1"


def test_the_original_error_is_kept_beside_a_value() -> None:
    policy = strategy(primary_action=RecoveryAction.USE_VALUE, fallback_value=0)
    result, _ = skipping(Step("a", down(), policies=[policy]))
    assert result.output == 0
    assert result.step_history[0].metadata["original_error"] == "Agent failed with ConnectionError: down 1"


def test_an_action_that_opens_the_circuit_reaches_the_policies_of_the_step() -> None:
    opened = []

    @attrs.frozen
    class Breaker:
        name: str

        async def open_circuit(self, scope: Scope) -> None:
            opened.append((self.name, scope.path))

    policy = strategy(primary_action=RecoveryAction.CIRCUIT_BREAK)
    skipping(Step("a", down(), policies=[policy, Breaker("x"), Breaker("y")]))
    assert opened == [("x", "0:a"), ("y", "0:a")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_retries": -1},
        {"retry_delay_seconds": float("nan")},
        {"max_delay_seconds": "long"},
        {"error_types": {"ValueError"}},
        {"fallback_actions": [RecoveryAction.RETRY]},
    ],
)
def test_a_strategy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        strategy(**wrong)


@pytest.mark.parametrize(
    ("signal", "status"), [(PauseSignal("which?"), RunStatus.PAUSED), (CancelSignal(), RunStatus.CANCELLED)]
)
def test_control_flow_is_neither_retried_nor_replaced(signal: BaseException, status: RunStatus) -> None:
    agent, second = Flaky(signal), Flaky()
    policy = strategy(fallback_actions=["use_value"], fallback_value=1)
    result, _ = skipping(Step("a", agent, retries=3, policies=[policy], fallback=Step("b", second)))
    assert (result.status, agent.calls, second.calls) == (status, 1, 0)


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_fallbacks_in_a_circle_are_reported(names: list[str]) -> None:
    steps = [Step(name, down()) for name in names]
    for step, following in zip(steps, [*steps[1:], steps[0]], strict=True):
        object.__setattr__(step, "fallback", following)  # values cannot form a circle by honest means
    with pytest.raises(FallbackLoop, match=" -> ".join([*names, "a"])):
        skipping(steps[0])


# -- containers: escalation and budgets


@attrs.frozen(kw_only=True)
class Around(BaseStep[Any, Any]):
    """A step around another one, as simple as containers get."""

    kind: ClassVar[str] = "around"
    inner: BaseStep[Any, Any]

    def children(self) -> Mapping[str, BaseStep[Any, Any] | Pipeline[Any, Any]]:
        return {"inner": self.inner}


class Arounds:
    @hookimpl
    def flow_bind_step(self, step: Any, binder: Binder) -> Execute | None:
        if not isinstance(step, Around):
            return None
        execute = binder.bind(step.inner, "inner")

        async def run(data: Any, scope: Scope) -> StepResult:
            result = await execute(data, scope)
            if result.success:
                return StepResult.ok(step, result.output)
            return StepResult.failed(step, result.feedback or "", result.error)

        return run


def nested(step: BaseStep[Any, Any], depth: int, **settings: Any) -> BaseStep[Any, Any]:
    for level in range(depth):
        step = Around(name=f"level{level}", inner=step, **settings)
    return step


def in_containers(step: BaseStep[Any, Any], **options: Any) -> RunResult[Any]:
    kernel = Kernel(Settings(), only=[], plugins=[Arounds()])
    return skipping(step, kernel=kernel, **options)[0]


def test_what_is_escalated_passes_the_retries_and_fallbacks_of_all_steps_around_it() -> None:
    agent, fallback = down(), Flaky()
    inner = Step("a", agent, policies=[strategy(max_retries=1, fallback_actions=["escalate"])])
    result = in_containers(nested(inner, 2, retries=3, fallback=Step("b", fallback)))
    assert (result.status, agent.calls, fallback.calls) == (RunStatus.FAILED, 2, 0)
    assert isinstance(result.error, Escalated)
    assert isinstance(result.error.cause, ConnectionError)
    assert result.failed_path == "0:level1/inner/inner"
    assert result.step_history[0].feedback == "Agent failed with ConnectionError: down 2"


@pytest.mark.parametrize(
    ("budget", "calls"),
    [
        (0, 4 + 3 + 3),  # each level retries in the first attempt of those around it: sums, no product
        (10, 4 + 3 + 3 + 10),
        (1000, 4 * 4 * 4),
    ],
)
def test_retries_inside_of_retries_have_a_budget(budget: int, calls: int) -> None:
    agent = down()
    result = in_containers(nested(Step("a", agent, retries=3), 2, retries=3), retry_budget=budget)
    assert (result.status, agent.calls) == (RunStatus.FAILED, calls)


def test_the_budget_bounds_any_depth_by_default() -> None:
    agent = down(100_000)
    in_containers(nested(Step("a", agent, retries=5), 5, retries=5))
    assert agent.calls <= 1 + 6 * 5 + 100  # and not 6 ** 6


def test_what_the_budget_refuses_says_so_and_goes_to_the_fallback() -> None:
    fallback = Flaky()
    inner = Step("a", down(), retries=1, fallback=Step("b", Flaky(ValueError())))
    result = in_containers(nested(inner, 1, retries=1, fallback=Step("c", fallback)), retry_budget=0)
    last = [item for item in result.walk() if item.name == "a"][-1]
    assert result.success  # the second attempt of the fallback goes well
    assert last.metadata["retry_refused"] == "budget"


def test_many_steps_in_a_row_need_no_budget() -> None:
    steps: list[BaseStep[Any, Any]] = [Step(f"s{index}", down(3), retries=3) for index in range(50)]
    assert skipping(Pipeline(steps), retry_budget=0)[0].success


def test_the_retries_of_a_fallback_need_no_budget() -> None:
    step = Step("a", down(), retries=1, fallback=Step("b", down(3), retries=3))
    assert skipping(step, retry_budget=0)[0].success


# -- strategies of a whole flow


def test_a_strategy_of_the_flow_covers_each_step_but_not_what_is_around_it() -> None:
    agent = down()
    result = in_containers(nested(Step("a", agent), 2), policies=[strategy(max_retries=2, retry_delay_seconds=0)])
    assert (result.status, agent.calls) == (RunStatus.FAILED, 3)


def test_a_strategy_of_the_step_goes_before_that_of_the_flow() -> None:
    agent = down()
    own, general = strategy(error_types={ConnectionError}, max_retries=0), strategy(max_retries=5)
    skipping(Step("a", agent, policies=[own]), policies=[general])
    assert agent.calls == 1


def test_hooks_see_the_policies_of_the_flow_on_the_step() -> None:
    seen: list[Failure] = []

    class Watching:
        @hookimpl
        def flow_choose_recovery(self, failure: Failure) -> Recovery | None:
            seen.append(failure)
            return None

    kernel = Kernel(Settings(), only=[], plugins=[Watching()])
    ours = strategy(max_retries=0)
    skipping(Step("a", Flaky(HttpError(503, retry_after="4")), policies=["own"]), kernel=kernel, policies=[ours])
    (failure,) = seen
    assert (failure.step.policies, failure.status, failure.retry_after) == (("own", ours), 503, 4.0)
    assert (failure.category, failure.attempt, failure.path) == (ErrorCategory.EXTERNAL_SERVICE, 1, "0:a")


# -- checks, plugins and agents fail in words of their own, and alike otherwise


class Longer(BaseValidator):
    name = "longer"

    async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
        return ValidationResult(is_valid=len(output) > 2, feedback="too short", validator_name=self.name)


class Polite(ValidationPlugin):
    name = "polite"

    async def check(self, output: Any, *, context: Any = None) -> PluginOutcome:
        return PluginOutcome(success="please" in output, feedback="be polite")


@pytest.mark.parametrize(
    ("settings", "feedback", "kind"),
    [
        ({"validators": [Longer()]}, "Validation failed: longer: too short", ValidationFailed),
        ({"plugins": [Polite()]}, "Plugin failed: be polite", PluginFailed),
    ],
)
def test_what_a_check_refuses_is_tried_again_with_its_reason(
    settings: dict[str, Any], feedback: str, kind: type[Exception]
) -> None:
    agent = Flaky()
    result, _ = skipping(Step("a", agent, retries=2, **settings), "x")
    assert (result.status, agent.calls) == (RunStatus.FAILED, 3)
    assert agent.feedback == [None, feedback, feedback]
    assert isinstance(result.error, kind)
    assert result.total_cost_usd == 3.0
    assert result.step_history[0].output == "x"  # what was refused is there to be looked at


def test_a_strategy_can_tell_them_apart() -> None:
    only_checks = strategy(applies_to_categories={ErrorCategory.VALIDATION}, max_retries=1, retry_delay_seconds=0)
    refused, failing = Flaky(), down()
    skipping(Step("a", refused, policies=[only_checks], validators=[Longer()]), "x")
    skipping(Step("a", failing, policies=[only_checks], validators=[Longer()]), "x")
    assert (refused.calls, failing.calls) == (2, 1)


# -- the timeout of an attempt


def test_attempts_that_run_beside_each_other_each_have_their_own_time() -> None:
    async def sleeper(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def staggered() -> list[RunResult[float]]:
        flow = Flow(Step("a", sleeper, timeout=10.0), kernel=Kernel(Settings(), only=[]))

        async def later(start: float, seconds: float) -> RunResult[float]:
            await asyncio.sleep(start)
            return await flow.run_async(seconds)

        return await asyncio.gather(
            *(later(*item) for item in [(0, 9), (1, 11), (5, 1), (6, 20), (8, 4), (30, 11), (31, 3)])
        )

    results, seconds = run_skipping(staggered())
    assert [result.success for result in results] == [True, False, True, False, True, False, True]
    assert [round(result.step_history[0].latency_s) for result in results] == [0] * 7  # no real time went by
    assert seconds == 40.0


def test_a_timeout_around_the_run_is_not_taken_for_the_step_s(kernel: Kernel) -> None:
    async def program() -> RunResult[Any]:
        flow = Flow(Step("a", asyncio.sleep, timeout=10.0), kernel=kernel)
        async with asyncio.timeout(5.0):
            return await flow.run_async(60.0)

    with pytest.raises(TimeoutError) as caught:
        run_skipping(program())
    assert not isinstance(caught.value, StepTimeout)


def test_a_step_can_time_out_on_one_loop_after_the_other(kernel: Kernel) -> None:
    flow = Flow(Step("a", asyncio.sleep, timeout=10.0), kernel=kernel)
    for _ in range(3):
        result, seconds = run_skipping(flow.run_async(60.0))
        assert (type(result.error), seconds) == (StepTimeout, 10.0)


def test_a_cancellation_that_comes_with_the_timeout_is_not_lost(kernel: Kernel) -> None:
    async def program() -> Any:
        flow = Flow(Step("a", asyncio.sleep, timeout=10.0), kernel=kernel)
        task = asyncio.create_task(flow.run_async(60.0))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(asyncio.get_running_loop().time() + 10.0, task.cancel)
        await asyncio.wait([task])
        return task.cancelled()

    assert run_skipping(program())[0] is True
