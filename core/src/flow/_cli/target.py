"""What a command line names, ``app.py:pipeline``: imports the file and finds what can be run in it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from .._flow import Flow
from .._pipeline import Pipeline
from .._settings import did_you_mean
from .._step import BaseStep
from ..errors import ConfigurationError, FlowError

_RUNNABLE = (Flow, Pipeline, BaseStep)
_PREFERRED = ("flow", "pipeline", "main")


def load_flow(target: str) -> Flow[Any, Any]:
    """Import ``app.py[:name]`` or ``package.module[:name]`` and return the flow it means.

    A `Flow` is used as it is; a step or pipeline is put into a new one. Without a name: what is called ``flow``,
    ``pipeline`` or ``main``, in this order, or else the only flow, the only pipeline, or the only step there is.
    Raises `ConfigurationError` when the file cannot be read or imported, or when it is not clear what is meant.
    """
    place, name = split_target(target)
    module = _import_file(place) if is_path(place) else _import_module(place)
    found = _chosen(module, place, name)
    return found if isinstance(found, Flow) else Flow(found)


def split_target(target: str) -> tuple[str, str | None]:
    """Return the file or module that `target` names, and the name in it, if there is one."""
    place, colon, name = target.rpartition(":")
    if colon and name.isidentifier():
        return place, name
    if colon and not name:
        raise ConfigurationError(f"{target!r} names nothing after the colon", hint="Write it like app.py:pipeline")
    return target, None  # a drive letter, or no colon at all


def is_path(place: str) -> bool:
    """Tell whether `place` means a file and not a module."""
    parts = place.split(".")
    return parts[-1] == "py" or Path(place).exists() or not all(part.isidentifier() for part in parts)


# -- importing -----------------------------------------------------------------------------------------------------


def _import_file(place: str) -> ModuleType:
    path = Path(place)
    if not path.is_file():
        what = "is a directory, not a Python file" if path.is_dir() else "does not exist"
        near = did_you_mean(path.name, [other.name for other in path.parent.glob("*.py")])
        raise ConfigurationError(f"{place} {what}", hint=near or "Name a Python file or module, such as app.py")
    if path.suffix != ".py":
        raise ConfigurationError(f"{place} is not a Python file", hint="Name a file that ends in .py")
    path = path.resolve()
    # As `python app.py` does: modules beside the file can be imported.
    _search_first(path.parent)
    name = f"{path.stem}_app" if _is_taken(path) else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # noqa: S101  a .py file has a loader
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _import_failure(place, error) from error
    return module


def _is_taken(path: Path) -> bool:
    """Tell whether a file is called like another module: json.py, or even flow.py; that one stays what it is.

    Not only when that one is loaded already: the name is part of what identifies a pipeline when a run is resumed.
    """
    if path.stem in sys.modules or path.stem in sys.stdlib_module_names:
        return True
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != path.parent]
    found = PathFinder.find_spec(path.stem, elsewhere)
    return found is not None and found.origin is not None


def _import_module(name: str) -> ModuleType:
    _search_first(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _import_failure(name, error) from error
        hint = "Name a Python file or module, such as app.py"
        raise ConfigurationError(f"there is no file or module {name!r}", hint=hint) from error
    except (Exception, SystemExit) as error:
        raise _import_failure(name, error) from error


def _search_first(directory: Path) -> None:
    if str(directory) not in sys.path[:1]:
        sys.path.insert(0, str(directory))


@contextmanager
def imported_apart() -> Iterator[None]:
    """Forget afterwards what was imported from beside an app: the next one may have modules with the same names."""
    path, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        # What is installed keeps its place, also when it is installed below the directory of the app.
        installed = {*path, sys.prefix} - {"", str(Path.cwd())}
        # A namespace package asks the one that it is in where it lies: those deeper inside are looked at first.
        for name in sorted(set(sys.modules) - modules, key=lambda name: name.count("."), reverse=True):
            found = vars(sys.modules[name])
            file = Path(found.get("__file__") or next(iter(found.get("__path__") or ()), "/"))
            homes = [entry for entry in {*installed, *sys.path} if file.is_relative_to(entry or ".")]
            if homes and max(homes, key=len) not in installed:
                del sys.modules[name]
        sys.path[:] = path


def _import_failure(place: str, error: BaseException) -> ConfigurationError:
    """Say in one line what is wrong with the user's module and where: its line, and the line that raised."""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{shown(error.filename)}, line {error.lineno}, column {error.offset}"
        return ConfigurationError(f"{where}: {type(error).__name__}: {error.msg}")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_of_the_user(frame.filename)]
    own = f"{shown(frames[0].filename)}, line {frames[0].lineno}" if frames else place
    deeper = ""
    if frames and frames[-1].filename != frames[0].filename:
        deeper = f" (raised in {shown(frames[-1].filename)}, line {frames[-1].lineno})"
    if isinstance(error, FlowError):
        return ConfigurationError(f"{own}: {error.message}", hint=error.hint)
    hint = None
    if isinstance(error, ModuleNotFoundError):
        hint = f"Is it installed for {sys.executable}?"
    if isinstance(error, SystemExit):
        hint = 'Put what only a program does under: if __name__ == "__main__"'
    text = " ".join(str(error).split())
    return ConfigurationError(f"{own}: {type(error).__name__}: {text:.300}{deeper}", hint=hint)


def _is_of_the_user(filename: str) -> bool:
    kernel = Path(__file__).parents[1]
    importers = ("<frozen ", importlib.__file__)
    return not filename.startswith(importers) and kernel not in Path(filename).parents


def shown(filename: str) -> str:
    """Return the path of a file as it is best read: relative when it lies inside the working directory."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


# -- choosing ------------------------------------------------------------------------------------------------------


def _chosen(module: ModuleType, place: str, name: str | None) -> Any:
    there = vars(module)
    candidates = dict(_candidates(module))
    listing = ", ".join(f"{label} ({type(value).__name__})" for label, value in candidates.items())
    if name is not None:
        if isinstance(there.get(name), _RUNNABLE):
            return there[name]
        is_what = f"{name} is of type {type(there[name]).__name__}" if name in there else f"there is no {name}"
        hint = did_you_mean(name, candidates) or (f"There are {listing}" if listing else None)
        raise ConfigurationError(f"{place}: {is_what}; a flow, pipeline or step is needed", hint=hint)
    for preferred in _PREFERRED:
        if isinstance(there.get(preferred), _RUNNABLE):
            return there[preferred]
    for kind in _RUNNABLE:
        of_kind = [value for value in candidates.values() if isinstance(value, kind)]
        if len(of_kind) == 1:
            return of_kind[0]
        if of_kind:
            hint = f"Name one, such as {place}:{next(iter(candidates))}, or call it pipeline"
            raise ConfigurationError(f"{place} holds more than one thing that can be run: {listing}", hint=hint)
    hint = "At the top level, write something like: pipeline = first_step >> second_step"
    raise ConfigurationError(f"{place} holds no flow, pipeline or step", hint=hint)


def _candidates(module: ModuleType) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for name, value in vars(module).items():
        if isinstance(value, _RUNNABLE) and not name.startswith("_") and id(value) not in seen:
            seen.add(id(value))
            yield name, value
