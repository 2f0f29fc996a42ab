"""Each hook does what its documentation says: who is asked when, how answers combine, what raising does."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import attrs
import pytest

from core.tests.fake_site import Site, site
from flow import (
    BaseStep,
    Binder,
    Cache,
    CacheBackend,
    ConfigurationError,
    ErrorCategory,
    Event,
    EventKind,
    Execute,
    Failure,
    Flow,
    Kernel,
    Layer,
    PlaceOn,
    PluginError,
    Recovery,
    RecoveryAction,
    RunResult,
    Scope,
    Settings,
    StateBackend,
    Step,
    StepResult,
    StepRun,
    Tracer,
    UsageLimits,
    Wrapper,
    hookimpl,
    hookspecs,
)
from tests.workspace import ROOT, sources

__all__ = ["site"]


@pytest.fixture(autouse=True)
def no_settings_of_the_user(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plugin(*implementations: Callable[..., Any]) -> SimpleNamespace:
    """An object like a plugin module: each function is the implementation of the hook it is called after."""
    return SimpleNamespace(**{function.__name__: hookimpl(function) for function in implementations})


def kernel_with(*plugins: object, tables: Mapping[str, Mapping[str, Any]] | None = None) -> Kernel:
    return Kernel(Settings(tables=tables or {}), only=[], plugins=plugins)


def run_with(*plugins: object, pipeline: Any, data: Any = "x", **options: Any) -> RunResult[Any]:
    return Flow(pipeline, kernel=kernel_with(*plugins), **options).run(data)


async def echo(data: Any) -> Any:
    return data


@attrs.frozen(kw_only=True)
class Shout(BaseStep[str, str]):
    kind: ClassVar[str] = "shout"


def saying(mark: str) -> SimpleNamespace:
    """A plugin that runs `Shout` and adds its mark."""

    def flow_bind_step(step: Any, binder: Binder) -> Execute | None:
        if not isinstance(step, Shout):
            return None

        async def run(data: Any, scope: Scope) -> StepResult:
            return StepResult.ok(step, f"{data.upper()}{mark}")

        return run

    return plugin(flow_bind_step)


# -- flow_bind_step


def test_flow_bind_step_makes_what_runs_a_step() -> None:
    assert run_with(saying("!"), pipeline=Shout(name="shout") >> Step("echo", echo), data="hi").output == "HI!"


def test_flow_bind_step_is_asked_once_for_any_number_of_runs() -> None:
    asked: list[str] = []

    def flow_bind_step(step: Any, binder: Binder) -> None:
        asked.append(step.name)

    flow = Flow(Step("a", echo) >> Step("b", echo), kernel=kernel_with(plugin(flow_bind_step)))
    for data in range(3):
        flow.run(data)
    assert asked == ["pipeline", "a", "b"]


def test_flow_bind_step_uses_the_first_result() -> None:
    assert run_with(saying(" first"), saying(" second"), pipeline=Shout(name="shout")).output == "X second"


def test_flow_bind_step_asks_third_parties_before_the_kernel() -> None:
    def flow_bind_step(step: Any, binder: Binder) -> Execute | None:
        async def run(data: Any, scope: Scope) -> StepResult:
            return StepResult.ok(step, "mine")

        return run if isinstance(step, Step) else None

    assert run_with(plugin(flow_bind_step), pipeline=Step("a", echo)).output == "mine"


def test_flow_bind_step_binds_children_with_all_their_layers() -> None:
    attempts: list[int] = []

    @attrs.frozen(kw_only=True)
    class Twice(BaseStep[Any, Any]):
        kind: ClassVar[str] = "twice"
        body: BaseStep[Any, Any]

        def children(self) -> Mapping[str, BaseStep[Any, Any]]:
            return {"body": self.body}

    def flow_bind_step(step: Any, binder: Binder) -> Execute | None:
        if not isinstance(step, Twice):
            return None
        body = binder.bind(step.body, "body")

        async def run(data: Any, scope: Scope) -> StepResult:
            first = await body(data, scope.child("1"))
            second = await body(first.output, scope.child("2"))
            return StepResult.ok(step, second.output)

        return run

    async def flaky(data: int) -> int:
        attempts.append(data)
        if len(attempts) == 1:
            raise ConnectionError("gone")
        return data + 1

    result = run_with(plugin(flow_bind_step), pipeline=Twice(name="twice", body=Step("inc", flaky, retries=1)), data=1)
    assert (result.output, attempts) == (3, [1, 1, 2])
    assert [child.path for child in result.step("twice").children] == ["0:twice/1/body", "0:twice/2/body"]


def test_flow_bind_step_nobody_answers_is_an_error_that_names_the_kind() -> None:
    with pytest.raises(ConfigurationError, match="step 'shout' is of kind 'shout', which no installed plugin runs"):
        run_with(pipeline=Shout(name="shout"))


def test_flow_bind_step_raising_refuses_the_pipeline_before_anything_ran() -> None:
    ran: list[Any] = []

    async def note(data: Any) -> Any:
        ran.append(data)

    def flow_bind_step(step: Any, binder: Binder) -> None:
        if step.kind == "shout":
            raise ConfigurationError("no shouting")

    with pytest.raises(ConfigurationError, match="no shouting"):
        run_with(plugin(flow_bind_step), pipeline=Step("note", note) >> Shout(name="shout"))
    assert ran == []


# -- flow_wrap_step


def layered(layer: Layer, mark: str) -> SimpleNamespace:
    """A plugin that puts its mark around what comes out of every step."""

    def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
        def wrap(execute: Execute) -> Execute:
            async def wrapped(data: Any, scope: Scope) -> StepResult:
                result = await execute(data, scope)
                result.output = f"{mark}({result.output})"
                return result

            return wrapped

        return Wrapper(layer, wrap)

    return plugin(flow_wrap_step)


def test_flow_wrap_step_uses_every_answer_sorted_by_layer() -> None:
    plugins = (layered(Layer.GUARD, "guard"), layered(Layer.TRACE, "trace"), layered(Layer.FALLBACK, "fallback"))
    assert run_with(*plugins, pipeline=Step("a", echo)).output == "trace(fallback(guard(x)))"


def test_flow_wrap_step_reads_policies_by_type_and_leaves_other_steps_alone() -> None:
    @attrs.frozen
    class Prefix:
        text: str

    def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
        prefix = binder.policy(step, Prefix)
        if prefix is None:
            return None

        def wrap(execute: Execute) -> Execute:
            async def prefixed(data: Any, scope: Scope) -> StepResult:
                return await execute(prefix.text + data, scope)

            return prefixed

        return Wrapper(Layer.GUARD, wrap)

    pipeline = Step("a", echo, policies=[Prefix(">")]) >> Step("b", echo)
    assert run_with(plugin(flow_wrap_step), pipeline=pipeline).output == ">x"


def test_flow_wrap_step_inside_the_retry_layer_is_passed_once_per_attempt() -> None:
    passed: list[int] = []

    def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
        def wrap(execute: Execute) -> Execute:
            async def counted(data: Any, scope: Scope) -> StepResult:
                passed.append(scope.attempt)
                return await execute(data, scope)

            return counted

        return Wrapper(Layer.GUARD, wrap)

    async def broken(data: Any) -> Any:
        raise ConnectionError("gone")

    run_with(plugin(flow_wrap_step), pipeline=Step("a", broken, retries=2))
    assert passed == [1, 2, 3]


def test_flow_wrap_step_raising_refuses_the_pipeline() -> None:
    def flow_wrap_step(step: Any, binder: Binder) -> None:
        raise ConfigurationError("not with this step")

    with pytest.raises(ConfigurationError, match="not with this step"):
        run_with(plugin(flow_wrap_step), pipeline=Step("a", echo))


# -- flow_classify_error


class OutOfCredit(Exception):
    pass


async def pay(data: Any) -> Any:
    raise OutOfCredit("no money")


def classifying(category: ErrorCategory | None, asked: list[str] | None = None) -> SimpleNamespace:
    def flow_classify_error(error: BaseException, step: Any) -> ErrorCategory | None:
        if asked is not None:
            asked.append(f"{step.name}: {error}")
        return category if isinstance(error, OutOfCredit) else None

    return plugin(flow_classify_error)


@pytest.mark.parametrize(
    ("category", "attempts"),
    [(None, 3), (ErrorCategory.NETWORK, 3), (ErrorCategory.CONFIGURATION, 1), (ErrorCategory.USAGE, 1)],
)
def test_flow_classify_error_decides_whether_a_retry_makes_sense(category: ErrorCategory | None, attempts: int) -> None:
    result = run_with(classifying(category), pipeline=Step("pay", pay, retries=2))
    assert result.step("pay").attempts == attempts


def test_flow_classify_error_is_asked_once_per_failed_attempt() -> None:
    asked: list[str] = []
    run_with(classifying(ErrorCategory.NETWORK, asked), pipeline=Step("pay", pay, retries=1))
    assert asked == ["pay: no money", "pay: no money"]


def test_flow_classify_error_uses_the_first_result() -> None:
    last_registered = classifying(ErrorCategory.CONFIGURATION)
    result = run_with(classifying(ErrorCategory.NETWORK), last_registered, pipeline=Step("pay", pay, retries=2))
    assert result.step("pay").attempts == 1


def test_flow_classify_error_raising_fails_the_step_with_what_was_raised() -> None:
    def flow_classify_error(error: BaseException, step: Any) -> None:
        raise LookupError("no such category")

    result = run_with(plugin(flow_classify_error), pipeline=Step("pay", pay, retries=2))
    assert result.step("pay").feedback == "Agent failed with LookupError: no such category"


# -- flow_choose_recovery


def recovering(recovery: Recovery | None, seen: list[Failure] | None = None) -> SimpleNamespace:
    def flow_choose_recovery(failure: Failure) -> Recovery | None:
        if seen is not None:
            seen.append(failure)
        return recovery if failure.attempt == 1 else None

    return plugin(flow_choose_recovery)


@pytest.mark.parametrize(
    ("recovery", "success", "output"),
    [
        (Recovery(RecoveryAction.USE_VALUE, value="on the house"), True, "on the house"),
        (Recovery(RecoveryAction.SKIP), True, "x"),
        (Recovery(RecoveryAction.FALLBACK), True, "by card"),
        (Recovery(RecoveryAction.FAIL), False, None),
        (Recovery(RecoveryAction.ESCALATE), False, None),
        (None, True, "by card"),
    ],
    ids=["use value", "skip", "fallback", "fail", "escalate", "left to the next"],
)
def test_flow_choose_recovery_decides_what_follows(recovery: Recovery | None, success: bool, output: Any) -> None:
    async def by_card(data: Any) -> str:
        return "by card"

    step = Step("pay", pay, fallback=Step("card", by_card))
    result = run_with(recovering(recovery), pipeline=step)
    assert (result.success, result.step("pay").output) == (success, output)


def test_flow_choose_recovery_sees_the_failure_and_may_ask_for_another_attempt() -> None:
    seen: list[Failure] = []
    retry = Recovery(RecoveryAction.RETRY)
    result = run_with(recovering(retry, seen), classifying(ErrorCategory.NETWORK), pipeline=Step("pay", pay))
    assert result.step("pay").attempts == 2
    assert [(failure.path, failure.attempt, failure.category) for failure in seen] == [
        ("0:pay", 1, ErrorCategory.NETWORK),
        ("0:pay", 2, ErrorCategory.NETWORK),
    ]


def test_flow_choose_recovery_uses_the_first_result() -> None:
    first, last = Recovery(RecoveryAction.USE_VALUE, value="a"), Recovery(RecoveryAction.USE_VALUE, value="b")
    assert run_with(recovering(first), recovering(last), pipeline=Step("pay", pay)).output == "b"


def test_flow_choose_recovery_is_not_offered_errors_that_end_the_run() -> None:
    seen: list[Failure] = []

    async def spend(data: Any, *, run: StepRun) -> Any:
        run.usage.add(cost_usd=1.0)
        raise OutOfCredit

    result = run_with(
        recovering(None, seen), pipeline=Step("spend", spend), usage_limits=UsageLimits(total_cost_usd_limit=0.5)
    )
    assert (result.status, seen) == ("limit_exceeded", [])


def test_flow_choose_recovery_raising_fails_the_step() -> None:
    def flow_choose_recovery(failure: Failure) -> None:
        raise LookupError("no idea")

    result = run_with(plugin(flow_choose_recovery), pipeline=Step("pay", pay, retries=2))
    assert result.step("pay").feedback == "Agent failed with LookupError: no idea"


# -- flow_open_cache and flow_make_cache_key


class DictCache:
    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.closed = 0

    async def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> None:
        self.entries[key] = value

    async def aclose(self) -> None:
        self.closed += 1


def counting() -> tuple[list[Any], Step[Any, Any]]:
    calls: list[Any] = []

    async def work(data: Any) -> Any:
        calls.append(data)
        return data

    return calls, Step("work", work, cache=Cache())


def test_flow_open_cache_opens_once_per_flow_what_the_url_names() -> None:
    opened: list[tuple[str, Mapping[str, Any]]] = []
    cache = DictCache()

    def flow_open_cache(url: str, settings: Mapping[str, Any]) -> CacheBackend:
        opened.append((url, settings))
        return cache

    calls, step = counting()
    flow = Flow(
        step, cache="memory://mine", kernel=kernel_with(plugin(flow_open_cache), tables={"memory": {"size": 3}})
    )
    flow.run("x")
    assert flow.run("x").step("work").cached
    assert (calls, len(cache.entries)) == (["x"], 1)
    assert opened == [("memory://mine", {"size": 3})]


def test_flow_open_cache_asks_third_parties_before_the_kernel_and_goes_on_to_it() -> None:
    asked: list[str] = []

    def flow_open_cache(url: str, settings: Mapping[str, Any]) -> None:
        asked.append(url)

    calls, step = counting()
    flow = Flow(step, kernel=kernel_with(plugin(flow_open_cache)))
    flow.run("x")
    flow.run("x")
    assert (asked, calls) == (["memory://"], ["x"])


def test_flow_open_cache_raising_is_reported() -> None:
    def flow_open_cache(url: str, settings: Mapping[str, Any]) -> None:
        raise ConfigurationError("the disk is full")

    with pytest.raises(ConfigurationError, match="the disk is full"):
        run_with(plugin(flow_open_cache), pipeline=counting()[1])


def test_flow_make_cache_key_decides_what_counts_as_equal() -> None:
    def flow_make_cache_key(step: Any, data: Any, context: Any) -> bytes:
        return f"{step.name}:{data.lower()}".encode()

    calls, step = counting()
    flow = Flow(step, kernel=kernel_with(plugin(flow_make_cache_key)))
    assert [flow.run(data).output for data in ("Rome", "ROME", "Oslo")] == ["Rome", "Rome", "Oslo"]
    assert calls == ["Rome", "Oslo"]


def test_flow_make_cache_key_none_leaves_the_default_key() -> None:
    def flow_make_cache_key(step: Any, data: Any, context: Any) -> None:
        return None

    calls, step = counting()
    flow = Flow(step, kernel=kernel_with(plugin(flow_make_cache_key)))
    for data in ("x", "x", "X"):
        flow.run(data)
    assert calls == ["x", "X"]


def test_flow_make_cache_key_is_asked_only_for_steps_with_a_cache() -> None:
    asked: list[str] = []

    def flow_make_cache_key(step: Any, data: Any, context: Any) -> None:
        asked.append(step.name)

    run_with(plugin(flow_make_cache_key), pipeline=Step("plain", echo) >> counting()[1])
    assert asked == ["work"]


def test_flow_make_cache_key_raising_skips_the_cache_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    def flow_make_cache_key(step: Any, data: Any, context: Any) -> None:
        raise LookupError("no key")

    calls, step = counting()
    flow = Flow(step, kernel=kernel_with(plugin(flow_make_cache_key)))
    assert [flow.run("x").output for _ in range(3)] == ["x"] * 3
    assert calls == ["x"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "the cache of step 'work' makes no key and is not used: no key"
    ]


# -- flow_open_state


def test_flow_open_state_opens_once_per_flow_what_the_url_names() -> None:
    opened: list[str] = []
    store: StateBackend = Kernel(Settings(), only=[]).open_state("memory://")

    def flow_open_state(url: str, settings: Mapping[str, Any]) -> StateBackend | None:
        opened.append(url)
        return store if url == "memory://mine" else None

    flow = Flow(Step("a", echo), state="memory://mine", kernel=kernel_with(plugin(flow_open_state)))
    runs = [flow.run(data).run_id for data in "xy"]
    assert opened == ["memory://mine"]

    other = Flow(Step("a", echo), state=store)  # the same store, handed over as an object
    assert [other_run.output for other_run in (resumed(other, run_id) for run_id in runs)] == ["x", "y"]


def resumed(flow: Flow[Any, Any], run_id: str) -> RunResult[Any]:
    return asyncio.run(flow.resume_async(run_id))


def test_flow_open_state_asks_third_parties_before_the_kernel_and_goes_on_to_it() -> None:
    asked: list[str] = []

    def flow_open_state(url: str, settings: Mapping[str, Any]) -> None:
        asked.append(url)

    assert run_with(plugin(flow_open_state), pipeline=Step("a", echo), state="memory://").success
    assert asked == ["memory://"]


def test_flow_open_state_raising_is_reported() -> None:
    def flow_open_state(url: str, settings: Mapping[str, Any]) -> None:
        raise ConfigurationError("the database is away")

    with pytest.raises(ConfigurationError, match="the database is away"):
        run_with(plugin(flow_open_state), pipeline=Step("a", echo), state="memory://")


def test_flow_open_state_unknown_scheme_names_the_package_that_would_know_it() -> None:
    with pytest.raises(PluginError, match=r"sqlite.* comes from flow-sqlite"):
        run_with(pipeline=Step("a", echo), state="sqlite:///runs.db")


# -- flow_open_tracer and flow_observe


class Listing(Tracer):
    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.settings = settings
        self.kinds: list[EventKind] = []

    def on_event(self, event: Event) -> None:
        self.kinds.append(event.kind)


def test_flow_open_tracer_gives_what_watches_the_runs_of_a_flow() -> None:
    made: list[Listing] = []

    def flow_open_tracer(name: str, settings: Mapping[str, Any]) -> Tracer | None:
        made.append(Listing(settings))
        return made[-1] if name == "log" else None

    kernel = kernel_with(plugin(flow_open_tracer), tables={"log": {"level": "debug"}})
    flow = Flow(Step("a", echo), tracers=["log"], kernel=kernel)
    flow.run("x")
    flow.run("y")
    once = [EventKind.RUN_STARTED, EventKind.STEP_STARTED, EventKind.STEP_FINISHED, EventKind.RUN_FINISHED]
    assert [(tracer.settings, tracer.kinds) for tracer in made] == [({"level": "debug"}, once * 2)]


def test_flow_open_tracer_is_not_asked_when_no_tracer_is_switched_on() -> None:
    asked: list[str] = []

    def flow_open_tracer(name: str, settings: Mapping[str, Any]) -> None:
        asked.append(name)

    run_with(plugin(flow_open_tracer), pipeline=Step("a", echo))
    assert asked == []


def test_flow_open_tracer_goes_on_to_the_kernel(caplog: pytest.LogCaptureFixture) -> None:
    def flow_open_tracer(name: str, settings: Mapping[str, Any]) -> None:
        return None

    with caplog.at_level(logging.INFO, "flow.trace"):
        run_with(plugin(flow_open_tracer), pipeline=Step("a", echo), tracers=["log"])
    assert [record.getMessage().split()[0] for record in caplog.records] == [
        "run.started",
        "step.started",
        "step.finished",
        "run.finished",
    ]


def test_flow_open_tracer_raising_is_reported() -> None:
    def flow_open_tracer(name: str, settings: Mapping[str, Any]) -> None:
        raise ConfigurationError("no collector")

    with pytest.raises(ConfigurationError, match="no collector"):
        run_with(plugin(flow_open_tracer), pipeline=Step("a", echo), tracers=["log"])


def observing(seen: list[str]) -> SimpleNamespace:
    def flow_observe(event: Event) -> None:
        seen.append(event.kind.value)

    return plugin(flow_observe)


def test_flow_observe_reaches_every_implementation_without_being_switched_on() -> None:
    first: list[str] = []
    second: list[str] = []
    run_with(observing(first), observing(second), pipeline=Step("a", echo))
    assert first == second == ["run.started", "step.started", "step.finished", "run.finished"]


def test_flow_observe_raising_disables_that_observer_alone_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []
    seen: list[str] = []

    def flow_observe(event: Event) -> None:
        calls.append(event.kind.value)
        raise LookupError("blind")

    result = run_with(plugin(flow_observe), observing(seen), pipeline=Step("a", echo))
    assert result.output == "x"
    assert (calls, len(seen)) == (["run.started"], 4)
    assert len([record for record in caplog.records if "disabled for the rest of the run" in record.getMessage()]) == 1


# -- flow_open_engine

ENGINE = """
from flow import hookimpl

