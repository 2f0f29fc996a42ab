"""Who may know whom: the kernel no plugin, no plugin another, and plugins nothing of the kernel but its public door."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator

import pytest

import flow
from tests.workspace import CORE, PLUGINS, Package, Source

pytestmark = pytest.mark.check

TEST_TOOL = "flow_testkit"  # the one package that the tests of others may import

# The public modules besides `flow` itself. Whatever else is in the kernel is private, whatever its name.
PUBLIC_MODULES = frozenset({"flow.errors", "flow.hookspecs"})

# Where the kernel may name a plugin, with the reason; a hint like "pip install flow-x" is computed from what was typed.
MAY_BE_NAMED: dict[tuple[str, str], str] = {
    ("core/src/flow/_cli/scaffold.py", "flow-testkit"): "a generated package is tested with the kit",
}


def imports(source: Source) -> Iterator[tuple[str, str | None, int]]:
    """Each import as (module, name or None for the module as a whole, line); those for type checkers count."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, None, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.place}:{node.lineno}: relative import"
            yield from ((node.module or "", alias.name, node.lineno) for alias in node.names)


def uses_of_flow(source: Source) -> Iterator[tuple[str, str, int]]:
    """Each use as (module, name, line), `from flow.errors import FlowError` or `flow.Step` after `import flow`."""
    aliases: dict[str, str] = {}
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "flow":
            yield from ((str(node.module), alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "flow":
                    aliases[alias.asname or "flow"] = alias.name if alias.asname else "flow"
                    yield alias.name, "", node.lineno
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield aliases[node.value.id], node.attr, node.lineno


def is_public(module: str, name: str) -> bool:
    """Whether a plugin may use the name ('' for the module itself)."""
    if module == "flow":
        return not name or name in flow.__all__ or f"flow.{name}" in PUBLIC_MODULES
    return module in PUBLIC_MODULES and (
        not name or (not name.startswith("_") and name in vars(importlib.import_module(module)))
    )


def docstrings(source: Source) -> set[int]:
    """The ids of the constants that are documentation: prose may mention a plugin."""
    return {
        id(node.body[0].value)
        for node in source.nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def names_of(package: Package) -> set[str]:
    return {package.name, package.name.replace("-", "_"), *package.modules}


def test_kernel_imports_no_plugin() -> None:
    found = [
        f"{source.place}:{line}: {module}"
        for source in CORE.sources
        for module, _, line in imports(source)
        if module.startswith("flow_")
    ]
    assert found == []


def test_kernel_names_no_plugin() -> None:
    found = [
        f"{source.place}:{node.lineno}: {name}"
        for source in CORE.sources
        for node in source.nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings(source)
        for plugin in PLUGINS
        for name in names_of(plugin)
        if name in node.value and (source.place, plugin.name) not in MAY_BE_NAMED
    ]
    assert found == []


@pytest.mark.parametrize("package", PLUGINS, ids=lambda package: package.name)
def test_plugin_imports_no_other_plugin(package: Package) -> None:
    own = set(package.modules)
    in_tests = own | {TEST_TOOL}
    found = [
        f"{source.place}:{line}: {module}"
        for files, allowed in ((package.sources, own), (package.tests, in_tests))
        for source in files
        for module, _, line in imports(source)
        if module.startswith("flow_") and module.partition(".")[0] not in allowed
    ]
    assert found == []


@pytest.mark.parametrize("package", PLUGINS, ids=lambda package: package.name)
def test_plugin_requires_no_other_plugin(package: Package) -> None:
    others = {other.name for other in PLUGINS} & set(package.requires)
    if package.modules:
        assert others == set()
    else:
        assert others, f"{package.name} has no code, so it should be a collection of packages"


@pytest.mark.parametrize("package", PLUGINS, ids=lambda package: package.name)
def test_plugin_uses_only_the_public_door(package: Package) -> None:
    found = [
        f"{source.place}:{line}: {module}{name and '.'}{name}"
        for source in (*package.sources, *package.tests)
        for module, name, line in uses_of_flow(source)
        if not is_public(module, name)
    ]
    assert found == []


def test_only_private_modules_behind_the_door() -> None:
    public = {
        f"flow.{path.stem}"
        for path in (CORE.folder / "src/flow").iterdir()
        if not path.name.startswith("_") and (path.suffix == ".py" or path.is_dir())
    }
    assert public == PUBLIC_MODULES


@pytest.mark.parametrize(
    ("module", "name", "public"),
    [
        ("flow", "", True),
        ("flow", "Step", True),
        ("flow", "errors", True),
        ("flow", "_kernel", False),
        ("flow", "NoSuchName", False),
        ("flow._kernel", "Kernel", False),
        ("flow.errors", "FlowError", True),
        ("flow.errors", "_anything", False),
        ("flow.hookspecs", "", True),
    ],
)
def test_the_door_is_what_we_say_it_is(module: str, name: str, public: bool) -> None:
    assert is_public(module, name) is public
