"""Discovery: which plugins are installed, from metadata alone. Nothing here imports a plugin."""

from __future__ import annotations

import enum
import functools
import importlib.metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ._packages import CORE, Package, canonical
from ._settings import Settings, did_you_mean, read_toml
from .errors import ConfigurationError, PluginError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


class PluginKind(enum.StrEnum):
    """What a plugin contributes; one entry-point group each.

    >>> PluginKind.STEPS.group
    'flow.steps'
    """

    STEPS = "steps"
    DSL = "dsl"
    POLICIES = "policies"
    STATE = "state"
    CACHE = "cache"
    TRACERS = "tracers"
    VALIDATORS = "validators"
    RENDERERS = "renderers"
    ENGINES = "engines"
    COMMANDS = "commands"

    @property
    def group(self) -> str:
        """The entry-point group."""
        return f"flow.{self.value}"

    @property
    def hook(self) -> str | None:
        """The hook that a plugin of this kind must implement; empty when any will do, ``None`` for plain objects."""
        return _HOOKS.get(self)

    @classmethod
    def parse(cls, word: str) -> PluginKind:
        """Return the kind called `word`, singular or plural; raises `ConfigurationError` when there is none."""
        for kind in cls:
            if word in (kind.value, kind.singular):
                return kind
        hint = did_you_mean(word, [kind.value for kind in cls]) or f"The kinds are {', '.join(cls)}"
        raise ConfigurationError(f"{word!r} is not a kind of plugin", hint=hint)

    @property
    def singular(self) -> str:
        """The word for one plugin of this kind."""
        return {"policies": "policy", "dsl": "dsl"}.get(self.value, self.value.removesuffix("s"))


_HOOKS = {
    PluginKind.STEPS: "flow_bind_step",
    PluginKind.POLICIES: "",
    PluginKind.STATE: "flow_open_state",
    PluginKind.CACHE: "flow_open_cache",
    PluginKind.TRACERS: "flow_open_tracer",
    PluginKind.ENGINES: "flow_open_engine",
}
_ORDER = {kind: position for position, kind in enumerate(PluginKind)}
_BY_GROUP = {kind.group: kind for kind in PluginKind}
_WORDS = {
    PluginKind.STEPS: "step kind",
    PluginKind.POLICIES: "policy set",
    PluginKind.STATE: "state URL scheme",
    PluginKind.CACHE: "cache URL scheme",
    PluginKind.RENDERERS: "graph format",
}


class PluginState(enum.StrEnum):
    """Where a plugin stands."""

    AVAILABLE = "available"
    LOADED = "loaded"
    BLOCKED = "blocked"
    INCOMPATIBLE = "incompatible"
    FAILED = "failed"
    SHADOWED = "shadowed"


@attrs.frozen
class PluginStatus:
    """A contribution and its state, as ``flow plugins list`` shows them; reason and cure when something is wrong."""

    name: str
    kind: PluginKind
    dist: str
    version: str
    state: PluginState
    reason: str = ""
    provides: tuple[str, ...] = ()
    cure: str = ""


@attrs.frozen
class Verdict:
    """What metadata says about a contribution."""

    state: PluginState = PluginState.AVAILABLE
    reason: str = ""
    cure: str = ""


@attrs.frozen
class Contribution:
    """One entry point of one distribution."""

    kind: PluginKind
    name: str
    package: Package
    entry: EntryPoint = attrs.field(eq=False)

    @property
    def dist(self) -> str:
        """The name of the distribution."""
        return self.package.name

    @property
    def qualified(self) -> str:
        """Kind and name, such as ``steps:loop``: what it is registered and can be blocked as."""
        return f"{self.kind}:{self.name}"

    @property
    def is_default(self) -> bool:
        """Whether it is one of the kernel's own."""
        return canonical(self.dist) == CORE

    def answers_to(self, names: Collection[str]) -> str | None:
        """Return the one of `names` that means this contribution: entry point, distribution or ``kind:name``."""
        own = (self.name, self.qualified, canonical(self.dist))
        return next((name for name in names if name in own or canonical(name) == own[2]), None)


