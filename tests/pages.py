"""Markdown pages whose code is executed: reading the blocks of a page, and running them.

How a block is written decides what happens to it:

- ```` ```python ```` runs, in one namespace with the other blocks of the page, in a directory of the page's own.
- ```` ```text ```` right after it is what that block printed. A block that prints has to be followed by one.
- ```` ```python title="app.py" ```` is written to that file and not run; so is any other language with a title.
- ```` ```console ```` holds commands behind ``$`` and what they print, standard error included. A command that fails is
  followed by ``$ echo $?`` with its exit code. ``pip install -e DIR`` makes the package in DIR visible to the others.
- ```` ```toml ```` and ```` ```json ```` are parsed.
- ```` ```sh ```` holds what cannot run here, such as installing from an index; never a ``flow`` command.
- A block without a language is a drawing.

``...`` in an output stands for any lines, or for any text within a line. ``<!-- no-run: reason -->`` before a block
keeps it from being run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.workspace import PACKAGES, ROOT

_FENCE = re.compile(
    r"^(?:<!-- no-run: (?P<reason>[^\n]+) -->\n+)?```(?P<language>[a-z]*)(?P<info>[^\n]*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r' title="([^"]+)"')
LANGUAGES = {"", "console", "json", "python", "sh", "text", "toml"}
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]
PROGRAMS = {"flow": ["-m", "flow"], "python": [], "pytest": PYTEST}


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its first line in the page."""

    page: Path
    line: int
    language: str
    title: str
    body: str
    no_run: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def place(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def blocks(self) -> list[Block]:
        text = self.text
        return [
            Block(
                page=self.path,
                line=text.count("\n", 0, found.start("body")) + 1,
                language=found["language"],
                title=title[1] if (title := _TITLE.fullmatch(found["info"])) else found["info"],
                body=found["body"],
                no_run=found["reason"] or "",
            )
            for found in _FENCE.finditer(text)
        ]

    @property
    def prose(self) -> str:
        """The page without its blocks."""
        return _FENCE.sub("", self.text)

    @property
    def anchors(self) -> set[str]:
        """The anchors of the headings, as GitHub makes them."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}

    def links(self) -> Iterator[tuple[str, str]]:
        """The links to files of the workspace, as path and anchor."""
        for target in re.findall(r"\]\(([^)\s]+)\)", self.prose):
            if "://" not in target:
                path, _, anchor = target.partition("#")
                yield path, anchor


def pages() -> list[Page]:
    """Every page that people read: of the workspace, and of the packages whose own tests do not run their README."""
    paths = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    paths += [
        package.folder / "README.md"
        for package in PACKAGES
        if not (package.folder / "tests/test_readme.py").exists() and (package.folder / "README.md").exists()
    ]
    return [Page(path) for path in paths]


class Mismatch(AssertionError):
    """A block does not do what the page says."""


def same(expected: str, actual: str) -> bool:
    """Compare outputs, the width of gaps aside.

    A line ``...`` in the expected one stands for any lines, also none; within a line it stands for any text.

    >>> same("in ... ms", "in 3.2 ms "), same("in ... ms", "in 3.2 s")
    (True, False)
    """
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n"
        for line in _lines(expected)
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(actual))) is not None


def _lines(text: str) -> list[str]:
    return [re.sub(" +", " ", line.rstrip()) for line in text.strip("\n").splitlines()]


def _require(block: Block, expected: str, actual: str, what: str) -> None:
    if not same(expected, actual):
        raise Mismatch(f"{block.place}: {what}\n--- the page says\n{expected.rstrip()}\n--- it is\n{actual.rstrip()}")


@dataclass
class Reader:
    """Somebody who types in a page from top to bottom, in an empty directory."""

    folder: Path
    module: ModuleType = field(default_factory=lambda: ModuleType("page"))
    environment: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0

    def __post_init__(self) -> None:
        (self.folder / "home").mkdir()
        (self.folder / "project").mkdir()
        kept = {name: value for name, value in os.environ.items() if not re.match(r"FLOW_|PYTHON|XDG_|COLUMNS", name)}
        own = {"HOME": str(self.folder / "home"), "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment = {**kept, **own, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def read(self, page: Page) -> None:
        """Do what the page says; raises `Mismatch` where it is not so."""
        blocks = [block for block in page.blocks if not block.no_run]
        for block, following in zip(blocks, [*blocks[1:], None], strict=False):
            if block.title:
                path = self.project / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.body, encoding="utf-8")
            elif block.language == "python":
                shown = following.body if following is not None and following.language == "text" else ""
                _require(block, shown, self._run(block), "prints something else")
            elif block.language == "console":
                self._type_in(block)
            if block.language == "toml":
                tomllib.loads(block.body)
            elif block.language == "json":
                json.loads(block.body)

    def _run(self, block: Block) -> str:
        # The blank lines make tracebacks name the line of the page.
        code = compile("\n" * (block.line - 1) + block.body, str(block.page), "exec", dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, self.module.__dict__)
        return printed.getvalue()

    def _type_in(self, block: Block) -> None:
        for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            while command.endswith("\\"):
                more, _, expected = expected.partition("\n")
                command = command[:-1] + more.strip()
            if command == "echo $?":
                _require(block, expected, str(self.exit_code), "the exit code differs")
                self.exit_code = 0
                continue
            self._require_success(block)
            actual = self._command(block, command)
            _require(block, expected, actual, f"$ {command} prints something else")
        self._require_success(block)

    def _require_success(self, block: Block) -> None:
        if self.exit_code:
            raise Mismatch(f"{block.place}: a command failed with {self.exit_code}, and no `$ echo $?` says so")

    def _command(self, block: Block, command: str) -> str:
        words = shlex.split(command)
        variables = {}
        while "=" in words[0]:
            name, _, variables[name] = words.pop(0).partition("=")
        if words[0] == "cat":
            return "".join((self.project / name).read_text(encoding="utf-8") for name in words[1:])
        if words[:3] == ["pip", "install", "-e"]:
            return self._install(self.project / words[3])
        if words[0] not in PROGRAMS:
            raise Mismatch(f"{block.place}: {words[0]} cannot be run here; put it into a block of the language sh")
        ended = subprocess.run(
            [sys.executable, *PROGRAMS[words[0]], *words[1:]],
            cwd=self.project,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        self.exit_code = ended.returncode
        return ended.stdout

    def _install(self, package: Path) -> str:
        """Do what an editable installation does, as far as plugins are concerned, without an index."""
        site = self.folder / "site"
        document: Mapping[str, Any] = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))
        project = document["project"]
        info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        headers = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
        headers += [f"Summary: {project.get('description', '')}"]
        headers += [f"Requires-Dist: {requirement}" for requirement in project.get("dependencies", ())]
        (info / "METADATA").write_text("\n".join([*headers, "", ""]), encoding="utf-8")
        groups = project.get("entry-points", {}).items()
        lines = [line for group, names in groups for line in (f"[{group}]", *(f"{n} = {v}" for n, v in names.items()))]
        (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        paths = [self.environment.get("PYTHONPATH"), str(site), str(package / "src")]
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return ""
