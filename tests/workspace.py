"""The workspace as tests see it: its package directories, what their pyproject.toml say, and their parsed sources."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Source:
    """One Python file; `place` is its path from the root of the workspace."""

    path: Path

    @property
    def place(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.place)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))


@dataclass(frozen=True)
class Package:
    """One package directory."""

    folder: Path

    @cached_property
    def document(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def project(self) -> dict[str, Any]:
        return self.document["project"]

    @property
    def name(self) -> str:
        return canonicalize_name(self.project["name"])

    @property
    def place(self) -> str:
        return self.folder.relative_to(ROOT).as_posix()

    @property
    def requires(self) -> dict[str, Requirement]:
        """The requirements by distribution name, extras not counted."""
        requirements = map(Requirement, self.project.get("dependencies", ()))
        return {canonicalize_name(requirement.name): requirement for requirement in requirements}

    @property
    def modules(self) -> list[str]:
        """The import names; none for a package that contains nothing."""
        return sorted(init.parent.name for init in self.folder.glob("src/*/__init__.py"))

    @property
    def sources(self) -> list[Source]:
        return sources(self.folder / "src")

    @property
    def tests(self) -> list[Source]:
        return sources(self.folder / "tests")


@cache
def sources(folder: Path) -> list[Source]:
    """The Python files below a folder; templates of new plugins are text and left out."""
    return [Source(path) for path in sorted(folder.rglob("*.py")) if "templates" not in path.parts]


def _packages(pattern: str) -> list[Package]:
    return [Package(path.parent) for path in sorted(ROOT.glob(pattern))]


CORE = Package(ROOT / "core")
FIRST_PARTY = _packages("plugins/*/pyproject.toml")
PLUGINS = FIRST_PARTY + _packages("contrib/*/pyproject.toml")
PACKAGES = [CORE, *PLUGINS]
