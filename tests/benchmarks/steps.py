"""What one step costs: plain, typed, and with each layer it may ask for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, TypeAdapter

from flow import BaseStep, Cache, Event, Flow, Kernel, Pipeline, PipelineContext, Step
from flow._context import isolate
from tests.benchmarks._measure import Figure, Pair, Plan, Scenario, Work, alone, alternate, compared, versus_bare

CHAIN = 100
"""Steps of one run in most scenarios: enough that the run itself hardly counts."""


class Order(BaseModel):
    number: int
    customer: str
    lines: list[str]


class Progress(PipelineContext):
    count: int = 0
    notes: list[str] = []


class Archive(PipelineContext):
    label: str = ""
    tags: list[str] = []
    blocks: list[str] = []


async def noop(value: Any) -> Any:
    return value


async def typed_int(value: int) -> int:
    return value


async def typed_order(value: Order) -> Order:
    return value


async def order_as_dict(value: Order) -> dict[str, Any]:
    return {"number": value.number, "customer": value.customer, "lines": value.lines}


async def counting(value: int, *, context: Progress) -> int:
    context.count = value
    return value + 1


async def noting(value: int, *, context: Progress) -> int:
    context.notes[value % 1000] = "changed"
    return value + 1


def blocking(value: Any) -> Any:
    return value


def chain_of(agent: Callable[..., Any], length: int = CHAIN, **settings: Any) -> Pipeline[Any, Any]:
    """A pipeline of `length` equal steps."""
    return Pipeline([Step(f"s{index}", agent, **settings) for index in range(length)])


def flow_work(pipeline: BaseStep[Any, Any] | Pipeline[Any, Any], data: Any = 1, **options: Any) -> Work:
    """The work of running a step or pipeline once."""
    flow = Flow(pipeline, **options)
    return lambda: flow.run_async(data)


def bare_work(function: Callable[[Any], Awaitable[Any]], length: int = CHAIN, data: Any = 1) -> Work:
    """The work of awaiting a function `length` times, each with the output of the one before."""

    async def work() -> Any:
        value = data
        for _ in range(length):
            value = await function(value)
        return value

    return work


# -- plain steps


@versus_bare("chain of 10 async steps", per="step", units=10, at_most=2.0)
def chain_of_10() -> Pair:
    return flow_work(chain_of(noop, 10)), bare_work(noop, 10)


@versus_bare("chain of 100 async steps", per="step", units=100, at_most=2.0, ratio_at_most=20)
def chain_of_100() -> Pair:
    return flow_work(chain_of(noop, 100)), bare_work(noop, 100)


@versus_bare("chain of 1,000 async steps", per="step", units=1000, at_most=2.0, ratio_at_most=20)
def chain_of_1000() -> Pair:
    return flow_work(chain_of(noop, 1000)), bare_work(noop, 1000)


async def measure_growth(plan: Plan) -> Sequence[Figure]:
    """Compare what a further step costs in long and short chains: the whole run less a run of one step."""
    works = {str(length): flow_work(chain_of(noop, length)) for length in (1, 10, 1000)}
    samples = await alternate(plan, works)
    rounds = list(zip(samples["1"], samples["10"], samples["1000"], strict=True))
    short, long = [(ten - one) / 9 for one, ten, _ in rounds], [(many - one) / 999 for one, _, many in rounds]
    name = "growth, 1,000 steps (bare: 10 steps)"
    return [compared(name, long, short, per="further step", ratio_at_most=1.2)]


# -- steps with types


@versus_bare("typed step, int", per="step", units=CHAIN, at_most=4.0)
def typed_with_int() -> Pair:
    return flow_work(chain_of(typed_int)), bare_work(typed_int)


@versus_bare("typed step, Pydantic model", per="step", units=CHAIN, at_most=4.0)
def typed_with_model() -> Pair:
    order = Order(number=1, customer="Ada", lines=["tea", "milk"])
    return flow_work(chain_of(typed_order), order), bare_work(typed_order, data=order)


@versus_bare("typed step, dict made a model", per="step", units=CHAIN, at_most=4.0)
def typed_with_conversion() -> Pair:
    order = {"number": 1, "customer": "Ada", "lines": ["tea", "milk"]}
    validate = TypeAdapter(Order).validate_python

    async def bare(value: Any) -> Any:
        return await order_as_dict(validate(value))

    return flow_work(chain_of(order_as_dict), order), bare_work(bare, data=order)


# -- steps with layers


@versus_bare("step with retries=2 that succeeds", per="step", units=CHAIN)
def with_retries() -> Pair:
    return flow_work(chain_of(noop, retries=2)), bare_work(noop)


@versus_bare("step with timeout=60", per="step", units=CHAIN)
def with_timeout() -> Pair:
    async def bare(value: Any) -> Any:
        async with asyncio.timeout(60):
            return await noop(value)

    return flow_work(chain_of(noop, timeout=60)), bare_work(bare)


@versus_bare("step that writes a context field", per="step", units=CHAIN)
def with_context() -> Pair:
    context = Progress()

    async def bare(value: int) -> int:
        return await counting(value, context=context)

    return flow_work(chain_of(counting), context_model=Progress), bare_work(bare)


@versus_bare("step that writes to a context list of 1,000", per="step", units=CHAIN)
def with_context_list() -> Pair:
    context, flow = Progress(notes=["note"] * 1000), Flow(chain_of(noting), context_model=Progress)

    async def bare(value: int) -> int:
        return await noting(value, context=context)

    return lambda: flow.run_async(1, initial_context={"notes": ["note"] * 1000}), bare_work(bare)


@versus_bare("step with one listener", per="step", units=CHAIN)
def with_listener() -> Pair:
    def listen(event: Event) -> None:
        pass

    return flow_work(chain_of(noop), hooks=[listen]), bare_work(noop)


@versus_bare("sync step in a worker thread", per="step", units=CHAIN)
def in_thread() -> Pair:
    threads = ThreadPoolExecutor(8)

    async def bare(value: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(threads, blocking, value)

    return flow_work(chain_of(blocking)), bare_work(bare)


@versus_bare("step journaled in memory", per="step", units=CHAIN)
def journaled() -> Pair:
    store = Kernel().open_state("memory://")
    flow = Flow(chain_of(noop), state=store)

    async def work() -> None:
        result = await flow.run_async(1)
        await store.delete_run(result.run_id)  # or later blocks would measure a store that is full

    return work, bare_work(noop)


@versus_bare("step found in the memory cache", per="step", units=CHAIN)
def cached() -> Pair:
    return flow_work(chain_of(noop, cache=Cache())), bare_work(noop)


@versus_bare("sub-workflow of one step", per="sub-workflow", units=CHAIN)
def nested() -> Pair:
    inner = Pipeline.from_step(Step("inner", noop))

    async def bare(value: Any) -> Any:
        return await noop(value)

    outer: Pipeline[Any, Any] = Pipeline([inner.as_step(f"sub{index}") for index in range(CHAIN)])
    return flow_work(outer), bare_work(bare)


# -- what is done once, or for each view


async def measure_isolation(plan: Plan) -> Sequence[Figure]:
    """Isolate a context of 1 MB for 100 steps, each of which writes a small field."""
    context = Archive(blocks=["x" * 1000 for _ in range(1000)])

    async def views() -> None:
        for index in range(100):
            view = isolate(context)
            view.label = str(index)
            view.tags.append("seen")

    samples = await alternate(plan, {"views": views})
    milliseconds = [sample / 1000 for sample in samples["views"]]
    return [alone("1 MB context, small fields written", milliseconds, per="100 views", unit="ms", at_most=5.0)]


async def measure_binding(plan: Plan) -> Sequence[Figure]:
    """Bind a chain: what a pipeline costs before its first run."""
    kernel = Kernel()
    pipelines = {"async": chain_of(noop), "typed": chain_of(typed_int)}
    figures = []
    for label, pipeline in pipelines.items():
        samples: list[float] = []
        for _ in range(plan.rounds):
            started = time.process_time()
            kernel.bind(pipeline)
            samples.append((time.process_time() - started) * 1e6)
        figures.append(alone(f"binding, {label} step", samples, per="step", units=CHAIN))
    return figures


SCENARIOS = [
    chain_of_10,
    chain_of_100,
    chain_of_1000,
    Scenario("growth of a chain", measure_growth),
    typed_with_int,
    typed_with_model,
    typed_with_conversion,
    with_retries,
    with_timeout,
    with_context,
    with_context_list,
    with_listener,
    in_thread,
    journaled,
    cached,
    nested,
    Scenario("context isolation, 1 MB", measure_isolation),
    Scenario("binding", measure_binding),
]
