"""The house rules that no linter knows: sizes, names, handlers, dynamic attributes, the shape of a package."""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import dataclass

import pytest
from packaging.specifiers import SpecifierSet

from tests.workspace import CORE, PACKAGES, PLUGINS, ROOT, Package, Source, sources

pytestmark = pytest.mark.check

MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 600
VAGUE_NAMES = {"base", "common", "helper", "helpers", "misc", "shared", "util", "utils"}
BROAD = {"Exception", "BaseException"}
CONFIGURED_AT_THE_ROOT = {"basedpyright", "coverage", "mypy", "pydantic-mypy", "pyright", "pytest", "ruff", "tox"}


@dataclass(frozen=True)
class Allowed:
    """How many calls of getattr and hasattr a module may make, and why."""

    calls: int
    reason: str


# Attributes of our own objects are never looked up by a name in a string: a typo would become a default. What is left
# is objects of users and of other libraries, whose shape cannot be known before. A number that is too high fails too.
DYNAMIC_ATTRIBUTES: dict[str, Allowed] = {
    "core/src/flow/__init__.py": Allowed(1, "the lazy door: from the table of public names to the module that has one"),
    "core/src/flow/_agents.py": Allowed(
        3, "os has register_at_fork on some systems only; agents and what they return are users' objects"
    ),
    "core/src/flow/_builtin/cache.py": Allowed(1, "agents are users' objects of any type"),
    "core/src/flow/_classification.py": Allowed(
        1, "exceptions of other libraries: status codes and headers of their responses"
    ),
    "core/src/flow/_context_changes.py": Allowed(1, "what is attached to an annotation may be any object"),
    "core/src/flow/_lease.py": Allowed(1, "time has CLOCK_BOOTTIME on some systems only"),
    "core/src/flow/_merge.py": Allowed(1, "context fields have users' types: whether one can be subtracted"),
    "core/src/flow/_structure.py": Allowed(1, "method descriptors such as str.upper have no module"),
    "core/src/flow/_types.py": Allowed(5, "annotations are objects of typing, and differ between versions"),
    "core/src/flow/_value_objects.py": Allowed(4, "users' classes: what dataclasses and Pydantic have added to them"),
    "core/src/flow/cli.py": Allowed(1, "the lazy door: from the table of public names to the module that has one"),
    "core/src/flow/privacy.py": Allowed(1, "fields of users' objects, perhaps half made"),
    "core/src/flow/_value_schema.py": Allowed(6, "annotations and users' generic classes, and what typing has of late"),
}

FILES = [source for package in PACKAGES for source in package.sources]
EVERYTHING = [
    *FILES,
    *(source for package in PACKAGES for source in package.tests),
    *sources(ROOT / "tests"),
    *sources(ROOT / "examples"),
]
WITH_CODE = [package for package in PACKAGES if package.modules]


def by_place(source: Source) -> str:
    return source.place


def by_name(package: Package) -> str:
    return package.name


# -- modules and functions


@pytest.mark.parametrize("source", FILES, ids=by_place)
def test_module_is_short(source: Source) -> None:
    assert len(source.text.splitlines()) <= MAX_MODULE_LINES


@pytest.mark.parametrize("source", FILES, ids=by_place)
def test_functions_are_short(source: Source) -> None:
    sizes = {
        f"{source.place}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for node in source.nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES} == {}


def test_module_names_say_what_is_inside() -> None:
    parts = {
        (source.place, part) for source in EVERYTHING for part in source.path.relative_to(ROOT).with_suffix("").parts
    }
    assert sorted(place for place, part in parts if part.strip("_") in VAGUE_NAMES) == []


# -- handlers and dynamic attributes


def catches_everything(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in kinds)


def does_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Continue() | ast.Break() | ast.Expr(ast.Constant()):
            return True
        case ast.Return(None | ast.Constant(None)):
            return True
        case _:
            return False


def swallowing(source: Source) -> list[str]:
    """The places where any exception at all vanishes without a trace."""
    found = []
    for node in source.nodes:
        match node:
            case ast.ExceptHandler(body=body) if catches_everything(node) and all(map(does_nothing, body)):
                found.append(node.lineno)
            case ast.Call(func=ast.Name("suppress") | ast.Attribute(attr="suppress"), args=args):
                found += [node.lineno for kind in args if isinstance(kind, ast.Name) and kind.id in BROAD]
    return [f"{source.place}:{line}" for line in found]


def test_no_handler_swallows_every_exception() -> None:
    assert [place for source in FILES for place in swallowing(source)] == []


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("try:\n    f()\nexcept Exception:\n    pass", 1),
        ("try:\n    f()\nexcept (ValueError, BaseException) as error:\n    ...", 1),
        ("def g():\n    try:\n        f()\n    except:\n        return None", 1),
        ("with contextlib.suppress(Exception):\n    f()", 1),
        ("try:\n    f()\nexcept ValueError:\n    pass", 0),
        ("def g():\n    try:\n        f()\n    except Exception:\n        return False", 0),
        ("try:\n    f()\nexcept Exception as error:\n    failed = error", 0),
        ("try:\n    f()\nexcept BaseException:\n    close()\n    raise", 0),
    ],
)
def test_swallowing_is_recognised(code: str, count: int) -> None:
    source = Source(ROOT / "imagined.py")
    source.__dict__["text"] = code
    assert len(swallowing(source)) == count


