"""Content appears when it is asked for, without secrets; messages repeat nothing of it otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_lens import Trace
from flow_lens._content import UNKNOWN, Contents, as_text, decoded, in_one_line, masked
from flow_lens._plain import trace_in_json
from hypothesis import given
from hypothesis import strategies as st

from flow import StepRecord

Make = Callable[..., StepRecord]
MakeTrace = Callable[..., Trace]


@pytest.fixture
def trace(make_step: Make, trace_of: MakeTrace) -> Trace:
    return trace_of(
        make_step("0:a", output=b'{"text": "from a"}'),
        make_step("1:gate", output=None, kind="approval"),
        make_step("2:sub/0:in", output=b"1", parent="2:sub"),
        make_step("2:sub/1:next", output=b"2", parent="2:sub"),
        make_step("2:sub", output=b"2", kind="pipeline"),
        make_step("3:each/0/0:x", output=b"3", parent="3:each"),
        make_step("3:each", output=b"[3]", kind="map"),
        make_step("4:call/fallback", output=b"null", parent="4:call"),
        make_step("4:call", output=b"null"),
        make_step("5:bad", output=None, status="failed"),
        make_step("6:after", output=b"7"),
    )


@pytest.mark.parametrize(
    ("path", "given_to_it"),
    [
        ("0:a", "the topic of the essay"),
        ("1:gate", {"text": "from a"}),
        ("2:sub", {"text": "from a"}),
        ("2:sub/0:in", {"text": "from a"}),
        ("2:sub/1:next", 1),
        ("3:each", 2),
        ("3:each/0/0:x", UNKNOWN),
        ("4:call", [3]),
        ("4:call/fallback", [3]),
        ("5:bad", None),
        ("6:after", UNKNOWN),
    ],
)
def test_input_of_a_step_is_what_came_before_it(trace: Trace, path: str, given_to_it: Any) -> None:
    assert Contents(trace).input_of(trace.step(path)) == given_to_it


@pytest.mark.parametrize(
    ("path", "output"), [("1:gate", {"text": "from a"}), ("4:call", None), ("5:bad", UNKNOWN), ("6:after", 7)]
)
def test_output_of_a_step_that_handed_its_input_on_is_that(trace: Trace, path: str, output: Any) -> None:
    assert Contents(trace).output_of(trace.step(path)) == output


def test_a_chain_of_steps_that_hand_on_ends_with_the_input_of_the_run(make_step: Make, trace_of: MakeTrace) -> None:
    trace = trace_of(*[make_step(f"{number}:s", output=None) for number in range(2000)])
    assert Contents(trace).run_output() == "the topic of the essay"


def test_messages_repeat_no_content_unless_it_is_shown(make_step: Make, trace_of: MakeTrace) -> None:
    message = "ValueError: cannot read 'the topic of the essay' nor 'what the first one said'"
    trace = trace_of(
        make_step("0:a", output=b'"what the first one said"'),
        make_step("1:b", status="failed", output=None, error=message, feedback=message),
        status="failed",
        error=f"step '1:b' failed: {message}",
    )
    hidden = str(trace_in_json(trace, Contents(trace)))
    assert "topic of the essay" not in hidden
    assert "first one said" not in hidden
    assert "[withheld]" in hidden
    assert message in str(trace_in_json(trace, Contents(trace, shown=True)).values())


def test_secrets_are_masked_even_when_content_is_shown(make_step: Make, trace_of: MakeTrace) -> None:
    output = b'{"password": "hunter2-long", "note": "use sk-live-0123456789abcdef"}'
    trace = trace_of(
        make_step("0:a", output=output, metadata=b'{"why": "Bearer abcdef0123456789"}'),
        make_step("1:b", status="failed", error="RuntimeError: token=abcdefgh"),
        metadata={"authorization": "Bearer abcdef0123456789", "ticket": "T-7"},
        input=b'"Bearer abcdef0123456789"',
    )
    contents = Contents(trace, shown=True)
    text = str(trace_in_json(trace, contents, inputs=True, outputs=True, context=True))
    for secret in ("hunter2", "sk-live", "abcdef0123456789", "abcdefgh"):
        assert secret not in text
    assert "T-7" in text


def test_text_that_is_no_json_is_shown_as_text() -> None:
    assert decoded(b"{broken \xff") == "{broken \\xff"
    assert decoded(None) is UNKNOWN


def test_one_line_shows_no_control_characters() -> None:
    assert in_one_line("a\x1b[31m\nb") == '"a\\u001b[31m\\nb"'
    assert in_one_line(UNKNOWN) == "not known"
    assert len(in_one_line(["x" * 5000])) <= 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
)


@given(json_values)
def test_masking_keeps_the_shape_and_masking_again_changes_nothing(value: Any) -> None:
    once = masked(value)
    assert type(once) is type(value)
    assert masked(once) == once
    assert as_text(value)


def test_deep_values_end() -> None:
    value: Any = "leaf"
    for _ in range(500):
        value = [value]
    assert "leaf" not in as_text(value)
