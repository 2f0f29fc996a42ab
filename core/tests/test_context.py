"""The context: isolation, commit, and joining what branches wrote."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, model_validator

from flow import ConfigurationError, ContextConflict, PipelineContext, RunResult, Step, StepFailed, ValidationFailed
from flow._context import build_context, changes, commit, isolate, raw, snapshot
from flow._merge import merge_branches

Run = Callable[..., RunResult[Any]]


def keep_larger(left: int, right: int) -> int:
    return max(left, right)


class Research(PipelineContext):
    topic: str = "unknown"
    count: int = 0
    big: dict[str, list[int]] = {}
    sources: Annotated[list[str], operator.add] = []
    spent: Annotated[float, operator.add] = 0.0
    best: Annotated[int, keep_larger] = 0


def test_a_view_reads_the_base_and_keeps_its_writes() -> None:
    base = Research(topic="old", sources=["a"])
    view = isolate(base)
    view.topic = "new"
    view.sources.append("b")
    assert (view.topic, view.sources) == ("new", ["a", "b"])
    assert (base.topic, base.sources) == ("old", ["a"])
    assert changes(view) == {"topic": "new", "sources": ["a", "b"]}
    assert isinstance(view, Research)


def test_what_nobody_reads_is_not_copied() -> None:
    class Uncopyable:
        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError("copied")

    class Holder(PipelineContext):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        heavy: Any = None
        small: int = 0

    view = isolate(isolate(Holder(heavy=Uncopyable())))
    view.small += 1
    assert set(raw(view)) == {"small"}
    assert changes(view) == {"small": 1}


def test_reading_alone_is_no_change() -> None:
    view = isolate(Research(big={"a": [1]}))
    assert view.big["a"] == [1]
    assert changes(view) == {}


def test_commit_writes_through_to_a_view_of_a_view() -> None:
    base = Research()
    outer = isolate(base)
    inner = isolate(outer)
    inner.count = 3
    commit(outer, changes(inner))
    assert (outer.count, base.count) == (3, 0)
    commit(base, changes(outer))
    assert base.count == 3


@pytest.mark.parametrize(
    "use",
    [
        lambda view: view.model_dump()["count"],
        lambda view: view.model_dump_json().count('"count":1'),
        lambda view: dict(view)["count"],
        lambda view: view.model_copy().count,
        lambda view: copy.deepcopy(view).count,
        lambda view: copy.copy(view).count,
        lambda view: snapshot(view).count,
        lambda view: int("count=1" in repr(view)),
        lambda view: int(view == Research(count=1)),
    ],
)
def test_a_view_is_complete_wherever_pydantic_looks_at_it(use: Callable[[Research], int]) -> None:
    assert use(isolate(Research(count=1))) == 1


def test_copies_of_a_view_are_of_the_users_class() -> None:
    for made in (copy.deepcopy(isolate(Research())), isolate(Research()).model_copy(), snapshot(isolate(Research()))):
        assert type(made) is Research


def test_views_pickle_as_the_users_class() -> None:
    restored = pickle.loads(pickle.dumps(isolate(Research(count=4))))
    assert type(restored) is Research
    assert restored.count == 4


def test_assignments_are_validated() -> None:
    with pytest.raises(ValidationFailed, match="context field 'count' cannot be 'many'"):
        isolate(Research()).count = "many"  # type: ignore[assignment]


def test_validators_of_the_whole_model_see_the_whole_state() -> None:
    class Range(PipelineContext):
        low: int = 0
        high: int = 10

        @model_validator(mode="after")
        def ordered(self) -> Range:  # noqa: N804
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    view = isolate(Range())
    view.low = 5
    assert changes(view) == {"low": 5}
    with pytest.raises(ValidationFailed, match="low is above high"):
        view.high = 1


def test_a_plain_model_can_be_the_context() -> None:
    class Plain(BaseModel):
        n: int = 0

    view = isolate(Plain())
    view.n = 2
    assert changes(view) == {"n": 2}


def test_extra_values_are_isolated_too() -> None:
    class Open(PipelineContext):
        model_config = ConfigDict(extra="allow")

    base = Open(tags=["a"])  # type: ignore[call-arg]
    view = isolate(base)
    view.tags.append("b")  # type: ignore[attr-defined]
    assert changes(view) == {"tags": ["a", "b"]}
    commit(base, changes(view))
    assert base.tags == ["a", "b"]  # type: ignore[attr-defined]


def test_a_value_that_cannot_be_copied_is_named() -> None:
    import threading

    class Locked(PipelineContext):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        lock: Any = None

    with pytest.raises(ConfigurationError, match="context field 'lock' holds a lock that cannot be copied"):
        isolate(Locked(lock=threading.Lock())).lock  # noqa: B018


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "Needy needs must, which initial_context does not give"),
        ({"must": 1, "typo": 2}, "Needy has no field typo"),
        ({"must": "x"}, "Needy cannot be built from initial_context: must"),
    ],
)
def test_a_context_that_cannot_be_built_is_wrong_use(values: dict[str, Any], message: str, run: Run) -> None:
    class Needy(PipelineContext):
        must: int

    with pytest.raises(ConfigurationError, match=message):
        run(Step("a", str.upper), "x", context_model=Needy, initial_context=values)


def test_the_input_becomes_the_initial_prompt() -> None:
    assert build_context(PipelineContext, {}, "ask").initial_prompt == "ask"
    assert build_context(PipelineContext, {"initial_prompt": "mine"}, "ask").initial_prompt == "mine"


def test_writes_of_an_agent_persist_and_are_seen_by_the_next_step(run: Run) -> None:
    async def plan(question: str, *, context: Research) -> str:
        context.topic = "history"
        return question

    async def read(_: str, *, context: Research) -> str:
        return context.topic

    result = run(Step("plan", plan) >> Step("read", read), "q", context_model=Research)
    assert result.output == "history"
    assert type(result.final_pipeline_context) is Research
    assert result.final_pipeline_context.topic == "history"


def test_a_value_that_cannot_be_compared_fails_its_step(run: Run) -> None:
    class Odd:
        def __ne__(self, other: object) -> bool:
            raise RuntimeError("not comparable")

    class Holder(PipelineContext):
        thing: Any = None

    async def touch(_: Any, *, context: Holder) -> None:
        assert context.thing is not None

    result = run(Step("a", touch), 0, context_model=Holder, initial_context={"thing": Odd()})
    assert (result.status, result.step_history[0].feedback) == (
        "failed",
        "Agent failed with RuntimeError: not comparable",
    )


def test_a_result_shows_the_context_as_the_step_left_it(run: Run) -> None:
    async def count(_: Any, *, context: Research) -> None:
        context.count += 1

    result = run(Step("a", count) >> Step("b", count) >> Step("c", lambda _: None), 0, context_model=Research)
    assert [item.branch_context and item.branch_context.count for item in result.step_history] == [1, 2, None]


def test_a_failed_attempt_leaves_no_trace(run: Run) -> None:
    async def flaky(_: Any, *, context: Research, run: Any) -> int:
        context.count += 1
        context.sources.append("x")
        if run.attempt == 1:
            raise ValueError("once")
        return context.count

    result = run(Step("a", flaky, retries=1), 0, context_model=Research)
    assert result.output == 1
    assert result.final_pipeline_context.sources == ["x"]


def test_a_step_that_fails_for_good_leaves_no_trace(run: Run) -> None:
    async def bad(_: Any, *, context: Research) -> None:
        context.count = 99
        raise ValueError("no")

    assert run(Step("a", bad, retries=2), 0, context_model=Research).final_pipeline_context.count == 0


# -- joining branches --


def branches_of(base: BaseModel, **writes: dict[str, Any]) -> dict[str, BaseModel]:
    views = {}
    for name, values in writes.items():
        views[name] = isolate(base)
        for field, value in values.items():
            setattr(views[name], field, value)
    return views


def test_fields_that_one_branch_changed_are_taken() -> None:
    base = Research()
    merge_branches(base, branches_of(base, left={"topic": "l"}, right={"count": 2}))
    assert (base.topic, base.count) == ("l", 2)


def test_equal_changes_are_no_conflict() -> None:
    base = Research()
    merge_branches(base, branches_of(base, left={"topic": "same"}, right={"topic": "same"}))
    assert base.topic == "same"


def test_a_true_conflict_names_field_and_branches() -> None:
    base = Research()
    with pytest.raises(ContextConflict, match="'topic' was changed differently by branches 'left', 'right'") as caught:
        merge_branches(base, branches_of(base, left={"topic": "a"}, right={"topic": "b"}))
    assert (caught.value.field, caught.value.branches) == ("topic", ("left", "right"))
    assert base.topic == "unknown"


@pytest.mark.parametrize(("policy", "topic"), [("first", "a"), ("last", "b")])
def test_a_policy_settles_conflicts_in_declared_order(policy: Any, topic: str) -> None:
    base = Research()
    merge_branches(base, branches_of(base, left={"topic": "a"}, right={"topic": "b"}), policy)
    assert base.topic == topic


def test_a_function_may_settle_everything() -> None:
    base = Research()
    views = branches_of(base, left={"count": 2}, right={"count": 3})
    merge_branches(base, views, lambda context, branches: {"count": sum(view.count for view in branches.values())})
    assert base.count == 5


def test_dictionaries_are_joined_key_by_key() -> None:
    base = Research(scratchpad={"kept": 1, "gone": 2})
    views = branches_of(base, left={}, right={})
    views["left"].scratchpad["a"] = {"x": 1}  # type: ignore[attr-defined]
    views["right"].scratchpad["b"] = 2  # type: ignore[attr-defined]
    del views["right"].scratchpad["gone"]  # type: ignore[attr-defined]
    merge_branches(base, views)
    assert base.scratchpad == {"kept": 1, "a": {"x": 1}, "b": 2}


def test_a_conflict_inside_a_dictionary_names_the_key() -> None:
    base = Research()
    with pytest.raises(ContextConflict, match=r"'scratchpad.k'"):
        merge_branches(base, branches_of(base, left={"scratchpad": {"k": 1}}, right={"scratchpad": {"k": 2}}))


@given(st.lists(st.lists(st.text(max_size=3), max_size=3), min_size=1, max_size=5), st.lists(st.text(max_size=3)))
def test_added_lists_are_joined_in_declared_order_without_repeating_the_base(
    added: list[list[str]], start: list[str]
) -> None:
    base = Research(sources=start)
    views = {str(index): isolate(base) for index in range(len(added))}
    for view, items in zip(views.values(), added, strict=True):
        view.sources.extend(items)
    merge_branches(base, views)
    assert base.sources == start + [item for items in added for item in items]


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=6), st.integers(-100, 100))
def test_added_numbers_are_summed_and_custom_reducers_fold(deltas: list[int], start: int) -> None:
    base = Research(spent=float(start), best=start)
    views = {str(index): isolate(base) for index in range(len(deltas))}
    for view, delta in zip(views.values(), deltas, strict=True):
        view.spent += delta
        view.best = max(view.best, delta)
    merge_branches(base, views)
    assert base.spent == start + sum(deltas)
    assert base.best == max([start, *deltas])


def test_a_reducer_that_raises_is_named_by_its_field() -> None:
    class Odd(PipelineContext):
        ratio: Annotated[float, operator.truediv] = 0.0

    base = Odd()
    views = branches_of(base, left={"ratio": 0.0}, right={"ratio": 0.0})
    views["left"].ratio = 2.0  # type: ignore[attr-defined]
    views["right"].ratio = 0.5  # type: ignore[attr-defined]
    merge_branches(base, views)
    assert base.ratio == 0.0
    broken = branches_of(Odd(ratio=1.0), left={"ratio": 0.0}, right={"ratio": 5.0})
    with pytest.raises(StepFailed, match="reducer of context field 'ratio' raised ZeroDivisionError"):
        merge_branches(Odd(ratio=1.0), broken)


def test_a_list_that_was_replaced_in_two_branches_is_a_conflict() -> None:
    base = Research(sources=["a"])
    with pytest.raises(ContextConflict):
        merge_branches(base, branches_of(base, left={"sources": ["x"]}, right={"sources": ["y"]}))
