"""The test matrix: one environment per package directory and interpreter.

``core`` and every directory with a pyproject.toml under ``plugins`` and ``contrib`` get an environment for each Python
that is found here: ``core-py311``, ``flow-console-py312``. It holds the kernel, that one package, what they require and
the test tools, all installed from wheels, so that what is tested is what ships. ``tests-py311`` holds all packages
and runs ``tests`` and ``examples``; ``core-py311-oldest`` holds the oldest releases that the package says it works
with. A new directory needs no line here, nor in tox.ini.

A package may ask for more in its own pyproject.toml: ``[dependency-groups] test = [...]``.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from tox.config.loader.memory import MemoryLoader
from tox.config.types import Command, EnvList
from tox.plugin import impl
from tox.report import HandledError
from tox.tox_env.errors import Fail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tox.config.sets import ConfigSet
    from tox.execute import Outcome
    from tox.session.state import State
    from tox.tox_env.api import ToxEnv

ROOT = Path(__file__).parent
WHEELS = ROOT / ".tox" / "wheels"
VERSIONS = ("3.11", "3.12", "3.13")
TEST_TOOL = "flow-testkit"  # beside every package but the kernel, whose tests must not need it

# Where installers other than the system's keep their Pythons; a name on PATH may be a shim that only says "not found".
PYTHON_HOMES = (
    "{PYENV_ROOT}/versions/*/bin",
    "~/.pyenv/versions/*/bin",
    "{UV_PYTHON_INSTALL_DIR}/*/bin",
    "~/.local/share/uv/python/*/bin",
    "~/.local/share/mise/installs/python/*/bin",
    "~/.asdf/installs/python/*/bin",
    "~/.local/share/hatch/pythons/*/python/bin",
    "{RUNNER_TOOL_CACHE}/Python/*/*/bin",
    "/opt/python/*/bin",
    "/opt/homebrew/bin",
    "/usr/local/bin",
    "/Library/Frameworks/Python.framework/Versions/*/bin",
)


# -- the packages


@dataclass(frozen=True, eq=False)
class Package:
    """One package directory and what its pyproject.toml says."""

    folder: Path
    name: str
    version: str
    requires: tuple[str, ...]
    extras: Mapping[str, list[str]]
    test_requires: tuple[str, ...]

    @property
    def wheel(self) -> Path:
        return WHEELS / f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def modules(self) -> list[str]:
        return sorted(init.parent.name for init in self.folder.glob("src/*/__init__.py"))


def group(document: Mapping[str, dict[str, list[str | dict[str, str]]]], name: str) -> Iterator[str]:
    """The requirements of a dependency group (PEP 735), included groups resolved; none if there is no such group."""
    for item in document.get("dependency-groups", {}).get(name, []):
        if isinstance(item, str):
            yield item
        else:
            yield from group(document, item["include-group"])


@cache
def packages() -> Mapping[str, Package]:
    """The packages of the workspace by distribution name, the kernel first."""
    found = {}
    for path in [
        ROOT / "core/pyproject.toml",
        *sorted(ROOT.glob("plugins/*/pyproject.toml")),
        *sorted(ROOT.glob("contrib/*/pyproject.toml")),
    ]:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        project = document["project"]
        name = canonicalize_name(project["name"])
        found[name] = Package(
            folder=path.parent,
            name=name,
            version=project["version"],
            requires=tuple(project.get("dependencies", ())),
            extras=project.get("optional-dependencies", {}),
            test_requires=tuple(group(document, "test")),
        )
    return found


def test_tools(name: str) -> list[str]:
    """A dependency group of the workspace itself."""
    return list(group(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")), name))


def closure(requirements: Iterable[str]) -> tuple[list[Package], list[str]]:
    """What the requirements come to: packages of the workspace, and requirements for the package index.

    Ours are taken from here and never asked of an index, which may have strangers under these names.
    """
    ours: dict[str, Package] = {}
    others: dict[str, None] = {}
    todo, done = list(requirements), set()
    while todo:
        text = todo.pop(0)
        if text in done:
            continue
        done.add(text)
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name in packages():
            ours[name] = packages()[name]
            todo += ours[name].requires
            todo += [line for extra in requirement.extras for line in ours[name].extras[extra]]
        elif name.startswith("flow-"):
            raise HandledError(f"{text!r} is required, but no directory of this workspace has that package")
        else:
            others[text] = None
    return list(ours.values()), list(others)


def lower_bounds(requirements: Iterable[str]) -> list[str]:
    """The oldest release that the requirements admit of each package, as pins."""
    oldest: dict[str, tuple[Version, str]] = {}
    for requirement in map(Requirement, requirements):
        for bound in requirement.specifier:
            if bound.operator in {">=", "~=", "=="}:
                marker = f"; {requirement.marker}" if requirement.marker else ""
                pin = Version(bound.version), f"{requirement.name}=={bound.version}{marker}"
                oldest[requirement.name] = max(pin, oldest.get(requirement.name, pin))
    return [pin for _, pin in oldest.values()]


# -- the interpreters


def candidates(version: str) -> Iterator[Path]:
    """Files that may be the interpreter: beside our own, everywhere on PATH, then in the usual homes."""
    name = f"python{version}"
    homes = [
        home.format_map(os.environ)
        for home in PYTHON_HOMES
        if "{" not in home or home[1 : home.index("}")] in os.environ
    ]
    folders = [f"{sys.base_prefix}/bin", *os.environ.get("PATH", "").split(os.pathsep)]
    for pattern in [*folders, *map(os.path.expanduser, homes)]:
        if Path(pattern).is_absolute():
            yield from sorted(Path(os.sep).glob(f"{pattern[1:]}/{name}"), reverse=True)


def answers(path: Path, version: str) -> bool:
    """Whether running the file shows that it is this Python: a name proves nothing."""
    probe = "import sys; print('{}.{}'.format(*sys.version_info), sys.implementation.name)"
    try:
        ran = subprocess.run([path, "-I", "-c", probe], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.returncode == 0 and ran.stdout.split() == [version, "cpython"]


@cache
def interpreters() -> Mapping[str, Path]:
    """The Pythons of the matrix that are on this machine."""
    found = {}
    for version in VERSIONS:
        if path := next((path for path in candidates(version) if answers(path, version)), None):
            found[version] = path
        else:
            print(f"skipped: python{version} not found", file=sys.stderr)
    if not found:
        raise HandledError(f"none of python{', python'.join(VERSIONS)} was found")
    return found


# -- the environments


@dataclass(frozen=True)
class Environment:
    """One cell of the matrix."""

    python: str
    package: Package | None  # None: all of them, for what crosses packages
    oldest: bool = False  # with the oldest releases that the package admits, so that its lower bounds are tested ones

    @property
    def name(self) -> str:
        folder = self.package.folder.name if self.package else "tests"
        return f"{folder}-py{self.python.replace('.', '')}{'-oldest' if self.oldest else ''}"

    @property
    def description(self) -> str:
        what = self.package.name if self.package else "what crosses packages"
        return f"{what} on Python {self.python}{' with the oldest requirements' if self.oldest else ''}"

    @property
    def folder(self) -> Path:
        return self.package.folder if self.package else ROOT

    @property
    def report(self) -> Path:
        return ROOT / ".tox" / f"{self.name}.xml"

    def resolve(self) -> tuple[list[Package], list[str]]:
        """The packages of the workspace and the requirements for the index that go into this environment."""
        if self.package is None:
            everything = [line for package in packages().values() for line in (package.name, *package.test_requires)]
            return closure([*everything, *test_tools("workspace")])
        kit = [TEST_TOOL] if self.package.name != "flow-core" and TEST_TOOL in packages() else []
        ours, others = closure(["flow-core", self.package.name, *self.package.test_requires, *kit, *test_tools("test")])
        pins = lower_bounds(closure(["flow-core", self.package.name])[1]) if self.oldest else []
        return ours, [*others, *pins]

    def commands(self, pos_args: Iterable[str]) -> Command:
        pytest = ["python", "-m", "pytest", "-q", f"-c{ROOT / 'pyproject.toml'}", f"--rootdir={ROOT}"]
        pytest += [f"-ocache_dir={ROOT / '.tox' / self.name / 'pytest-cache'}", f"--junit-xml={self.report}"]
        if self.package is None:
            targets = [name for name in ("tests", "examples") if (ROOT / name).is_dir()]
        else:
            # The examples in docstrings, too: those of the installed modules, not of src.
            targets = ["./tests", "--doctest-modules", "--pyargs", *self.package.modules]
        return Command([*pytest, *targets, *pos_args])

    def settings(self, pos_args: Iterable[str]) -> dict[str, object]:
        """What would stand in tox.ini."""
        ours, others = self.resolve()
        install = ["python", "-I", "-m", "pip", "install", "-q", "--no-compile", "--no-deps", "--force-reinstall"]
        return {
            "description": self.description,
            "base_python": [str(interpreters()[self.python])],
            "deps": "\n".join(others),
            "change_dir": self.folder,
            "commands_pre": [
                Command([*install, *(str(package.wheel) for package in ours)]),
                Command(["python", "-I", "-m", "pip", "check"]),
            ],
            "commands": [self.commands(pos_args)],
        }


@cache
def environments() -> Mapping[str, Environment]:
    cells = [Environment(python, package) for python in interpreters() for package in [*packages().values(), None]]
    first = next(iter(interpreters()))
    cells += [Environment(first, package, oldest=True) for package in packages().values()]
    return {cell.name: cell for cell in cells}


@impl
def tox_extend_envs() -> Iterable[str]:
    return tuple(environments())


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    core_conf.loaders.insert(0, MemoryLoader(env_list=EnvList(list(environments()))))
    for name, environment in environments().items():
        settings = environment.settings(state.conf.pos_args(None) or ())
        state.conf.memory_seed_loaders[name].append(MemoryLoader(**settings))


# -- wheels


@cache
def build(package: Package) -> None:
    """Build the wheel, once in a run of tox; the sources may have changed since the last run."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", WHEELS]
    built = subprocess.run(command, cwd=package.folder, capture_output=True, text=True, check=False)
    if built.returncode:
        raise Fail(f"{package.name}: the wheel cannot be built\n{built.stdout}{built.stderr}")


building = threading.Lock()  # environments run in threads of one process


@impl
def tox_before_run_commands(tox_env: ToxEnv) -> None:
    if environment := environments().get(tox_env.conf.name):
        environment.report.unlink(missing_ok=True)
        with building:
            for package in environment.resolve()[0]:
                build(package)


# -- the report


totals = {"passed": 0, "failed": 0, "skipped": 0}


@impl
def tox_after_run_commands(tox_env: ToxEnv, exit_code: int, outcomes: list[Outcome]) -> None:
    environment = environments().get(tox_env.conf.name)
    if environment is None or not environment.report.exists():
        return
    for suite in ElementTree.parse(environment.report).getroot().iter("testsuite"):
        ran, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
        failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
        totals["failed"] += failed
        totals["skipped"] += skipped
        totals["passed"] += ran - failed - skipped


@atexit.register
def print_totals() -> None:
    """The last words of a run: which Pythons were missing, and how many tests ran in all environments together."""
    if any(totals.values()):
        missing = [f"skipped: python{version} not found" for version in VERSIONS if version not in interpreters()]
        print(
            *missing,
            "matrix: {passed} passed, {failed} failed, {skipped} skipped".format(**totals),
            sep="\n",
            flush=True,
        )
