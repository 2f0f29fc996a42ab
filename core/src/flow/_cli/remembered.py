"""The app of a stored run: remembered when the run begins, and used again only where it may be.

Whoever can write to a store must not thereby choose what is imported. A remembered app is therefore used only when
its file lies inside the working directory; any other has to be named by the user.
"""

from __future__ import annotations

from pathlib import Path

from .._protocols import RunRecord
from ..errors import ConfigurationError
from .target import is_path, shown, split_target
from .wording import one_line, quoted

KEY = "app"
"""Under which the app stands in `RunRecord.metadata`."""


def to_remember(target: str) -> str:
    """Return `target` as it is stored: a file with its absolute path, a module as it was typed."""
    place, name = split_target(target)
    return f"{Path(place).resolve()}{f':{name}' if name else ''}" if is_path(place) else target


def app_of(record: RunRecord) -> str:
    """Return the target to load for a run, as the user would type it here.

    Raises `ConfigurationError` when the run remembers none, or one that lies outside the working directory.
    """
    target = record.metadata.get(KEY)
    if not target:
        raise ConfigurationError(
            f"run {record.run_id} does not say which app it belongs to (its pipeline is {one_line(record.pipeline)!r})",
            hint="Name the app: --app app.py",
        )
    place, name = split_target(target)
    found = _inside(place)
    if found is None:
        raise ConfigurationError(
            f"run {record.run_id} belongs to {one_line(target)}, which is no Python file in the working directory",
            hint=f"Nothing else is imported because a store says so. If you trust it, add: --app {quoted(target)}",
        )
    return f"{found}{f':{name}' if name else ''}"


def is_inside(target: str) -> bool:
    """Tell whether a run of `target` finds its app again in this directory without being told."""
    return _inside(split_target(target)[0]) is not None


def _inside(place: str) -> str | None:
    """Return what to load: the file, or the module, when it is a file inside the working directory."""
    here = Path.cwd().resolve()
    if "\0" in place:
        return None
    if is_path(place):
        path = Path(place).resolve()
        inside = path.suffix == ".py" and path.is_relative_to(here) and path.is_file()
        return shown(str(path)) if inside else None
    base = here.joinpath(*place.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file() and path.resolve().is_relative_to(here):
            return place
    return None
