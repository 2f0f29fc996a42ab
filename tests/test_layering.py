"""Who may know whom: the kernel no plugin, no plugin another, and plugins nothing of the kernel but its public door."""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Iterator

import pytest

import flow
from tests.workspace import CORE, PLUGINS, Package, Source

pytestmark = pytest.mark.check

TEST_TOOL = "flow_testkit"  # the one package that the tests of others may import

# The public modules besides `flow` itself. Whatever else is in the kernel is private, whatever its name.
PUBLIC_MODULES = frozenset({"flow.cli", "flow.errors", "flow.events", "flow.hookspecs", "flow.privacy"})

# The one list of plugins in the kernel: data for the hint "pip install flow-x" when a name is not installed.
INSTALL_HINTS = CORE.folder / "src/flow/install_hints.toml"

# Where else the kernel may name a plugin, with the reason.
MAY_BE_NAMED: dict[tuple[str, str], str] = {
    ("core/src/flow/_cli/scaffold.py", "flow-testkit"): "a generated package is tested with the kit",
}


def uses_of_flow(source: Source) -> Iterator[tuple[str, str, int]]:
    """Each use as (module, name, line), `from flow.errors import FlowError` or `flow.Step` after `import flow`."""
    yield from (found for found in source.imports() if found[0].partition(".")[0] == "flow")
    aliases = {
        alias.asname or "flow": alias.name if alias.asname else "flow"
        for node in source.nodes
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] == "flow"
    }
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield aliases[node.value.id], node.attr, node.lineno


def is_public(module: str, name: str) -> bool:
    """Whether a plugin may use the name ('' for the module itself)."""
    if module == "flow":
        return not name or name in flow.__all__ or f"flow.{name}" in PUBLIC_MODULES
    if module not in PUBLIC_MODULES or name.startswith("_"):
        return False
    names = vars(importlib.import_module(module))
    return not name or name in names.get("__all__", names)  # a lazy door has its names in `__all__` only


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
        for module, _, line in source.imports()
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


def test_no_other_data_of_the_kernel_names_a_plugin() -> None:
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in (CORE.folder / "src").rglob("*")
        if path.suffix not in {".py", ".pyc"}
        and path.is_file()
        and "templates" not in path.parts
        and path != INSTALL_HINTS
    }
    assert [
        path for path, text in texts.items() for plugin in PLUGINS for name in names_of(plugin) if name in text
    ] == []


def test_install_hints_are_true() -> None:
    """Of a plugin that is in this workspace; others may live elsewhere or come later."""
    hints = tomllib.loads(INSTALL_HINTS.read_text(encoding="utf-8"))
    plugins = {plugin.name: plugin for plugin in PLUGINS}
    wrong = [
        f"{group}.{name}: {distribution}"
        for group, names in hints.items()
        for name, distribution in names.items()
        if distribution in plugins
        and name not in plugins[distribution].project.get("entry-points", {}).get(f"flow.{group}", {})
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PLUGINS, ids=lambda package: package.name)
def test_plugin_imports_no_other_plugin(package: Package) -> None:
    own = set(package.modules)
    in_tests = own | {TEST_TOOL}
    found = [
        f"{source.place}:{line}: {module}"
        for files, allowed in ((package.sources, own), (package.tests, in_tests))
        for source in files
        for module, _, line in source.imports()
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
        ("flow.cli", "find_run", True),
        ("flow.cli", "annotations", False),
        ("flow.events", "Retry", True),
    ],
)
def test_the_door_is_what_we_say_it_is(module: str, name: str, public: bool) -> None:
    assert is_public(module, name) is public
