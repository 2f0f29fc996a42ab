"""Descriptions of pipelines, one file each, named by fingerprint."""

from __future__ import annotations

import re

import attrs

from flow.errors import ConfigurationError
from flow_file._disk import Disk
from flow_file._place import Place

_FINGERPRINT = re.compile(r"[0-9A-Za-z]{1,128}")  # flow's are hexadecimal


@attrs.frozen
class Pipelines:
    """The descriptions in a store. What has a fingerprint never changes, so a file is written once."""

    place: Place
    disk: Disk
    syncs: bool

    @staticmethod
    def name(fingerprint: str) -> str:
        """Return the name of the file; `ConfigurationError` for what could be a path.

        >>> Pipelines.name("c0ffee")
        'c0ffee.json'
        """
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise ConfigurationError(
                f"{fingerprint!r:.140} cannot be a fingerprint", hint="It has up to 128 letters and digits"
            )
        return f"{fingerprint}.json"

    def save(self, name: str, structure: bytes) -> None:
        """Keep a description: under another name first, so that it is never there in part."""
        folder = self.place.make().pipelines
        if self.load(name) == structure:
            return
        temporary = f"{name}.{self.disk.token()}"
        fd, _ = self.disk.create(temporary, folder, exclusive=True)
        try:
            self.disk.append(fd, structure)
            if self.syncs:
                self.disk.sync(fd)
        except OSError:
            self.disk.remove(temporary, folder)
            raise
        finally:
            self.disk.close(fd)
        self.disk.rename(temporary, name, folder)
        if self.syncs:
            self.disk.sync_folder(folder)

    def load(self, name: str) -> bytes | None:
        """Return a description, if there is one."""
        folders = self.place.find()
        if folders is None:
            return None
        try:
            fd = self.disk.open(name, folders.pipelines)
        except FileNotFoundError:
            return None
        try:
            return self.disk.read(fd, 0, self.disk.look(fd).st_size)
        finally:
            self.disk.close(fd)
