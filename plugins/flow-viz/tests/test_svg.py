"""SVG: valid, self-contained, and laid out so that nothing overlaps and every text fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, pairwise
from typing import Any
from xml.etree import ElementTree

import attrs
import pytest
from flow_viz import to_svg
from flow_viz._boxes import NAME_SIZE, TEXT_SIZE, width_of
from flow_viz._wording import cut, visible
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow import Step


def same(data: str) -> str:
    return data


SVG = "{http://www.w3.org/2000/svg}"
SLACK = 0.11  # coordinates have one digit behind the point


@attrs.frozen
class Area:
    left: float
    top: float
    right: float
    bottom: float
    text: str = ""

    def overlaps(self, other: Area) -> bool:
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return across > SLACK and down > SLACK

    def holds(self, other: Area) -> bool:
        return (
            self.left <= other.left + SLACK
            and self.top <= other.top + SLACK
            and self.right >= other.right - SLACK
            and self.bottom >= other.bottom - SLACK
        )


@attrs.frozen
class Picture:
    page: Area
    boxes: list[Area]
    frames: list[Area]
    texts: list[Area]
    labels: list[Area]
    """Texts that stand beside ways."""
    ways: list[Area]
    """The straight parts of ways."""


def read(svg: str) -> Picture:
    root = ElementTree.fromstring(svg)
    rects = [(rect.get("class", "").split(), area(rect)) for rect in root.iter(f"{SVG}rect")]
    rects = [(classes, found) for classes, found in rects if "behind" not in classes]
    texts = list(root.iter(f"{SVG}text"))
    return Picture(
        page=next(found for classes, found in rects if "page" in classes),
        boxes=[found for classes, found in rects if "box" in classes],
        frames=[found for classes, found in rects if "frame" in classes],
        texts=[text_area(text) for text in texts if text.get("class") != "label"],
        labels=[text_area(text) for text in texts if text.get("class") == "label"],
        ways=[part for path in root.iter(f"{SVG}path") if "way" in path.get("class", "") for part in parts_of(path)],
    )


def parts_of(path: ElementTree.Element) -> Iterator[Area]:
    """Yield the lines of a path, a little wide so that they overlap what they cross; corners are passed by."""
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.get("d", ""))]
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    for (x, y), (to_x, to_y) in pairwise(points):
        yield Area(min(x, to_x) - 0.3, min(y, to_y) - 0.3, max(x, to_x) + 0.3, max(y, to_y) + 0.3)


def area(rect: ElementTree.Element) -> Area:
    x, y, width, height = (float(rect.get(name, "0")) for name in ("x", "y", "width", "height"))
    title = rect.find(f"{SVG}title")
    return Area(x, y, x + width, y + height, title.text or "" if title is not None else "")


def text_area(text: ElementTree.Element) -> Area:
    size = NAME_SIZE if "name" in text.get("class", "").split() else TEXT_SIZE
    x, y = float(text.get("x", "0")), float(text.get("y", "0"))
    content = text.text or ""
    return Area(x, y - size * 0.8, x + width_of(content, size), y + size * 0.2, content)


def require_good_layout(picture: Picture) -> None:
    everything = [*picture.boxes, *picture.frames, *picture.texts, *picture.labels]
    for found in everything:
        assert picture.page.holds(found), f"{found} leaves the page"
    for one, other in combinations(picture.boxes, 2):
        assert not one.overlaps(other), f"{one} overlaps {other}"
    for frame in picture.frames:
        for other in (*picture.boxes, *picture.frames):
            assert not frame.overlaps(other) or frame.holds(other) or other.holds(frame), f"{other} crosses {frame}"
    for text in (*picture.texts, *picture.labels):
        for box in picture.boxes:
            assert not box.overlaps(text) or box.holds(text), f"{text} leaves or crosses {box}"
        for frame in picture.frames:
            assert not frame.overlaps(text) or frame.holds(text), f"{text} leaves or crosses {frame}"
    for one, other in combinations([*picture.texts, *picture.labels], 2):
        assert not one.overlaps(other), f"{one} is written over {other}"
    for text in (*picture.texts, *picture.labels):
        for way in picture.ways:
            assert not way.overlaps(text), f"{text} is crossed by {way}"


def nesting(structure: Mapping[str, Any], outer: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield the names of each step and of the one directly around it; what runs instead stands beside."""
    children = structure["children"]
    bare = structure["kind"] == "pipeline" and all(label.partition(":")[0].isdecimal() for label in children)
    name = outer if bare else structure["name"]
    if not bare and outer is not None:
        yield structure["name"], outer
    for child in children.values():
        yield from nesting(child, name)
    if (fallback := structure["config"].get("fallback")) is not None:
        yield from nesting(fallback, outer)


