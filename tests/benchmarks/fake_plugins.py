"""Installed plugins that do nothing but leave a mark when they are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs

# The kinds a module can offer, and the last part of the entry point's value.
KINDS = {
    "steps": "",
    "dsl": ":thing",
    "policies": "",
    "state": "",
    "tracers": "",
    "validators": ":thing",
    "renderers": ":thing",
    "commands": ":thing",
}
SOURCE = """\
from pathlib import Path

Path({mark!r}).touch()

def thing():
    pass
"""


@attrs.frozen
class FakePlugins:
    """A directory of fake distributions, and one for the marks of those that were imported."""

    packages: Path
    marks: Path

    @classmethod
    def install(cls, directory: Path, count: int) -> FakePlugins:
        """Write `count` distributions below `directory`, with one contribution of each kind in turn."""
        made = cls(directory / "packages", directory / "marks")
        made.packages.mkdir(parents=True)
        made.marks.mkdir()
        for index in range(count):
            made._add(f"fake{index}", list(KINDS)[index % len(KINDS)])
        return made

    def _add(self, name: str, kind: str) -> None:
        module = f"flow_{name}"
        (self.packages / f"{module}.py").write_text(SOURCE.format(mark=str(self.marks / name)))
        info = self.packages / f"{module}-1.0.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: flow-{name}", "Version: 1.0", "Requires-Dist: flow-core<0.2,>=0.1"]
        (info / "METADATA").write_text("\n".join([*lines, ""]))
        (info / "entry_points.txt").write_text(f"[flow.{kind}]\n{name} = {module}{KINDS[kind]}\n")

    @property
    def imported(self) -> list[str]:
        """The names of the plugins that some command has imported."""
        return sorted(mark.name for mark in self.marks.iterdir())

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment in which these plugins are installed, and no settings of whoever runs this apply."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOW_")}
        return {**kept, "PYTHONPATH": str(self.packages), "XDG_CACHE_HOME": str(self.marks.parent / "cache")}

    def flow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``flow`` in an empty directory where these plugins are installed; raises when it fails."""
        return subprocess.run(
            [sys.executable, "-m", "flow", *arguments],
            cwd=self.packages.parent,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
