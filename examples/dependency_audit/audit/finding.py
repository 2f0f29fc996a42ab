"""Finding what is installed, by the folders that installers leave behind."""

from __future__ import annotations

import configparser
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from audit.disk import Reader
from audit.models import EntryPoint, Installation
from flow import StepFailed

_FOLDER = re.compile(r"(?P<name>.+?)(-(?P<version>[^-]+))?(-py[\d.]+)?\.(dist|egg)-info")


class NothingToAudit(StepFailed):
    """What the request names is not there."""


def find_installations(paths: Sequence[Path], reader: Reader) -> tuple[Installation, ...]:
    """Return every distribution in `paths`, or where this Python looks when there are none, sorted by name.

    Raises `NothingToAudit` for a path that does not exist and when nothing is installed.
    """
    found: dict[str, list[Installation]] = defaultdict(list)
    for folder in _folders(paths):
        installation = _installation(folder, reader)
        found[installation.name].append(installation)
    if not found:
        raise NothingToAudit(f"no distributions in {', '.join(map(str, paths)) or 'sys.path'}")
    return tuple(_compared(found))


def chosen(found: Iterable[Installation], only: Iterable[str]) -> tuple[Installation, ...]:
    """Return those that `only` names, all of them when that is empty; raises `NothingToAudit`."""
    names = {canonicalize_name(name) for name in only}
    kept = tuple(i for i in found if not names or i.name in names)
    if missing := sorted(names - {installation.name for installation in kept}):
        raise NothingToAudit(f"not installed: {', '.join(missing)}")
    return kept


def search_path(paths: Sequence[Path]) -> list[Path]:
    """Return the folders that modules are looked for in: `paths`, or those of this Python."""
    return list(dict.fromkeys(path.resolve() for path in paths or map(Path, filter(None, sys.path))))


def _folders(paths: Sequence[Path]) -> Iterator[Path]:
    for path in search_path(paths):
        if path.is_dir():
            yield from sorted(f for f in path.glob("*-info") if _FOLDER.fullmatch(f.name) and f.is_dir())
        elif paths:  # sys.path may well name folders that do not exist
            raise NothingToAudit(f"there is no folder {path}")


def _installation(folder: Path, reader: Reader) -> Installation:
    named = _FOLDER.fullmatch(folder.name)
    assert named is not None, folder
    entry_points: tuple[EntryPoint, ...] = ()
    error = None
    file = folder / "entry_points.txt"
    if file.exists():
        try:
            entry_points = tuple(_entry_points(reader.read(file).decode()))
        except (configparser.Error, UnicodeDecodeError) as unreadable:
            error = str(unreadable).partition("\n")[0]
    return Installation(
        name=canonicalize_name(named["name"]),
        version=named["version"] or "",
        folder=folder,
        entry_points=entry_points,
        entry_points_error=error,
    )


def _entry_points(text: str) -> Iterator[EntryPoint]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    parser.read_string(text)
    for group in parser.sections():
        for name, value in parser.items(group):
            yield EntryPoint(group=group, name=name, value=value)


def _compared(found: Mapping[str, list[Installation]]) -> Iterator[Installation]:
    """Add to each installation what others have in common with it: the name, or the name of an entry point."""
    offered: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, (first, *_) in found.items():
        for entry_point in first.entry_points:
            offered[entry_point.group, entry_point.name].add(name)
    for name, (first, *others) in sorted(found.items()):
        entry_points = tuple(
            point.model_copy(update={"rivals": tuple(sorted(offered[point.group, point.name] - {name}))})
            for point in first.entry_points
        )
        twins = tuple(f"{other.version or 'unknown version'} in {other.folder.parent}" for other in others)
        yield first.model_copy(update={"entry_points": entry_points, "twins": twins})
