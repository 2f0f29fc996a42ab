"""What type checkers infer for steps. Checked, never run."""
# pyright: basic, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, assert_type

from flow import AsyncAgentProtocol, BaseStep, Flow, Pipeline, PipelineContext, RunResult, Step, step


@step
async def fetch(url: str) -> bytes:
    return url.encode()


@step
def measure(page: bytes) -> int:
    return len(page)


@step
async def tokens(prompt: str) -> AsyncIterator[str]:
    yield prompt


@step(retries=2, timeout=10)
async def patient(url: str) -> bytes:
    return url.encode()


@step(name="sized")
def renamed(page: bytes) -> int:
    return len(page)


@step(retries=1)
async def patient_tokens(prompt: str) -> AsyncIterator[str]:
    yield prompt


@step
async def remember(text: str, *, context: PipelineContext) -> int:
    return len(text)


assert_type(Pipeline.of(fetch), Pipeline[str, bytes])
assert_type(Pipeline.of(measure), Pipeline[bytes, int])
assert_type(Pipeline.of(tokens), Pipeline[str, Any])
assert_type(Pipeline.of(patient), Pipeline[str, bytes])
assert_type(Pipeline.of(renamed), Pipeline[bytes, int])
assert_type(Pipeline.of(patient_tokens), Pipeline[str, Any])
assert_type(Pipeline.of(remember), Pipeline[str, int])

# A decorated function can still be called as the function it was.
assert_type(measure(b""), int)
assert_type(fetch(""), Awaitable[bytes])
assert_type(tokens(""), AsyncIterator[str])
assert_type(remember("", context=PipelineContext()), Awaitable[int])
measure("text")  # type: ignore[arg-type]
remember("text")  # type: ignore[call-arg]


async def classify(text: str) -> bool:
    return bool(text)


def count(text: str, *, limit: int = 3) -> int:
    return min(len(text), limit)


async def spell(word: str) -> AsyncIterator[str]:
    yield word


class Sized:
    def __call__(self, text: str) -> int:
        return len(text)


class Writer(AsyncAgentProtocol[str, bytes]):
    async def run(self, data: str, **kwargs: Any) -> bytes:
        return data.encode()


assert_type(Step("classify", classify), Step[str, bool])
assert_type(Step("count", count, limit=2, retries=1), Step[str, int])
assert_type(Step("spell", spell), Step[str, Any])
assert_type(Step("size", Sized()), Step[str, int])
assert_type(Step("write", Writer()), Step[str, bytes])
assert_type(Step("shout", str.upper), Step[str, str])
assert_type(Step(name="count", agent=count), Step[str, int])
assert_type(Step("later"), Step[Any, Any])
assert_type(Step("count", count).evolve(retries=3), Step[str, int])


class Shout(BaseStep[str, str]):
    kind = "shout"


assert_type(Pipeline.of(Shout(name="shout")), Pipeline[str, str])
assert_type((fetch >> measure).as_step("inner") >> Step("text", str), Pipeline[str, str])
assert_type(Flow(fetch >> measure).run("https://example.org"), RunResult[int])
assert_type(Flow(fetch).run("").output, bytes)
Flow(fetch).run(3)  # type: ignore[arg-type]
