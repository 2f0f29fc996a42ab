"""Running one thing, watching it, and kernels that see only what a test names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from flow_testkit import (
    KernelFactory,
    RecordingObserver,
    StubAgent,
    arun_one,
    assert_step_sequence,
    gather_result,
    run_one,
)

from flow import (
    BaseStep,
    Binder,
    Execute,
    Flow,
    Pipeline,
    RunningLoopError,
    RunResult,
    RunStatus,
    Scope,
    Settings,
    Step,
    StepResult,
    hookimpl,
)
from flow.errors import ConfigurationError, PluginError

PIPELINE = Step("a", str.upper) >> Step("b", str.strip)


@attrs.frozen(kw_only=True)
class Shout(BaseStep[str, str]):
    kind: ClassVar[str] = "shout"
    times: int = 1


class ShoutPlugin:
    @hookimpl
    def flow_bind_step(self, step: Any, binder: Binder) -> Execute | None:
        if not isinstance(step, Shout):
            return None

        async def run(data: Any, scope: Scope) -> StepResult:
            return StepResult.ok(step, data.upper() + "!" * step.times)

        return run


# -- run_one and its kin


def test_run_one_runs_steps_and_pipelines() -> None:
    assert run_one(PIPELINE, " x ").output == "X"
    assert run_one(Step("a", str.upper), "x").output == "X"


def test_run_one_takes_options_of_flow_and_of_run() -> None:
    async def topic(data: Any, *, context: Any, resources: Any, run: Any) -> Any:
        return [context.scratchpad["topic"], resources, run.run_id, run.trace_id]

    result = run_one(
        Step("topic", topic),
        resources="db",
        run_id="r1",
        trace_id="t1",
        initial_context={"scratchpad": {"topic": "x"}},
    )
    assert result.output == ["x", "db", "r1", "t1"]


def test_run_one_returns_failures() -> None:
    assert run_one(Step("a", StubAgent([ValueError("bad")]))).status is RunStatus.FAILED


def test_run_one_refuses_unknown_options() -> None:
    with pytest.raises(TypeError, match="colour"):
        run_one(PIPELINE, "x", colour="red")


async def test_run_one_says_what_to_await_in_a_loop() -> None:
    with pytest.raises(RunningLoopError, match=r"await arun_one\(\.\.\.\)"):
        run_one(PIPELINE, "x")
    assert (await arun_one(PIPELINE, "x")).output == "X"


async def test_gather_result_drops_chunks() -> None:
    async def write(data: str) -> AsyncIterator[str]:
        yield data
        yield "!"

    result = await gather_result(Flow(Step("write", write)), "hi", run_id="r1")
    assert isinstance(result, RunResult)
    assert (result.output, result.run_id) == ("hi!", "r1")


# -- assert_step_sequence


def nested() -> RunResult[Any]:
    return run_one(PIPELINE.as_step("sub") >> Step("c", str.title), " x ")


@pytest.mark.parametrize("expected", [["sub", "c"], ["0:sub", "1:c"], ("sub", "1:c")])
def test_sequence_is_given_by_names_or_paths(expected: list[str]) -> None:
    assert_step_sequence(nested(), expected)


@pytest.mark.parametrize("expected", [["sub", "a", "b", "c"], ["0:sub", "0:sub/0:a", "0:sub/1:b", "1:c"]])
def test_nested_sequence_counts_what_is_inside(expected: list[str]) -> None:
    assert_step_sequence(nested(), expected, nested=True)


@pytest.mark.parametrize(
    ("expected", "lines"),
    [
        (["c", "sub"], ["the steps ran in another order", "  expected: c, sub", "  ran:      sub, c"]),
        (["sub"], ["other steps ran than expected", "  sub", "+ c"]),
        ([], ["  expected: none"]),
        (["sub", "d"], ["- d", "+ c", "'d' did not run", "steps of this run: 0:sub, 0:sub/0:a, 0:sub/1:b, 1:c"]),
        (["a", "b", "c"], ["'a' ran inside another step, at 0:sub/0:a: pass nested=True"]),
        (["0:sub", "2:c"], ["  ran:      0:sub, 1:c", "- 2:c", "+ 1:c"]),
    ],
)
def test_other_sequence_shows_the_difference(expected: list[str], lines: list[str]) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_step_sequence(nested(), expected)
    assert [line for line in lines if line not in str(caught.value).splitlines()] == []


def test_difference_says_why_the_run_ended() -> None:
    result = run_one(Step("a", StubAgent([ValueError("bad")])) >> Step("b", str.upper))
    with pytest.raises(AssertionError, match=r"the run ended failed at 0:a: .*ValueError: bad"):
        assert_step_sequence(result, ["a", "b"])


# -- the observer


def test_observer_records_kinds_and_paths(recording_observer: RecordingObserver) -> None:
    run_one(PIPELINE, "x", hooks=[recording_observer])
    assert recording_observer.kinds[0] == "run.started"
    assert recording_observer.kinds[-1] == "run.finished"
    assert recording_observer.paths == ["", "0:a", "0:a", "1:b", "1:b", ""]
    assert [event.step for event in recording_observer.of("step.finished")] == ["a", "b"]
    assert repr(recording_observer).splitlines()[:3] == ["RecordingObserver:", "  run.started", "  step.started 0:a"]


def test_observer_knows_the_kinds(recording_observer: RecordingObserver) -> None:
    with pytest.raises(ValueError, match=r"'step.stopped' is not a kind of event; there are: run.started, "):
        recording_observer.of("step.stopped")


def test_observer_forgets(recording_observer: RecordingObserver) -> None:
    run_one(PIPELINE, "x", hooks=[recording_observer])
    recording_observer.clear()
    assert recording_observer.events == []


# -- kernels


def test_kernel_sees_given_plugins(flow_kernel: KernelFactory) -> None:
    result = run_one(Shout(name="shout", times=2), "x", kernel=flow_kernel(plugins=[ShoutPlugin()]))
    assert result.output == "X!!"


def test_kernel_sees_nothing_else(flow_kernel: KernelFactory) -> None:
    with pytest.raises(ConfigurationError, match="'shout', which no installed plugin runs"):
        run_one(Shout(name="shout"), "x", kernel=flow_kernel())


def test_kernel_runs_the_builtin_kinds(flow_kernel: KernelFactory) -> None:
    assert run_one(PIPELINE.as_step("sub"), "x", kernel=flow_kernel()).output == "X"


def test_kernel_refuses_unknown_names(flow_kernel: KernelFactory) -> None:
    with pytest.raises(PluginError, match="no plugin is called 'shuot'"):
        flow_kernel("shuot")


def test_kernel_reads_no_settings_of_the_user(
    flow_kernel: KernelFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "flow.toml").write_text('tracers = ["nowhere"]')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOW_STATE", "nowhere://")
    kernel = flow_kernel()
    assert (kernel.settings.state, kernel.settings.tracers) == (None, ())
    assert run_one(Pipeline(()), "x", kernel=kernel).output == "x"


def test_kernel_takes_settings(flow_kernel: KernelFactory) -> None:
    assert flow_kernel(settings=Settings(tracers=("log",))).settings.tracers == ("log",)


def test_named_plugin_is_found(flow_kernel: KernelFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from flow_testkit import FlowTester

    tester = FlowTester(tmp_path)
    source = """
        from flow import hookimpl

        @hookimpl
        def flow_bind_step(step, binder):
            return None
    """
    for name in ("first", "second"):
        tester.write_plugin(f"flow_{name}", source, entry_points={"flow.steps": {name: f"flow_{name}"}})
    monkeypatch.syspath_prepend(tester.plugins)
    seen = {status.name for status in flow_kernel("first").plugins.statuses()}
    assert "first" in seen
    assert "second" not in seen
    assert {status.name for status in flow_kernel("flow-second").plugins.statuses()} == seen - {"first"} | {"second"}
