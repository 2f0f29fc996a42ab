"""Steps that are made where they are used, ``a >> Step("b", f)``, and agents that are objects. Checked, never run."""
# pyright: basic, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any, assert_type

from flow import Pipeline, PipelineContext, Step

number: Step[int, str] = Step("number")


async def decode(data: bytes) -> int:
    return len(data)


def size(data: bytes) -> int:
    return len(data)


class Reader:
    async def run(self, data: bytes) -> int:
        return len(data)


class Listener:
    async def run(self, data: str, *, context: PipelineContext) -> float:
        return 1.0


class _Answer:
    """Looks like the result of a PydanticAI agent."""

    output: bytes

    def all_messages_json(self) -> bytes:
        return b""


class _Model:
    async def run(self, user_prompt: str | None = None, *, deps: Any = None) -> _Answer:
        return _Answer()


class _Stub:
    async def run(self, data: bytes) -> Any:
        return data


# What fits.
assert_type(number >> Step("shout", str.upper) >> Step("length", len), Pipeline[int, int])
assert_type(number >> Step("listen", Listener()), Pipeline[int, float])
assert_type(number >> Step("same", lambda text: text) >> Step("later"), Pipeline[int, Any])
assert_type(Step("read", Reader()), Step[bytes, int])
assert_type(Step("listen", Listener()), Step[str, float])
assert_type(Step("model", _Model()), Step[str | None, bytes])
assert_type(Step("stub", _Stub()), Step[bytes, Any])
with_context = Step("two", lambda text, context: 3)
constant = number >> Step("constant", lambda: 3)
mapped = Step("map", lambda value: 3)
chained = number >> mapped

# What does not fit: mypy blames the agent, pyright the operator.
first: Pipeline[int, int] = number >> Step("decode", decode)  # type: ignore[arg-type]
second: Pipeline[int, int] = number >> Step("size", size)  # type: ignore[arg-type]
third: Pipeline[int, int] = number >> Step("read", Reader())  # type: ignore[arg-type]
fourth: Pipeline[int, str] = number >> Step("length", len) >> Step("shout", str.upper)  # type: ignore[arg-type]
fifth = Step("no agent", 5)  # type: ignore[call-overload]
