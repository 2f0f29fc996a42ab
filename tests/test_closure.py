"""Any step type nests in any other: random structures give what a ten-line interpreter gives, and lose no usage."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import pytest
from flow_branch import branch_on
from flow_loop import Refinement, loop_until, refine_until
from flow_parallel import map_over, map_reduce, parallel
from hypothesis import given, settings
from hypothesis import strategies as st

from flow import (
    CancelSignal,
    Flow,
    Kernel,
    PauseSignal,
    Pipeline,
    RunResult,
    Settings,
    Step,
    StepResult,
    StepRun,
    Usage,
    UsageLimits,
)

Shape: TypeAlias = tuple[Any, ...]
Make: TypeAlias = Callable[[Shape], Pipeline[Any, Any]]

KERNEL = Kernel(Settings())
MODULUS = 10_007  # keeps numbers small; the arithmetic does not commute, so that order shows
FANS = ("parallel", "map", "fold")
KINDS = ("sequence", "sub", "branch", "default", "loop", "refine", *FANS)

COST = Usage(cost_usd=0.25, input_tokens=1, output_tokens=2, requests=1)


# -- what a structure means


def interpret(shape: Shape, n: int) -> int:
    """Compute what the structure makes of a number."""
    kind, *inner = shape
    match kind:
        case "leaf":
            return (n * inner[0] + inner[1]) % MODULUS
        case "sequence":
            return interpret(inner[1], interpret(inner[0], n))
        case "branch" | "default":
            return interpret(inner[n % 2], n)
        case "loop":
            return n if (n := interpret(inner[0], n)) % 3 == 0 else interpret(inner[0], n)
        case "refine":
            return first if (first := interpret(inner[0], n)) % 2 == 0 else interpret(inner[0], n + first % 7)
        case "parallel":
            return joined([interpret(part, n) for part in inner])
        case "map" | "fold":
            return joined([interpret(inner[0], n + i) for i in range(3)])
    return interpret(inner[0], n)


def joined(numbers: list[int]) -> int:
    total = 0
    for number in numbers:
        total = append(total, number)
    return total


def append(total: int, number: int) -> int:
    return (total * 31 + number) % MODULUS


# -- the same structure as steps


@attrs.frozen
class Builder:
    """Makes pipelines of shapes; `leaf` makes the step of a leaf."""

    leaf: Callable[[Shape], Step[Any, Any]]
    settings: dict[str, Any] = attrs.field(factory=dict)

    def build(self, shape: Shape) -> Pipeline[Any, Any]:
        kind, *inner = shape
        if kind == "leaf":
            return Pipeline((self.leaf(shape),))
        parts = [self.build(part) for part in inner]
        if kind == "sequence":
            return parts[0] >> parts[1]
        if kind == "sub":
            return Pipeline((parts[0].as_step("sub").evolve(**self.settings),))
        if kind in FANS:
            return self._fan(kind, parts)
        return Pipeline((self._choice(kind, parts),))

    def _choice(self, kind: str, parts: list[Pipeline[Any, Any]]) -> Any:
        if kind == "branch":
            return branch_on("branch", parity, {0: parts[0], 1: parts[1]}, **self.settings)
        if kind == "default":
            return branch_on("default", parity, {0: parts[0]}, parts[1], **self.settings)
        if kind == "loop":
            return loop_until("loop", parts[0], threefold, 2, on_exhausted="return", **self.settings)
        generator = Step("unpack", unpack) >> parts[0]
        return refine_until("refine", generator, Step("judge", judge), 2, **self.settings)

    def _fan(self, kind: str, parts: list[Pipeline[Any, Any]]) -> Pipeline[Any, Any]:
        if kind == "parallel":
            branches = {f"b{index}": part for index, part in enumerate(parts)}
            return parallel("parallel", branches, max_concurrency=2, **self.settings) >> Step("join", join_mapping)
        if kind == "map":
            each = map_over("map", parts[0], three_from, max_concurrency=2, **self.settings)
            return each >> Step("join", join_list)
        fold = map_reduce(
            "fold", parts[0], reduce=append, initial=0, items=three_from, max_concurrency=2, **self.settings
        )
        return Pipeline((fold,))


def parity(n: int, context: Any) -> int:
    return n % 2


def threefold(n: int, context: Any) -> bool:
    return n % 3 == 0


async def unpack(task: dict[str, Any]) -> int:
    return int(task["original_input"]) + int(task["feedback"] or 0)


async def judge(n: int) -> Refinement:
    return Refinement(is_complete=n % 2 == 0, feedback=str(n % 7))


def three_from(n: int, context: Any) -> list[int]:
    return [n, n + 1, n + 2]


async def join_mapping(outputs: dict[str, int]) -> int:
    return joined(list(outputs.values()))


async def join_list(outputs: list[int]) -> int:
    return joined(outputs)


def arithmetic(shape: Shape) -> Step[Any, Any]:
    """A leaf that computes, a few turns of the loop later: branches overtake each other."""

    async def agent(n: int) -> int:
        for _ in range(shape[1] % 4):
            await asyncio.sleep(0)
        return interpret(shape, n)

    return Step("leaf", agent)


numbers = st.integers(0, 50)
leaves = st.tuples(st.just("leaf"), numbers, numbers)


def nested(inner: st.SearchStrategy[Shape]) -> st.SearchStrategy[Shape]:
    return st.one_of(
        st.tuples(st.sampled_from(["sub", "loop", "refine", "map", "fold"]), inner),
        st.tuples(st.sampled_from(["sequence", "branch", "default"]), inner, inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("parallel", *parts)),
    )


shapes = st.recursive(leaves, nested, max_leaves=8)


def flow(pipeline: Pipeline[Any, Any], **options: Any) -> Flow[Any, Any]:
    return Flow(pipeline, kernel=KERNEL, **options)


# -- results and paths


@settings(max_examples=150, deadline=None)
@given(shape=shapes, n=numbers)
def test_a_structure_gives_what_the_interpreter_gives(shape: Shape, n: int) -> None:
    assert flow(Builder(arithmetic).build(shape)).run(n).output == interpret(shape, n)


@settings(max_examples=75, deadline=None)
@given(shape=shapes, n=numbers)
def test_paths_are_unique_and_are_those_of_the_journal(shape: Shape, n: int) -> None:
    async def run() -> None:
        store = KERNEL.open_state("memory://")
        result = await flow(Builder(arithmetic).build(shape), state=store).run_async(n, run_id="r")
        assert result.output == interpret(shape, n)
        records = {record.path: record for record in await store.load_steps("r")}
        paths = [found.path for found in result.walk()]
        assert len(paths) == len(set(paths))
        assert set(paths) == set(records)
        for found in result.walk():
            assert [child.path for child in found.children if records[child.path].parent != found.path] == []

    asyncio.run(run())


@settings(max_examples=50, deadline=None)
@given(shape=shapes, n=numbers)
def test_a_finished_run_is_replayed_without_calling_anything(shape: Shape, n: int) -> None:
    async def run() -> None:
        ledger = Ledger()
        runner = flow(Builder(ledger.leaf).build(shape), state="memory://")
        first = await runner.run_async(n, run_id="r")
        calls = ledger.calls
        again = await runner.resume_async("r")
        assert (again.output, again.usage, ledger.calls) == (interpret(shape, n), first.usage, calls)
        assert sorted(found.path for found in again.walk()) == sorted(found.path for found in first.walk())

    asyncio.run(run())


# -- usage


@attrs.define(eq=False)
class Ledger:
    """Leaves that spend on every call, and what they spent.

    :ivar failing: the numbers of the calls that raise, counted over the whole run.
    :ivar final: the number of the call that ends the run, by `ending`.
    """

    failing: frozenset[int] = frozenset()
    final: int = -1
    ending: Callable[[], Any] = lambda: None
    settings: dict[str, Any] = attrs.field(factory=dict)
    calls: int = 0
    succeeded: Counter[str] = attrs.field(factory=Counter)

    @property
    def spent(self) -> Usage:
        return Usage(*(value * self.calls for value in attrs.astuple(COST)))

    def leaf(self, shape: Shape) -> Step[Any, Any]:
        async def agent(n: int, *, run: StepRun) -> int:
            number = self.calls
            self.calls += 1
            run.usage.add(**attrs.asdict(COST))
            await asyncio.sleep(0)
            if number == self.final:
                self.ending()
                await asyncio.sleep(0)
            if number in self.failing:
                raise ValueError(f"call {number}")
            self.succeeded[run.path] += 1
            return interpret(shape, n)

        fallback = Step("instead", agent) if self.settings.get("fallback") else None
        return Step("leaf", agent, retries=self.settings.get("retries", 0), fallback=fallback)


def own_usage(result: StepResult) -> Usage:
    return result.usage - sum((child.usage for child in result.children), Usage())


def assert_nothing_lost(result: RunResult[Any], ledger: Ledger) -> None:
    """The run's total is what the leaves spent, and what is inside a step is never more than the step says."""
    assert result.usage == ledger.spent
    assert sum((found.usage for found in result.step_history), Usage()) == ledger.spent
    assert sum((own_usage(found) for found in result.walk()), Usage()) == ledger.spent
    for found in result.walk():
        assert min(attrs.astuple(own_usage(found))) >= 0, found.path


