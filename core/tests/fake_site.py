"""Fake distributions: written into a directory on ``sys.path`` as an installer would leave them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import pytest

HEALTHY = """\
from flow.hookspecs import hookimpl

@hookimpl
def flow_bind_step(step, binder):
    return None
"""


@attrs.frozen
class Site:
    """A directory of installed distributions, and a working directory to run ``flow`` in."""

    packages: Path
    work: Path

    def add(
        self,
        name: str,
        entry_points: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str],
        *,
        version: str = "0.1.0",
        requires: Sequence[str] = ("flow-core>=0.1,<0.2",),
    ) -> None:
        """Install a distribution: its modules by name, and its metadata."""
        info = self.packages / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        headers = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        headers += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join([*headers, "", "# A long description", "Name: other", ""]))
        lines = []
        for group, entries in entry_points.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for module, source in modules.items():
            path = self.packages.joinpath(*module.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)

    def step(self, name: str, source: str = HEALTHY, **options: object) -> None:
        """Install ``flow-NAME``, which provides the step kind `name` from the module ``flow_NAME``."""
        module = f"flow_{name.replace('-', '_')}"
        self.add(f"flow-{name}", {"flow.steps": {name: module}}, {module: source}, **options)  # type: ignore[arg-type]

    def flow(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``flow`` with these arguments in the working directory."""
        return subprocess.run(
            [sys.executable, "-m", "flow", *arguments],
            cwd=self.work,
            env={**os.environ, "PYTHONPATH": str(self.packages), "COLUMNS": "80", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty directory of distributions, on ``sys.path`` of this process and of the commands that it runs."""
    made = Site(tmp_path / "packages", tmp_path / "work")
    made.packages.mkdir()
    made.work.mkdir()
    monkeypatch.syspath_prepend(str(made.packages))
    monkeypatch.chdir(made.work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in [name for name in os.environ if name.startswith("FLOW_")]:
        monkeypatch.delenv(variable)
    before = set(sys.modules)
    yield made
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if origin.startswith(str(made.packages)):
            del sys.modules[name]
