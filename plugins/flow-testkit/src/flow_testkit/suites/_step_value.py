"""A step type as a value: what holds before anything runs."""
# ruff: noqa: S101  (the assertions are the product)

from __future__ import annotations

import re
from typing import Any

import attrs
import orjson
import pytest

from flow import BaseStep, Pipeline, Step, structure
from flow_testkit.suites._probes import DispatchSpy, Stranger, ask, echo
from flow_testkit.suites._step_subject import StepSubject


class StepValueTests(StepSubject):
    """A step is a frozen value with a kind, and is bound by its own plugin only."""

    def test_is_a_frozen_value(self) -> None:
        """Failing means: a step can be changed after it was composed, bound or shared."""
        step = self.make_step()
        assert isinstance(step, BaseStep), f"make_step returned {step!r:.80}, which is no BaseStep"
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            step.name = "changed"  # type: ignore[misc]

    def test_equals_a_step_with_the_same_fields(self) -> None:
        """Failing means: copies of pipelines do not compare equal."""
        step = self.make_step()
        assert step == step.evolve()
        assert step != step.evolve(name="another")

    def test_is_hashable(self) -> None:
        """Failing means: a field holds a dict or list; declare it with ``attrs.field(hash=False)``."""
        step = self.make_step()
        assert hash(step) == hash(step.evolve())

    def test_evolve_changes_a_copy(self) -> None:
        """Failing means: ``step.evolve(retries=3)`` loses the type, a field, or changes the original."""
        step = self.make_step()
        evolved = step.evolve(retries=step.retries + 1)
        assert type(evolved) is type(step)
        assert evolved.retries == step.retries + 1
        assert evolved.evolve(retries=step.retries) == step

    def test_kind_is_declared_on_the_class(self) -> None:
        """Failing means: the plugin cannot be found by the kind: ``kind: ClassVar[str] = "shout"`` is missing."""
        step = self.make_step()
        assert step.kind == type(step).kind
        assert step.kind != BaseStep.kind, f"{type(step).__name__} declares no kind of its own"
        assert re.fullmatch(r"[a-z][a-z0-9_-]*", step.kind), f"{step.kind!r} is no name for an entry point"

    def test_children_are_steps_by_label(self) -> None:
        """Failing means: validation, drawing and fingerprints cannot look inside, or has_children is not true."""
        step = self.make_step()
        children = step.children()
        assert bool(children) == self.has_children, f"declare: has_children = {bool(children)}"
        for label, child in children.items():
            assert isinstance(label, str), f"the label {label!r} is no string"
            assert label, "a label is empty"
            assert isinstance(child, (BaseStep, Pipeline)), f"child {label!r} is {child!r:.80}"
        assert list(step.children().items()) == list(children.items()), "children() differs from call to call"

    def test_structure_is_plain_data(self) -> None:
        """Failing means: the step cannot be drawn, sent elsewhere or compared with a stored pipeline."""
        step = self.make_step()
        described = orjson.loads(orjson.dumps(structure(step)))
        assert (described["name"], described["kind"]) == (step.name, step.kind)
        assert list(described["children"]) == list(step.children())

    def test_fingerprint_is_that_of_equal_steps(self) -> None:
        """Failing means: resuming refuses a pipeline that did not change, or accepts one that did."""
        step = self.make_step()
        fingerprint = Pipeline((step,)).fingerprint
        assert Pipeline((step.evolve(),)).fingerprint == fingerprint
        assert Pipeline((self.make_step(),)).fingerprint == fingerprint, "two calls of make_step give different ones"
        assert Pipeline((step.evolve(retries=step.retries + 1),)).fingerprint != fingerprint

    def test_is_bound_by_its_plugin(self) -> None:
        """Failing means: no plugin that the kernel sees answers flow_bind_step for this kind."""
        execute = self.kernel.bind(self.make_step(), "0:it")
        assert callable(execute)

    def test_plugin_binds_no_other_kind(self) -> None:
        """Failing means: the plugin takes steps away from others: return ``None`` unless ``isinstance(step, Own)``."""
        spy, step = DispatchSpy(), self.make_step()
        kernel = self.make_kernel(spy)
        kernel.bind(step)
        binder = spy.binders[id(step)]
        implementations = [impl for impl in kernel.hook.flow_bind_step.get_hookimpls() if impl.plugin is not spy]
        own = next(impl for impl in reversed(implementations) if ask(impl, step=step, binder=binder) is not None)
        others: list[Any] = [Stranger(name="stranger"), Step("plain", echo), Pipeline((Step("plain", echo),))]
        for other in others:
            if not isinstance(step, type(other)) and other.kind != step.kind:
                assert ask(own, step=other, binder=binder) is None, (
                    f"{own.plugin_name} binds steps of kind {other.kind}"
                )
