"""Where a store is: the directory, made when something is first written, and the directories in it."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import attrs

from flow_file._disk import Disk

RUNS, LEASES, PIPELINES = "runs", "leases", "pipelines"
INDEX = "index.jsonl"


@attrs.frozen
class Folders:
    """The open directories. Names are looked up in them, so nobody can put other directories in their place."""

    root: int
    runs: int
    leases: int
    pipelines: int


class Place:
    """The directory of a store.

    :param root: absolute, links in the part that the user has given already followed.
    """

    def __init__(self, root: Path, disk: Disk) -> None:
        self.root = root
        self.disk = disk
        self._folders: Folders | None = None
        self._lock = threading.Lock()

    def find(self) -> Folders | None:
        """Return the directories when there are any."""
        with self._lock:
            if self._folders is None:
                try:
                    self._folders = self._open()
                except FileNotFoundError:
                    return None
            return self._folders

    def folders(self) -> Folders:
        """Return the directories; `FileNotFoundError` when there are none."""
        folders = self._folders or self.find()
        if folders is None:
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(self.root))
        return folders

    def make(self) -> Folders:
        """Return the directories, made when there are none."""
        folders = self._folders or self.find()
        if folders is not None:
            return folders
        with self._lock:
            self.disk.make_root(self.root)
            root = self.disk.open_root(self.root)
            try:
                for name in (PIPELINES, LEASES, RUNS):
                    self.disk.make_folder(name, root)
            finally:
                self.disk.close(root)
            if self._folders is None:
                self._folders = self._open()
            return self._folders

    def _open(self) -> Folders:
        opened = [self.disk.open_root(self.root)]
        try:
            opened.append(self.disk.open_folder(RUNS, opened[0]))
            for name in (LEASES, PIPELINES):
                opened.append(self._open_or_make(name, opened[0]))
        except BaseException:
            for fd in opened:
                self.disk.close(fd)
            raise
        return Folders(*opened)

    def _open_or_make(self, name: str, root: int) -> int:
        """Open a directory that may be missing although there are runs: copies often leave out empty ones."""
        try:
            return self.disk.open_folder(name, root)
        except FileNotFoundError:
            self.disk.make_folder(name, root)
            return self.disk.open_folder(name, root)

    def forked(self) -> None:
        """Go on in a child process, where no other thread can hold the lock any more."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the directories; the next use opens them again."""
        with self._lock:
            folders, self._folders = self._folders, None
            if folders is not None:
                for fd in attrs.astuple(folders):
                    self.disk.close(fd)
