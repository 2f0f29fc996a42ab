"""Branches: what is chosen, what runs, what is recorded."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Any

import pytest
from flow_branch import Branch, branch_on
from flow_testkit import StubAgent, assert_step_sequence

from flow import (
    BaseStep,
    CancelSignal,
    ConfigurationError,
    Flow,
    PauseSignal,
    Pipeline,
    PipelineContext,
    StateBackend,
    Step,
    StepFailed,
    StepRun,
    Usage,
    UsageLimits,
    structure,
)

MakeFlow = Callable[..., Flow[Any, Any]]


class Risk(enum.Enum):
    LOW = "low"
    HIGH = 2


class Size(enum.StrEnum):
    BIG = "big"


class Scored(PipelineContext):
    score: float = 0.0
    n: int = 0


async def increment(n: int) -> int:
    return n + 1


async def tenfold(n: int) -> int:
    return n * 10


async def broken(n: Any) -> Any:
    raise ValueError("broken")


def always(key: Any) -> Callable[[Any, Any], Any]:
    return lambda data, context: key


def named(*names: str) -> dict[Any, BaseStep[Any, Any]]:
    """Branches that return their own name."""
    return {name: Step(name, StubAgent([name] * 10)) for name in names}


# -- choosing


@pytest.mark.parametrize(
    ("key", "recorded", "path"),
    [
        ("risky", "risky", "0:route/risky/0:it"),
        (True, True, "0:route/true/0:it"),
        (False, False, "0:route/false/0:it"),
        (0, 0, "0:route/0/0:it"),
        (7, 7, "0:route/7/0:it"),
        (Risk.LOW, "low", "0:route/low/0:it"),
        (Risk.HIGH, 2, "0:route/2/0:it"),
        (Size.BIG, "big", "0:route/big/0:it"),
    ],
    ids=repr,
)
async def test_keys_may_be_text_booleans_numbers_and_enum_members(
    flow: MakeFlow, key: Any, recorded: Any, path: str
) -> None:
    result = await flow(
        branch_on("route", always(key), {"never": Step("no", broken), key: Step("it", increment)})
    ).run_async(1)
    assert result.output == 2
    assert result.step_history[0].metadata == {"executed_branch_key": recorded}
    assert [child.path for child in result.step_history[0].children] == [path]


@pytest.mark.parametrize(("key", "expected"), [(True, "true"), (False, "false")])
async def test_booleans_find_branches_with_the_names_of_booleans(flow: MakeFlow, key: bool, expected: str) -> None:
    result = await flow(branch_on("route", always(key), named("true", "false"))).run_async(1)
    assert (result.output, result.step_history[0].metadata["executed_branch_key"]) == (expected, key)


@pytest.mark.parametrize("key", [Risk.LOW, 7], ids=repr)
async def test_other_keys_are_not_found_by_what_they_are_called(flow: MakeFlow, key: Any) -> None:
    result = await flow(branch_on("route", always(key), named("low", "7"))).run_async(1)
    assert result.status == "failed"


@pytest.mark.parametrize(
    "condition",
    [
        lambda data, context: f"{data} {context.score}",
        lambda context, data: f"{data} {context.score}",
        lambda number, ctx: f"{number} {ctx.score}",
        lambda ctx, number: f"{number} {ctx.score}",
    ],
)
async def test_a_condition_gets_data_and_context_as_its_parameters_are_called(
    flow: MakeFlow, condition: Callable[..., Any]
) -> None:
    step = branch_on("route", condition, {"1 0.5": Step("it", increment)})
    assert (await flow(step, context_model=Scored).run_async(1, initial_context={"score": 0.5})).output == 2


async def test_a_condition_may_take_the_data_alone_and_may_be_async(flow: MakeFlow) -> None:
    async def choose(data: int) -> str:
        await asyncio.sleep(0)
        return "odd" if data % 2 else "even"

    agent = flow(branch_on("route", choose, named("odd", "even")))
    assert [(await agent.run_async(n)).output for n in (1, 2)] == ["odd", "even"]


# -- running


async def test_all_steps_of_a_branch_run_one_after_another(flow: MakeFlow) -> None:
    step = branch_on("route", always("a"), {"a": Step("inc", increment) >> Step("ten", tenfold)})
    result = await flow(step).run_async(1)
    assert result.output == 20
    assert_step_sequence(result, ["route", "inc", "ten"], nested=True)


async def test_a_failing_step_stops_its_branch(flow: MakeFlow) -> None:
    never = StubAgent([0])
    step = branch_on("route", always("a"), {"a": Step("bad", broken) >> Step("never", never)})
    result = await flow(step).run_async(1)
    assert (result.status, result.failed_path, never.call_count) == ("failed", "0:route/a/0:bad", 0)
    own = result.step_history[0]
    assert own.feedback == "branch 'a' failed at '0:route/a/0:bad': Agent failed with ValueError: broken"
    assert own.metadata == {"executed_branch_key": "a"}


async def test_an_empty_branch_passes_its_input_through(flow: MakeFlow) -> None:
    result = await flow(branch_on("route", always("a"), {"a": Pipeline(())}) >> Step("inc", increment)).run_async(1)
    assert result.output == 2
    assert result.step_history[0].children == ()


async def test_a_branch_may_be_of_any_kind_at_any_depth(flow: MakeFlow) -> None:
    step: BaseStep[Any, Any] = Step("inc", increment)
    for depth in range(30):
        step = branch_on(f"level{depth}", always("x"), {"x": step, "y": Step("no", broken)})
    result = await flow(step).run_async(1)
    assert result.output == 2
    assert max(found.path.count("/") for found in result.walk()) == 60


async def test_only_the_chosen_branch_runs(flow: MakeFlow) -> None:
    other = StubAgent(["no"])
    await flow(branch_on("route", always("a"), {"a": Step("a", increment), "b": Step("b", other)})).run_async(1)
    assert other.call_count == 0


# -- keys that are not there


async def test_a_missing_key_fails_the_step_naming_key_and_choices(flow: MakeFlow) -> None:
    branches = {"risky": Step("a", increment), True: Step("b", increment), Risk.LOW: Step("c", increment)}
    result = await flow(branch_on("route", always("sfae"), branches)).run_async(1)
    assert result.status == "failed"
    assert isinstance(result.error, StepFailed)
    own = result.step_history[0]
    assert own.feedback == "no branch for key 'sfae' and no default branch; the branches are: 'risky', 'true', 'low'"
    assert own.metadata == {"executed_branch_key": "sfae"}
    assert own.children == ()


async def test_a_missing_key_without_any_branch_says_so(flow: MakeFlow) -> None:
    result = await flow(branch_on("route", always(1), {})).run_async(1)
    assert result.step_history[0].feedback == "no branch for key 1 and no default branch; the branches are: none"


@pytest.mark.parametrize(("key", "recorded"), [("other", "other"), (None, None), (Risk.HIGH, 2), (2.5, "2.5")])
async def test_the_default_branch_takes_other_keys_and_the_evaluated_key_is_recorded(
    flow: MakeFlow, key: Any, recorded: Any
) -> None:
    step = branch_on("route", always(key), {"a": Step("no", broken)}, default_branch_pipeline=Step("inc", increment))
    result = await flow(step).run_async(1)
    assert result.output == 2
    assert result.step_history[0].metadata == {"executed_branch_key": recorded}
    assert result.step_history[0].children[0].path == "0:route/default/0:inc"


async def test_an_empty_default_branch_passes_through(flow: MakeFlow) -> None:
    assert (await flow(branch_on("route", always("?"), {}, Pipeline(()))).run_async(5)).output == 5


async def test_a_key_that_cannot_be_one_fails_the_step(flow: MakeFlow) -> None:
    result = await flow(branch_on("route", always(["a"]), named("a"))).run_async(1)
    assert result.status == "failed"
    assert "the key chosen is ['a'], which cannot be that of a branch" in str(result.error)


async def test_a_raising_condition_fails_the_step_and_is_named(flow: MakeFlow) -> None:
    def by_score(data: Any, context: Any) -> str:
        return data["score"]  # type: ignore[no-any-return]

    result = await flow(branch_on("route", by_score, named("a"))).run_async({})
    assert result.status == "failed"
    assert result.step_history[0].feedback == "condition 'by_score' raised KeyError: 'score'"
    assert isinstance(result.error, StepFailed)
    assert isinstance(result.error.cause, KeyError)


# -- wrong use


@pytest.mark.parametrize("key", [None, 1.5, ("a",), b"a"], ids=repr)
def test_a_key_of_another_type_is_refused(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="a key is a str, bool, int or Enum"):
        branch_on("route", always(key), {key: Step("a", increment)})


@pytest.mark.parametrize("key", ["", "a/b"])
def test_a_key_that_cannot_be_part_of_a_path_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be part of a path"):
        branch_on("route", always(key), {key: Step("a", increment)})


@pytest.mark.parametrize("keys", [(True, "true"), (1, "1"), (Risk.LOW, "low")], ids=repr)
def test_keys_that_would_share_a_path_are_refused(keys: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigurationError, match="are both called"):
        branch_on("route", always(1), dict.fromkeys(keys, Step("a", increment)))


def test_a_branch_called_default_beside_a_default_branch_is_refused() -> None:
    branches = {"default": Step("a", increment)}
    with pytest.raises(ConfigurationError, match="called like the step's own default"):
        branch_on("route", always(1), branches, default_branch_pipeline=Step("b", increment))
    assert list(branch_on("route", always(1), branches).children()) == ["default"]


def test_a_branch_called_fallback_beside_a_fallback_is_refused() -> None:
    step = branch_on("route", always(1), {"fallback": Step("a", increment)})
    with pytest.raises(ConfigurationError, match="called like the step's own fallback"):
        step.evolve(fallback=Step("b", increment))


def test_a_condition_that_is_not_callable_is_refused_when_bound(flow: MakeFlow) -> None:
    with pytest.raises(ConfigurationError, match="condition must be callable"):
        flow(branch_on("route", "nope", named("a"))).run(1)  # type: ignore[arg-type]


# -- context


async def add(n: int, *, context: Scored) -> int:
    context.n += n
    return n


async def test_what_a_branch_writes_is_kept(flow: MakeFlow) -> None:
    step = branch_on("route", always("a"), {"a": Step("x", add) >> Step("y", add)})
    assert (await flow(step, context_model=Scored).run_async(2)).final_pipeline_context.n == 4


async def test_what_a_failing_branch_writes_is_dropped(flow: MakeFlow) -> None:
    step = branch_on("route", always("a"), {"a": Step("x", add) >> Step("bad", broken)})
    result = await flow(step, context_model=Scored).run_async(2)
    assert (result.status, result.final_pipeline_context.n) == ("failed", 0)


async def test_the_condition_sees_what_earlier_steps_wrote(flow: MakeFlow) -> None:
    step = branch_on("route", lambda data, context: context.n, {3: Step("it", increment)})
    assert (await flow(Step("add", add) >> step, context_model=Scored).run_async(3)).output == 4


# -- settings, limits, signals


async def test_a_branch_is_retried_as_a_whole_and_chosen_anew(flow: MakeFlow) -> None:
    keys = iter(["bad", "good"])
    branches = {"bad": Step("bad", broken), "good": Step("good", increment)}
    result = await flow(branch_on("route", lambda data, context: next(keys), branches, retries=1)).run_async(1)
    own = result.step_history[0]
    assert (result.output, own.attempts, own.metadata["executed_branch_key"]) == (2, 2, "good")
    assert [child.name for child in own.children] == ["good"]


async def test_a_limit_breached_in_a_branch_ends_the_run(flow: MakeFlow) -> None:
    async def spend(n: int, *, run: StepRun) -> int:
        run.usage.add(cost_usd=0.2)
        return n

    never = StubAgent([0])
    step = branch_on("route", always("a"), {"a": Step("s", spend) >> Step("never", never)}, Step("never", never))
    result = await flow(step, usage_limits=UsageLimits(total_cost_usd_limit=0.15)).run_async(1)
    assert (result.status, result.total_cost_usd, never.call_count) == ("limit_exceeded", 0.2, 0)
    assert result.step("s").output == 1
    assert result.step_history[0].usage == Usage(cost_usd=0.2)


async def test_a_cancel_in_a_branch_cancels_the_run(flow: MakeFlow) -> None:
    step = branch_on("route", always("a"), {"a": Step("c", StubAgent([CancelSignal("enough")]))}, retries=3)
    result = await flow(step).run_async(1)
    assert (result.status, str(result.error)) == ("cancelled", "enough")


async def test_humans_inside_a_branch_are_asked_one_after_the_other(flow: MakeFlow) -> None:
    before = StubAgent([1])
    asked: list[str] = []

    def human(name: str) -> Step[Any, Any]:
        async def agent(n: int) -> int:
            asked.append(name)
            if asked.count(name) == 1:
                raise PauseSignal(f"{name} {n}?")
            return n + 1

        return Step(name, agent)

    body = Step("before", before) >> human("first") >> human("second")
    step = branch_on("route", always("a"), {"a": body}, retries=2)
    runner = flow(step >> Step("inc", increment), state="memory://")
    result = await runner.run_async(0, run_id="r")
    assert (result.status, before.call_count) == ("paused", 1)
    assert [(item.path, item.message) for item in result.pending] == [("0:route/a/1:first", "first 1?")]
    result = await runner.resume_async("r")
    assert [(item.path, item.message) for item in result.pending] == [("0:route/a/2:second", "second 2?")]
    result = await runner.resume_async("r")
    assert (result.output, before.call_count, asked) == (4, 1, ["first", "first", "second", "second"])


# -- records


async def test_the_decision_is_in_the_journal(flow: MakeFlow, store: StateBackend) -> None:
    step = branch_on("route", always(Risk.LOW), {Risk.LOW: Step("inc", increment)})
    await flow(step, state=store).run_async(1, run_id="r")
    records = {record.path: record for record in await store.load_steps("r")}
    assert records["0:route"].metadata == b'{"executed_branch_key":"low"}'
    assert records["0:route/low/0:inc"].parent == "0:route"


async def test_a_run_that_failed_in_a_branch_goes_on_inside_it(flow: MakeFlow) -> None:
    first, second = StubAgent([1, 1]), StubAgent([ValueError("once"), 2])
    inner = branch_on("inner", always(True), {True: Step("first", first) >> Step("second", second)})
    runner = flow(branch_on("outer", always("x"), {"x": inner >> Step("inc", increment)}), state="memory://")
    assert (await runner.run_async(0, run_id="r")).failed_path == "0:outer/x/0:inner/true/1:second"
    result = await runner.resume_async("r")
    assert (result.output, first.call_count, second.call_count) == (3, 1, 2)
    assert result.step("first").replayed
    assert not result.step("inner").replayed


# -- structure


def test_children_are_the_branches_by_label_and_the_default_last() -> None:
    step = branch_on("route", always(1), {True: Step("a", increment), Risk.LOW: Pipeline(())}, Step("d", increment))
    assert list(step.children()) == ["true", "low", "default"]
    assert list(structure(step)["children"]) == ["true", "low", "default"]


@pytest.mark.parametrize(
    "change",
    [
        {"branches": {"a": Step("a", increment), "c": Step("b", increment)}},
        {"branches": {"a": Step("a", tenfold), "b": Step("b", increment)}},
        {"default": Step("d", increment)},
        {"choose": tenfold},
    ],
    ids=["another key", "another agent", "a default", "another condition"],
)
def test_the_fingerprint_tells_changes(change: dict[str, Any]) -> None:
    step = branch_on("route", increment, {"a": Step("a", increment), "b": Step("b", increment)})
    assert Pipeline((step.evolve(**change),)).fingerprint != Pipeline((step,)).fingerprint


def test_validation_looks_into_every_branch() -> None:
    step = branch_on("route", always(1), {"a": Step("no agent")}, Step("also none"))
    report = Pipeline((step,)).validate_graph()
    assert [(finding.rule_id, finding.path) for finding in report.findings] == [
        ("FLOW-A1", "0:route/a/0:no agent"),
        ("FLOW-A1", "0:route/default/0:also none"),
    ]


async def says(n: int) -> str:
    return str(n)


@pytest.mark.parametrize(
    ("branches", "default", "types"),
    [
        ({"a": Step("a", increment)}, None, (int, int)),
        ({"a": Step("a", increment), "b": Step("b", says)}, None, (int, int | str)),
        ({"a": Step("a", increment)}, Step("b", says), (int, int | str)),
        ({"a": Step("a", increment), "b": Pipeline(())}, None, (Any, Any)),
        ({"a": Step("a", increment), "b": Step("b", StubAgent([]))}, None, (Any, Any)),
        ({}, None, (Any, Any)),
    ],
)
def test_types_are_those_of_the_branches(branches: dict[Any, Any], default: Any, types: tuple[Any, Any]) -> None:
    assert branch_on("route", always("a"), branches, default).declared_types() == types


def test_validation_finds_a_step_that_does_not_fit_a_branch() -> None:
    pipeline = branch_on("route", always("a"), {"a": Step("a", increment), "b": Step("b", says)}) >> Step(
        "inc", increment
    )
    assert [finding.message for finding in pipeline.validate_graph().findings] == [
        "step 'inc' takes int, but step 'route' returns int | str"
    ]


def test_it_is_a_method_of_step_when_installed() -> None:
    assert isinstance(Step.branch_on("route", always(1), {1: Step("a", increment)}), Branch)
    assert isinstance(Step.route_by_policy("route", {}, {"a": Step("a", increment)}, key=always("a")), Branch)
