"""Two runs are compared by path: what differs first, what differs in sum, how the pipelines differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_lens import Comparison, Trace, build_trace, compare
from flow_lens._compare import structure_differences
from flow_lens._compare_view import ComparisonView, comparison_in_json
from flow_lens._screen import Screen
from hypothesis import given
from hypothesis import strategies as st

from flow import RunRecord, StepRecord

Make = Callable[..., StepRecord]
MakeTrace = Callable[..., Trace]


def told(found: Comparison, **options: Any) -> list[str]:
    screen = Screen(width=80)
    return [screen.text(line) for line in ComparisonView(found, screen, **options).lines()]


def test_equal_runs_are_the_same_whatever_they_took(make_step: Make, trace_of: MakeTrace) -> None:
    found = compare(
        trace_of(make_step("0:a", took=1, cost=0.1)), trace_of(make_step("0:a", at=9, took=5, cost=0.2), run_id="b")
    )
    assert found.same
    assert found.timings[0].took_b == 5
    assert any("the runs are the same" in line for line in told(found))
    assert any("0:a 1.0 s → 5.0 s" in line for line in told(found))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("status", {"status": "failed"}),
        ("output", {"output": b'"other"'}),
        ("attempts", {"attempts": 3}),
        ("feedback", {"feedback": "too short"}),
        ("error", {"error": "ValueError: no"}),
        ("metadata", {"metadata": b'{"executed_branch_key": "left"}'}),
        ("kind", {"kind": "loop"}),
    ],
)
def test_what_differs_of_a_step_is_named(
    what: str, change: dict[str, Any], make_step: Make, trace_of: MakeTrace
) -> None:
    found = compare(trace_of(make_step("0:a")), trace_of(make_step("0:a", **change)))
    assert [item.what for item in found.differences] == [what]
    assert found.first is not None
    assert found.first.path == "0:a"
    assert f"0:a: {what} differs" in told(found)


def test_the_first_difference_is_the_innermost_that_happened_first(make_step: Make, trace_of: MakeTrace) -> None:
    def run(output: bytes) -> Trace:
        return trace_of(
            make_step("0:same"),
            make_step("1:loop/i1/0:x", parent="1:loop"),
            make_step("1:loop/i2/0:x", output=output, parent="1:loop"),
            make_step("1:loop", output=output),
            make_step("2:after", output=output),
        )

    found = compare(run(b"1"), run(b"2"))
    assert [item.path for item in found.differences] == ["1:loop/i2/0:x", "1:loop", "2:after"]
    assert told(found)[2] == "1:loop/i2/0:x: output differs"
    assert "and 2 further differences (--all)" in told(found)
    assert "2:after: output differs" in told(found, everything=True)


def test_outputs_are_shown_only_when_asked_for(make_step: Make, trace_of: MakeTrace) -> None:
    a, b = trace_of(make_step("0:a", output=b'"one"')), trace_of(make_step("0:a", output=b'"two"'))
    assert "one" not in str(comparison_in_json(compare(a, b)))
    assert comparison_in_json(compare(a, b, content=True))["first"] == {
        "path": "0:a",
        "what": "output",
        "a": "one",
        "b": "two",
    }


def test_the_same_value_written_differently_is_no_difference(make_step: Make, trace_of: MakeTrace) -> None:
    a = trace_of(make_step("0:a", output=b'{"x": 1, "y": 2}'))
    b = trace_of(make_step("0:a", output=b'{"y":2,"x":1}'))
    assert compare(a, b).same


@pytest.mark.parametrize(("one", "other"), [(b"1", b"true"), (b"1", b"1.0"), (b'"1"', b"1"), (None, b"null")])
def test_values_of_other_types_differ(one: Any, other: Any, make_step: Make, trace_of: MakeTrace) -> None:
    found = compare(trace_of(make_step("0:a", output=one)), trace_of(make_step("0:a", output=other)))
    assert not found.same


def test_steps_of_only_one_run_are_named(make_step: Make, trace_of: MakeTrace) -> None:
    found = compare(trace_of(make_step("0:a"), make_step("1:b")), trace_of(make_step("0:a"), make_step("2:c")))
    assert (found.only("a"), found.only("b"), found.differing) == (["1:b"], ["2:c"], [])
    assert "1:b only in A" in told(found)
    assert "2:c only in B" in told(found, everything=True)


def test_answers_are_compared(make_step: Make, trace_of: MakeTrace) -> None:
    def run(answer: bytes) -> Trace:
        asked = make_step("0:ok/answer", parent="0:ok", kind="answer", status="answered", output=answer)
        return trace_of(asked, make_step("0:ok", kind="approval"))

    assert [item.what for item in compare(run(b"true"), run(b"false")).differences] == ["answer"]


def test_the_input_and_the_end_of_runs_are_compared(trace_of: MakeTrace) -> None:
    found = compare(trace_of(), trace_of(input=b'"other"', status="failed", error="no", pipeline="other"))
    assert [item.what for item in found.differences] == ["pipeline", "input", "status", "error"]


def structure(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "kind": "step", "config": {}, "types": {}, "children": {}} | changes


def test_pipelines_that_differ_are_compared_by_their_structure(make_run: Callable[..., RunRecord]) -> None:
    old = structure(name="essay", kind="pipeline", children={"0:a": structure(), "1:b": structure(name="b")})
    new = structure(
        name="essay", kind="pipeline", children={"0:a": structure(config={"retries": 2}), "1:c": structure(kind="loop")}
    )
    a = build_trace(make_run(), [], old)
    b = build_trace(make_run(fingerprint="f2"), [], new)
    assert list(compare(a, b).structure) == [
        "- 1:b (step) is gone",
        "~ 0:a: retries is 2, was not set",
        "+ 1:c (loop) is new",
    ]
    assert not compare(a, b).same


def test_a_structure_that_is_not_stored_is_told(trace_of: MakeTrace) -> None:
    (text,) = compare(trace_of(), trace_of(fingerprint="f2")).structure
    assert "does not know the structure" in text


structures = st.recursive(
    st.builds(
        structure, kind=st.sampled_from(["step", "loop"]), config=st.dictionaries(st.sampled_from("ab"), st.integers())
    ),
    lambda inner: st.builds(
        structure, children=st.dictionaries(st.sampled_from(["0:x", "1:y", "left"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(structures, structures)
def test_structures_differ_exactly_when_differences_are_named(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert (structure_differences(a, b) == []) == (a == b)


def test_a_structure_that_is_damaged_is_told() -> None:
    (text,) = structure_differences(structure(), {"name": "a", "children": 7})
    assert "is damaged" in text


journals = st.lists(
    st.builds(
        StepRecord,
        path=st.sampled_from(["0:a", "1:b", "1:b/0:c", "2:d/i1/0:e", "2:d"]),
        parent=st.just(""),
        name=st.just("n"),
        kind=st.just("step"),
        status=st.sampled_from(["completed", "failed"]),
        output=st.sampled_from([None, b"1", b'"x"']),
        attempts=st.integers(1, 2),
    ),
    max_size=6,
)


@given(journals, journals)
def test_a_comparison_is_symmetric_and_a_run_equals_itself(one: list[StepRecord], other: list[StepRecord]) -> None:
    run = RunRecord(run_id="r", pipeline="p", fingerprint="f")
    a, b = build_trace(run, one), build_trace(run, other)
    assert compare(a, a).same
    there, back = compare(a, b), compare(b, a)
    assert there.same == back.same
    assert there.differing == back.differing
    assert there.only("a") == back.only("b")
    assert [item.path for item in there.differences] == [item.path for item in back.differences]
