"""Paths sort as the steps stand in the pipeline, and executions of one step share a pattern."""

from __future__ import annotations

import random

import pytest
from flow_lens._paths import labels_of, natural, pattern, place_of, prefixes


def test_paths_sort_by_numbers_and_not_by_digits() -> None:
    paths = ["0:a", "1:map/2/0:x", "1:map/10/0:x", "2:loop/i9/0:y", "2:loop/i10/0:y", "10:z"]
    mixed = random.Random(1).sample(paths, len(paths))
    assert sorted(mixed, key=natural) == paths


def test_a_container_sorts_before_what_is_inside() -> None:
    assert sorted(["1:a/0:b", "1:a"], key=natural) == ["1:a", "1:a/0:b"]


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        ("0:fetch", "fetch"),
        ("4:map/17/0:embed", "map/*/embed"),
        ("2:refine/i3/0:generate", "refine/i*/generate"),
        ("1:fan/left/0:score", "fan/left/score"),
        ("1:call/fallback", "call/fallback"),
        ("3:a:b/0:c", "a:b/c"),
        ("i/0:x", "i/x"),
    ],
)
def test_pattern_leaves_places_items_and_iterations_out(path: str, shared: str) -> None:
    assert pattern(path) == shared


def test_pattern_keeps_branches_that_look_like_items() -> None:
    structure = {"children": {"0:route": {"children": {"1": {"children": {}}, "i2": {}, "low": {}}}}}
    labels = labels_of(structure)
    assert labels == {"1", "i2"}
    assert [pattern(f"0:route/{key}/0:x", labels) for key in ("1", "i2", "low", "3")] == [
        "route/1/x",
        "route/i2/x",
        "route/low/x",
        "route/*/x",
    ]


@pytest.mark.parametrize("structure", [{}, {"children": None}, {"children": {"1": "no dictionary"}}])
def test_a_structure_that_is_none_has_no_labels_that_disturb(structure: dict[str, object]) -> None:
    assert labels_of(structure) <= {"1"}


@pytest.mark.parametrize(
    ("path", "place"),
    [("0:a", ("", 0)), ("1:m/3/2:b", ("1:m/3", 2)), ("1:m/3", None), ("1:c/fallback", None), ("1:h/answer", None)],
)
def test_place_is_that_in_the_sequence(path: str, place: tuple[str, int] | None) -> None:
    assert place_of(path) == place


def test_prefixes_are_the_paths_that_enclose() -> None:
    assert list(prefixes("1:m/3/2:b")) == ["1:m/3", "1:m"]
    assert list(prefixes("0:a")) == []