class Here:
    opened = []
    def place(self, step, binder):
        def wrap(execute):
            async def placed(data, scope):
                result = await execute(data, scope)
                result.output = f"{result.output} placed"
                return result
            return placed
        return wrap
    async def aclose(self): ...

@hookimpl
def flow_open_engine(url, settings):
    if url == "here://nowhere":
        raise RuntimeError("nobody there")
    Here.opened.append(url)
    return Here() if url.startswith("here://host") else None
"""


@pytest.fixture
def kernel_with_engine(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """A kernel that sees an installed engine called ``here``."""
    site.add("flow-here", {"flow.engines": {"here": "flow_here"}}, {"flow_here": ENGINE})
    yield Kernel(Settings(), only=["here"])
    sys.modules.pop("flow_here", None)


def test_flow_open_engine_opens_once_per_kernel_and_url_what_steps_are_placed_on(kernel_with_engine: Kernel) -> None:
    from flow_here import Here

    on = PlaceOn("here://host")
    pipeline = Step("a", echo, policies=[on]) >> Step("b", echo) >> Step("c", echo, policies=[on])
    flow = Flow(pipeline, kernel=kernel_with_engine)
    assert [flow.run(data).output for data in "xy"] == ["x placed placed", "y placed placed"]
    assert Here.opened == ["here://host"]


def test_flow_open_engine_nobody_answers_is_an_error(kernel_with_engine: Kernel) -> None:
    with pytest.raises(ConfigurationError, match="did not open 'here://elsewhere'"):
        Flow(Step("a", echo, policies=[PlaceOn("here://elsewhere")]), kernel=kernel_with_engine).run("x")


def test_flow_open_engine_raising_refuses_the_pipeline(kernel_with_engine: Kernel) -> None:
    with pytest.raises(RuntimeError, match="nobody there"):
        Flow(Step("a", echo, policies=[PlaceOn("here://nowhere")]), kernel=kernel_with_engine).run("x")


# -- completeness

HOOKS = sorted(name for name, item in vars(hookspecs).items() if name.startswith("flow_") and inspect.isfunction(item))


@pytest.mark.check
@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_test_named_after_it(hook: str) -> None:
    places = sources(ROOT / "tests") + sources(ROOT / "core/tests")
    assert [source.place for source in places if re.search(rf"^(async )?def test_{hook}_", source.text, re.MULTILINE)]


@pytest.mark.check
@pytest.mark.parametrize("hook", HOOKS)
def test_hook_says_phase_combination_and_what_raising_does(hook: str) -> None:
    text = inspect.getdoc(vars(hookspecs)[hook]) or ""
    assert re.search(r"Phase: (declare|bind|open|run)\b", text)
    first = bool(vars(vars(hookspecs)[hook])["flow_spec"]["firstresult"])
    assert re.search("Combines: first result" if first else "Combines: (all|every)", text)
    assert "Raising" in text
