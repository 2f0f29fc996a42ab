"""Runs in a state store: begun, opened again, recovered, and ended from outside."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson
from pydantic import BaseModel

from ._answers import Answer, Questions, match_answers, questions_of
from ._context import build_context
from ._heartbeat import Tenure
from ._journal import Journal, answer_record
from ._lease import new_owner
from ._pipeline import Pipeline
from ._protocols import RunRecord, StateBackend, StepRecord
from ._replay import ReplayJournal, before, forked
from ._results import Pending, RunStatus
from ._run import Run
from ._serialize import INPUT, Codec, codec_for, dump_context, load_context
from ._structure import structure
from ._structure_diff import describe_differences
from ._usage import UsageLimits
from .errors import (
    ConfigurationError,
    PipelineChanged,
    RunNotFound,
    SerializationError,
    StateCorrupt,
)

RUNNING, DEAD = "running", "dead"
_PAGE = 100


class Durability(enum.StrEnum):
    """When what a step returned is safe."""

    FULL = "full"
    """Before its successor starts, and against a loss of power."""
    NORMAL = "normal"
    """Before its successor starts, and against the end of the process."""
    EXIT = "exit"
    """When the run ends or pauses."""
    OFF = "off"
    """Never: the run is not stored."""


@attrs.frozen(eq=False)
class StoredRun:
    """A run read back from the store and claimed, ready to be executed again.

    One that has completed is not claimed: it is only replayed.
    """

    record: RunRecord
    tenure: Tenure | None
    journal: Journal
    data: Any
    context: BaseModel
    limits: UsageLimits | None
    answers: dict[str, Any]
    questions: dict[str, Pending]


@attrs.frozen(eq=False)
class DurableRuns:
    """The runs of one flow in one store.

    :ivar lease_s: seconds for which an execution claims a run; it renews the claim three times as often.
    """

    store: StateBackend
    pipeline: Pipeline[Any, Any]
    context_model: type[BaseModel]
    lease_s: float
    durability: Durability = Durability.FULL
    fingerprint: str = attrs.field(init=False)
    _structure: bytes = attrs.field(init=False)
    _input: Codec = attrs.field(init=False)
    _described: list[bool] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", self.pipeline.fingerprint)
        object.__setattr__(self, "_structure", orjson.dumps(structure(self.pipeline), option=orjson.OPT_SORT_KEYS))
        object.__setattr__(self, "_input", codec_for(self.pipeline.declared_types()[0]))

    async def begin(self, run: Run, data: Any) -> Tenure:
        """Store a new run as executed by this process; `SerializationError` when its input cannot be stored."""
        stored, typed = self._input.encode(data, path=INPUT)
        values = {} if run.context is None else {name: run.context.__getattribute__(name) for name in _fields(run)}
        context = dump_context(self.context_model, values, path="initial")
        run.metadata.update(_own_metadata(typed, run.own_limits))
        run.kept_metadata = dict(run.metadata)
        await self._describe()
        now = time.time()
        tenure = Tenure(self.store, new_owner(), 1, self.lease_s)
        try:
            await self.store.create_run(
                RunRecord(
                    run_id=run.run_id,
                    trace_id=run.trace_id,
                    pipeline=self.pipeline.name,
                    fingerprint=self.fingerprint,
                    input=stored,
                    context=context,
                    created_at=now,
                    updated_at=now,
                    deadline_at=run.deadline_at,
                    owner=tenure.owner,
                    epoch=1,
                    metadata=run.kept_metadata,
                ),
                self.lease_s,
                sync=self.durability is not Durability.NORMAL,
            )
        except BaseException:
            tenure.end()
            raise
        run.journal = self._journal(run.run_id, tenure)
        return tenure

    async def reopen(
        self,
        run_id: str,
        *,
        answer: Any = None,
        answers: Mapping[str, Any] | None = None,
        on_change: str = "refuse",
    ) -> StoredRun:
        """Claim a stored run and read its input, context and journal; answers are checked before that."""
        _check_on_change(on_change)
        record = await self.load(run_id)
        if record.fingerprint != self.fingerprint and on_change == "refuse":
            await self._require_free(record)
            raise await self._changed(record)
        accepted = self._accept(record, answer, answers)
        if record.status == RunStatus.COMPLETED and record.fingerprint == self.fingerprint:
            return await self._read(record, None, ())  # all is recorded: there is nothing to claim and to write
        tenure = await self._claim(record)
        try:
            claimed = await self.load(run_id)
            if _differs(record, claimed):  # somebody else went on with it in between
                accepted = self._accept(claimed, answer, answers)
            return await self._open(claimed, tenure, accepted)
        except BaseException:
            await tenure.leave(run_id)
            raise

    async def reopen_orphan(self, run_id: str, *, on_change: str, max_recoveries: int) -> StoredRun | None:
        """Claim a run whose process died or was interrupted, or whose time to answer is over.

        ``None`` when it is no orphan any more, or is parked because it was recovered `max_recoveries` times.
        """
        record = await self.load(run_id)
        if record.fingerprint != self.fingerprint and on_change == "refuse":
            await self._require_free(record)
            raise await self._changed(record)
        tenure = await self._claim(record)
        try:
            return await self._open_orphan(await self.load(run_id), tenure, max_recoveries)
        except BaseException:
            await tenure.leave(run_id)
            raise

    async def _open_orphan(self, record: RunRecord, tenure: Tenure, max_recoveries: int) -> StoredRun | None:
        if not _is_orphan(record):
            await tenure.leave(record.run_id)
            return None
        if record.status == RUNNING and record.recoveries >= max_recoveries:
            await self._park(record, tenure)
            return None
        return await self._open(record, tenure, ())

    async def replay(self, run_id: str, *, on_change: str = "refuse") -> StoredRun:
        """Read a stored run to replay it; nothing is claimed, and nothing will be written."""
        record = await self._load_same(run_id, on_change)
        return await self._read(record, None, (), ReplayJournal)

    async def fork(self, run_id: str, at: str, new_id: str, *, on_change: str = "refuse") -> StoredRun:
        """Store a new run that begins as another one did and has what that one recorded before the step at a path."""
        record = await self._load_same(run_id, on_change)
        journal = self._journal(run_id, None, await self.store.load_steps(run_id))
        kept = before(journal.surviving, at, list(questions_of(record)))
        await self._describe()
        tenure = Tenure(self.store, new_owner(), 1, self.lease_s)
        new = attrs.evolve(forked(record, new_id, at, time.time(), self.fingerprint), owner=tenure.owner)
        try:
            await self.store.create_run(new, self.lease_s)
        except BaseException:  # the id may be that of another run, which is none of our business
            tenure.end()
            raise
        try:
            if kept:
                await self.store.append_steps(new_id, tenure.epoch, kept)
            return await self._read(new, tenure, ())
        except BaseException:
            tenure.end()
            await self.store.delete_run(new_id)  # or it would be recovered as a run that has done nothing yet
            raise

    async def _load_same(self, run_id: str, on_change: str) -> RunRecord:
        _check_on_change(on_change)
        record = await self.load(run_id)
        if record.fingerprint != self.fingerprint and on_change == "refuse":
            raise await self._changed(record)
        return record

    async def load(self, run_id: str) -> RunRecord:
        """Return the record of a run; raises `RunNotFound`."""
        record = await self.store.load_run(run_id)
        if record is None:
            raise RunNotFound(f"no run has the id {run_id!r}", hint="See the stored runs with: flow runs")
        return record

    async def orphans(self) -> list[str]:
        """Return the ids of runs of this pipeline that may have something to do and nobody to do it, oldest first."""
        found: list[str] = []
        for status, due in ((RUNNING, None), ("interrupted", None), ("paused", time.time())):
            offset = 0
            while page := await self.store.list_runs(
                status=status, due=due, pipeline=self.pipeline.name, limit=_PAGE, offset=offset
            ):
                found += [record.run_id for record in page]
                offset += len(page)
        return found[::-1]

    async def cancel(self, run_id: str) -> bool:
        """Mark a run that nobody executes as cancelled; False when it has ended or is unknown."""
        record = await self.store.load_run(run_id)
        if record is None or record.status not in (RUNNING, "paused", "interrupted"):
            return False
        tenure = await self._claim(record)
        try:
            await self.store.update_run(
                run_id, tenure.epoch, status="cancelled", error="cancelled", pending=None, wake_at=None, owner=None
            )
        finally:
            tenure.end()
        return True

    def _accept(self, record: RunRecord, answer: Any, answers: Mapping[str, Any] | None) -> list[Answer]:
        given = match_answers(record, answer, answers)
        if not given:
            return []
        asked, known = questions_of(record), Questions(self.pipeline)
        return [known.check(asked[path], value) for path, value in given.items()]

    async def _claim(self, record: RunRecord) -> Tenure:
        owner = new_owner()
        tenure = Tenure(self.store, owner, 0, self.lease_s)
        try:
            tenure.epoch = await self.store.claim_run(record.run_id, owner, self.lease_s)
        except BaseException:
            tenure.end()
            raise
        return tenure

    async def _open(self, record: RunRecord, tenure: Tenure, accepted: Sequence[Answer]) -> StoredRun:
        stored = await self._read(record, tenure, accepted)
        await self._go_on(record, tenure, accepted)  # only now: a store that cannot be read is left as it is
        return stored

    async def _read(
        self,
        record: RunRecord,
        tenure: Tenure | None,
        accepted: Sequence[Answer],
        kind: type[Journal] = Journal,
    ) -> StoredRun:
        steps = await self.store.load_steps(record.run_id)
        journal = self._journal(record.run_id, tenure, steps, kind)
        try:
            answers = Questions(self.pipeline).restore(journal.answers) if journal.answers else {}
            values = load_context(self.context_model, record.context) if record.context else {}
            data = None
            if record.input:
                data = self._input.decode(record.input, record.metadata.get("input") != "plain", path=INPUT)
            context = build_context(self.context_model, values, data)
            questions = questions_of(record)
        except (SerializationError, ConfigurationError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StateCorrupt(
                f"run {record.run_id!r}: what is stored of it cannot be read: {error}",
                hint="The store is damaged, or the pipeline declares other types than it did",
            ) from error
        return StoredRun(
            record=record,
            tenure=tenure,
            journal=journal,
            data=data,
            context=context,
            limits=_stored_limits(record),
            answers=answers | {answer.path: answer.value for answer in accepted},
            questions=questions,
        )

    async def _go_on(self, record: RunRecord, tenure: Tenure, accepted: Sequence[Answer]) -> None:
        kept = [
            answer_record(answer.path, answer.name, answer.step, answer.stored)
            for answer in accepted
            if answer.stored is not None
        ]
        if kept:
            await self.store.append_steps(record.run_id, tenure.epoch, kept)
        # The questions stay until the run has ended again: when they were first asked counts for their deadlines.
        died = record.status == RUNNING
        await self.store.update_run(
            record.run_id,
            tenure.epoch,
            status=RUNNING,
            error=None,
            wake_at=None,
            recoveries=0 if record.status == DEAD else record.recoveries + died,
        )

    async def _park(self, record: RunRecord, tenure: Tenure) -> None:
        reason = f"its process died in {record.recoveries + 1} executions; parked until somebody resumes it"
        await self.store.update_run(record.run_id, tenure.epoch, status=DEAD, error=reason, owner=None)
        tenure.end()

    async def _describe(self) -> None:
        """Keep the structure of the pipeline in the store, once: a refused resume shows what has changed since."""
        if not self._described:
            if await self.store.load_pipeline(self.fingerprint) is None:
                await self.store.save_pipeline(self.fingerprint, self._structure)
            self._described.append(True)

    async def _changed(self, record: RunRecord) -> PipelineChanged:
        known = await self.store.load_pipeline(record.fingerprint)
        lines = [] if known is None else describe_differences(orjson.loads(known), orjson.loads(self._structure))
        return PipelineChanged(
            f"run {record.run_id!r} began with another pipeline" + "".join(f"\n  {line}" for line in lines),
            hint='Pass on_change="continue" to run it with this one: steps are matched by path',
        )

    async def _require_free(self, record: RunRecord) -> None:
        """Raise `RunOwned` when somebody executes the run: that matters more than how its pipeline has changed."""
        tenure = await self._claim(record)
        await tenure.leave(record.run_id)

    def _journal(
        self,
        run_id: str,
        tenure: Tenure | None,
        records: Sequence[StepRecord] = (),
        kind: type[Journal] = Journal,
    ) -> Journal:
        return kind(
            self.store,
            run_id,
            tenure.epoch if tenure is not None else None,
            records,
            sync=self.durability is Durability.FULL,
            deferred=self.durability is Durability.EXIT,
        )


def _check_on_change(on_change: str) -> None:
    if on_change not in ("refuse", "continue"):
        raise ConfigurationError(f"on_change is 'refuse' or 'continue', got {on_change!r}")


def unchanged(record: RunRecord) -> dict[str, Any]:
    """Return the fields that resuming a run changes first, as they were."""
    fields = ("status", "error", "wake_at", "recoveries")
    return {name: record.__getattribute__(name) for name in fields}


def _own_metadata(typed: bool, limits: UsageLimits | None) -> dict[str, str]:
    """Return what flow itself keeps among the texts of a run: how to read its input, and limits of its own."""
    kept = {"input": "typed" if typed else "plain"}
    if limits is not None:
        kept["usage_limits"] = limits.model_dump_json(exclude_none=True)
    return kept


def _stored_limits(record: RunRecord) -> UsageLimits | None:
    text = record.metadata.get("usage_limits")
    return None if text is None else UsageLimits.model_validate_json(text)


def _is_orphan(record: RunRecord) -> bool:
    if record.status == RunStatus.PAUSED:
        return record.wake_at is not None and record.wake_at <= time.time()
    return record.status in (RUNNING, "interrupted")


def _differs(before: RunRecord, now: RunRecord) -> bool:
    return (before.status, before.pending) != (now.status, now.pending)


def _fields(run: Run) -> Mapping[str, Any]:
    return type(run.context).model_fields  # type: ignore[union-attr]
