"""The ``flow`` program under test: run in this process or in one of its own, with an app and a store to work on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import attrs
import pytest

from core.tests.fake_site import Site
from flow._cli.main import main
from flow._kernel import default_kernel

# A store that outlives a command but not the process, by its URL; nothing else is there where only the kernel is.
KEPT = """\
from flow import hookimpl
from flow._builtin.memory_state import MemoryState

STORES = {}

@hookimpl
def flow_open_state(url, settings):
    return STORES.setdefault(url, MemoryState())
"""


@attrs.frozen
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def app() -> Iterator[Callable[..., Path]]:
    """Write a module into the working directory: ``app(source)`` is ``app.py``; afterwards it was never loaded."""
    path, modules = list(sys.path), set(sys.modules)
    homes: set[Path] = set()

    def write(source: str, name: str = "app.py") -> Path:
        file = Path.cwd() / name
        homes.add(Path.cwd())
        file.parent.mkdir(parents=True, exist_ok=True)
        header = "from __future__ import annotations\nfrom flow import *\n"
        file.write_text(header + dedent(source))
        return file

    yield write
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = sys.modules[name].__dict__.get("__file__") or "/"
        if any(Path(file).is_relative_to(home) for home in homes):
            del sys.modules[name]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Done]]:
    """Run ``flow`` in this process, as if it were one of its own: what it imports of tests is forgotten."""
    default_kernel.cache_clear()

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        modules, path = set(sys.modules), list(sys.path)
        try:
            code: Any = main(arguments)
        except SystemExit as end:
            code = end.code
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            found = sys.modules[name].__dict__
            file = found.get("__file__") or next(iter(found.get("__path__") or ()), "/")
            if Path(file).is_relative_to(tmp_path_factory.getbasetemp()) and Path(file).parent.name != "packages":
                del sys.modules[name]
        printed = capsys.readouterr()
        return Done(code or 0, printed.out, printed.err)

    yield run
    default_kernel.cache_clear()


@pytest.fixture
def kept(site: Site) -> Any:
    """Install the store ``kept://``; the value is the module that holds the stores by URL in ``STORES``."""
    site.add("flow-kept", {"flow.state": {"kept": "kept_state"}}, {"kept_state": KEPT})
    return __import__("kept_state")


def start(site: Site, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start ``flow`` in a process of its own, in the working directory."""
    return subprocess.Popen(
        [sys.executable, "-m", "flow", *arguments],
        env={"PYTHONPATH": str(site.packages), "PATH": "", **environment},
        cwd=Path.cwd(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
