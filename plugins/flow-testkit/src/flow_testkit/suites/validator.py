"""The suite for validators."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from flow import BaseValidator, Pipeline, Step, ValidationResult, structure
from flow_testkit.agents import StubAgent
from flow_testkit.suites._suite import UNSET, Suite


class ValidatorSuite(Suite):
    """What every validator must do. Subclass it, write `make_validator`, and list what it accepts and rejects.

    ::

        class TestMaxLength(ValidatorSuite):
            accepts = ["", "short"]
            rejects = ["much too long"]

            def make_validator(self):
                return MaxLength(5)

    :cvar accepts: outputs it accepts; at least one.
    :cvar rejects: outputs it refuses; at least one.
    """

    accepts: ClassVar[Sequence[Any]] = ()
    rejects: ClassVar[Sequence[Any]] = ()

    def make_validator(self) -> BaseValidator:
        """Return a new validator."""
        self._not_written("make_validator(self)", "return MaxLength(5)")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one test of each output that is listed."""
        for argument, outputs in (("accepted", self.accepts), ("rejected", self.rejects)):
            if argument in metafunc.fixturenames:
                ids = [f"{output!r:.40}" for output in outputs] or ["none listed"]
                metafunc.parametrize(argument, list(outputs) or [UNSET], ids=ids)

    def _listed(self, output: Any, attribute: str) -> Any:
        if output is UNSET:
            self._fail(f"{type(self).__name__} lists no output. Write:\n\n    {attribute} = [...]")
        return copy.deepcopy(output)

    @staticmethod
    def _fail(message: str) -> None:
        pytest.fail(message, pytrace=False)

    def test_is_a_validator_with_a_name(self) -> None:
        """Failing means: refusals do not say who refused: ``name = "max_length"`` is missing."""
        validator = self.make_validator()
        assert isinstance(validator, BaseValidator)
        assert isinstance(validator.name, str)
        assert validator.name.strip(), f"{type(validator).__name__} has no name"

    @pytest.mark.asyncio
    async def test_accepts(self, accepted: Any) -> None:
        """Failing means: an output that is fine is refused."""
        verdict = await self.make_validator().validate(self._listed(accepted, "accepts"))
        assert isinstance(verdict, ValidationResult)
        assert verdict.is_valid, f"refused: {verdict.feedback}"

    @pytest.mark.asyncio
    async def test_rejects_and_says_why(self, rejected: Any) -> None:
        """Failing means: an output that is not fine passes, or the agent is not told what to do better."""
        validator = self.make_validator()
        verdict = await validator.validate(self._listed(rejected, "rejects"))
        assert isinstance(verdict, ValidationResult)
        assert not verdict.is_valid
        assert (verdict.feedback or "").strip(), "a refusal needs feedback"
        assert verdict.validator_name == validator.name

    @pytest.mark.asyncio
    async def test_leaves_accepted_output_alone(self, accepted: Any) -> None:
        """Failing means: a validator changes what it judges; that is what processors and plugins are for."""
        await self._judged(self._listed(accepted, "accepts"))

    @pytest.mark.asyncio
    async def test_leaves_rejected_output_alone(self, rejected: Any) -> None:
        """Failing means: a validator changes what it judges; that is what processors and plugins are for."""
        await self._judged(self._listed(rejected, "rejects"))

    async def _judged(self, output: Any) -> None:
        before = copy.deepcopy(output)
        await self.make_validator().validate(output)
        assert output == before

    @pytest.mark.asyncio
    async def test_judges_alike_every_time(self, accepted: Any, rejected: Any) -> None:
        """Failing means: a verdict depends on those before it."""
        validator = self.make_validator()
        outputs = [self._listed(accepted, "accepts"), self._listed(rejected, "rejects")] * 2
        assert [(await validator.validate(output)).is_valid for output in outputs] == [True, False, True, False]

    @pytest.mark.asyncio
    async def test_strange_output_is_no_exception(self) -> None:
        """Failing means: an output of an unexpected type breaks the validator instead of getting a verdict."""
        for output in (None, 0, "", [], {}, object()):
            assert isinstance(await self.make_validator().validate(output), ValidationResult), f"{output!r}"

    @pytest.mark.asyncio
    async def test_step_repeats_until_accepted(self, accepted: Any, rejected: Any) -> None:
        """Failing means: the validator does not work in ``Step(..., validators=[...], retries=1)``."""
        accepted, rejected = self._listed(accepted, "accepts"), self._listed(rejected, "rejects")
        agent = StubAgent([rejected, accepted])
        result = await self.flow(Step("draft", agent, validators=[self.make_validator()], retries=1)).run_async("data")
        assert result.success, f"{result.error}"
        assert result.output == accepted
        assert (agent.call_count, result.step_history[0].attempts) == (2, 2)

    @pytest.mark.asyncio
    async def test_strict_step_fails_on_refusal(self, rejected: Any) -> None:
        """Failing means: a refused output is passed on, or the refusal does not name the validator."""
        validator = self.make_validator()
        agent = StubAgent([self._listed(rejected, "rejects")])
        result = await self.flow(Step("draft", agent, validators=[validator])).run_async("data")
        assert not result.success
        assert validator.name in (result.step_history[0].feedback or "")

    def test_can_be_part_of_a_fingerprint(self) -> None:
        """Failing means: a pipeline with this validator cannot be described, stored or resumed."""
        pipelines: list[Pipeline[Any, Any]] = [
            Pipeline((Step("draft", str, validators=[self.make_validator()]),)) for _ in range(2)
        ]
        assert pipelines[0].fingerprint == pipelines[1].fingerprint
        assert structure(pipelines[0]) == structure(pipelines[1])
