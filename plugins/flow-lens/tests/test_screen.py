"""Lines for a terminal or a pipe: widths, colours, what ASCII can show."""

from __future__ import annotations

import io
import sys

import pytest
from flow_lens._screen import SIGNS, Screen, fitted, labelled, line, padded, width_of, wrapped
from flow_lens._words import counted, money
from hypothesis import given
from hypothesis import strategies as st

from flow import RunStatus
from flow.cli import columns

texts = st.text(alphabet="abc def名前é…", max_size=60)


@given(st.lists(texts, max_size=5), st.integers(1, 50))
def test_fitted_is_never_wider_and_keeps_what_fits(pieces: list[str], width: int) -> None:
    spans = line(*pieces)
    assert width_of(fitted(spans, width)) <= width
    if width_of(spans) <= width:
        assert "".join(text for text, _ in fitted(spans, width)) == "".join(pieces)
    assert width_of(padded(spans, width)) == width


@given(texts, st.integers(2, 40))
def test_wrapped_loses_only_spaces(text: str, width: int) -> None:
    pieces = wrapped(text, width)
    assert all(columns(piece) <= width for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")


def test_labels_stand_above_each_other_and_texts_are_wrapped() -> None:
    screen = Screen(width=20)
    rows = labelled([("a", "one two three four"), ("long", "x", "bad")], screen)
    assert [screen.text(one) for one in rows] == ["  a     one two", "        three four", "  long  x"]


def test_in_a_pipe_texts_are_whole() -> None:
    screen = Screen(width=20, terminal=False)
    assert [screen.text(one) for one in labelled([("a", "x " * 40)], screen)] == [f"  a  {'x ' * 40}".rstrip()]


@pytest.mark.parametrize("status", [*RunStatus, "running", "dead", "open", "something else"])
def test_every_status_has_a_sign_in_ascii_too(status: str) -> None:
    assert Screen(ascii=True).sign(status)[0].isascii()
    assert columns(Screen().sign(status)[0]) == 1


def test_statuses_are_told_apart_without_colour() -> None:
    assert len({look.sign for name, look in SIGNS.items() if name in ("completed", "failed", "paused", "running")}) == 4


@pytest.mark.parametrize(
    ("terminal", "variables", "colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    terminal: bool, variables: dict[str, str], colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", _Output(terminal, "utf-8"))
    screen = Screen.of_stdout()
    assert (screen.terminal, screen.colour, screen.ascii) == (terminal, colour, False)
    assert ("\x1b" in screen.text(line(("x", "bad")))) is colour


def test_an_output_that_cannot_draw_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", _Output(True, "latin-1"))
    screen = Screen.of_stdout()
    assert screen.ascii
    assert screen.text(line("a … é ✓")).isascii()


class _Output(io.TextIOWrapper):
    def __init__(self, terminal: bool, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_sums_are_worded() -> None:
    assert [money(sum_) for sum_ in (0, 0.00001, 0.5, 1234.5)] == ["", "<$0.0001", "$0.5000", "$1,234.50"]
    assert counted(0, "step") == "0 steps"
