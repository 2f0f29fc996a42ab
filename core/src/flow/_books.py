"""What a stored run has spent, by path: so that nothing is lost or counted twice however often the run is resumed."""

from __future__ import annotations

from collections.abc import Iterator

from ._usage import NO_USAGE, Usage


def is_below(path: str, above: str | None) -> bool:
    """Tell whether `path` is `above` or inside it."""
    return above is not None and (path == above or path.startswith(f"{above}/"))


class Books:
    """What each record says that was spent beside the records inside it, and the sums of that for every path.

    A step that is executed again does not know which of the steps inside it will be, too: so each record accounts
    only for what no other record accounts for.
    """

    __slots__ = ("_own", "_totals")

    def __init__(self) -> None:
        self._own: dict[str, Usage] = {}
        self._totals: dict[str, Usage] = {}

    def total(self, path: str) -> Usage:
        """Return what was spent at and below `path`; `""` is the whole run."""
        return self._totals.get(path, NO_USAGE)

    def settle(self, path: str, spent: Usage) -> Usage:
        """Note that `spent` is what was spent at and below `path` by now; return the part that is its own."""
        own = spent - self.total(path) + self._own.get(path, NO_USAGE)
        self.note(path, own)
        return own

    def note(self, path: str, own: Usage) -> None:
        """Note what was spent at `path` beside what is noted below it."""
        change = own - self._own.get(path, NO_USAGE)
        if change:
            self._own[path] = own
            for place in _places(path):
                self._totals[place] = self.total(place) + change

    def forget(self, path: str) -> None:
        """Take out what was spent at `path` itself."""
        if path in self._own:
            self.note(path, NO_USAGE)
            del self._own[path]

    def below(self, path: str) -> list[str]:
        """Return the paths inside `path` at which something was spent."""
        return [inner for inner in self._own if inner.startswith(f"{path}/")]


def _places(path: str) -> Iterator[str]:
    """Yield a path, everything that encloses it, and the run."""
    yield path
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
    yield ""
