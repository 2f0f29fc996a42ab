"""Tokens and money: each is told once, where it was spent, and summed up around it under other names."""

from __future__ import annotations

from typing import Any

from flow import Pipeline, Step

OWN = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "flow.usage.cost_usd")
TOTAL = ("flow.usage.total.input_tokens", "flow.usage.total.output_tokens", "flow.usage.total.cost_usd")


async def spend(data: Any, run: Any) -> Any:
    run.usage.add(cost_usd=0.25, input_tokens=10, output_tokens=5)
    return data


async def spend_and_fail(data: Any, run: Any) -> Any:
    run.usage.add(cost_usd=0.5, input_tokens=1)
    raise ValueError("no")


def spend_in_a_thread(data: Any, run: Any) -> Any:
    run.usage.add(cost_usd=0.25, input_tokens=10, output_tokens=5)
    return data


class Flaky:
    def __init__(self) -> None:
        self.failing = True

    async def __call__(self, data: Any, run: Any) -> Any:
        run.usage.add(cost_usd=0.25, input_tokens=10, output_tokens=5)
        if self.failing:
            self.failing = False
            raise ValueError("no")
        return data


def own(span: Any) -> tuple[Any, ...]:
    return tuple(span.attributes.get(name) for name in OWN)


def total(span: Any) -> tuple[Any, ...]:
    return tuple(span.attributes.get(name) for name in TOTAL)


async def test_own_usage_adds_up_to_that_of_the_run(traced: Any, both: Any) -> None:
    group = both(name="fan", branches={"a": Step("a", spend), "b": Step("b", spend_in_a_thread)})
    tracing = traced()
    result = await tracing.run(Pipeline([group]).as_step("outer") >> Step("last", spend))
    assert own(tracing.span("step a")) == own(tracing.span("step b")) == (10, 5, 0.25)
    for name in ("both fan", "pipeline outer"):
        assert own(tracing.span(name)) == (None, None, None)
        assert total(tracing.span(name)) == (20, 10, 0.5)
    assert total(tracing.run_span) == (30, 15, 0.75)
    assert sum(span.attributes.get(OWN[0], 0) for span in tracing.spans) == result.usage.input_tokens
    assert sum(span.attributes.get(OWN[2], 0.0) for span in tracing.spans) == result.usage.cost_usd


async def test_what_failed_attempts_spend_is_the_steps(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("flaky", Flaky(), retries=1))
    assert own(tracing.span("step flaky")) == (20, 10, 0.5)
    assert own(tracing.span("attempt 1")) == (None, None, None)


async def test_a_fallback_spends_by_itself(traced: Any) -> None:
    tracing = traced()
    await tracing.run(Step("risky", spend_and_fail, fallback=Step("safe", spend)))
    assert own(tracing.span("step risky")) == (1, 0, 0.5)
    assert own(tracing.span("step safe")) == (10, 5, 0.25)


async def test_a_resumed_run_tells_only_what_it_spends_again(traced: Any) -> None:
    flaky = Flaky()
    tracing = traced()
    flow = tracing.flow(Step("once", spend) >> Step("flaky", flaky), state="memory://")
    failed = await flow.run_async("data")
    resumed = await flow.resume_async(failed.run_id)
    assert resumed.usage.cost_usd == 0.75
    assert sum(span.attributes.get(OWN[2], 0.0) for span in tracing.spans) == 0.75
    assert total(tracing.run_span) == (30, 15, 0.75)


async def test_spending_nothing_is_not_told(traced: Any) -> None:
    async def echo(data: Any) -> Any:
        return data

    tracing = traced()
    await tracing.run(Pipeline([Step("work", echo)]).as_step("group"))
    assert not [name for span in tracing.spans for name in span.attributes if "usage" in name]
