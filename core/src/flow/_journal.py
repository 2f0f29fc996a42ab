"""The journal: what the finished steps of a run returned, and how a run that is run again gets it back."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import orjson

from ._books import Books, is_below
from ._context_changes import dump_changes, load_changes
from ._protocols import StateBackend, StepRecord
from ._results import RunResult, RunStatus, StepResult, describe_causes, describe_error
from ._serialize import Codec, check_plain, codec_for
from ._usage import Usage
from .errors import SerializationError, StateCorrupt, StepFailed

if TYPE_CHECKING:
    from ._run import Scope
    from ._step import BaseStep

COMPLETED, FAILED, INTERRUPTED, RESTARTED, ANSWERED = "completed", "failed", "interrupted", "restarted", "answered"
FALLBACK = "fallback"
_STOPPED = frozenset(
    {RunStatus.INTERRUPTED, RunStatus.CANCELLED, RunStatus.LIMIT_EXCEEDED, RunStatus.DEADLINE_EXCEEDED}
)


class Journal:
    """The records of one run, by path, and the store they are written to.

    The record of a step that completed holds all that was spent in it; that of one that failed or was interrupted what
    was spent beside the steps inside it that have records of their own, because those may be executed again.

    :param epoch: that of the claim; ``None`` writes nothing, for a run that is only replayed.
    :param records: what earlier executions of the run have written.
    :param sync: a record must survive a loss of power before the step's successor starts.
    :param deferred: records are kept here until the run ends or pauses, and written together then.
    """

    def __init__(
        self,
        store: StateBackend,
        run_id: str,
        epoch: int | None,
        records: Sequence[StepRecord] = (),
        *,
        sync: bool = True,
        deferred: bool = False,
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._epoch = epoch
        self._sync = sync
        self._deferred: list[StepRecord] | None = [] if deferred else None
        self._records: dict[str, StepRecord] = {}
        self._inside: defaultdict[str, dict[str, StepRecord]] = defaultdict(dict)
        self._void: dict[str, Usage] = {}
        self._books = Books()
        for record in records:
            self._load(record)
        self._last = next(reversed(self._records), None)
        self._open_books()

    def _open_books(self) -> None:
        for path, usage in self._void.items():
            self._books.note(path, usage)
        completed = []
        for path, record in self._records.items():
            if record.status == COMPLETED:
                completed.append(path)
            else:
                self._books.note(path, record.usage)
        for path in sorted(completed, key=lambda path: path.count("/"), reverse=True):  # what is inside comes first
            if self._records[path].usage:
                self._books.settle(path, self._records[path].usage)

    def _load(self, record: StepRecord) -> None:
        if record.status == RESTARTED:
            self._forget(record.parent, spared=record.metadata is not None)
            self._void[record.parent] = record.usage
            return
        if record.status == FAILED and not self._has_failed_inside(record.path):
            self._drop(answer_path(record.path))  # what was answered made it fail: it is asked anew
        self._records[record.path] = record
        self._inside[record.parent][record.path] = record

    @property
    def surviving(self) -> list[StepRecord]:
        """The records that count: those that a later attempt of a step around them has not made void."""
        return list(self._records.values())

    @property
    def answers(self) -> list[StepRecord]:
        """The records of answers that were accepted in earlier executions."""
        return [record for record in self._records.values() if record.status == ANSWERED]

    def completed(self, path: str) -> StepRecord | None:
        """Return the record of a step that completed in an earlier execution of this run."""
        if not self._records:
            return None
        record = self._records.get(path)
        return record if record is not None and record.status == COMPLETED else None

    def ends_with(self, path: str) -> bool:
        """Tell whether the record of a step is the last that earlier executions have written."""
        return path == self._last

    def spent(self, path: str) -> Usage:
        """Return what earlier executions spent in a step, all that is inside it included; `""` is the whole run."""
        return self._books.total(path)

    async def restart(self, step: BaseStep[Any, Any], scope: Scope, attempt: int) -> None:
        """Note that a step with steps inside begins a further attempt: what ran inside it before is not replayed.

        Its fallback is no attempt: what that has done and was told stays.
        """
        spared = step.fallback is not None and FALLBACK not in step.children()
        self._forget(scope.path, spared)
        scope.run.forget_questions(scope.path, spared=f"{scope.path}/{FALLBACK}" if spared else None)
        await self.append(
            StepRecord(
                path=f"{scope.path}/attempt {attempt}",
                parent=scope.path,
                name=step.name,
                kind=step.kind,
                status=RESTARTED,
                metadata=b'{"spared": "fallback"}' if spared else None,
                usage=self._books.settle(scope.path, scope.usage),
                attempts=attempt,
                started_at=time.time(),
            ),
        )

    def _forget(self, path: str, spared: bool) -> None:
        """Drop the records below `path`, and what they account for: the step itself will."""
        own_answer, fallback = answer_path(path), f"{path}/{FALLBACK}" if spared else None
        for inner in [inner for inner in self._records if inner.startswith(f"{path}/") and inner != own_answer]:
            if not is_below(inner, fallback):
                self._drop(inner)
        for inner in self._books.below(path):
            if not is_below(inner, fallback):
                self._books.forget(inner)

    def _drop(self, path: str) -> None:
        record = self._records.pop(path, None)
        if record is not None:
            self._inside[record.parent].pop(path, None)

    async def record(
        self, result: StepResult, scope: Scope, codec: Codec, started_at: float, *, handed_on: bool = False
    ) -> None:
        """Store what a finished step returned; raises `SerializationError` when that is not possible.

        :param handed_on: the output is the input itself, which is stored where it came from.
        """
        record = make_record(result, scope, codec, started_at, handed_on)
        await self.append(self._counted(record, scope))

    async def record_interruption(self, step: BaseStep[Any, Any], scope: Scope, started_at: float) -> None:
        """Store what a step has spent that was paused or cancelled; it will be executed again."""
        if scope.usage:
            await self.append(self._counted(interrupted_record(step, scope, started_at), scope))

    def _counted(self, record: StepRecord, scope: Scope) -> StepRecord:
        """Return the record with the usage that it accounts for."""
        if not scope.usage:
            return record
        own = self._books.settle(record.path, scope.usage)
        return record if record.status == COMPLETED else attrs.evolve(record, usage=own)

    async def append(self, record: StepRecord) -> None:
        """Store `record`; when this returns it is as durable as the flow asks for."""
        if self._epoch is None:
            return
        if self._deferred is None:
            await self._store.append_steps(self._run_id, self._epoch, (record,), sync=self._sync)
        else:
            self._deferred.append(record)

    async def finish(self, result: RunResult[Any], metadata: Mapping[str, str] | None = None) -> None:
        """Store how the run ended and give it free for whoever resumes it.

        :param metadata: the texts to keep with the run, when they have changed.
        """
        if self._epoch is None:
            return
        if self._deferred:
            records, self._deferred = self._deferred, []
            await self._store.append_steps(self._run_id, self._epoch, records, sync=True)
        changes: dict[str, Any] = {"status": result.status.value, "usage": result.usage, "owner": None}
        changes["error"] = storable(describe_error(result.error))
        if result.status not in _STOPPED:  # otherwise what was asked before may be asked again
            pending = [attrs.asdict(item) for item in result.pending]
            deadlines = [item.deadline for item in result.pending if item.deadline is not None]
            changes["pending"] = orjson.dumps(pending) if pending else None
            changes["wake_at"] = min(deadlines, default=None)
        if metadata is not None:
            changes["metadata"] = dict(metadata)
        sync = self._sync or self._deferred is not None
        await self._store.update_run(self._run_id, self._epoch, sync=sync, **changes)

    def replay(self, step: BaseStep[Any, Any], record: StepRecord, data: Any, scope: Scope, codec: Codec) -> StepResult:
        """Return the recorded result instead of running `step` on `data`; the context change applies once more.

        Raises `StateCorrupt` when the record does not fit the step: that is no failure of the step.
        """
        try:
            result = self._restore(record, codec)
            if record.changes is not None and scope.context is not None:
                scope.commit(load_changes(scope.enclosing_context, record.changes, path=record.path))
        except (SerializationError, ValueError) as error:
            raise StateCorrupt(
                f"run {self._run_id!r}: the record of step {record.path!r} cannot be read: {error}",
                path=record.path,
                hint="The store is damaged, or the step declares another type than it did",
            ) from error
        scope.carry(record.usage)
        result.name, result.kind = step.name, step.kind
        if record.output is None:
            result.output = data
        return result

    def _restore(self, record: StepRecord, codec: Codec | None) -> StepResult:
        output = None
        if record.output is not None:
            output = (codec or codec_for(Any)).decode(record.output, record.typed, path=record.path)
        success = record.status == COMPLETED
        return StepResult(
            record.name,
            record.kind,
            success,
            output,
            path=record.path,
            attempts=record.attempts,
            latency_s=record.latency_s,
            usage=record.usage if success else self.spent(record.path),
            feedback=record.feedback,
            error=None if success else StepFailed(record.error or "failed", path=record.path),
            children=tuple(self._restore(child, None) for child in self._steps_inside(record.path)),
            replayed=True,
            metadata=None if record.metadata is None else orjson.loads(record.metadata),
        )

    def _has_failed_inside(self, path: str) -> bool:
        return any(record.status == FAILED for record in self._steps_inside(path))

    def _steps_inside(self, path: str) -> list[StepRecord]:
        if path not in self._inside:
            return []
        return [record for record in self._inside[path].values() if record.status != ANSWERED]


def make_record(
    result: StepResult, scope: Scope, codec: Codec, started_at: float, handed_on: bool = False
) -> StepRecord:
    """Describe a finished step for the journal; raises `SerializationError` when its output cannot be stored."""
    changed = scope.changes() if result.success else {}
    output, typed, status = None, True, COMPLETED if result.success else FAILED
    if result.success and not handed_on:
        output, typed = codec.encode(result.output, path=scope.path)
        if typed and codec.masks(result.output, output):
            output, status = None, INTERRUPTED  # a secret is not stored: who resumes the run asks for it again
    return StepRecord(
        path=scope.path,
        parent=_enclosing_step(scope),
        name=result.name,
        kind=result.kind,
        status=status,
        output=output,
        typed=typed,
        changes=dump_changes(scope.enclosing_context, changed, path=scope.path) if changed else None,
        metadata=_dump_metadata(result, scope.path),
        usage=scope.usage,
        attempts=result.attempts,
        started_at=started_at,
        latency_s=time.time() - started_at,
        feedback=storable(result.feedback),
        error=storable(describe_causes(result.error)),
    )


def storable(text: str | None) -> str | None:
    """Return `text` without what UTF-8 cannot hold: messages of agents may quote half a character."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


