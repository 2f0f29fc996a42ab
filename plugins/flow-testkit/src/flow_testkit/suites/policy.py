"""The suite for policies."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from flow import BaseStep, Binder, CancelSignal, ControlSignal, PauseSignal, Pipeline, RunStatus, Step, structure
from flow_testkit.suites._probes import DispatchSpy, Probe, ask, broken, echo
from flow_testkit.suites._suite import NoTasksLeft, Suite, within_patience


class PolicySuite(Suite):
    """What every policy must do. Subclass it and write `make_policy`.

    ::

        class TestBulkhead(PolicySuite):
            def make_policy(self):
                return Bulkhead(limit=50)

    The policy should let 20 calls at the same time through.

    :cvar wraps_steps: the policy works through ``flow_wrap_step``; ``False`` for one that only other hooks read.
    :cvar handles_failures: a failing step may succeed or fail with another error because of the policy.
    """

    wraps_steps: ClassVar[bool] = True
    handles_failures: ClassVar[bool] = False

    def make_policy(self) -> Any:
        """Return a policy that lets a working step through: a new, equal one on every call."""
        self._not_written("make_policy(self)", "return Bulkhead(limit=50)")

    def with_policy(self, agent: Any, **settings: Any) -> BaseStep[Any, Any]:
        """Return a step that carries the policy."""
        return Step("guarded", agent, policies=[self.make_policy()], **settings)

    def test_is_a_frozen_value(self) -> None:
        """Failing means: a policy can be changed under the steps that carry it."""
        policy = self.make_policy()
        assert not isinstance(policy, type), f"make_policy returned the class {policy!r}"
        fields = [name for name in dir(policy) if not name.startswith("_") and not callable(getattr(policy, name))]
        for name in (*fields, "a_new_field"):
            with pytest.raises((AttributeError, TypeError, ValueError)):
                setattr(policy, name, None)

    def test_equals_a_policy_with_the_same_fields(self) -> None:
        """Failing means: steps with equal policies are not equal."""
        assert self.make_policy() == self.make_policy()
        assert self.make_policy() != object()

    def test_can_be_part_of_a_fingerprint(self) -> None:
        """Failing means: a pipeline with this policy cannot be described, stored or resumed."""
        pipelines: list[Pipeline[Any, Any]] = [Pipeline((self.with_policy(echo),)) for _ in range(2)]
        assert pipelines[0].fingerprint == pipelines[1].fingerprint
        assert pipelines[0].fingerprint != Pipeline((Step("guarded", echo),)).fingerprint
        assert structure(pipelines[0]) == structure(pipelines[1])

    def test_wraps_the_step_that_carries_it(self) -> None:
        """Failing means: the policy has no effect: no plugin that the kernel sees asks for it."""
        if not self.wraps_steps:
            pytest.skip("works through other hooks: wraps_steps is False")
        assert self._wrapping(self.with_policy(echo)), "no flow_wrap_step returns a wrapper for the policy"

    def test_does_not_wrap_other_steps(self) -> None:
        """Failing means: every step pays for a policy that one of them carries."""
        own = self._wrapping(self.with_policy(echo))
        assert set(own) & set(self._wrapping(Step("plain", echo))) == set()

    def _wrapping(self, step: BaseStep[Any, Any]) -> list[str]:
        """Return the names of the plugins that wrap `step`."""
        spy = DispatchSpy()
        kernel = self.make_kernel(spy)
        kernel.bind(step)
        binder: Binder = spy.binders[id(step)]
        implementations = kernel.hook.flow_wrap_step.get_hookimpls()
        return [item.plugin_name for item in implementations if ask(item, step=step, binder=binder) is not None]

    @pytest.mark.asyncio
    async def test_success_is_not_changed(self) -> None:
        """Failing means: the policy changes what a working step returns, or calls it more than once."""
        probe = Probe()
        result = await self.flow(self.with_policy(probe)).run_async("data")
        assert result.success, f"{result.error}"
        assert result.output == "data"
        assert (probe.calls, result.step_history[0].attempts) == (1, 1)

    @pytest.mark.asyncio
    async def test_failure_is_not_hidden(self) -> None:
        """Failing means: a failing step succeeds, or its cause is lost, because of the policy."""
        if self.handles_failures:
            pytest.skip("may turn failures into something else: handles_failures is True")
        result = await self.flow(self.with_policy(Probe(error=broken))).run_async("data")
        assert result.status is RunStatus.FAILED
        assert "the probe is broken" in (result.step_history[0].feedback or "")

    @pytest.mark.parametrize(
        ("make_signal", "status"),
        [(lambda: PauseSignal("which?"), RunStatus.PAUSED), (lambda: CancelSignal("enough"), RunStatus.CANCELLED)],
        ids=["pause", "cancel"],
    )
    @pytest.mark.asyncio
    async def test_control_signals_pass(self, make_signal: Callable[[], ControlSignal], status: RunStatus) -> None:
        """Failing means: a pause or cancellation is taken for a failure, retried or swallowed."""
        probe = Probe(error=make_signal)
        async with NoTasksLeft():
            result = await self.flow(self.with_policy(probe)).run_async("data")
        assert result.status is status, f"the run ended {result.status}: {result.error}"
        assert probe.calls == 1

    @pytest.mark.asyncio
    async def test_cancelled_call_gives_back_what_it_took(self) -> None:
        """Failing means: a slot, token or lock is lost with a call that was cancelled."""
        probe = Probe(blocks=True)
        flow = self.flow(self.with_policy(probe))
        async with NoTasksLeft():
            handle = flow.start("data")
            await within_patience(probe.started.wait(), "the guarded agent to be called")
            handle.cancel()
            assert (await within_patience(handle, "the cancelled run to end")).status is RunStatus.CANCELLED
        probe.blocks = False
        result = await within_patience(flow.run_async("data"), "a run after the cancelled one")
        assert result.success, f"{result.error}"

    @pytest.mark.asyncio
    async def test_calls_at_the_same_time_all_end(self) -> None:
        """Failing means: calls wait for each other for ever, or get each other's results."""
        flow = self.flow(self.with_policy(Probe()))
        results = await within_patience(flow.run_many(range(20)), "20 runs at the same time")
        assert [result.output if result.success else result.error for result in results] == list(range(20))

    @pytest.mark.asyncio
    async def test_works_next_to_other_settings(self) -> None:
        """Failing means: the policy gets in the way of retries, a timeout or a fallback."""
        step = self.with_policy(echo, retries=2, timeout=60, fallback=Step("instead", Probe(error=broken)))
        result = await self.flow(step).run_async("data")
        assert result.success, f"{result.error}"
        assert result.step_history[0].attempts == 1