leaf_settings = st.fixed_dictionaries({"retries": st.integers(0, 2), "fallback": st.booleans()})
step_settings = st.fixed_dictionaries({"retries": st.integers(0, 1)})
failing_calls = st.frozensets(st.integers(0, 25), max_size=10)


@settings(max_examples=150, deadline=None)
@given(shape=shapes, failing=failing_calls, of_leaves=leaf_settings, of_steps=step_settings)
def test_usage_is_the_sum_over_all_calls_under_failures_retries_and_fallbacks(
    shape: Shape, failing: frozenset[int], of_leaves: dict[str, Any], of_steps: dict[str, Any]
) -> None:
    ledger = Ledger(failing, settings=of_leaves)
    result = flow(Builder(ledger.leaf, of_steps).build(shape)).run(1)
    assert_nothing_lost(result, ledger)
    if result.success:
        assert result.output == interpret(shape, 1)


@settings(max_examples=100, deadline=None)
@given(shape=shapes, final=st.integers(0, 20), failing=failing_calls, how=st.sampled_from(["handle", "signal"]))
def test_usage_is_the_sum_over_all_calls_under_cancellation(
    shape: Shape, final: int, failing: frozenset[int], how: str
) -> None:
    async def run() -> None:
        ledger = Ledger(failing - {final}, final, settings={"retries": 1})
        handle = flow(Builder(ledger.leaf, {"retries": 1}).build(shape)).start(1)
        ledger.ending = handle.cancel if how == "handle" else cancel
        result = await handle
        assert_nothing_lost(result, ledger)
        assert not (result.success and ledger.calls > final)

    def cancel() -> None:
        raise CancelSignal("enough")

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(shape=shapes, most=st.integers(0, 20))
def test_usage_is_the_sum_over_all_calls_under_a_budget(shape: Shape, most: int) -> None:
    ledger = Ledger()
    limits = UsageLimits(total_cost_usd_limit=most * COST.cost_usd)
    result = flow(Builder(ledger.leaf).build(shape), usage_limits=limits).run(1)
    assert_nothing_lost(result, ledger)
    assert (result.status == "limit_exceeded") is (ledger.calls > most)


