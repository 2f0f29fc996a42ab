"""The oracle: what a ledger must not say, whatever happened to the processes that wrote it."""

from __future__ import annotations

import asyncio
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from tests.reliability import ledger as kinds
from tests.reliability.driving import Job, drive
from tests.reliability.ledger import entries
from tests.reliability.stores import COMPLETED, completed_paths, damage, opened, url_of


class Violation(AssertionError):
    """A promise was broken."""


@attrs.define
class Account:
    """What the entries of a ledger come to.

    :ivar executed: by path and attempt, the lives that executed it since it was last voided.
    :ivar hurried: paths whose result need not survive a loss of power.
    :ivar recorded: paths whose result is known to be stored.
    """

    wrong: list[str] = attrs.field(factory=list)
    executions: int = 0
    repeats: int = 0
    executed: dict[tuple[str, int], list[str]] = attrs.field(factory=dict)
    hurried: set[str] = attrs.field(factory=set)
    recorded: set[str] = attrs.field(factory=set)
    keys: dict[str, str] = attrs.field(factory=dict)
    refused: set[str] = attrs.field(factory=set)
    answered: bool = False
    answering: str = ""
    ends: list[dict[str, Any]] = attrs.field(factory=list)

    def read(self, entry: dict[str, Any]) -> None:
        kind, life = entry["kind"], entry["life"]
        if kind == kinds.EXECUTED:
            self._executed(entry, life)
        elif kind == kinds.ACKNOWLEDGED:
            self._acknowledged(entry)
        elif kind == kinds.VOIDED:
            self._voided(f"{entry['path']}/")
        elif kind == kinds.FOUND:
            lost = sorted(self.recorded - set(entry["paths"]))
            self.wrong += [f"lost: {path} was acknowledged and is not stored" for path in lost]
            self.recorded |= set(entry["paths"])
        elif kind == kinds.REFUSED and entry["write"] != "renew":
            self.refused.add(life)
        elif kind == kinds.ANSWERING:
            self.answering = life
        elif kind == kinds.RESUMED and self.answering == life:
            self.answered = True
        elif kind == kinds.ASKED and self.answered:
            self.wrong.append("asked again although the answer was accepted")
        elif kind == kinds.ENDED:
            self.ends.append(entry)

    def _executed(self, entry: dict[str, Any], life: str) -> None:
        path, attempt, key = entry["path"], entry["attempt"], entry["key"]
        before = self.executed.setdefault((path, attempt), [])
        if path in self.recorded:
            self.wrong.append(f"executed again: {path} was stored already")
        if life in before:
            self.wrong.append(f"executed twice in one life: {path}, attempt {attempt}")
        if life in self.refused:
            self.wrong.append(f"executed after a write was refused: {path}")
        if self.keys.setdefault(path, key) != key:
            self.wrong.append(f"another idempotency key: {path}")
        self.executions += 1
        self.repeats += bool(before)
        before.append(life)

    def _acknowledged(self, entry: dict[str, Any]) -> None:
        if entry["status"] == COMPLETED:
            self.recorded.add(entry["path"])
        if not entry["sync"]:
            self.hurried.add(entry["path"])

    def _voided(self, above: str) -> None:
        self.recorded = {path for path in self.recorded if not path.startswith(above)}
        self.executed = {where: lives for where, lives in self.executed.items() if not where[0].startswith(above)}


def account_of(path: str | Path) -> Account:
    account = Account()
    for entry in entries(path):
        account.read(entry)
    if len(set(account.keys.values())) != len(account.keys):
        account.wrong.append("two steps have one idempotency key")
    return account


@cache
def expected(size: str) -> dict[str, Any]:
    """How a run ends that nothing happened to."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/ledger"
        asyncio.run(drive(Job(url="memory://", ledger=path, size=size)))
        account = account_of(path)
        assert account.wrong == []
        return plain(account.ends[-1])


def plain(end: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in end.items() if name not in ("kind", "life", "at")}


def check(job: Job, *, store: Any = None, tokens: bool = True) -> Account:
    """Raise `Violation` unless the run has ended as it must and every promise was kept on the way.

    :param tokens: what was spent must be what a run spends that nothing happened to.
    """
    account = account_of(job.ledger)
    wrong = [*account.wrong, *damage(job.url)]
    want = dict(expected(job.size))
    if job.durability == "full":
        wrong += [f"not safe from a loss of power: {path}" for path in sorted(account.hurried)]
    if not account.ends:
        wrong.append("never ended")
    for end in account.ends[-1:]:
        have = plain(end)
        if not tokens:
            del have["tokens"], want["tokens"]
        wrong += [f"{name}: {have[name]!r}, not {want[name]!r}" for name in want if have[name] != want[name]]
    wrong += asyncio.run(_stored(store, job, account))
    if wrong:
        raise Violation(f"{job}\n  " + "\n  ".join(wrong))
    return account


async def _stored(store: Any, job: Job, account: Account) -> list[str]:
    if store is None:
        async with opened(job.url) as lasting:
            return await _stored(lasting, job, account)
    record = await store.load_run(job.run_id)
    if record is None:
        return ["the run is not in the store"]
    wrong = [] if record.status == COMPLETED else [f"stored as {record.status}"]
    if record.owner is not None:
        wrong.append(f"still owned by {record.owner}")
    lost = account.recorded - completed_paths(await store.load_steps(job.run_id))
    return wrong + [f"lost: {path}" for path in sorted(lost)]


def url_in(kind: str, folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return url_of(kind, folder)
