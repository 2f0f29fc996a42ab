"""Who executes a run, and whether that execution can still be alive.

An owner is a text that names one execution: the machine, its boot, the process and a number of its own. A store
keeps it beside the run. Lease times are measured with a clock that all processes of the machine share and that
nobody can set, so that a changed wall clock neither expires a lease nor prolongs it.
"""

from __future__ import annotations

import itertools
import os
import platform
import threading
import time
from functools import cache
from pathlib import Path

# It goes on while the machine sleeps, where there is one; what other systems have is as good for a running machine.
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)
_numbers = itertools.count(1)
_alive: set[str] = set()
_guard = threading.Lock()


def new_owner() -> str:
    """Return an owner for one execution in this process; call `retire_owner` when the execution has ended.

    >>> owner, until = new_owner(), lease_clock() + 30
    >>> lease_is_over(owner, until, 0.0)
    False
    >>> retire_owner(owner)
    >>> lease_is_over(owner, until, 0.0)
    True
    """
    owner = f"{_place()} {_process(os.getpid())}/{next(_numbers)}"
    with _guard:
        _alive.add(owner)
    return owner


def retire_owner(owner: str) -> None:
    """Note that the execution has ended: what it has claimed is free, even when the store could not be told."""
    with _guard:
        _alive.discard(owner)


def lease_clock() -> float:
    """Return seconds on the clock in which a store writes down until when a lease lasts."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


def lease_is_over(owner: str | None, until: float, until_wall: float) -> bool:
    """Tell whether a run may be claimed although the store names an owner.

    :param until: the end of its lease on the `lease_clock`; asked when the owner counts on the same clock.
    :param until_wall: the same moment in epoch seconds, for an owner on another machine or before the last boot.

    True at once when the owner is an execution of this process that has ended, or a process of this machine that is
    gone: nobody waits for the lease of a program that was killed.
    """
    if owner is None:
        return True
    place, _, process = owner.partition(" ")
    if _boot(place) not in ("", _boot(_place())):
        return time.time() >= until_wall
    return lease_clock() >= until or (place == _place() and _is_gone(owner, process))


def _is_gone(owner: str, process: str) -> bool:
    name = process.partition("/")[0]
    pid = name.partition("@")[0]
    if not pid.isdecimal():
        return False
    if name == _process(os.getpid()):
        return owner not in _alive
    return name != _identity(int(pid))


def _boot(place: str) -> str:
    return place.split(":")[1] if place.count(":") > 1 else ""


@cache
def _process(pid: int) -> str:
    return _identity(pid)


@cache
def _place() -> str:
    """Name what shares process ids: the machine, its boot, and the namespace, which containers do not share."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
        namespace = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        boot = namespace = "-"  # there are no such files outside Linux
    return f"{platform.node()}:{boot}:{namespace}"


def _identity(pid: int) -> str:
    """Return the process with the ticks at which it was started, since an id alone is used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{pid}@-" if not Path("/proc/self/stat").exists() and _exists(pid) else ""
    state, *_, started = stat.rpartition(")")[2].split()[:20]
    return "" if state in "ZX" else f"{pid}@{started}"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