def dynamic_attributes(source: Source) -> int:
    return sum(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "hasattr"}
        for node in source.nodes
    )


def test_kernel_looks_up_no_attribute_by_string_but_where_listed() -> None:
    counted = {source.place: count for source in CORE.sources if (count := dynamic_attributes(source))}
    assert counted == {place: allowed.calls for place, allowed in DYNAMIC_ATTRIBUTES.items()}


# -- the shape of a package


@pytest.mark.parametrize("package", PACKAGES, ids=by_name)
def test_package_has_readme_and_tests(package: Package) -> None:
    assert (package.folder / "README.md").read_text(encoding="utf-8").startswith(f"# {package.name}\n")
    assert [source for source in package.tests if source.path.name.startswith("test_")]


@pytest.mark.parametrize("package", WITH_CODE, ids=by_name)
def test_package_is_typed(package: Package) -> None:
    assert [module for module in package.modules if not (package.folder / "src" / module / "py.typed").exists()] == []


@pytest.mark.parametrize("package", PACKAGES, ids=by_name)
def test_package_names_agree(package: Package) -> None:
    if package is not CORE:
        assert package.folder.name == package.name
        assert set(package.modules) <= {package.name.replace("-", "_")}


@pytest.mark.parametrize("package", PACKAGES, ids=by_name)
def test_package_metadata_is_complete(package: Package) -> None:
    assert package.document["build-system"]["build-backend"] == "hatchling.build"
    assert package.project["requires-python"] == ">=3.11"
    assert package.project["license"] == "MIT"
    assert package.project["readme"] == "README.md"
    assert package.project["description"]


@pytest.mark.parametrize("package", PLUGINS, ids=by_name)
def test_plugin_requires_the_kernel_in_the_range_of_this_api(package: Package) -> None:
    assert package.requires["flow-core"].specifier == SpecifierSet(">=0.1,<0.2")


@pytest.mark.parametrize("package", PACKAGES, ids=by_name)
def test_requirements_have_a_lower_bound(package: Package) -> None:
    unbounded = [
        str(requirement)
        for requirement in package.requires.values()
        if not any(bound.operator in {">=", "~=", "=="} for bound in requirement.specifier)
    ]
    assert unbounded == []


@pytest.mark.parametrize("package", PACKAGES, ids=by_name)
def test_tools_are_configured_at_the_root_only(package: Package) -> None:
    assert set(package.document.get("tool", {})) & CONFIGURED_AT_THE_ROOT == set()
    files = {"mypy.ini", "pytest.ini", "ruff.toml", "setup.cfg", "tox.ini", ".coveragerc", "pyrightconfig.json"}
    assert [path.name for path in package.folder.iterdir() if path.name in files] == []


@pytest.mark.parametrize("name", [module for package in WITH_CODE for module in package.modules])
def test_public_names_are_sorted_importable_and_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(set(module.__all__)), "sorted, each name once"
    objects = {public: getattr(module, public) for public in module.__all__}
    documentable = {
        public: value for public, value in objects.items() if inspect.isclass(value) or inspect.isroutine(value)
    }
    assert [public for public, value in documentable.items() if not (value.__doc__ or "").strip()] == []
