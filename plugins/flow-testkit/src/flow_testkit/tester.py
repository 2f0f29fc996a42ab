"""The ``flow`` command as its users meet it: a program that is started with files, arguments and an environment."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any, Self

import attrs
import pytest

_TRACEBACK = "Traceback (most recent call last)"
# What would make the outcome depend on who runs the tests.
_NOT_INHERITED = re.compile(r"FLOW_.*|PYTHON(?!COERCECLOCALE).*|(FORCE|NO|CLICOLOR)_?COLOR.*|COLUMNS|LINES|XDG_.*")


@attrs.frozen(repr=False)
class Outcome:
    """How a program ended and what it printed. Its repr is the whole transcript.

    The assertions return the outcome, so they can be chained: ``outcome.assert_failed(code=2).no_traceback()``.
    """

    command: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Return what standard output holds as JSON; fails, showing the transcript, when it is none."""
        __tracebackhide__ = True
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            pytest.fail(f"standard output is not JSON: {error}\n{self!r}", pytrace=False)

    def assert_success(self) -> Self:
        """Fail unless the exit code is 0."""
        __tracebackhide__ = True
        return self._require(self.exit_code == 0, f"the exit code is {self.exit_code}, expected 0")

    def assert_failed(self, code: int | None = None, error: str = "") -> Self:
        """Fail unless the exit code is `code`, any but 0 when ``None``, and standard error contains `error`."""
        __tracebackhide__ = True
        expected = "any but 0" if code is None else code
        fits = self.exit_code != 0 if code is None else self.exit_code == code
        self._require(fits, f"the exit code is {self.exit_code}, expected {expected}")
        return self._require(error in self.stderr, f"standard error does not contain {error!r}")

    def fnmatch_lines(self, patterns: str | Sequence[str]) -> Self:
        """Fail unless standard output has lines that match `patterns` (``*``, ``?``) in this order, others between."""
        __tracebackhide__ = True
        lines = iter(self.stdout.splitlines())
        for pattern in patterns.splitlines() if isinstance(patterns, str) else patterns:
            found = any(fnmatch.fnmatchcase(line.rstrip(), pattern) for line in lines)
            self._require(found, f"no line matches {pattern!r} where it is expected")
        return self

    def no_traceback(self) -> Self:
        """Fail when a traceback was printed."""
        __tracebackhide__ = True
        return self._require(_TRACEBACK not in self.stdout + self.stderr, "a traceback was printed")

    def _require(self, fulfilled: bool, complaint: str) -> Self:
        __tracebackhide__ = True
        if not fulfilled:
            pytest.fail(f"{complaint}\n{self!r}", pytrace=False)
        return self

    def __repr__(self) -> str:
        parts = [f"$ {' '.join(self.command)}", f"exit code {self.exit_code}"]
        for name, text in (("stdout", self.stdout), ("stderr", self.stderr)):
            parts += [f"-- {name} --", text.rstrip()] if text.strip() else []
        return "\n".join(parts)


class FlowTester:
    """Runs ``flow`` in a project directory of its own, with plugins that are written and not installed.

    :ivar path: the project: the working directory of what is run.
    :ivar plugins: where `write_plugin` puts plugins; on ``PYTHONPATH`` of what is run.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     outcome = FlowTester(pathlib.Path(folder)).run("--version")
    >>> outcome.assert_success().stdout.split()[0]
    'flow'
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "project"
        self.plugins = root / "plugins"
        self._home = root / "home"
        for directory in (self.path, self.plugins, self._home):
            directory.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file of the project and return its path; text is dedented, directories are made."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(dedent(content).lstrip("\n"), encoding="utf-8")
        return path

    def write_plugin(
        self,
        module: str,
        source: str,
        *,
        entry_points: Mapping[str, Mapping[str, str]],
        requires: Sequence[str] = ("flow-core>=0.1,<0.2",),
        version: str = "1.0",
        dist: str | None = None,
    ) -> Path:
        """Write a plugin as if it were installed, and return the path of its module.

        :param module: the import name; its distribution is called the same with dashes unless `dist` is given.
        :param entry_points: by group and name: ``{"flow.steps": {"shout": "flow_shout"}}``.
        :param requires: requirements of the distribution.
        """
        name = dist or module.replace("_", "-")
        path = self.plugins / f"{module}.py"
        path.write_text(dedent(source).lstrip("\n"), encoding="utf-8")
        info = self.plugins / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        headers = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        headers += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join([*headers, "", ""]), encoding="utf-8")
        (info / "entry_points.txt").write_text("\n".join(_sections(entry_points)), encoding="utf-8")
        (info / "RECORD").write_text(f"{module}.py,,\n", encoding="utf-8")
        return path

    def run(
        self,
        *arguments: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 60.0,
    ) -> Outcome:
        """Run ``flow`` with `arguments` and return how it ended; fails when it takes more than `timeout` seconds.

        The environment has no ``FLOW_*`` and a home directory of its own; `env` adds to it.
        """
        __tracebackhide__ = True
        return self.run_python("-m", "flow", *arguments, env=env, stdin=stdin, timeout=timeout)

    def run_python(
        self,
        *arguments: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 60.0,
    ) -> Outcome:
        """Run Python in the same surroundings, for programs that use flow as a library."""
        __tracebackhide__ = True
        command = tuple(os.fspath(argument) for argument in arguments)
        shown = ("python", *command)
        try:
            ended = subprocess.run(  # noqa: S603  (runs the arguments of a test)
                [sys.executable, *command],
                cwd=self.path,
                env={**self._environment(), **(env or {})},
                input=stdin,
                capture_output=True,
                encoding="utf-8",
                errors="backslashreplace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            late = Outcome(shown, -1, _text(error.stdout), _text(error.stderr))
            pytest.fail(f"the program did not end within {timeout:g} s\n{late!r}", pytrace=False)
        return Outcome(shown, ended.returncode, ended.stdout, ended.stderr)

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.fullmatch(name)}
        own = {
            "HOME": str(self._home),
            "PYTHONPATH": str(self.plugins),
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "200",  # a table that is cut off matches no pattern
            "NO_COLOR": "1",
            "TERM": "dumb",
        }
        return inherited | own


def _sections(entry_points: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    for group, entries in entry_points.items():
        yield f"[{group}]"
        yield from (f"{name} = {value}" for name, value in entries.items())
        yield ""


def _text(output: str | bytes | None) -> str:
    return output.decode("utf-8", "backslashreplace") if isinstance(output, bytes) else output or ""
