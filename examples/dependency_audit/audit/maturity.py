"""Maturity: how far a project is and how fresh its release looks, by what is really written down.

A distribution does not record when it was released, and installers set new dates on its files. What is left is
indirect: each piece of evidence is kept, so that a reader can judge the judgement.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import date

import attrs
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from audit.models import Maturity, Metadata, Stage

_OLD_YEARS = 3
_STATUS = "Development Status :: "
_STAGE_OF_STATUS = {"1": Stage.EARLY, "2": Stage.EARLY, "3": Stage.EARLY, "4": Stage.YOUNG, "7": Stage.ABANDONED}
_PYTHON = re.compile(r"Programming Language :: Python :: 3\.(\d+)")
_PYTHONS_BEHIND = 4  # one comes out every year


@attrs.frozen
class Evidence:
    """Something that is written down, and the stage it speaks for."""

    stage: Stage
    text: str


def judge(metadata: Metadata, today: date) -> Maturity:
    """Judge by status, version, declared Pythons and tools; one sign of age alone does not make a release dated.

    >>> judge(Metadata(name="a", version="0.3", installed_on=date(2026, 1, 2)), date(2026, 2, 3)).evidence
    ('version 0.3 promises no compatibility', 'installed on 2026-01-02')
    """
    evidence = [
        *_of_status(metadata),
        *_of_version(metadata, today),
        *_of_pythons(metadata),
        *_of_tools(metadata),
    ]
    dated = [item for item in evidence if item.stage is Stage.DATED]
    counted = [item.stage for item in evidence if item.stage is not Stage.DATED or len(dated) > 1]
    texts = [item.text for item in evidence]
    if metadata.installed_on is not None:
        texts.append(f"installed on {metadata.installed_on}")
    return Maturity(stage=max(counted, key=lambda stage: stage.rank, default=Stage.SETTLED), evidence=tuple(texts))


def _of_status(metadata: Metadata) -> Iterator[Evidence]:
    for classifier in metadata.classifiers:
        if classifier.startswith(_STATUS):
            number, _, words = classifier.removeprefix(_STATUS).partition(" - ")
            yield Evidence(_STAGE_OF_STATUS.get(number, Stage.SETTLED), f"calls itself {words.lower() or number}")


def _of_version(metadata: Metadata, today: date) -> Iterator[Evidence]:
    try:
        version = Version(metadata.version)
    except InvalidVersion:
        yield Evidence(Stage.DATED, f"version {metadata.version} follows no scheme that tools accept today")
        return
    if version.is_prerelease:
        yield Evidence(Stage.EARLY, f"version {version} is a pre-release")
    if version.major == 0:
        yield Evidence(Stage.YOUNG, f"version {version} promises no compatibility")
    year = _calendar_year(version, today)
    if year is not None:
        stage = Stage.DATED if today.year - year >= _OLD_YEARS else Stage.SETTLED
        yield Evidence(stage, f"version {version} reads like the year {year}")


def _calendar_year(version: Version, today: date) -> int | None:
    """Return the year a version begins with, such as 2024.1 or 24.1; small numbers are just numbers."""
    if 2000 <= version.major <= today.year:
        return version.major
    recent = 2000 + version.major
    return recent if today.year - 8 <= recent <= today.year and version.minor <= 12 else None


def _of_pythons(metadata: Metadata) -> Iterator[Evidence]:
    minors = [int(found[1]) for c in metadata.classifiers if (found := _PYTHON.fullmatch(c))]
    if minors and max(minors) <= sys.version_info.minor - _PYTHONS_BEHIND:
        yield Evidence(Stage.DATED, f"names no Python newer than 3.{max(minors)}")
    try:
        pythons = SpecifierSet(metadata.requires_python)
    except InvalidSpecifier:
        yield Evidence(Stage.DATED, f"Requires-Python {metadata.requires_python} cannot be read")
        return
    if metadata.requires_python and pythons.contains("2.7.18"):
        yield Evidence(Stage.DATED, "still supports Python 2.7")


def _of_tools(metadata: Metadata) -> Iterator[Evidence]:
    try:
        old = Version(metadata.metadata_version) < Version("2.1")
    except InvalidVersion:
        return
    if old:
        yield Evidence(Stage.DATED, f"metadata {metadata.metadata_version}: built with tools from before 2018")
