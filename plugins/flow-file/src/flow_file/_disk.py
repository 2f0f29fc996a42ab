"""The one place that touches files: every name is opened inside a directory that is held open, no link is followed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from flow.errors import StateError

FILE_MODE, FOLDER_MODE = 0o600, 0o700

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a named pipe must not make us wait for a writer
_WRITE = _READ | os.O_RDWR | os.O_APPEND

_HINTS = {
    errno.ENOSPC: "Free some space, then resume the run",
    errno.EDQUOT: "Free some space, then resume the run",
    errno.EFBIG: "Files may not grow that large here: see ulimit -f",
    errno.EROFS: "The file system is mounted read-only",
    errno.EACCES: "See who owns the directory and what its mode allows",
    errno.EPERM: "See who owns the directory and what its mode allows",
    errno.ELOOP: "Symbolic links in the directory of a store are not followed; remove it",
    errno.ENOTDIR: "Symbolic links in the directory of a store are not followed; remove it",
    errno.EMFILE: "Too many files are open: see ulimit -n",
}


class ShortWrite(OSError):
    """Only the beginning was written; nothing was tried after that."""


class Disk:
    """What the store asks of the operating system, in the order in which it asks.

    Tests put an object in its place that records the calls, forgets what was not synced, or fails.
    """

    def open_root(self, path: Path) -> int:
        """Open the directory of a store; `FileNotFoundError` when there is none."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def make_root(self, path: Path) -> None:
        """Make the directory and those above it that are missing, for this user alone."""
        if path.is_dir():
            return
        if not path.parent.exists():
            self.make_root(path.parent)
        above = self.open_root(path.parent)
        try:
            self.make_folder(path.name, above)
        finally:
            os.close(above)

    def make_folder(self, name: str, within: int) -> None:
        """Make a directory for this user alone; one that is there stays as it is."""
        try:
            os.mkdir(name, FOLDER_MODE, dir_fd=within)
        except FileExistsError:
            return
        os.chmod(name, FOLDER_MODE, dir_fd=within)  # mkdir leaves out what the umask says
        self.sync_folder(within)

    def open_folder(self, name: str, within: int) -> int:
        """Open a directory inside another one."""
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)

    def open(self, name: str, within: int, *, write: bool = False) -> int:
        """Open a file that is there, to be read or appended to."""
        return self._regular(os.open(name, _WRITE if write else _READ, dir_fd=within), name)

    def create(self, name: str, within: int, *, exclusive: bool = False) -> tuple[int, bool]:
        """Open a file to be appended to, made when it is not there; also tell whether it was made."""
        try:
            fd = os.open(name, _WRITE | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=within)
        except FileExistsError:
            if exclusive:
                raise
            return self.open(name, within, write=True), False
        os.fchmod(fd, FILE_MODE)  # the umask may have taken away even that
        return fd, True

    def _regular(self, fd: int, name: str) -> int:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", name)
        return fd

    def close(self, fd: int) -> None:
        """Close a file or directory."""
        os.close(fd)

    def look(self, fd: int) -> os.stat_result:
        """Return size, identity and number of names of an open file."""
        return os.fstat(fd)

    def look_at(self, name: str, within: int) -> os.stat_result | None:
        """Return the same for a name, ``None`` when there is none."""
        try:
            return os.stat(name, dir_fd=within, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def read(self, fd: int, offset: int, end: int) -> bytes:
        """Return the bytes from `offset` to `end`, fewer where the file ends before."""
        parts: list[bytes] = []
        while offset < end and (part := os.pread(fd, end - offset, offset)):
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def append(self, fd: int, data: bytes) -> None:
        """Write at the end, in one call, so that no other process can write in between; `ShortWrite` when cut off."""
        written = os.write(fd, data)
        if written != len(data):
            raise ShortWrite(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")

    def overwrite(self, name: str, within: int, data: bytes) -> None:
        """Replace the content of a small file in place; made when it is not there."""
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(name, flags, dir_fd=within)
        except FileNotFoundError:
            fd = os.open(name, flags | os.O_CREAT, FILE_MODE, dir_fd=within)
            os.fchmod(fd, FILE_MODE)
        try:
            os.pwrite(fd, data, 0)
        finally:
            os.close(fd)

    def sync(self, fd: int) -> None:
        """Return when the file's content survives a loss of power."""
        _fdatasync(fd)

    def sync_folder(self, fd: int) -> None:
        """Return when the names in a directory survive a loss of power."""
        os.fsync(fd)

    def rename(self, old: str, new: str, within: int) -> None:
        """Give a file the name of another one, which is gone then."""
        os.rename(old, new, src_dir_fd=within, dst_dir_fd=within)

    def remove(self, name: str, within: int) -> bool:
        """Take a name away; ``False`` when there was none."""
        try:
            os.unlink(name, dir_fd=within)
        except FileNotFoundError:
            return False
        return True

    def names(self, fd: int) -> Iterator[tuple[str, int]]:
        """Yield name and size of every regular file in a directory."""
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    try:
                        yield entry.name, entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:  # it was removed just now
                        continue

    def token(self) -> str:
        """Return something to put into the name of a temporary file that nobody can foresee."""
        return secrets.token_hex(8)

    def boot(self) -> str:
        """Name the time since the machine was started: while it lasts, nothing written is lost. ``""``: unknown."""
        return _boot()


_fdatasync = os.fdatasync if "fdatasync" in vars(os) else os.fsync  # macOS has only the latter


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def state_error(error: OSError, what: str) -> StateError:
    """Say what could not be done, why, and what helps."""
    reason = error.strerror or str(error)
    failed = StateError(f"{what}: {reason}", hint=_HINTS.get(error.errno or 0))
    failed.__cause__ = error
    return failed