@settings(max_examples=75, deadline=None)
@given(shape=shapes, failing=failing_calls)
def test_a_run_that_fails_again_and_again_ends_right_runs_nothing_twice_and_keeps_the_books(
    shape: Shape, failing: frozenset[int]
) -> None:
    async def run() -> None:
        ledger = Ledger(failing)
        runner = flow(Builder(ledger.leaf).build(shape), state="memory://")
        result = await runner.run_async(1, run_id="r")
        for _ in failing:
            if not result.success:
                assert result.usage == ledger.spent
                result = await runner.resume_async("r")
        assert (result.output, result.usage) == (interpret(shape, 1), ledger.spent)
        assert max(ledger.succeeded.values()) == 1

    asyncio.run(run())


# -- every kind in every kind


def around(kind: str, inner: Shape) -> Shape:
    """A structure of `kind` that runs `inner` on an odd number."""
    through = ("leaf", 1, 0)
    match kind:
        case "sequence":
            return ("sequence", through, inner)
        case "branch" | "default":
            return (kind, through, inner)
        case "parallel":
            return ("parallel", through, inner)
    return (kind, inner)


PAIRS = [(outer, inner) for outer in KINDS for inner in KINDS]


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_every_kind_nests_in_every_kind(outer: str, inner: str) -> None:
    shape = around(outer, around(inner, around(outer, ("leaf", 3, 1))))
    pipeline = Builder(arithmetic).build(shape)
    assert pipeline.validate_graph().findings == ()
    assert flow(pipeline).run(1).output == interpret(shape, 1)


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
async def test_a_question_inside_any_two_kinds_is_asked_and_the_run_goes_on_after_it(outer: str, inner: str) -> None:
    answered: set[str] = set()
    calls: Counter[str] = Counter()

    def leaf(shape: Shape) -> Step[Any, Any]:
        async def agent(n: int, *, run: StepRun) -> int:
            if shape[1:] == (3, 1) and run.path not in answered:
                raise PauseSignal("go on?")
            calls[run.path] += 1
            return interpret(shape, n)

        return Step("leaf", agent)

    shape = around(outer, around(inner, ("leaf", 3, 1)))
    runner = flow(Builder(leaf).build(shape), state="memory://")
    result = await runner.run_async(1, run_id="r")
    assert result.status == "paused"
    for _ in range(20):
        if result.status != "paused":
            break
        answered |= {item.path for item in result.pending}
        result = await runner.resume_async("r")
    assert result.output == interpret(shape, 1)
    assert set(calls.values()) == {1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_deep_nest_of_one_kind_is_bound_validated_and_described_in_time(kind: str) -> None:
    shape: Shape = ("leaf", 1, 1)
    for _ in range(3 if kind in FANS else 9):
        shape = around(kind, shape) if kind not in ("map", "fold") else (kind, shape)
    pipeline = Builder(arithmetic).build(shape)
    assert pipeline.validate_graph().is_valid
    assert pipeline.fingerprint == Builder(arithmetic).build(shape).fingerprint
    assert flow(pipeline).run(1).output == interpret(shape, 1)


@pytest.mark.parametrize("kind", ["sub", "branch", "loop", "refine", "parallel", "map"])
def test_binding_a_nest_asks_for_types_in_proportion_to_its_depth(kind: str) -> None:
    asked: list[int] = []

    class Asked(Step[Any, Any]):
        def declared_types(self) -> tuple[Any, Any]:
            asked.append(1)
            return int, int

    leaf: Shape = ("leaf", 1, 1)
    shape = leaf
    for _ in range(40):
        shape = (kind, shape, leaf) if kind == "branch" else (kind, shape)
    KERNEL.bind(Builder(lambda shape: Asked("leaf", judge)).build(shape))
    assert len(asked) < 5000
