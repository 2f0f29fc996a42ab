"""Looking into one distribution: its metadata, its licence files, its files on disk, its ties to others."""

from __future__ import annotations

import base64
import csv
import enum
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import attrs
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from audit.disk import Reader
from audit.models import Described, EntryPoint, Installation, Integrity, Metadata, Wiring
from flow import StepFailed

_LICENCE_FILE = re.compile(r"(un)?licen[cs]e|copying", re.IGNORECASE)
_MOST_LICENCE_FILES = 4


class MetadataUnusable(StepFailed):
    """A distribution does not even say what it is."""


# -- metadata ----------------------------------------------------------------------------------------------------------


def read_core_metadata(installation: Installation, reader: Reader) -> Metadata:
    """Return what the metadata file says; raises `MetadataUnusable` when there is none, or one without a name."""
    folder = installation.folder
    file = folder / ("METADATA" if folder.suffix == ".dist-info" else "PKG-INFO")
    try:
        raw, _ = parse_email(reader.read(file))
    except FileNotFoundError:
        raise MetadataUnusable(f"there is no {file.name} in {folder}") from None
    if not raw.get("name") or not raw.get("version"):
        raise MetadataUnusable(f"{file} states no name or no version")
    return Metadata(
        name=raw["name"],
        version=raw["version"],
        metadata_version=raw.get("metadata_version", ""),
        summary=raw.get("summary", ""),
        licence_expression=raw.get("license_expression", ""),
        licence_field=raw.get("license", ""),
        classifiers=tuple(raw.get("classifiers", ())),
        requires=tuple(raw.get("requires_dist", ())),
        requires_python=raw.get("requires_python", ""),
        editable=_is_editable(folder / "direct_url.json", reader),
        installed_on=_day_of(file),
    )


def is_consistent(known: Described) -> tuple[bool, str]:
    """Tell whether folder and metadata name the same thing: an interrupted upgrade leaves them apart."""
    installation, metadata = known.installation, known.metadata
    same = canonicalize_name(metadata.name) == installation.name and _same(installation.version, metadata.version)
    return same, f"{installation.folder.name} holds the metadata of {metadata.name} {metadata.version}"


def _same(left: str, right: str) -> bool:
    try:
        return not left or left == right or Version(left) == Version(right)
    except InvalidVersion:
        return True  # escaped in the name of the folder in ways of its own


def read_licence_files(installation: Installation, reader: Reader) -> Iterator[tuple[str, str]]:
    """Yield name and text of the licence files that were installed beside the metadata."""
    folder = installation.folder
    files = sorted(file for file in folder.rglob("*") if _LICENCE_FILE.search(file.name) and file.is_file())
    for file in files[:_MOST_LICENCE_FILES]:
        yield file.name, reader.read(file).decode(errors="replace")


def _is_editable(direct_url: Path, reader: Reader) -> bool:
    if not direct_url.exists():
        return False
    origin = json.loads(reader.read(direct_url))
    return bool(origin.get("dir_info", {}).get("editable", False))


def _day_of(file: Path) -> date:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC).date()


# -- files -------------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class RecordedFile:
    """A line of RECORD: a file, what it was when it was installed, and its size now, ``None`` when it is gone."""

    name: str
    path: Path
    algorithm: str
    digest: bytes
    recorded_size: int | None
    size: int | None

    @property
    def is_resized(self) -> bool:
        """True when the file has another size than it had; most records say what that was."""
        return None not in (self.size, self.recorded_size) and self.size != self.recorded_size

    @property
    def is_hashable(self) -> bool:
        """True when there is something to compare the content with, and the size has not told already."""
        return bool(self.algorithm) and self.size is not None and not self.is_resized

    def is_changed(self, reader: Reader) -> bool:
        """Read the file and tell whether its content is another one than it was."""
        return reader.digest(self.path, self.algorithm) != self.digest


