"""A step type in a run: results, failures, signals, cancellation, usage, context."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from flow import (
    BaseStep,
    BaseValidator,
    Cache,
    CancelSignal,
    ControlSignal,
    PauseSignal,
    RunResult,
    RunStatus,
    Step,
    StepTimeout,
    Usage,
    UsageLimits,
    ValidationResult,
)
from flow_testkit.observer import RecordingObserver
from flow_testkit.suites._probes import PLACES, DispatchSpy, Probe, ProbeFailed, broken, echo, placed
from flow_testkit.suites._step_subject import StepSubject
from flow_testkit.suites._suite import UNSET, NoTasksLeft, within_patience

SPENT = Usage(0.25, 3, 5, 1)


class _AcceptEverything(BaseValidator):
    name = "accept_everything"

    async def validate(self, output: Any, *, context: Any = None) -> ValidationResult:
        return ValidationResult(is_valid=True, validator_name=self.name)


HARMLESS: dict[str, Callable[[], Any]] = {
    "retries": lambda: 2,
    "timeout": lambda: 60,
    "fallback": lambda: Step("instead", Probe(error=broken)),
    "validators": lambda: [_AcceptEverything()],
    "usage_limits": lambda: UsageLimits(total_cost_usd_limit=1000),
    "cache": Cache,
}


class StepRunTests(StepSubject):
    """What holds for every kind, with or without steps inside."""

    async def _run(self, step: BaseStep[Any, Any], **options: Any) -> RunResult[Any]:
        return await self.flow(step, **options).run_async(self.sample_input)

    @pytest.mark.asyncio
    async def test_runs_on_the_sample_input(self) -> None:
        """Failing means: the step does not do its work, or not twice alike."""
        first, second = await self._run(self.make_step()), await self._run(self.make_step())
        assert first.success, f"{first.error}"
        if self.expected_output is not UNSET:
            assert first.output == self.expected_output
        if self.is_deterministic:
            assert second.output == first.output

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.asyncio
    async def test_runs_at_every_depth(self, place: str) -> None:
        """Failing means: the step works on its own only, or its result does not say what it belongs to."""
        step = self.make_step()
        pipeline, path = placed(step, place)
        result = await self.flow(pipeline).run_async(self.sample_input)
        assert result.success, f"{result.error}"
        own = result.step(path)
        assert (own.name, own.kind, own.path) == (step.name, step.kind, path)
        if self.expected_output is not UNSET:
            assert result.output == self.expected_output

    @pytest.mark.parametrize("setting", sorted(HARMLESS))
    @pytest.mark.asyncio
    async def test_settings_change_nothing_on_success(self, setting: str) -> None:
        """Failing means: the kind cannot be used with what every step may have: retries, a timeout, a fallback …"""
        plain = await self._run(self.make_step())
        result = await self._run(self.make_step().evolve(**{setting: HARMLESS[setting]()}))
        assert result.success, f"{result.error}"
        assert result.step_history[0].attempts == plain.step_history[0].attempts
        assert "fallback_triggered" not in result.step_history[0].metadata
        if self.is_deterministic:
            assert result.output == plain.output

    @pytest.mark.asyncio
    async def test_dispatches_no_hook_while_running(self) -> None:
        """Failing means: children are bound in every run and not once, which makes each step pay for all plugins."""
        spy = DispatchSpy()
        flow = self.flow(self.make_step(), kernel=self.make_kernel(spy))
        await flow.run_async(self.sample_input)
        bound = spy.dispatches
        await flow.run_async(self.sample_input)
        assert spy.dispatches == bound, "hooks were dispatched by the second run; bind children outside of `run`"

    @pytest.mark.asyncio
    async def test_runs_at_the_same_time_do_not_meet(self) -> None:
        """Failing means: the bound step keeps state between or across runs."""
        flow = self.flow(self.make_step())
        alone = await flow.run_async(self.sample_input)
        together = await flow.run_many([self.sample_input] * 20)
        assert [str(result.error) for result in together if not result.success] == []
        if self.is_deterministic:
            assert [result.output for result in together] == [alone.output] * 20

    @pytest.mark.asyncio
    async def test_is_announced_to_observers(self, recording_observer: RecordingObserver) -> None:
        """Failing means: the step does not show in progress displays and traces."""
        step = self.make_step()
        await self._run(step, hooks=[recording_observer])
        for kind in ("step.started", "step.finished"):
            assert [event.step_kind for event in recording_observer.of(kind) if event.path == f"0:{step.name}"] == [
                step.kind
            ]


class StepFailureTests(StepSubject):
    """What happens inside the step reaches the run as what it is."""

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.asyncio
    async def test_exception_inside_becomes_a_failed_result(self, place: str) -> None:
        """Failing means: an agent's exception is raised at the user, or disappears."""
        step, _ = self.with_failing_probe()
        pipeline, path = placed(step, place)
        result = await self.flow(pipeline).run_async(self.sample_input)
        assert result.status is RunStatus.FAILED
        own = result.step(path)
        assert not own.success
        assert "the probe is broken" in (own.feedback or ""), "the feedback does not say why"
        assert (result.failed_path or "").startswith(path), f"the run names {result.failed_path}"

    @pytest.mark.asyncio
    async def test_failure_that_is_handled_is_no_exception(self) -> None:
        """Failing means: a kind that handles failures inside it lets the exception out all the same."""
        step, probe = self.with_probe(error=broken)
        result = await self.flow(step).run_async(self.sample_input)
        assert probe.calls >= 1, "the agent was not called"
        assert result.success is not self.propagates_failure, f"declare: propagates_failure = {not result.success}"

    @pytest.mark.asyncio
    async def test_retries_run_it_again(self) -> None:
        """Failing means: ``retries`` has no effect on this kind."""
        step, probe = self.with_failing_probe(times=1)
        result = await self.flow(step.evolve(retries=1)).run_async(self.sample_input)
        assert result.success, f"{result.error}"
        assert result.step_history[0].attempts == 2
        assert probe.calls >= 2

    @pytest.mark.asyncio
    async def test_timeout_ends_it(self) -> None:
        """Failing means: ``timeout`` has no effect, or leaves work running."""
        step, _ = self.with_probe(blocks=True)
        async with NoTasksLeft():
            work = self.flow(step.evolve(timeout=0.01)).run_async(self.sample_input)
            result = await within_patience(work, "a step with timeout=0.01")
        assert isinstance(result.error, StepTimeout), f"the run ended {result.status}: {result.error}"

    @pytest.mark.asyncio
    async def test_fallback_takes_over(self) -> None:
        """Failing means: ``fallback`` has no effect on this kind."""
        step, _ = self.with_failing_probe()
        result = await self.flow(step.evolve(fallback=Step("instead", echo))).run_async(self.sample_input)
        assert result.success, f"{result.error}"
        assert result.output == self.sample_input
        assert result.step_history[0].metadata["fallback_triggered"] is True

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize(
        ("make_signal", "status"),
        [(lambda: PauseSignal("which?"), RunStatus.PAUSED), (lambda: CancelSignal("enough"), RunStatus.CANCELLED)],
        ids=["pause", "cancel"],
    )
    @pytest.mark.asyncio
    async def test_control_signals_pass(
        self, make_signal: Callable[[], ControlSignal], status: RunStatus, place: str
    ) -> None:
        """Failing means: a pause or cancellation inside is taken for a failure: never catch BaseException for good."""
        step, _ = self.with_probe(error=make_signal)
        pipeline, path = placed(step, place)
        async with NoTasksLeft():
            result = await self.flow(pipeline).run_async(self.sample_input)
        assert result.status is status, f"the run ended {result.status}: {result.error}"
        if status is RunStatus.PAUSED:
            assert {pending.message for pending in result.pending} == {"which?"}  # a fan-out asks once per item
            assert all(pending.path.startswith(path) for pending in result.pending)

    @pytest.mark.parametrize("by", ["handle", "deadline", "task"])
    @pytest.mark.asyncio
    async def test_cancellation_leaves_nothing_behind(self, by: str) -> None:
        """Failing means: cancelled work goes on in the background, or a cancelled run does not end."""
        step, probe = self.with_probe(blocks=True)
        async with NoTasksLeft():
            handle = self.flow(step, deadline=0.02 if by == "deadline" else None).start(self.sample_input)
            await within_patience(probe.started.wait(), "the agent inside the step to be called")
            if by == "handle":
                assert handle.cancel()
            status = await self._end_of(handle, cancel=by == "task")
        assert status == {"handle": "cancelled", "deadline": "deadline_exceeded", "task": "CancelledError"}[by]

    @staticmethod
    async def _end_of(handle: Any, *, cancel: bool) -> str:
        task = asyncio.ensure_future(_await(handle))
        await asyncio.sleep(0)
        if cancel:
            task.cancel()
        try:
            result = await within_patience(task, "the cancelled run to end")
        except asyncio.CancelledError:
            return "CancelledError"
        return str(result.status)

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.asyncio
    async def test_usage_counts_once(self, place: str) -> None:
        """Failing means: budgets are wrong: what is spent inside is lost, or counted at several levels."""
        step, probe = self.with_probe(usage=SPENT)
        pipeline, path = placed(step, place)
        result = await self.flow(pipeline).run_async(self.sample_input)
        _assert_spent(result, path, probe)

    @pytest.mark.asyncio
    async def test_usage_of_failed_attempts_counts(self) -> None:
        """Failing means: what failed attempts have cost is forgotten."""
        step, probe = self.with_failing_probe(usage=SPENT, times=1)
        result = await self.flow(step.evolve(retries=1)).run_async(self.sample_input)
        _assert_spent(result, f"0:{step.name}", probe)

    @pytest.mark.asyncio
    async def test_usage_stays_in_its_run(self) -> None:
        """Failing means: runs at the same time share a scope: keep nothing between ``run`` and what it awaits."""
        step, probe = self.with_probe(usage=SPENT)
        results = await self.flow(step).run_many([self.sample_input] * 10)
        assert [str(result.error) for result in results if not result.success] == []
        assert {result.usage for result in results} == {results[0].usage}
        assert sum((result.usage for result in results), Usage()) == sum([SPENT] * probe.calls, Usage())

    @pytest.mark.asyncio
    async def test_context_changes_of_a_success_arrive(self) -> None:
        """Failing means: what agents inside write to the context is lost, or shares_context is not true."""
        step, _ = self.with_probe(writes="written")
        result = await self.flow(step).run_async(self.sample_input)
        arrived = "written" in result.final_pipeline_context.scratchpad
        assert arrived is self.shares_context, f"declare: shares_context = {arrived}"

    @pytest.mark.asyncio
    async def test_context_changes_of_a_failure_are_dropped(self) -> None:
        """Failing means: a step that failed has changed the context for those that follow."""
        step, _ = self.with_failing_probe(writes="written")
        result = await self.flow(step).run_async(self.sample_input)
        assert "written" not in result.final_pipeline_context.scratchpad

    @pytest.mark.asyncio
    async def test_cause_of_a_failure_is_kept(self) -> None:
        """Failing means: ``result.error`` no longer leads to the exception that the agent raised."""
        step, _ = self.with_failing_probe()
        result = await self.flow(step).run_async(self.sample_input)
        causes, error = [], result.error
        while error is not None:
            causes.append(error)
            error = error.__cause__
        assert any(isinstance(cause, ProbeFailed) for cause in causes), f"{result.error!r} is caused by {causes[1:]}"


def _assert_spent(result: RunResult[Any], path: str, probe: Probe) -> None:
    __tracebackhide__ = True
    assert probe.calls >= 1, "the agent was not called"
    expected = sum([SPENT] * probe.calls, Usage())
    assert result.step(path).usage == expected, f"the step after {probe.calls} calls"
    assert result.usage == expected, f"the run after {probe.calls} calls"


async def _await(handle: Any) -> Any:
    return await handle
