"""``flow plugins new``: writes a plugin package that works, with tests that pass, to be changed into another."""

from __future__ import annotations

import ast
import builtins
import datetime
import json
import keyword
import re
import shlex
import shutil
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from string import Template

import typer

from .._discovery import Catalogue, PluginKind
from .._packages import CORE, canonical, installed_version
from .._settings import Settings, did_you_mean
from ..errors import ConfigurationError

KINDS = ("step", "state", "cache", "tracer", "validator", "policy", "engine", "command")
"""What can be written; a directory of templates each."""

_TEMPLATES = Path(__file__).with_name("templates")
_RESERVED = ("core", "testkit", "conformance")  # two packages that exist, and a file among the generated ones
_FILES = {
    "pyproject.toml": "package/pyproject.toml",
    "README.md": "package/README.md",
    "LICENSE": "package/LICENSE",
    "tox.ini": "package/tox.ini",
    ".gitignore": "package/gitignore",
    "src/$module/__init__.py": "$kind/plugin.py",
    "tests/test_conformance.py": "$kind/test_conformance.py",
    "tests/test_$identifier.py": "$kind/test_plugin.py",
}


def new(name: str, kind: str = "step", directory: Path | None = None) -> Path:
    """Write the package ``flow-NAME`` into `directory`, the current one by default, and return where it is.

    The package appears as a whole or not at all. Raises `ConfigurationError` for a name that cannot be that of a
    package and of Python code, an unknown kind, and a place that is taken or cannot be written.
    """
    words = _words(name, kind)
    files = _rendered(words)
    _check_names(files[f"src/{words['module']}/__init__.py"], words)
    directory = Path() if directory is None else directory
    target = directory / words["dist"]
    if not directory.is_dir():
        raise ConfigurationError(f"there is no directory {directory}")
    if target.exists():
        raise ConfigurationError(f"{target} exists already", hint="Choose another name or --directory")
    try:
        _write(files, target)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {target}: a plugin ({kind}) that works, with tests. Try it, then make it yours:")
    typer.echo(f"  cd {shlex.quote(str(target))}\n  tox                  # or: pip install -e . --group test && pytest")
    return target


def _words(name: str, kind: str) -> dict[str, str]:
    """Return what the placeholders of the templates stand for."""
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) or f"The kinds are {', '.join(KINDS)}"
        raise ConfigurationError(f"{kind!r} is not a kind of plugin that can be written", hint=hint)
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        hint = "Use ASCII letters, digits and '-', such as word-count"
        raise ConfigurationError(f"{name!r} cannot be the name of a package", hint=hint)
    short = canonical(name).removeprefix("flow-")
    identifier = short.replace("-", "_")
    if not identifier.isidentifier() or keyword.iskeyword(identifier) or short in _RESERVED:
        hint = "It becomes the name of a Python function: begin it with a letter and use no word that is taken"
        raise ConfigurationError(f"a plugin cannot be called {short!r}", hint=hint)
    if Catalogue(Settings(), only=[]).find(PluginKind.parse(kind), short) is not None:
        raise ConfigurationError(f"{kind} {short!r} is one of flow's own", hint="Choose another name")
    return {
        "kind": kind,
        "name": short,
        "dist": f"flow-{short}",
        "module": f"flow_{identifier}",
        "identifier": identifier,
        "class_name": "".join(part.capitalize() for part in short.split("-")),
        "range": _compatible_range(installed_version(CORE) or "0.1"),
        "year": str(datetime.datetime.now(datetime.UTC).year),
    }


def _compatible_range(version: str) -> str:
    """Return the range of kernels that a plugin written for `version` works with.

    >>> _compatible_range("0.1.3"), _compatible_range("2.4")
    ('>=0.1,<0.2', '>=2.4,<3')
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    return f">={major}.{minor},<{major + 1}" if major else f">=0.{minor},<0.{minor + 1}"


def _rendered(words: dict[str, str]) -> dict[str, str]:
    """Return the files of the package by path."""
    about = tomllib.loads(_template(f"{words['kind']}/about.toml").substitute(words))
    requirements = [f"{CORE}{words['range']}", *about.pop("dependencies")]
    words = words | {key: text.strip() for key, text in about.items()}
    words["dependencies"] = ", ".join(json.dumps(requirement) for requirement in requirements)
    files = {
        Template(path).substitute(words): _template(Template(source).substitute(words)).substitute(words)
        for path, source in _FILES.items()
    }
    return {**files, f"src/{words['module']}/py.typed": ""}


def _template(name: str) -> Template:
    return Template((_TEMPLATES / f"{name}.tmpl").read_text(encoding="utf-8"))


def _check_names(source: str, words: dict[str, str]) -> None:
    """Refuse a name that would hide something the generated module needs."""
    names: Counter[str] = Counter()
    for node in ast.parse(source).body:
        match node:
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names.update(alias.asname or alias.name for alias in aliases)
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
                names[name] += 1
    taken = [name for name, count in names.items() if count > 1 or name in vars(builtins)]
    if taken:
        hint = "Choose another name"
        raise ConfigurationError(
            f"a {words['kind']} plugin cannot be called {words['name']!r}: Python code that uses "
            f"it needs the name {taken[0]} for something else",
            hint=hint,
        )


def _write(files: dict[str, str], target: Path) -> None:
    """Write all files beside `target` and move them there at once, so that nothing half-written is ever left."""
    staging = Path(tempfile.mkdtemp(prefix=".flow-new-", dir=target.parent))
    try:
        for name, text in files.items():
            path = staging / target.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        (staging / target.name).rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