@given(data=st.data(), direction=st.sampled_from(["TB", "LR"]))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_random_structures_are_laid_out_well(
    data: st.DataObject,
    direction: Any,
    any_structure: st.SearchStrategy[dict[str, Any]],
    steps_of: Callable[[Mapping[str, Any]], list[Mapping[str, Any]]],
) -> None:
    structure = data.draw(any_structure)
    svg = to_svg(structure, direction=direction, max_nodes=10_000)
    assert svg == to_svg(structure, direction=direction, max_nodes=10_000)
    picture = read(svg)
    require_good_layout(picture)
    areas = {found.text.split("\n")[0]: found for found in (*picture.boxes, *picture.frames) if found.text}
    assert set(areas) == {visible(step["name"]) for step in steps_of(structure)}
    for inner, outer in nesting(structure):
        assert areas[visible(outer)].holds(areas[visible(inner)]), f"{inner!r} is not inside {outer!r}"
    written = {text.text for text in picture.texts}
    assert {cut(visible(step["name"])) for step in steps_of(structure)} <= written


@given(data=st.data())
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_run_makes_no_text_overflow(
    data: st.DataObject, any_structure: st.SearchStrategy[dict[str, Any]], record_of: Callable[..., Any]
) -> None:
    structure = data.draw(any_structure)
    paths = list(structure["children"])
    states = data.draw(st.lists(st.sampled_from(["completed", "failed", "interrupted"]), min_size=len(paths)))
    records = [record_of(path, state, attempts=3, cost=1.5) for path, state in zip(paths, states, strict=False)]
    require_good_layout(read(to_svg(structure, run=records)))


@pytest.mark.parametrize("direction", ["TB", "LR"])
def test_series_runs_along_the_direction(direction: Any) -> None:
    boxes = read(to_svg(Step("a", same) >> Step("b", same) >> Step("c", same), direction=direction)).boxes
    along = [(box.top, box.bottom) if direction == "TB" else (box.left, box.right) for box in boxes]
    assert all(before[1] < after[0] for before, after in pairwise(along))
    assert len({box.left if direction == "TB" else box.top for box in boxes}) == 1


def test_branches_stand_side_by_side(structure_of: Callable[..., Any], series_of: Callable[..., Any]) -> None:
    branches = {label: series_of(structure_of(f"step {label}")) for label in "abc"}
    picture = read(to_svg(series_of(structure_of("choose", "branch", branches))))
    assert len({box.top for box in picture.boxes}) == 1
    assert [label.text for label in picture.labels] == ["a", "b", "c"]


def test_nothing_is_fetched_and_nothing_runs() -> None:
    svg = to_svg(Step('x" onload="alert(1)', same) >> Step("<script>alert(1)", same))
    root = ElementTree.fromstring(svg)
    names = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert names <= {"svg", "title", "desc", "style", "rect", "text", "path", "circle"}
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on") or "href" in name]
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", svg)


def test_picture_is_described_for_who_does_not_see_it(run_of: Callable[..., Any]) -> None:
    root = ElementTree.fromstring(to_svg(Step("a", same) >> Step("b", same), run=run_of(status="failed")))
    assert root.get("role") == "img"
    title, desc = (root.find(f"{SVG}{name}") for name in ("title", "desc"))
    assert title is not None
    assert desc is not None
    assert root.get("aria-labelledby", "").split() == [title.get("id"), desc.get("id")]
    assert desc.text == "A pipeline of 2 steps in series. 2 not run. run r-1. failed in 2 s."


def test_two_pictures_on_one_page_leave_each_other_alone() -> None:
    marks = [ElementTree.fromstring(to_svg(Step(name, same))).get("class") for name in "ab"]
    assert marks[0] != marks[1]
    style = ElementTree.fromstring(to_svg(Step("a", same))).find(f"{SVG}style")
    assert style is not None
    selectors = re.findall(r"(?:^|[{}])([^{}@]+)\{", re.sub(r"@media[^{]+\{", "", style.text or ""))
    assert selectors
    assert all(part.startswith(f".{marks[0]} ") for selector in selectors for part in selector.split(","))


def test_colours_follow_the_reader() -> None:
    svg = to_svg(Step("a", same))
    light, _, dark = svg.partition("@media (prefers-color-scheme:dark)")
    for part in (light, dark):
        page, text = (re.search(rf"{rule}{{fill:(#\w+)", part) for rule in (r"\.page", r"\.name"))
        assert page is not None
        assert text is not None
        assert contrast(page[1], text[1]) > 7


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_can_be_read(scheme: str) -> None:
    from flow_viz import _style

    states, base = {
        "light": (_style._LIGHT, _style._LIGHT_BASE),
        "dark": (_style._DARK, _style._DARK_BASE),
    }[scheme]
    muted = base[4]
    for state, (line, fill) in states.items():
        least = 2.9 if state.name == "IDLE" else 4.2
        assert contrast(line, fill) > least, (state, line, fill)
        assert contrast(muted, fill) > 4.5, (state, muted, fill)


def contrast(one: str, other: str) -> float:
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
