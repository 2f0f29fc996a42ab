"""Looking through the journals of a store, and saving what is intact of a damaged one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from flow import RunRecord, check_run_id
from flow.errors import ConfigurationError, StateCorrupt, StateError
from flow_file._disk import Disk, state_error
from flow_file._head import FORMAT
from flow_file._index import Index
from flow_file._journal import Journal
from flow_file._leases import Leases
from flow_file._lines import Line, find_all, seal
from flow_file._place import RUNS, Place
from flow_file._records import changed, run_fields, run_record


@attrs.frozen
class Report:
    """What was found in one journal.

    :ivar problem: why it cannot be used; ``None`` when it can.
    :ivar remains: bytes at its end of a write that did not finish, which the next write passes over.
    """

    run_id: str
    problem: str | None = None
    remains: int = 0


def check_store(directory: Path) -> Iterator[Report]:
    """Read every journal of a store and report on each; `ConfigurationError` when it is no store."""
    disk = Disk()
    place = Place(directory.resolve(), disk)
    folders = place.find()
    if folders is None:
        raise ConfigurationError(f"{directory} is no store of flow-file", hint=f"It has no directory {RUNS}")
    try:
        for name in sorted(name for name, _ in disk.names(folders.runs)):
            yield _check(name.removesuffix(".jsonl"), place, disk)
    finally:
        place.close()


def _check(run_id: str, place: Place, disk: Disk) -> Report:
    try:
        journal = Journal(check_run_id(run_id), place, disk, Leases(disk, place), Index(place, disk))
        journal.load()
    except (StateError, ConfigurationError) as error:
        return Report(run_id, str(error))
    return Report(run_id, remains=journal.remains)


@attrs.frozen
class Salvaged:
    """What was saved: lines, steps in them, and how many bytes were passed over."""

    lines: int
    steps: int
    lost: int


def salvage(damaged: Path, new: Path) -> Salvaged:
    """Write a new journal with everything that is intact in a damaged one, which stays as it is.

    `StateCorrupt` when the line that describes the run is lost, `StateError` when a file cannot be read or written,
    `ConfigurationError` when `new` is there already.
    """
    try:
        data = damaged.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{damaged} cannot be read: {error.strerror}") from error
    lines = [line for _, line in find_all(data, 0)]
    run = _last_state(lines)
    if run is None:
        raise StateCorrupt(f"{damaged}: the line that describes the run is lost", hint="Restore the file from a copy")
    steps = [line for line in lines if line.kind == "steps"]
    _write(new, [_first(run), *(_again(line, run.epoch) for line in steps)])
    count = sum(len(line.fields()["steps"]) for line in steps)
    return Salvaged(len(lines), count, len(data) - sum(len(line.text) + 1 for line in lines))


def _last_state(lines: list[Line]) -> RunRecord | None:
    """Return the run after all lines that could be read; nobody owns it, since a claim may be among the others."""
    run: RunRecord | None = None
    for line in lines:
        if line.kind == "run":
            run = run or run_record(line.fields()["run"])
        elif run is not None and line.epoch >= run.epoch:
            run = attrs.evolve(run, epoch=line.epoch)
            if line.kind == "change":
                run = changed(run, line.fields()["changes"])
    return run and attrs.evolve(run, owner=None, lease_until=0.0)


def _first(run: RunRecord) -> bytes:
    envelope = {"kind": "run", "epoch": run.epoch, "safe": 0, "at": run.updated_at}
    return seal({**envelope, "format": FORMAT, "boot": "", "until": 0.0, "run": run_fields(run)})


def _again(line: Line, epoch: int) -> bytes:
    fields: dict[str, Any] = line.fields()
    return seal({"kind": "steps", "epoch": epoch, "safe": 0, "at": fields["at"], "steps": fields["steps"]})


def _write(new: Path, lines: list[bytes]) -> None:
    disk = Disk()
    try:
        folder = disk.open_root(new.parent)
        try:
            fd, _ = disk.create(new.name, folder, exclusive=True)
            try:
                disk.append(fd, b"".join(line + b"\n" for line in lines))
                disk.sync(fd)
            finally:
                disk.close(fd)
            disk.sync_folder(folder)
        finally:
            disk.close(folder)
    except FileExistsError as error:
        raise ConfigurationError(f"{new} is there already", hint="Name a file that is not") from error
    except OSError as error:
        raise state_error(error, f"{new} cannot be written") from error
