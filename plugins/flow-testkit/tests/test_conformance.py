"""The kernel's own plugins pass the suites that everybody's must pass."""

from __future__ import annotations

from typing import Any

from flow_testkit import (
    CacheBackendSuite,
    PolicySuite,
    StateBackendSuite,
    StepTypeSuite,
    TracerSuite,
    ValidatorSuite,
)

from flow import BaseStep, Flow, Pipeline, PipelineContext, RecoveryStrategy, StateBackend, Step, validator


async def shout(text: str) -> str:
    return text.upper()


class TestStep(StepTypeSuite):
    expected_output = "SAMPLE"
    runs_agent = True

    def make_step(self) -> BaseStep[Any, Any]:
        return Step("shout", shout)

    def make_step_with(self, agent: Any) -> BaseStep[Any, Any]:
        return Step("agent", agent)


class TestSyncFunction(StepTypeSuite):
    expected_output = "SAMPLE"

    def make_step(self) -> BaseStep[Any, Any]:
        return Step("shout", str.upper)


class TestSubWorkflow(StepTypeSuite):
    expected_output = "SAMPLE"
    has_children = True

    def make_step(self) -> BaseStep[Any, Any]:
        return (Step("strip", str.strip) >> Step("shout", shout)).as_step("sub")

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return Pipeline.of(child).as_step("around")


class TestSubWorkflowWithItsOwnContext(TestSubWorkflow):
    shares_context = False

    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return Pipeline.of(child).as_step("around", inherit_context=False)


class Wider(PipelineContext):
    topic: str = "unknown"


class TestSubFlow(TestSubWorkflow):
    def make_step_around(self, child: BaseStep[Any, Any] | Pipeline[Any, Any]) -> BaseStep[Any, Any]:
        return Flow(Pipeline.of(child), context_model=Wider).as_step("around")


class TestMemoryState(StateBackendSuite):
    survives_reopen = False

    def make_state(self) -> str:
        return "memory://"


class TestMemoryStateThatIsKept(StateBackendSuite):
    """Opened anew it is the same store, so this is how a durable backend is tested."""

    def make_state(self) -> StateBackend:
        self.__dict__.setdefault("kept", self.kernel.open_state("memory://"))
        return self.__dict__["kept"]  # type: ignore[no-any-return]

    def test_there_is_a_place_for_its_files(self) -> None:
        assert self.tmp_path.is_dir()


class TestMemoryCache(CacheBackendSuite):
    survives_reopen = False

    def make_cache(self) -> str:
        return "memory://"


class TestLogTracer(TracerSuite):
    def make_tracer(self) -> str:
        return "log"


@validator
def short(text: object) -> tuple[bool, str]:
    return len(str(text)) < 10, "it is too long"


class TestFunctionValidator(ValidatorSuite):
    accepts = ("", "short")
    rejects = ("much too long",)

    def make_validator(self) -> Any:
        return short


class TestRecoveryStrategy(PolicySuite):
    def make_policy(self) -> RecoveryStrategy:
        return RecoveryStrategy(name="none", max_retries=0)
