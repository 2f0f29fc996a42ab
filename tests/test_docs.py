"""The documents say what is so: their code runs, their links lead somewhere, and what can be looked up is complete."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import flow
from flow import _settings
from flow._discovery import PluginKind, PluginState
from tests import reference
from tests.pages import LANGUAGES, Mismatch, Page, Reader, pages, same
from tests.workspace import ROOT

PAGES = pages()
MOST_NOT_RUN = 4
FIRST_SCREEN = 3000  # characters


def importable(module: ModuleType) -> dict[str, object]:
    """What `from module import *` gives."""
    namespace: dict[str, object] = {}
    exec(f"from {module.__name__} import *", namespace)
    return namespace


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


# -- the reference is complete


@pytest.mark.check
@pytest.mark.parametrize("name", sorted(reference.REGIONS))
def test_reference_is_that_of_the_sources(name: str) -> None:
    path = reference.FOLDER / name
    assert path.read_text(encoding="utf-8") == reference.current(path), "write it anew: python -m tests.reference"


@pytest.mark.check
@pytest.mark.parametrize("hook", [hook for _, hook in reference.hook_functions()], ids=lambda hook: hook.name)
def test_hook_has_a_heading_with_its_signature(hook: ast.FunctionDef) -> None:
    text = Page(reference.FOLDER / "hooks.md").text
    assert f"\n### {reference.hook_heading(hook)}\n\n```\n{reference.hook_signature(hook)}\n```\n" in text


@pytest.mark.check
def test_public_names_are_sorted_importable_and_documented() -> None:
    assert list(flow.__all__) == sorted(set(flow.__all__))
    assert [name for name in flow.__all__ if name not in importable(flow)] == []
    text = Page(reference.FOLDER / "api.md").text.replace("\\_", "_")
    assert [name for name in flow.__all__ if f"\n### {name}\n" not in text and f"- `{name}`: " not in text] == []


@pytest.mark.check
def test_every_error_code_is_documented_and_unique() -> None:
    text = Page(reference.FOLDER / "errors.md").text
    codes = [cls.code for cls in reference.error_classes()]
    assert len(codes) == len(set(codes))
    assert [code for code in codes if f"| `{code}` |" not in text] == []
    tree = text.partition("## Codes")[0]
    hidden = {"CheckFailed"}  # the common base of refusals, which is never raised itself
    assert [cls.__name__ for cls in reference.error_classes() if cls.__name__ not in {*hidden, *tree.split()}] == []


@pytest.mark.check
def test_every_setting_and_variable_is_documented() -> None:
    text = Page(reference.FOLDER / "settings.md").text
    rows = dict(re.findall(r"^\| `([a-z.]+)` \| `(FLOW_[A-Z_]+)` \|", text, re.MULTILINE))
    assert {variable: key for key, variable in rows.items()} == _settings._VARIABLES


@pytest.mark.check
def test_every_kind_of_event_is_documented() -> None:
    text = Page(reference.FOLDER / "events.md").text
    assert sorted(re.findall(r"^\| `([a-z.]+)` \|", text, re.MULTILINE)) == sorted(flow.EventKind)


@pytest.mark.check
@pytest.mark.parametrize("kind", PluginKind)
def test_every_kind_of_plugin_has_a_page(kind: PluginKind) -> None:
    page = Page(ROOT / f"docs/plugins/{kind}.md")
    assert f"| group | `{kind.group}` |" in page.text
    for heading in ("## Life cycle", "## Example"):
        assert f"\n{heading}\n" in page.text
    loading = Page(ROOT / "docs/explanation/plugin-loading.md").text
    assert f"| [`{kind.group}`](../plugins/{kind}.md) |" in loading


@pytest.mark.check
def test_every_layer_and_state_is_explained() -> None:
    architecture = Page(ROOT / "docs/explanation/architecture.md").text
    assert re.findall(r"^\| `([A-Z]+)` \|", architecture, re.MULTILINE) == [layer.name for layer in sorted(flow.Layer)]
    loading = Page(ROOT / "docs/explanation/plugin-loading.md").text
    assert set(re.findall(r"^\| `([a-z]+)` \|", loading, re.MULTILINE)) == set(PluginState)


@pytest.mark.check
def test_every_command_and_option_is_documented(tmp_path: Path) -> None:
    text = Page(reference.FOLDER / "cli.md").text
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    for name in re.findall(r"^## (flow.*)$", text, re.MULTILINE):
        command = [sys.executable, "-m", *name.split(), "--help"]
        ended = subprocess.run(
            command, capture_output=True, encoding="utf-8", env=environment, cwd=tmp_path, check=True
        )
        section = re.split(r"^## ", text.partition(f"## {name}\n")[2], flags=re.MULTILINE)[0]
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ended.stdout.partition("Options")[2]))
        common = {"--help", "--install-completion", "--show-completion"}
        assert options - common <= set(re.findall(r"--[a-z][a-z-]+", section)), name


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