class Catalogue:
    """What is installed, and what the settings and the metadata say about it.

    :param only: the distributions or plugins to see beside the kernel's own; ``None`` for all.
    :param entry_points: what to look through instead of the installed distributions.
    """

    def __init__(
        self, settings: Settings, only: Collection[str] | None = None, entry_points: Iterable[EntryPoint] | None = None
    ) -> None:
        self._settings = settings
        self._only = only
        self._entry_points = entry_points
        self._verdicts: dict[Contribution, Verdict] = {}

    @functools.cached_property
    def contributions(self) -> list[Contribution]:
        """Every contribution, ordered by kind, name and distribution."""
        found: list[Contribution] = []
        for package, entry in _installed() if self._entry_points is None else _given(self._entry_points):
            if (kind := _BY_GROUP.get(entry.group)) is not None:
                contribution = Contribution(kind, entry.name, package, entry)
                if self._only is None or contribution.is_default or contribution.answers_to(self._only):
                    found.append(contribution)
        return sorted(found, key=lambda item: (_ORDER[item.kind], item.name, canonical(item.dist)))

    @functools.cached_property
    def _claims(self) -> dict[tuple[PluginKind, str], list[Contribution]]:
        claims: dict[tuple[PluginKind, str], list[Contribution]] = {}
        for item in self.contributions:
            claims.setdefault((item.kind, item.name), []).append(item)
        return claims

    def find(self, kind: PluginKind, name: str) -> Contribution | None:
        """Return who provides `name`: a third party before the kernel, the first in the alphabet of several.

        What is blocked or incompatible is returned only when nobody else claims the name.
        """
        claimants = sorted(self._claims.get((kind, name), ()), key=lambda item: item.is_default)
        usable = (item for item in claimants if self._exclusion(item) is None)
        return next(usable, claimants[0] if claimants else None)

    def named(self, word: str) -> list[Contribution]:
        """Return what `word` means: entry point, distribution or ``kind:name``; `PluginError` when it is nothing."""
        if found := [item for item in self.contributions if item.answers_to([word])]:
            return found
        known = {name for item in self.contributions for name in (item.name, item.dist)}
        hint = did_you_mean(word, known) or "See flow plugins list --all"
        raise PluginError(f"no plugin is called {word!r}", hint=hint)

    def rivals(self, contribution: Contribution) -> list[Contribution]:
        """Return the other third parties that claim the same name and could have it."""
        claimants = self._claims[contribution.kind, contribution.name]
        return [
            item for item in claimants if item != contribution and not item.is_default and self._exclusion(item) is None
        ]

    def verdict(self, contribution: Contribution) -> Verdict:
        """Say whether `contribution` may be loaded, and if not, why and what helps."""
        if (exclusion := self._exclusion(contribution)) is not None:
            return exclusion
        winner = self.find(contribution.kind, contribution.name)
        if winner is None or winner == contribution:
            return Verdict()
        if contribution.is_default:
            reason = f"replaced by {winner.dist}"
            return Verdict(PluginState.SHADOWED, reason, f"flow plugins block {winner.dist} restores it")
        reason = f"{winner.dist} provides {contribution.qualified} too and goes first in the alphabet"
        cure = f"pip uninstall {contribution.dist}, or flow plugins block {winner.dist} to use this one"
        return Verdict(PluginState.SHADOWED, reason, cure)

    def _exclusion(self, item: Contribution) -> Verdict | None:
        if item not in self._verdicts:
            self._verdicts[item] = self._blocked(item) or _incompatible(item) or Verdict()
        verdict = self._verdicts[item]
        return None if verdict.state is PluginState.AVAILABLE else verdict

    def _blocked(self, item: Contribution) -> Verdict | None:
        settings = self._settings
        if name := item.answers_to(settings.block):
            origin = settings.origins.get("plugins.block", "the configuration")
            from_file = settings.source is not None and origin == str(settings.source)
            cure = f"flow plugins unblock {name}" if from_file else f"take {name} out of {origin}"
            return Verdict(PluginState.BLOCKED, f"{origin} names {name}", cure)
        if settings.allow is None or item.is_default or item.answers_to(settings.allow):
            return None
        origin = settings.origins.get("plugins.allow", "the configuration")
        return Verdict(PluginState.BLOCKED, f"{origin} does not allow it", f"add {item.name} to it")

    def cure(self, contribution: Contribution) -> str:
        """Return the commands that get a broken plugin out of the way."""
        if contribution.is_default:
            return f"pip install --force-reinstall {CORE}"
        same_name = [item for item in self.contributions if item.name == contribution.name]
        unique = all(item.dist == contribution.dist for item in same_name)
        # Blocking by name would hit whoever else has the name, such as the default that a broken plugin replaces.
        name = contribution.name if unique else contribution.dist
        return f"flow plugins block {name}, or pip uninstall {contribution.dist}"

    def missing(self, kind: PluginKind, name: str) -> PluginError:
        """Return the error for a name that nobody provides: who could, or what may have been meant."""
        subject = {PluginKind.DSL: f"Step.{name}", PluginKind.COMMANDS: f"flow {name}"}.get(kind)
        word = _WORDS.get(kind, kind.singular)
        if provider := provider_of(kind, name):
            return PluginError(f"{subject or f'{word} {name!r}'} comes from {provider}", hint=f"pip install {provider}")
        message = f"there is no {subject}" if subject else f"no installed plugin provides the {word} {name!r}"
        known = {item.name for item in self.contributions if item.kind is kind}
        listing = "See flow --help" if kind is PluginKind.COMMANDS else f"See flow plugins list --all --kind {kind}"
        return PluginError(message, hint=did_you_mean(name, known) or listing)


def _installed() -> Iterator[tuple[Package, EntryPoint]]:
    seen: set[str] = set()
    for dist in importlib.metadata.distributions():
        if "flow." not in (dist.read_text("entry_points.txt") or ""):
            continue
        package = Package.of(dist)
        if canonical(package.name) not in seen:  # the first on sys.path is the one that is imported
            seen.add(canonical(package.name))
            yield from ((package, entry) for entry in dist.entry_points)


def _given(entries: Iterable[EntryPoint]) -> Iterator[tuple[Package, EntryPoint]]:
    return ((Package.of(entry.dist), entry) for entry in entries)


def _incompatible(item: Contribution) -> Verdict | None:
    conflicts = [] if item.is_default else item.package.unmet(CORE)
    # A kernel that runs from a source tree has no version to compare with.
    if not conflicts or conflicts[0].installed is None:
        return None
    return Verdict(PluginState.INCOMPATIBLE, f"needs {conflicts[0]}", f"pip install -U {item.dist} {CORE}")


def provider_of(kind: PluginKind, name: str) -> str | None:
    """Return the first-party distribution that provides `name` when it is installed, or ``None``."""
    return _install_hints().get(kind.value, {}).get(name)


@functools.cache
def _install_hints() -> dict[str, dict[str, str]]:
    return read_toml(Path(__file__).with_name("install_hints.toml"))