def compare_files(installation: Installation, reader: Reader) -> tuple[Integrity, int]:
    """Compare files with RECORD: all by presence and size, a sample by hash. Also return the bytes hashed.

    Every day has its own sample, so an audit that runs every day comes to see every file.
    """
    record = installation.folder / "RECORD"
    if not record.exists():
        return Integrity(note="there is no RECORD, so nothing can be compared"), 0
    files = list(_recorded(record.parent.parent, reader.read(record).decode()))
    hashable = [file for file in files if file.is_hashable]
    looked_at = sorted(hashable, key=lambda file: _lot(file, reader.request.today))[: reader.request.sample]
    altered = [file for file in files if file.is_resized]
    altered += [file for file in looked_at if file.is_changed(reader)]
    integrity = Integrity(
        recorded=len(files),
        verified=len(looked_at),
        missing=tuple(sorted(file.name for file in files if file.size is None)),
        altered=tuple(sorted(file.name for file in altered)),
    )
    return integrity, sum(file.size or 0 for file in looked_at)


def _recorded(root: Path, text: str) -> Iterator[RecordedFile]:
    for name, hashed, size in (row for row in csv.reader(text.splitlines()) if len(row) == 3):
        if name.endswith(".pyc"):
            continue  # Python writes these anew as it likes
        algorithm, _, digest = hashed.partition("=")
        yield RecordedFile(
            name=name,
            path=root / name,
            algorithm=algorithm if algorithm in hashlib.algorithms_guaranteed else "",
            digest=_decoded(digest),
            recorded_size=int(size) if size.isdigit() else None,
            size=_size(root / name),
        )


def _lot(file: RecordedFile, day: date) -> bytes:
    """Return the file's place in the order of a day: as good as random, and the same in every run."""
    return hashlib.sha256(f"{day} {file.name}".encode()).digest()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _decoded(digest: str) -> bytes:
    return base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4))


# -- ties to others ----------------------------------------------------------------------------------------------------


def check_wiring(
    installation: Installation, metadata: Metadata, *, installed: Mapping[str, str], search_path: Sequence[Path]
) -> Wiring:
    """Compare what a distribution offers and needs with what is there, without importing anything of it."""
    offered = installation.entry_points
    needs = [_need(text, installed) for text in metadata.requires]
    # An editable installation may bring a finder of its own, which only an import would ask.
    broken = [] if metadata.editable else [point for point in offered if not _has_module(point, search_path)]
    return Wiring(
        entry_points=len(offered),
        requirements=sum(need is not Need.OF_EXTRA for need, _ in needs),
        broken=tuple(f"{point.label} = {point.value}" for point in broken),
        contested=tuple(_contest(point) for point in offered if point.rivals and point.is_script),
        shared=tuple(_contest(point) for point in offered if point.rivals and not point.is_script),
        absent=tuple(text for need, text in needs if need is Need.ABSENT),
        conflicting=tuple(text for need, text in needs if need is Need.CONFLICTING),
    )


class Need(enum.Enum):
    """How a requirement stands."""

    MET = enum.auto()
    OF_EXTRA = enum.auto()
    ABSENT = enum.auto()
    CONFLICTING = enum.auto()


def _need(text: str, installed: Mapping[str, str]) -> tuple[Need, str]:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return Need.CONFLICTING, f"{text} (cannot be read)"
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return Need.OF_EXTRA, text
    wanted = f"{requirement.name}{requirement.specifier}"
    version = installed.get(canonicalize_name(requirement.name))
    if version is None:
        return Need.ABSENT, wanted
    try:
        fits = not version or requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return Need.CONFLICTING, f"{wanted} (cannot be compared with {version})"
    return (Need.MET, wanted) if fits else (Need.CONFLICTING, f"{wanted} ({version} is installed)")


def _has_module(point: EntryPoint, search_path: Sequence[Path]) -> bool:
    *packages, module = point.value.partition(":")[0].partition("[")[0].strip().split(".")
    if not packages and module in sys.stdlib_module_names:
        return True
    folders = (path.joinpath(*packages) for path in search_path)
    return any((folder / module).is_dir() or any(folder.glob(f"{module}.*")) for folder in folders if folder.is_dir())


def _contest(point: EntryPoint) -> str:
    return f"{point.label} (also {', '.join(point.rivals)})"
