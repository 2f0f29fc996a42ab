"""The workspace as tests see it: its package directories, what their pyproject.toml say, and their parsed sources."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
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

    @property
    def package(self) -> list[str]:
        """The parts of the package that a relative import starts from."""
        parts = list(self.path.relative_to(ROOT).parent.parts)
        return parts[parts.index("src") + 1 :] if "src" in parts else parts

    def imports(self) -> Iterator[tuple[str, str, int]]:
        """Each import as (module, name or '' for the module as a whole, line), relative ones resolved.

        Imports for type checkers and those inside functions count as any other.
        """
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((alias.name, "", node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = self.package[: len(self.package) - node.level + 1] if node.level else []
                module = ".".join([*start, *filter(None, [node.module])])
                yield from ((module, alias.name, node.lineno) for alias in node.names)

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
