"""Steps that are made where they are used, ``a >> Step("b", f)``, and agents that are objects. Checked, never run."""
# pyright: basic, enableTypeIgnoreComments=false, reportUnnecessaryTypeIgnoreComment=true

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


# What fits.
assert_type(number >> Step("shout", str.upper) >> Step("length", len), Pipeline[int, int])
assert_type(number >> Step("listen", Listener()), Pipeline[int, float])
assert_type(number >> Step("same", lambda text: text) >> Step("later"), Pipeline[int, Any])
assert_type(Step("read", Reader()), Step[bytes, int])
assert_type(Step("listen", Listener()), Step[str, float])
assert_type(Step("model", _Model()), Step[str, bytes])
with_context = Step("two", lambda text, context: 3)
constant = number >> Step("constant", lambda: 3)
mapped = Step("map", lambda value: 3)
chained = number >> mapped

# What does not fit: mypy blames the agent, pyright the operator.
a = number >> Step("b", decode)  # type: ignore[arg-type]  # pyright: ignore[reportOperatorIssue]
b = number >> Step("b", size)  # type: ignore[arg-type]  # pyright: ignore[reportOperatorIssue]
c = number >> Step("b", Reader())  # type: ignore[arg-type]  # pyright: ignore[reportOperatorIssue]
d = number >> Step("n", len) >> Step("u", str.upper)  # type: ignore[arg-type]  # pyright: ignore[reportOperatorIssue]
e = Step("no agent", 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
