"""A window against a list of all that was spent: never less than what counts, and hardly ever more."""

from __future__ import annotations

from flow_usage._window import SLICES, Window
from hypothesis import given
from hypothesis import strategies as st

from flow import Usage

steps = st.lists(st.tuples(st.floats(0, 30, allow_subnormal=False), st.integers(0, 9)), max_size=60)


@given(steps=steps, per=st.sampled_from([1.0, 10.0, 60.0]))
def test_what_counts_is_what_was_spent_within_the_window(steps: list[tuple[float, int]], per: float) -> None:
    window, spent, now = Window(per), list[tuple[float, int]](), 1000.0
    for wait, tokens in steps:
        now += wait
        window.add(Usage(input_tokens=tokens), now)
        spent.append((now, tokens))
        counted = window.total(now).input_tokens
        assert counted >= sum(tokens for at, tokens in spent if now - at < per)
        assert counted <= sum(tokens for at, tokens in spent if now - at <= per * (1 + 1.01 / SLICES))


@given(steps=steps)
def test_what_will_count_later_is_what_counts_then(steps: list[tuple[float, int]]) -> None:
    window, now = Window(10.0), 1000.0
    for wait, tokens in steps:
        now += wait
        window.add(Usage(input_tokens=tokens), now)
    window.total(now)
    for wait, usage in window.later(now):
        assert window.total(now + wait + 1e-9) == usage


@given(steps=steps)
def test_a_budget_without_a_window_forgets_nothing(steps: list[tuple[float, int]]) -> None:
    window = Window(None)
    for number, (_, tokens) in enumerate(steps):
        window.add(Usage(input_tokens=tokens), number * 1e6)
    assert window.total(1e12).input_tokens == sum(tokens for _, tokens in steps)
    assert window.later(1e12) == []


def test_many_amounts_take_no_more_room_than_there_are_parts() -> None:
    window = Window(60.0)
    for number in range(100_000):
        window.add(Usage(requests=1), number / 100)
        window.total(number / 100)
    assert len(window._slices) <= SLICES + 1
