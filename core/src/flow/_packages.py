"""Distributions: the part of their metadata that plugins are judged by."""

from __future__ import annotations

import functools
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from packaging.requirements import Requirement

CORE = "flow-core"
"""The kernel's own distribution: its plugins can be blocked and replaced like everybody's."""


def canonical(name: str) -> str:
    """Return a distribution name as package indexes compare it.

    >>> canonical("Flow_Shout")
    'flow-shout'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


@attrs.frozen
class Unmet:
    """A requirement that is not fulfilled; ``installed`` is the version that is there, ``None`` for none."""

    name: str
    requirement: str
    installed: str | None

    def __str__(self) -> str:
        fact = "which is not installed" if self.installed is None else f"installed is {self.installed}"
        return f"{self.requirement}, {fact}"


@attrs.frozen
class Package:
    """Name, version, requirements and summary of a distribution."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    summary: str = ""

    @classmethod
    def of(cls, dist: Distribution | None) -> Package:
        """Read the metadata; a distribution without any is called ``?``."""
        text = (dist.read_text("METADATA") or dist.read_text("PKG-INFO") or "") if dist is not None else ""
        headers: dict[str, list[str]] = {}
        # Distribution.metadata parses the long description too, ten times slower: it shows with thirty plugins.
        for line in text.partition("\n\n")[0].splitlines():
            name, _, value = line.partition(": ")
            headers.setdefault(name.lower(), []).append(value.strip())
        name, version = headers.get("name", ["?"])[0], headers.get("version", ["?"])[0]
        summary = headers.get("summary", [""])[0]
        return cls(name, version, tuple(headers.get("requires-dist", ())), summary)

    def unmet(self, name: str = "") -> list[Unmet]:
        """Return the requirements that are not fulfilled; only those on the distribution `name` when it is given."""
        faults: list[Unmet] = []
        for text in self.requires:
            if not canonical(text).startswith(name):
                continue
            requirement = _requirement(text)
            if requirement is None:
                faults.append(Unmet(text, text, None))
                continue
            if (requirement.marker and not requirement.marker.evaluate({"extra": ""})) or (
                name and canonical(requirement.name) != name
            ):
                continue
            version = installed_version(canonical(requirement.name))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                faults.append(Unmet(requirement.name, f"{requirement.name}{requirement.specifier}", version))
        return faults

    def absent(self) -> list[Unmet]:
        """Return the requirements of which no version is installed, the kernel's own distribution aside."""
        return [fault for fault in self.unmet() if fault.installed is None and canonical(fault.name) != CORE]


@functools.cache
def _requirement(text: str) -> Requirement | None:
    from packaging.requirements import InvalidRequirement, Requirement  # here: costs 8 ms that most commands save

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def installed_version(name: str) -> str | None:
    """Return the version of the installed distribution `name`, or ``None``."""
    return _version_on(tuple(sys.path), name)


@functools.cache
def _version_on(path: tuple[str, ...], name: str) -> str | None:
    try:
        return Package.of(distribution(name)).version
    except PackageNotFoundError:
        return None
