"""What type checkers accept and reject at ``>>``. Checked, never run: an ``ignore`` marks what must be rejected."""
# pyright: basic, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any, assert_type

from flow import BaseStep, Pipeline, Step, step


class Animal: ...


class Dog(Animal): ...


@step
async def adopt(name: str) -> Dog:
    return Dog()


@step
def feed(animal: Animal) -> int:
    return 1


@step
def walk(dog: Dog) -> float:
    return 1.0


@step
async def find(name: str) -> Animal:
    return Dog()


number: Step[int, str] = Step("number")
text: Step[str, int] = Step("text")
binary: Step[bytes, int] = Step("binary")
maybe: Step[int, str | None] = Step("maybe")
unknown: Step[Any, Any] = Step("unknown")

# What fits: the same type, a subclass, anything unknown.
assert_type(number >> text, Pipeline[int, int])
assert_type(adopt >> feed, Pipeline[str, int])
assert_type(adopt >> walk >> unknown >> text, Pipeline[str, int])
assert_type((number >> text) >> (number >> text), Pipeline[int, int])
assert_type(number >> (text >> number), Pipeline[int, str])

# Steps are covariant in their output and contravariant in their input.
wider_output: BaseStep[str, Animal] = adopt
narrower_input: BaseStep[Dog, int] = feed
wider_pipeline: Pipeline[str, object] = adopt >> feed
narrower_output: BaseStep[str, Dog] = find  # type: ignore[assignment]
wider_input: BaseStep[Animal, float] = walk  # type: ignore[assignment]

# What does not fit.
unrelated = number >> binary  # type: ignore[operator]
subclass_wanted = find >> walk  # type: ignore[operator]
none_unhandled = maybe >> text  # type: ignore[operator]
after_a_pipeline = (text >> number) >> binary  # type: ignore[operator]
before_a_pipeline = number >> (binary >> number)  # type: ignore[operator]
no_step = number >> len  # type: ignore[operator]
