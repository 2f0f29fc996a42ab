"""The books of a stored run: every amount is accounted for once, whatever is recorded, dropped and recorded again."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flow import Usage
from flow._books import Books, is_below

PATHS = ["0:a", "0:a/l/0:x", "0:a/l/1:y", "0:a/r/0:x", "0:a/r/0:x/i1/0:z", "1:b", "10:k", "1:b/fallback"]


def test_a_path_is_below_itself_and_what_encloses_it_but_not_below_what_only_begins_alike() -> None:
    assert is_below("1:b", "1:b")
    assert is_below("1:b/fallback", "1:b")
    assert not is_below("1:bc", "1:b")
    assert not is_below("1:b", None)


@given(st.lists(st.tuples(st.sampled_from(PATHS), st.integers(0, 9)), max_size=20))
@settings(max_examples=200, deadline=None)
def test_a_total_is_the_sum_of_what_is_noted_at_and_below_a_path(notes: list[tuple[str, int]]) -> None:
    books, latest = Books(), {}
    for path, tokens in notes:
        books.note(path, Usage(input_tokens=tokens))
        latest[path] = tokens
    for place in ("", *PATHS):
        inside = [tokens for path, tokens in latest.items() if place == "" or is_below(path, place)]
        assert books.total(place).input_tokens == sum(inside)


class Executions(RuleBasedStateMachine):
    """Steps spend and are settled from the inside out, or forgotten, as executions of one run do."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.spent: dict[str, int] = dict.fromkeys(PATHS, 0)

    def _below(self, path: str) -> int:
        return sum(tokens for inner, tokens in self.spent.items() if is_below(inner, path))

    @rule(path=st.sampled_from(PATHS), tokens=st.integers(0, 5))
    def spends_and_ends(self, path: str, tokens: int) -> None:
        self.spent[path] += tokens
        own = self.books.settle(path, Usage(input_tokens=self._below(path)))
        assert own.input_tokens == self.spent[path]

    @rule(path=st.sampled_from(PATHS))
    def begins_anew(self, path: str) -> None:
        """What was spent inside becomes the step's own."""
        total = self._below(path)
        for inner in self.books.below(path):
            self.books.forget(inner)
        for inner in PATHS:
            if inner != path and is_below(inner, path):
                self.spent[inner] = 0
        self.spent[path] = total
        assert self.books.settle(path, Usage(input_tokens=total)).input_tokens == total

    @invariant()
    def the_run_has_spent_what_its_steps_have(self) -> None:
        assert self.books.total("").input_tokens == sum(self.spent.values())


TestExecutions: Any = Executions.TestCase
