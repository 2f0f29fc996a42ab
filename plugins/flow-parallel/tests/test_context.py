"""The context of parallel branches: isolated while they run, merged when they are done."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from flow_parallel import map_over, parallel
from flow_testkit import StubAgent
from pydantic import ConfigDict

from flow import ConfigurationError, ContextConflict, Flow, PipelineContext, Step, StepRun

MakeFlow = Callable[..., Flow[Any, Any]]


class Shelf:
    """Something big that counts how often it is copied."""

    copies: Counter[str] = Counter()

    def __init__(self, name: str) -> None:
        self.name = name

    def __deepcopy__(self, memo: dict[int, Any]) -> Shelf:
        self.copies[self.name] += 1
        return Shelf(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shelf) and self.name == other.name

    __hash__ = None  # type: ignore[assignment]


class Shared(PipelineContext):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    a: str = ""
    b: str = ""
    n: int = 0
    log: Annotated[list[str], operator.add] = []
    total: Annotated[int, operator.add] = 0
    best: Annotated[int, max] = 0
    nested: dict[str, Any] = {}
    plain: list[str] = []
    big: Shelf | None = None
    small: Shelf | None = None


def writing(**values: Any) -> Step[Any, Any]:
    """A step that sets context fields."""

    async def agent(data: Any, *, context: Shared) -> Any:
        for name, value in values.items():
            setattr(context, name, value)
        return data

    return Step("write", agent)


def doing(change: Callable[[Shared], Any]) -> Step[Any, Any]:
    async def agent(data: Any, *, context: Shared) -> Any:
        change(context)
        return data

    return Step("do", agent)


@pytest.fixture
def context_after(flow: MakeFlow) -> Callable[..., Any]:
    """Run a step on 0 and return the context in the end."""

    async def run(step: Any, data: Any = 0, **initial: Any) -> Shared:
        result = await flow(step, context_model=Shared).run_async(data, initial_context=initial)
        assert result.success, str(result.error)
        return result.final_pipeline_context  # type: ignore[no-any-return]

    return run


# -- isolation


async def test_no_branch_sees_what_another_writes_and_the_parent_sees_nothing_before_the_merge(flow: MakeFlow) -> None:
    written, seen = asyncio.Event(), {}

    async def write(data: Any, *, context: Shared) -> Any:
        context.nested["deep"]["list"].append(1)
        context.plain.append("x")
        context.a = "written"
        written.set()
        return data

    async def look(data: Any, *, context: Shared) -> Any:
        await written.wait()
        seen.update(context.model_dump(include={"nested", "plain", "a"}))
        return data

    async def outside(data: Any, *, context: Shared) -> Any:
        return context.a

    step = parallel("fan", {"write": Step("write", write), "look": Step("look", look)}) >> Step("after", outside)
    result = await flow(step, context_model=Shared).run_async(0, initial_context={"nested": {"deep": {"list": []}}})
    assert seen == {"nested": {"deep": {"list": []}}, "plain": [], "a": ""}
    assert (result.output, result.final_pipeline_context.nested) == ("written", {"deep": {"list": [1]}})


async def test_steps_of_one_branch_see_what_those_before_them_wrote(context_after: Callable[..., Any]) -> None:
    branch = writing(a="first") >> doing(lambda context: setattr(context, "b", context.a + "!"))
    assert (await context_after(parallel("fan", {"x": branch, "y": writing(n=1)}))).b == "first!"


async def test_what_a_failed_branch_wrote_is_dropped(context_after: Callable[..., Any]) -> None:
    failing = writing(a="no") >> Step("bad", StubAgent([ValueError("broken")]))
    context = await context_after(parallel("fan", {"bad": failing, "good": writing(b="yes")}, on_failure="collect"))
    assert (context.a, context.b) == ("", "yes")


async def test_what_a_failed_fan_out_wrote_is_dropped(flow: MakeFlow) -> None:
    bad = Step("bad", StubAgent([ValueError("broken")]))
    step = parallel("fan", {"good": writing(a="no"), "bad": writing(b="no") >> bad}, max_concurrency=1)
    result = await flow(step, context_model=Shared).run_async(0)
    assert (result.status, result.final_pipeline_context.a) == ("failed", "")


async def test_what_the_router_wrote_is_seen_by_the_branches_and_kept(context_after: Callable[..., Any]) -> None:
    async def route(data: Any, *, context: Shared) -> list[str]:
        context.a = "routed"
        return ["x"]

    seen: list[str] = []
    context = await context_after(
        parallel("fan", {"x": doing(lambda context: seen.append(context.a)), "y": writing()}, router=route)
    )
    assert (seen, context.a) == (["routed"], "routed")


# -- cheap


def shelves() -> dict[str, Shelf]:
    return {"big": Shelf("big"), "small": Shelf("small")}


async def test_a_branch_copies_only_what_it_touches(flow: MakeFlow) -> None:
    Shelf.copies.clear()

    async def touch(data: Any, *, context: Shared) -> bool:
        return context.small is None

    step = parallel("fan", {f"b{i}": Step("touch", touch) for i in range(100)}, max_concurrency=100)
    assert (await flow(step, context_model=Shared).run_async(0, initial_context=shelves())).success
    assert Shelf.copies == {"small": 100}


async def test_an_item_copies_only_what_it_touches_and_nothing_when_it_names_no_context(flow: MakeFlow) -> None:
    Shelf.copies.clear()

    async def touch(n: int, *, context: Shared) -> int:
        context.total += n
        return n

    async def leave_alone(n: int) -> int:
        return n

    body = Step("alone", leave_alone) >> Step("touch", touch)
    result = await flow(map_over("each", body), context_model=Shared).run_async(
        list(range(50)), initial_context=shelves()
    )
    assert (result.final_pipeline_context.total, Shelf.copies) == (sum(range(50)), {})


# -- merging


async def test_branches_that_change_different_fields_do_not_conflict(context_after: Callable[..., Any]) -> None:
    context = await context_after(parallel("fan", {"x": writing(a="1"), "y": writing(b="2"), "z": writing(n=3)}))
    assert (context.a, context.b, context.n) == ("1", "2", 3)


async def test_branches_that_change_a_field_to_the_same_value_do_not_conflict(
    context_after: Callable[..., Any],
) -> None:
    assert (await context_after(parallel("fan", {"x": writing(a="1"), "y": writing(a="1")}))).a == "1"


async def test_a_branch_that_writes_what_was_there_changes_nothing(context_after: Callable[..., Any]) -> None:
    step = parallel("fan", {"x": writing(a="new"), "y": writing(a="old")})
    assert (await context_after(step, a="old")).a == "new"


@pytest.mark.parametrize(
    ("left", "right", "field"),
    [
        ({"a": "1"}, {"a": "2"}, "a"),
        ({"n": 1}, {"n": 2}, "n"),
        ({"plain": ["1"]}, {"plain": ["2"]}, "plain"),
        ({"nested": {"k": 1}}, {"nested": {"k": 2}}, "nested.k"),
        ({"nested": {"k": {"deep": 1}}}, {"nested": {"k": {"deep": 2}}}, "nested.k.deep"),
    ],
    ids=repr,
)
async def test_a_true_conflict_fails_the_step_naming_field_and_branches(
    flow: MakeFlow, left: dict[str, Any], right: dict[str, Any], field: str
) -> None:
    step = parallel("fan", {"left": writing(**left), "mid": writing(b="ok"), "right": writing(**right)})
    result = await flow(step, context_model=Shared).run_async(0)
    own = result.step_history[0]
    assert isinstance(result.error, ContextConflict)
    assert (result.error.field, result.error.branches) == (field, ("left", "right"))
    assert f"context field '{field}' was changed differently by branches 'left', 'right'" in (own.feedback or "")
    assert own.metadata["executed_branches"] == ["left", "mid", "right"]
    assert result.final_pipeline_context.b == ""


async def test_dictionaries_are_merged_key_by_key(context_after: Callable[..., Any]) -> None:
    branches = {
        "x": doing(lambda context: context.nested.update({"a": 1})),
        "y": doing(lambda context: context.nested.update({"b": 2, "deep": {"y": 1, "was": 0}})),
        "z": doing(lambda context: context.nested["deep"].update({"z": 3})),
    }
    context = await context_after(parallel("fan", branches), nested={"deep": {"was": 0}})
    assert context.nested == {"a": 1, "b": 2, "deep": {"was": 0, "y": 1, "z": 3}}


async def test_reducers_of_the_fields_join_what_branches_wrote(context_after: Callable[..., Any]) -> None:
    def change(name: str, n: int) -> Step[Any, Any]:
        def apply(context: Shared) -> None:
            context.log.append(name)
            context.total += n
            context.best = n

        return doing(apply)

    step = parallel("fan", {"x": change("x", 5), "y": change("y", 7)})
    context = await context_after(step, log=["before"], total=100, best=6)
    assert (context.log, context.total, context.best) == (["before", "x", "y"], 112, 7)


async def test_reducers_apply_in_declared_order_whatever_finishes_first(flow: MakeFlow) -> None:
    second = asyncio.Event()

    async def slow(data: Any, *, context: Shared) -> None:
        await second.wait()
        context.log.append("declared first")

    async def fast(data: Any, *, context: Shared) -> None:
        context.log.append("declared second")
        second.set()

    step = parallel("fan", {"slow": Step("slow", slow), "fast": Step("fast", fast)})
    result = await flow(step, context_model=Shared).run_async(0)
    assert result.final_pipeline_context.log == ["declared first", "declared second"]


@pytest.mark.parametrize(("policy", "expected"), [("first", "1"), ("last", "3")])
async def test_a_declared_policy_settles_conflicts_by_declared_order(
    flow: MakeFlow, policy: str, expected: str
) -> None:
    finished = asyncio.Event()

    async def early(data: Any, *, context: Shared) -> None:
        context.a = "3"
        finished.set()

    async def late(data: Any, *, context: Shared) -> None:
        await finished.wait()
        context.a = "1"

    branches = {"one": Step("late", late), "two": writing(b="kept"), "three": Step("early", early)}
    result = await flow(parallel("fan", branches, merge=policy), context_model=Shared).run_async(0)  # type: ignore[arg-type]
    assert (result.final_pipeline_context.a, result.final_pipeline_context.b) == (expected, "kept")


async def test_a_merge_function_gets_the_context_and_those_of_the_branches(context_after: Callable[..., Any]) -> None:
    def join(context: Shared, branches: dict[str, Shared]) -> dict[str, Any]:
        return {"a": context.a + "".join(f"{name}{branch.a}" for name, branch in branches.items())}

    step = parallel("fan", {"x": writing(a="1"), "y": writing(a="2")}, merge=join)
    assert (await context_after(step, a="0")).a == "0x1y2"


async def test_a_raising_merge_function_fails_the_step_and_is_named(flow: MakeFlow) -> None:
    def by_vote(context: Any, branches: Any) -> Any:
        raise KeyError("tie")

    result = await flow(parallel("fan", {"x": writing(a="1")}, merge=by_vote), context_model=Shared).run_async(0)
    assert result.step_history[0].feedback == "merge function 'by_vote' raised KeyError: 'tie'"


@pytest.mark.parametrize(
    "make", [lambda **how: parallel("fan", {}, **how), lambda **how: map_over("m", writing(), **how)]
)
def test_an_unknown_merge_policy_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="merge is 'error', 'first', 'last' or a callable, got 'newest'"):
        make(merge="newest")


# -- items


async def test_items_merge_in_their_order(flow: MakeFlow) -> None:
    async def note(n: int, *, context: Shared) -> int:
        context.log.append(str(n))
        context.total += n
        context.nested[f"item {n}"] = n
        return n

    result = await flow(map_over("each", Step("note", note)), context_model=Shared).run_async([3, 1, 2])
    context = result.final_pipeline_context
    assert (context.log, context.total, context.nested) == (
        ["3", "1", "2"],
        6,
        {"item 3": 3, "item 1": 1, "item 2": 2},
    )


async def test_items_that_conflict_fail_the_step_naming_field_and_indexes(flow: MakeFlow) -> None:
    async def note(n: int, *, context: Shared) -> int:
        context.n = n
        return n

    step = map_over("each", Step("note", note))
    result = await flow(step, context_model=Shared).run_async([0, 1, 2])
    assert isinstance(result.error, ContextConflict)
    assert (result.error.field, result.error.branches) == ("n", ("1", "2"))
    assert result.step_history[0].metadata == {"failed_items": []}
    last = await flow(step.evolve(merge="last"), context_model=Shared).run_async([0, 1, 2])
    assert last.final_pipeline_context.n == 2


async def test_a_failed_attempt_of_an_item_leaves_no_trace(flow: MakeFlow) -> None:
    async def flaky(n: int, *, context: Shared, run: StepRun) -> int:
        context.total += 1
        if run.attempt == 1:
            raise ValueError("once")
        return n

    result = await flow(map_over("each", Step("flaky", flaky, retries=1)), context_model=Shared).run_async([1, 2, 3])
    assert result.final_pipeline_context.total == 3


async def test_nested_fan_outs_merge_level_by_level(context_after: Callable[..., Any]) -> None:
    inner = parallel("inner", {"x": writing(log=["x"]), "y": writing(log=["y"], total=1)})
    context = await context_after(parallel("outer", {"left": inner, "right": inner, "flat": writing(a="z")}))
    assert (context.log, context.total, context.a) == (["x", "y", "x", "y"], 2, "z")