def interrupted_record(step: BaseStep[Any, Any], scope: Scope, started_at: float) -> StepRecord:
    """Describe a step that was paused or cancelled: it will be executed again, what it spent stays spent."""
    return StepRecord(
        path=scope.path,
        parent=_enclosing_step(scope),
        name=step.name,
        kind=step.kind,
        status=INTERRUPTED,
        usage=scope.usage,
        attempts=scope.attempt,
        started_at=started_at,
        latency_s=time.time() - started_at,
    )


def answer_path(path: str) -> str:
    """Return where the answer to the question of a step is kept."""
    return f"{path}/answer"


def answer_record(path: str, name: str, fingerprint: str, answer: bytes) -> StepRecord:
    """Describe an accepted answer: it must not be lost when the process dies before the step has used it."""
    return StepRecord(
        path=answer_path(path),
        parent=path,
        name=name,
        kind="answer",
        status=ANSWERED,
        output=answer,
        metadata=orjson.dumps({"step": fingerprint}),
        started_at=time.time(),
    )


def _enclosing_step(scope: Scope) -> str:
    parent = scope.parent
    while parent is not None and not parent.is_step:
        parent = parent.parent
    return parent.path if parent is not None else ""


def _dump_metadata(result: StepResult, path: str) -> bytes | None:
    metadata: Mapping[str, Any] | None = result._metadata
    if not metadata:
        return None
    try:
        check_plain(metadata)
    except (TypeError, ValueError) as error:
        raise SerializationError(
            f"step {path!r}: its metadata cannot be stored: {error}", path=path, cause=error
        ) from error
    return orjson.dumps(metadata)
