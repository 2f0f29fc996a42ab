"""The documents say what is so: their code runs, their links lead somewhere, and what can be looked up is complete."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import LANGUAGES, Mismatch, Page, Reader, pages, same
from tests.workspace import ROOT

PAGES = pages()
MOST_NOT_RUN = 4
FIRST_SCREEN = 3000  # characters


def by_place(page: Page) -> str:
    return page.place


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader whose Python blocks run in this process, as a module of their own."""
    reader = Reader(tmp_path)
    monkeypatch.chdir(reader.project)
    monkeypatch.syspath_prepend(reader.project)
    monkeypatch.setitem(sys.modules, reader.module.__name__, reader.module)
    for name in [name for name in os.environ if name.startswith("FLOW_")]:
        monkeypatch.delenv(name)
    before = set(sys.modules)
    yield reader
    for name in set(sys.modules) - before:
        file = sys.modules[name].__file__ if "__file__" in vars(sys.modules[name]) else None
        if file is not None and file.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=by_place)
def test_page_does_what_it_says(page: Page, reader: Reader) -> None:
    reader.read(page)


# -- how pages are written


@pytest.mark.check
@pytest.mark.parametrize("page", PAGES, ids=by_place)
def test_blocks_are_of_a_known_language(page: Page) -> None:
    assert [f"{block.place} {block.language}" for block in page.blocks if block.language not in LANGUAGES] == []
    assert page.text.count("\n```") % 2 == 0, "a block is not closed"


@pytest.mark.check
@pytest.mark.parametrize("page", PAGES, ids=by_place)
def test_commands_of_flow_are_in_blocks_that_run(page: Page) -> None:
    idle = [
        block for block in page.blocks if block.language == "sh" or (block.language == "text" and "$ " in block.body)
    ]
    assert [
        block.place for block in idle if any("flow " in line.split("#")[0][:8] for line in block.body.splitlines())
    ] == []


@pytest.mark.check
@pytest.mark.parametrize("page", PAGES, ids=by_place)
def test_outputs_follow_what_prints_them(page: Page) -> None:
    kinds = [(block.language, bool(block.title)) for block in page.blocks if not block.no_run]
    orphans = [
        block.place
        for block, before in zip(page.blocks, [("", False), *kinds], strict=False)
        if block.language == "text" and before != ("python", False)
    ]
    assert orphans == []


@pytest.mark.check
def test_few_blocks_are_not_run() -> None:
    idle = [f"{block.place}: {block.no_run}" for page in PAGES for block in page.blocks if block.no_run]
    assert len(idle) <= MOST_NOT_RUN, idle


@pytest.mark.check
@pytest.mark.parametrize("page", PAGES, ids=by_place)
def test_links_lead_somewhere(page: Page) -> None:
    broken = []
    for path, anchor in page.links():
        target = (page.path.parent / path).resolve() if path else page.path
        if not target.exists() or (anchor and anchor not in Page(target).anchors):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert broken == []


@pytest.mark.check
def test_every_page_is_reached_from_the_index() -> None:
    reached, waiting = set(), [ROOT / "docs/index.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            targets = [(path.parent / target).resolve() for target, _ in Page(path).links() if target.endswith(".md")]
            waiting += [target for target in targets if target.is_relative_to(ROOT / "docs") and target.exists()]
    assert [page.place for page in PAGES if page.path.is_relative_to(ROOT / "docs") and page.path not in reached] == []


@pytest.mark.check
def test_first_screen_of_the_readme_shows_how_to_start() -> None:
    screen = (ROOT / "README.md").read_text(encoding="utf-8")[:FIRST_SCREEN]
    assert "make demo" in screen
    assert "make test" in screen


# -- the reader notices when a page is wrong


@pytest.mark.parametrize(
    ("expected", "actual", "equal"),
    [
        ("a\nb\n", "a  \nb", True),
        ("took ... ms", "took 12 ms", True),
        ("first\n...\nlast", "first\nsecond\nthird\nlast", True),
        ("a", "b", False),
        ("", "something", False),
        ("took ... ms", "took 12 s", False),
    ],
)
def test_outputs_are_compared_with_ellipses(expected: str, actual: str, equal: bool) -> None:
    assert same(expected, actual) is equal


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "prints something else"),
        ("```python\nprint(1)\n```\n", "prints something else"),
        ("```console\n$ flow --no-such-option\n...\n```\n", "no `$ echo $?` says so"),
        ("```console\n$ flow --version\nflux 7\n```\n", "prints something else"),
        ("```console\n$ rm -r src\n```\n", "cannot be run here"),
    ],
)
def test_reader_notices_what_is_not_so(text: str, complaint: str, reader: Reader) -> None:
    path = ROOT / "imagined.md"
    page = type("Imagined", (Page,), {"text": text})(path)
    with pytest.raises(Mismatch, match=r"imagined\.md") as caught:
        reader.read(page)
    assert complaint in str(caught.value)


def test_reader_runs_the_blocks_of_a_page_in_one_namespace(reader: Reader) -> None:
    blocks = {'python title="size.py"': "SIZE = 3", "python": "from size import SIZE\n\nprint(SIZE)", "text": "3"}
    text = "".join(f"```{language}\n{body}\n```\n\n" for language, body in blocks.items())
    reader.read(type("Imagined", (Page,), {"text": text})(ROOT / "imagined.md"))
