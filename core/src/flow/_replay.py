"""Playing stored runs again: a replay that executes nothing, and what a fork takes over from the run it leaves."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ._books import is_below
from ._journal import FAILED, Journal
from ._results import RunResult, RunStatus, StepResult
from ._settings import did_you_mean
from .errors import ConfigurationError, InterruptSignal, PauseSignal, ReplayIncomplete

if TYPE_CHECKING:
    from ._protocols import RunRecord, StepRecord
    from ._run import Scope
    from ._serialize import Codec
    from ._step import BaseStep

_ENDED_EARLY = frozenset(
    {
        RunStatus.FAILED,
        RunStatus.CANCELLED,
        RunStatus.LIMIT_EXCEEDED,
        RunStatus.DEADLINE_EXCEEDED,
        RunStatus.INTERRUPTED,
    }
)


class ReplayEnded(InterruptSignal):
    """The replay has come to a step of which nothing is recorded."""

    def __init__(self, path: str) -> None:
        super().__init__(f"nothing is recorded of step {path!r}")
        self.path = path


class ReplayJournal(Journal):
    """The journal of a run that is only replayed: steps that have not completed return what is recorded of them."""

    def unfinished(self, step: BaseStep[Any, Any], scope: Scope, codec: Codec) -> StepResult | None:
        """Return the recorded failure of a step; ``None`` when the steps inside it can tell what happened.

        Raises the question that the step has asked, or `ReplayEnded` when nothing is recorded.
        """
        path = scope.path
        record = self._records.get(path)
        if record is not None and record.status == FAILED:
            scope.carry(self.spent(path))
            result = self._restore(record, codec)
            result.name, result.kind = step.name, step.kind
            _share_error(result)
            return result
        asked = scope.run.questions.get(path)
        if asked is not None:
            raise PauseSignal(asked.message, schema=asked.schema, deadline=asked.deadline, path=path)
        known = (*self._records, *scope.run.questions)
        if step.children() and any(inner != path and is_below(inner, path) for inner in known):
            return None
        raise ReplayEnded(path)


def _share_error(result: StepResult) -> None:
    """Let a failed step have the error of the step inside it that made it fail, as it had when it was executed."""
    for child in result.children:
        _share_error(child)
        if not child.success and str(child.error) == str(result.error):
            result.error = child.error


def as_replayed(result: RunResult[Any], record: RunRecord) -> RunResult[Any]:
    """Say of a replayed run how it ended when it was executed, and where its recording ends."""
    if isinstance(result.error, ReplayEnded):
        path = result.error.path
        result.error = ReplayIncomplete(
            f"nothing is recorded of step {path!r}: the run was {record.status.replace('_', ' ')} then",
            path=path,
            hint="Resume the run to execute what is missing",
        )
        result.failed_path = path
    if result.status in _ENDED_EARLY and record.status in _ENDED_EARLY:
        result.status = RunStatus(record.status)
    return result


# -- forks


def before(records: Sequence[StepRecord], at: str, questions: Sequence[str] = ()) -> list[StepRecord]:
    """Return those of the surviving records that a fork at a path takes over: what that step cannot have caused.

    Steps of a pipeline and iterations of a loop follow each other by their numbers. Of other steps that share an
    enclosing one, such as branches and items, those stay that began before the step at the path had ended.

    :param questions: paths of steps that wait for an answer.

    Raises `ConfigurationError` when nothing is known of the path.
    """
    here = [record for record in records if is_below(record.path, at)]
    if not here and at not in questions:
        paths = [record.path for record in records]
        near = did_you_mean(at, paths, 0.5)
        hint = near or (f"There are {', '.join(paths[:8])}{', ...' if len(paths) > 8 else ''}" if paths else None)
        raise ConfigurationError(f"the run has no step at {at!r:.200}", path=at[:200], hint=hint)
    ended = max((record.started_at + record.latency_s for record in here), default=math.inf)
    return [record for record in records if _stays(record, at, ended)]


def _stays(record: StepRecord, at: str, ended: float) -> bool:
    if is_below(record.path, at) or is_below(at, record.path):
        return False
    theirs, ours = next((a, b) for a, b in zip(record.path.split("/"), at.split("/"), strict=False) if a != b)
    order = _order(theirs), _order(ours)
    if order[0] is not None and order[1] is not None and order[0][0] == order[1][0]:
        return order[0] < order[1]
    return record.started_at < ended


_PLACE = re.compile(r"([0-9]+):|i([0-9]+)$")


def _order(segment: str) -> tuple[str, int] | None:
    """Return what sort of sequence a segment of a path belongs to, and its place there; ``None`` for no sequence."""
    found = _PLACE.match(segment)
    if found is None:
        return None
    return ("step", int(found[1])) if found[1] is not None else ("iteration", int(found[2]))


def forked(record: RunRecord, run_id: str, at: str, now: float, fingerprint: str) -> RunRecord:
    """Return the record of a new run that begins as another one did."""
    return attrs.evolve(
        record,
        run_id=run_id,
        trace_id=run_id,
        status="running",
        fingerprint=fingerprint,
        created_at=now,
        updated_at=now,
        deadline_at=None,
        owner=None,
        epoch=1,
        lease_until=0.0,
        recoveries=0,
        usage=type(record.usage)(),
        error=None,
        pending=None,
        wake_at=None,
        metadata={**record.metadata, "forked_from": record.run_id, "forked_at": at},
    )
