"""The power fails at any moment: what was acknowledged with full durability is there, and the file is never damaged.

SQLite runs on a virtual disk that remembers every write and every flush. A cut keeps what was flushed; of what was
written since, each sector survives or not as chance has it. What is left is opened by the store like any file.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from flow_sqlite import _journal, _writer
from flow_sqlite._database import Database
from flow_sqlite._opening import open_connection
from flow_sqlite._runs import Runs
from flow_sqlite._worker import Operation
from flow_sqlite._writer import Writer

from flow import RunRecord, StateError, StepRecord

apsw = pytest.importorskip("apsw")

SECTOR = 512
STEPS = 150


@attrs.define
class Disk:
    """What was written, in order: ("write", file, offset, data), ("truncate", file, size), ("flush", file)."""

    contents: dict[str, bytearray]
    log: list[tuple[Any, ...]] = attrs.field(factory=list)

    def write(self, file: str, offset: int, data: bytes) -> None:
        self.log.append(("write", file, offset, data))
        _put(self.contents[file], offset, data)

    def truncate(self, file: str, size: int) -> None:
        self.log.append(("truncate", file, size))
        del self.contents[file][size:]

    def flush(self, file: str) -> None:
        self.log.append(("flush", file))


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class _File:
    """A file on the disk, as SQLite sees it."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk, self._name = disk, name
        disk.contents.setdefault(name, bytearray())

    def excepthook(self, kind: Any, error: Any, trace: Any) -> None:
        raise error

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self._disk.contents[self._name][offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.write(self._name, offset, bytes(data))

    def xTruncate(self, size: int) -> None:
        self._disk.truncate(self._name, size)

    def xSync(self, flags: int) -> None:
        self._disk.flush(self._name)

    def xFileSize(self) -> int:
        return len(self._disk.contents[self._name])

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xLock(self, level: int) -> None: ...
    def xUnlock(self, level: int) -> None: ...
    def xClose(self) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False


@pytest.fixture
def disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk with a store on it that has one run; the writer uses it."""
    with closing(open_connection(file, 1.0)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        Runs(connection, file).create(RunRecord(run_id="r", pipeline="p", fingerprint="f"), 0.0)
        connection.execute("COMMIT")
    disk = Disk({"runs.db": bytearray(file.read_bytes())})

    class Vfs(apsw.VFS):  # type: ignore[misc]
        def xOpen(self, name: Any, flags: Any) -> Any:
            return _File(disk, Path(str(name.filename() if isinstance(name, apsw.URIFilename) else name)).name)

        def xAccess(self, path: str, flags: int) -> bool:
            return Path(path).name in disk.contents

        def xFullPathname(self, name: str) -> str:
            return name

        def xDelete(self, path: str, sync: bool) -> None:
            disk.contents.pop(Path(path).name, None)

    vfs = Vfs("recording", "unix")
    connections: list[_Connection] = []

    def connect(path: Path, patience: float) -> _Connection:
        connections.append(_Connection(path))
        return connections[-1]

    monkeypatch.setattr(_writer, "open_connection", connect)
    monkeypatch.setattr(Writer, "_require_same_file", lambda self, **_: None)
    monkeypatch.setattr(_writer, "CHECKPOINT_AFTER", 15)
    yield disk
    for connection in connections:
        connection.close()
    vfs.unregister()


class _Connection:
    """What the writer uses of sqlite3.Connection, on the recording disk."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(path.name, vfs="recording", flags=apsw.SQLITE_OPEN_READWRITE)
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        try:
            return self._connection.execute(statement, values)
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from error

    def executemany(self, statement: str, rows: Sequence[Any]) -> None:
        self._connection.executemany(statement, rows)

    @property
    def in_transaction(self) -> bool:
        return not self._connection.get_autocommit()

    @property
    def total_changes(self) -> int:
        return int(self._connection.total_changes())

    def close(self) -> None:
        self._connection.close()


@attrs.frozen
class Acknowledged:
    """When how many steps had been acknowledged: after `position` entries in the log of the disk."""

    position: int
    steps: int


def _step(number: int) -> StepRecord:
    return StepRecord(
        path=f"{number}:step",
        parent="",
        name="step",
        kind="step",
        status="completed",
        output=b'"' + b"output " * random.Random(number).choice([5, 50, 500]) + b'"',
    )


def _run(disk: Disk, level: int) -> list[Acknowledged]:
    """Append the steps in batches of one to four through the writer."""
    chance, number = random.Random(level), 0
    writer, database = Writer(Path("runs.db")), Database(Path("runs.db"))
    acknowledged = [Acknowledged(0, 0)]
    while number < STEPS:
        steps = [_step(number + more) for more in range(chance.randint(1, 4))]
        number += len(steps)
        batch = [
            Operation(partial(_journal.append, database=database, run_id="r", epoch=0, records=[step]), level)
            for step in steps
        ]
        writer.handle(batch)
        assert [operation.error for operation in batch] == [None] * len(batch)
        acknowledged.append(Acknowledged(len(disk.log), number))
        writer.checkpoint()
    disk.log, log = [], disk.log  # the power fails before anybody closes the file
    writer.close()
    disk.log = log
    return acknowledged


def _cut(start: dict[str, bytes], log: Sequence[tuple[Any, ...]], chance: random.Random) -> dict[str, bytearray]:
    """Return the files after a power cut at the end of `log`."""
    flushed = {entry[1]: index for index, entry in enumerate(log) if entry[0] == "flush"}
    files = {name: bytearray(content) for name, content in start.items()}
    for index, (kind, name, *what) in enumerate(log):
        content = files.setdefault(name, bytearray())
        safe = index < flushed.get(name, -1)
        if kind == "truncate" and (safe or chance.random() < 0.5):
            del content[what[0] :]
        elif kind == "write":
            for offset, data in _sectors(*what):
                if safe or chance.random() < 0.5:
                    _put(content, offset, data)
    return files


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    end = offset + len(data)
    for first in range(offset - offset % SECTOR, end, SECTOR):
        start, stop = max(first, offset), min(first + SECTOR, end)
        yield start, data[start - offset : stop - offset]


@attrs.define
class Outcome:
    """What many power cuts did."""

    lost: int = 0
    damaged: int = 0
    torn: int = 0


def _steps_left(folder: Path) -> list[str]:
    with closing(open_connection(folder / "runs.db", 1.0)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [record.path for record in _journal.load(connection, folder / "runs.db", "r")]


def _cuts(disk: Disk, start: bytes, acknowledged: list[Acknowledged], folder: Path, count: int) -> Outcome:
    outcome, batches = Outcome(), {ack.steps for ack in acknowledged}
    for seed in range(count):
        chance = random.Random(seed)
        end = chance.randint(1, len(disk.log))
        folder.mkdir()
        for name, content in _cut({"runs.db": start}, disk.log[:end], chance).items():
            (folder / name).write_bytes(content)
        promised = max(ack.steps for ack in acknowledged if ack.position <= end)
        try:
            paths = _steps_left(folder)
        except (StateError, sqlite3.Error, AssertionError):
            outcome.damaged += 1
        else:
            outcome.lost += len(paths) < promised
            outcome.torn += paths != [f"{n}:step" for n in range(len(paths))] or len(paths) not in batches
        shutil.rmtree(folder)
    return outcome


@pytest.fixture
def campaign(disk: Disk, file: Path, tmp_path: Path, rounds: Callable[[int, int], int]) -> Callable[[int], Outcome]:
    """Run the steps at a level of `synchronous` and cut the power often."""
    start = file.read_bytes()

    def run(level: int) -> Outcome:
        return _cuts(disk, start, _run(disk, level), tmp_path / "after", rounds(100, 2000))

    return run


def test_full_loses_nothing_that_was_acknowledged(campaign: Callable[[int], Outcome], disk: Disk) -> None:
    assert campaign(2) == Outcome(lost=0, damaged=0, torn=0)


def test_normal_may_lose_the_latest_steps_but_no_more(campaign: Callable[[int], Outcome]) -> None:
    outcome = campaign(1)
    assert (outcome.damaged, outcome.torn) == (0, 0)
    assert outcome.lost > 0, "this test cannot fail: without flushes nothing was lost"


def test_off_loses_and_damages(campaign: Callable[[int], Outcome]) -> None:
    """The proof that the tests above can fail."""
    outcome = campaign(0)
    assert outcome.lost + outcome.damaged > 10


def test_commit_is_flushed_once(disk: Disk) -> None:
    acknowledged = _run(disk, 2)
    flushes = sum(entry[0] == "flush" for entry in disk.log)
    commits = len(acknowledged) - 1
    checkpoints = commits // 15
    assert flushes <= commits + 4 * checkpoints + 2
