"""What ``flow plugins new`` writes passes its own tests at once: each kind, installed alone next to the kernel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

from flow._cli.scaffold import KINDS, new

NAME = "sentence-counter"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment that sees what is installed in this one, and what a test adds to it; its site-packages."""
    venv.create(tmp_path / "environment", with_pip=False, symlinks=True)
    (site,) = (tmp_path / "environment").glob("[Ll]ib/**/site-packages")
    here = sysconfig.get_path("purelib")
    # As a directory of packages and not as a mere path, so that what is installed here in editable form is found too.
    (site / "outer.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return site


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The directory to write packages into."""
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


def install(package: Path, site: Path) -> None:
    """Install a package as pip would; building a wheel would need tools that the tests do not require."""
    document = tomllib.loads((package / "pyproject.toml").read_text())
    project = document["project"]
    for module in document["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(package / module, site / Path(module).name)
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    headers = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    headers += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    (info / "METADATA").write_text("\n".join([*headers, "", ""]))
    sections = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), ""])
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(sections))


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOW_", "PYTEST_", "PYTHON"))}
    return subprocess.run(
        command, cwd=folder, env={**kept, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("kind", KINDS)
def test_generated_package_passes_its_own_tests(kind: str, package: Path, environment: Path) -> None:
    written = new(NAME, kind, package)
    install(written, environment)
    python = environment.parents[2] / "bin" / "python"
    done = run([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"], written)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 5


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ruff", ["check", "--isolated", "--no-cache", "--select", "E4,E7,E9,F,W,I,UP,B,RUF,D100,D101,D102,D103"]),
        ("ruff", ["format", "--isolated", "--no-cache", "--check"]),
        ("mypy", ["--strict", "--cache-dir", os.devnull]),
    ],
    ids=["lint", "format", "types"],
)
def test_generated_code_is_clean(tool: str, arguments: list[str], package: Path) -> None:
    if find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    sources = [str(new(f"{NAME}-{kind}", kind, package) / "src") for kind in KINDS]
    done = run([sys.executable, "-m", tool, *arguments, *sources], package)
    assert done.returncode == 0, done.stdout + done.stderr
