"""Steps inside a step, and a step in the journal of a run."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import pytest

from flow import PauseSignal, RunStatus, Step
from flow_testkit.observer import RecordingObserver
from flow_testkit.suites._probes import Probe, broken
from flow_testkit.suites._step_running import SPENT
from flow_testkit.suites._step_subject import StepSubject
from flow_testkit.suites._suite import UNSET


class StepChildTests(StepSubject):
    """Steps inside pass through the same door as those outside."""

    def _require_children(self) -> None:
        if not self.has_children:
            pytest.skip("holds no steps: has_children is False")

    @pytest.mark.asyncio
    async def test_children_are_bound_steps(self, recording_observer: RecordingObserver) -> None:
        """Failing means: children are called directly, past retries, journal and budget: use ``binder.bind``."""
        self._require_children()
        step, probe = self.with_probe()
        result = await self.flow(step, hooks=[recording_observer]).run_async(self.sample_input)
        assert probe.calls >= 1, "the child was not called"
        inside = [child for child in result.step(f"0:{step.name}").walk() if child.name == "probe"]
        assert len(inside) == probe.calls, "the results of the children are not in the history"
        paths = [child.path for child in inside]
        assert len(set(paths)) == len(paths), f"children share a path: {paths}"
        assert all(path.startswith(f"0:{step.name}/") for path in paths), f"paths are not below the step: {paths}"
        finished = [event.path for event in recording_observer.of("step.finished") if event.step == "probe"]
        assert sorted(finished) == sorted(paths)

    @pytest.mark.asyncio
    async def test_paths_are_the_same_in_every_run(self) -> None:
        """Failing means: journals cannot be resumed: paths must come from the structure and nothing else."""
        runs = [await self.flow(self.make_step()).run_async(self.sample_input) for _ in range(2)]
        assert sorted(result.path for result in runs[0].walk()) == sorted(result.path for result in runs[1].walk())

    @pytest.mark.asyncio
    async def test_child_may_be_a_pipeline(self) -> None:
        """Failing means: only single steps can be inside; bind what you are given, whatever it is."""
        self._require_children()
        first, second = Probe(), Probe(output=self.child_output)
        step = self.make_step_around(Step("first", first) >> Step("second", second))
        result = await self.flow(step).run_async(self.sample_input)
        assert result.success, f"{result.error}"
        assert first.calls == second.calls >= 1
        assert [child.name for child in result.walk() if child.name in ("first", "second")][:2] == ["first", "second"]

    @pytest.mark.asyncio
    async def test_child_may_be_of_its_own_kind(self) -> None:
        """Failing means: the kind does not nest."""
        self._require_children()
        step = self.make_step_around(self.make_step())
        data = self.sample_input if self.nested_input is UNSET else self.nested_input
        result = await self.flow(step).run_async(data)
        assert result.success, f"{result.error}"
        assert [child.path for child in result.step_history[0].walk() if child.kind == step.kind][1:] != []

    @pytest.mark.asyncio
    async def test_retries_of_a_child_are_its_own(self) -> None:
        """Failing means: a child's settings have no effect inside this kind."""
        self._require_children()
        probe = Probe(output=self.child_output, error=broken, times=1)
        step = self.make_step_around(Step("probe", probe, retries=1))
        result = await self.flow(step).run_async(self.sample_input)
        assert result.success, f"{result.error}"
        assert result.step_history[0].attempts == 1
        assert max(child.attempts for child in result.walk() if child.name == "probe") == 2


class StepDurabilityTests(StepSubject):
    """A step that has finished is not executed again."""

    def _require_storable(self) -> None:
        if not self.is_storable:
            pytest.skip("its outputs cannot be kept: is_storable is False")

    @pytest.mark.asyncio
    async def test_finished_step_is_replayed(self) -> None:
        """Failing means: resuming executes again what is in the journal, or returns something else."""
        self._require_storable()
        step = self.make_step()
        later = Probe(error=broken, times=1)
        flow = self.flow(step >> Step("later", later), state="memory://")
        first = await flow.run_async(self.sample_input)
        assert first.status is RunStatus.FAILED, f"{first.error}"
        assert first.failed_path == "1:later", f"the run failed at {first.failed_path}: {first.error}"
        second = await flow.resume_async(first.run_id)
        assert second.success, f"{second.error}"
        assert second.step_history[0].replayed
        assert second.step_history[0].output == first.step_history[0].output
        assert later.calls == 2

    @pytest.mark.asyncio
    async def test_replay_calls_nothing_inside(self) -> None:
        """Failing means: agents inside a finished step are paid for twice."""
        self._require_storable()
        step, probe = self.with_probe(usage=SPENT)
        flow = self.flow(step >> Step("later", Probe(error=broken, times=1)), state="memory://")
        first = await flow.run_async(self.sample_input)
        calls = probe.calls
        second = await flow.resume_async(first.run_id)
        assert second.success, f"{second.error}"
        assert probe.calls == calls >= 1
        assert second.usage == first.usage

    @pytest.mark.asyncio
    async def test_failed_step_is_executed_again(self) -> None:
        """Failing means: a run that failed inside this kind cannot be resumed."""
        self._require_storable()
        step, probe = self.with_failing_probe(times=1)
        flow = self.flow(step, state="memory://")
        first = await flow.run_async(self.sample_input)
        assert first.status is RunStatus.FAILED
        second = await flow.resume_async(first.run_id)
        assert second.success, f"{second.error}"
        assert probe.calls >= 2

    @pytest.mark.asyncio
    async def test_paused_step_goes_on(self) -> None:
        """Failing means: a run that paused inside this kind cannot be resumed."""
        self._require_storable()
        step, probe = self.with_probe(error=lambda: PauseSignal("which?"), times=1)
        flow = self.flow(step, state="memory://")
        first = await flow.run_async(self.sample_input)
        assert first.status is RunStatus.PAUSED, f"{first.error}"
        second = await flow.resume_async(first.run_id)
        assert second.success, f"{second.error}"
        assert probe.calls >= 2
