"""Whatever runs do, the metrics agree with their results."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from flow_prometheus import PrometheusTracer
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from flow import BaseStep, Flow, Kernel, Pipeline, RunResult, Settings, Step, StepResult, StepRun

KERNEL = Kernel(Settings(), only=[])


@attrs.frozen
class Leaf:
    """A step that fails a number of times in each run, and what each of its attempts spends."""

    name: str
    failures: int
    retries: int
    cents: int
    tokens: int
    fallback: Leaf | None = None

    def build(self) -> BaseStep[Any, Any]:
        calls: Counter[str] = Counter()

        async def agent(data: Any, *, run: StepRun) -> Any:
            calls[run.run_id + run.path] += 1
            run.usage.add(cost_usd=self.cents / 64, input_tokens=self.tokens, output_tokens=1, requests=1)
            await asyncio.sleep(0)
            if calls[run.run_id + run.path] <= self.failures:
                raise ConnectionError("down")
            return data

        fallback = None if self.fallback is None else self.fallback.build()
        return Step(self.name, agent, retries=self.retries, fallback=fallback)


@attrs.frozen
class Branch:
    name: str
    children: Sequence[Leaf | Branch]

    def build(self) -> BaseStep[Any, Any]:
        return Pipeline([child.build() for child in self.children]).as_step(self.name)


NAMES = st.sampled_from(["ask", "check", "write", "10", "i3"])
SMALL = st.integers(0, 2)
PLAIN = st.builds(Leaf, NAMES, SMALL, SMALL, SMALL, SMALL)
LEAVES = st.builds(Leaf, NAMES, SMALL, SMALL, SMALL, SMALL, st.none() | PLAIN)
TREES = st.recursive(
    LEAVES, lambda inner: st.builds(Branch, NAMES, st.lists(inner, min_size=1, max_size=3)), max_leaves=6
)


async def run_all(tree: Leaf | Branch, tracer: PrometheusTracer, runs: int) -> list[RunResult[Any]]:
    return await Flow(tree.build(), tracers=[tracer], kernel=KERNEL).run_many(range(runs), concurrency=3)


def by_labels(registry: CollectorRegistry, name: str, *labels: str) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for sample in (sample for metric in registry.collect() for sample in metric.samples if sample.name == name):
        found[tuple(sample.labels[label] for label in labels)] += sample.value  # pyright: ignore[reportArgumentType]
    return found


def names_of(result: StepResult) -> str:
    """The names on a path, written anew: every part begins with its number here, except for fallbacks."""
    return "/".join(part.partition(":")[2] or part for part in result.path.split("/"))


def is_leaf(result: StepResult) -> bool:
    return all(child.path.endswith("/fallback") for child in result.children)


@settings(deadline=None)
@given(TREES, st.integers(1, 4))
def test_metrics_agree_with_the_results(tree: Leaf | Branch, runs: int) -> None:
    registry = CollectorRegistry()
    results = asyncio.run(run_all(tree, PrometheusTracer(registry), runs))
    steps = [step for result in results for step in result.walk()]

    assert by_labels(registry, "flow_runs_finished_total", "status") == Counter(
        (result.status.value,) for result in results
    )
    assert by_labels(registry, "flow_steps_total", "step", "outcome") == Counter(
        (names_of(step), "completed" if step.success else "failed") for step in steps
    )
    assert by_labels(registry, "flow_step_duration_seconds_count", "step") == Counter(
        (names_of(step),) for step in steps
    )
    spent = sum(result.usage.cost_usd for result in results)
    assert by_labels(registry, "flow_cost_usd_total").total() == spent
    assert by_labels(registry, "flow_requests_total").total() == sum(result.usage.requests for result in results)
    assert by_labels(registry, "flow_tokens_total").total() == sum(result.total_tokens for result in results)
    # A step with a fallback counts the attempts of that as its own, too.
    tried = sum(step.attempts for step in steps if is_leaf(step))
    twice = sum(step.attempts for step in steps if step.path.endswith("/fallback"))
    containers = sum(not is_leaf(step) for step in steps)
    assert by_labels(registry, "flow_step_attempts_total").total() == tried - twice + containers
    assert by_labels(registry, "flow_step_fallbacks_total").total() == sum(
        step.path.endswith("/fallback") for step in steps
    )
    failed_runs = sum(not result.success for result in results)
    assert by_labels(registry, "flow_step_failures_total").total() == failed_runs
    assert by_labels(registry, "flow_runs_in_progress").total() == 0


@pytest.mark.parametrize("runs", [1, 5])
def test_long_runs_lose_no_event(runs: int) -> None:
    registry = CollectorRegistry()
    tree = Branch("all", [Leaf(f"s{number}", 0, 0, 1, 0) for number in range(1500)])
    results = asyncio.run(run_all(tree, PrometheusTracer(registry), runs))
    assert all(result.success for result in results)
    assert by_labels(registry, "flow_events_dropped_total").total() == 0
    assert by_labels(registry, "flow_steps_total").total() == 1501 * runs
