"""Runs in a state store: begun, and opened again."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import attrs
import orjson
from pydantic import BaseModel

from ._context import build_context
from ._journal import Journal
from ._pipeline import Pipeline
from ._protocols import RunRecord, StateBackend
from ._results import RunStatus
from ._run import Run
from ._serialize import INPUT, Codec, codec_for, dump_context, load_context
from .errors import ConfigurationError, NotPaused, PipelineChanged, RunNotFound


@attrs.frozen(eq=False)
class StoredRun:
    """A run read back from the store, ready to be executed again."""

    record: RunRecord
    journal: Journal
    data: Any
    context: BaseModel
    answers: Mapping[str, Any]


@attrs.frozen(eq=False)
class DurableRuns:
    """Begins and reopens the runs of one flow in one store.

    :ivar lease_s: seconds for which this process claims a run.
    """

    store: StateBackend
    pipeline: Pipeline[Any, Any]
    context_model: type[BaseModel]
    lease_s: float
    fingerprint: str = attrs.field(init=False)
    _input: Codec = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", self.pipeline.fingerprint)
        object.__setattr__(self, "_input", codec_for(self.pipeline.declared_types()[0]))

    async def begin(self, run: Run, data: Any) -> Journal:
        """Store a new run, claim it and return its journal; `SerializationError` when its input cannot be stored."""
        now = time.time()
        stored, typed = self._input.encode(data, path=INPUT)
        context = run.context
        values = (
            {} if context is None else {name: context.__getattribute__(name) for name in type(context).model_fields}
        )
        await self.store.create_run(
            RunRecord(
                run_id=run.run_id,
                trace_id=run.trace_id,
                pipeline=self.pipeline.name,
                fingerprint=self.fingerprint,
                input=stored,
                context=dump_context(self.context_model, values, path="initial"),
                created_at=now,
                updated_at=now,
                deadline_at=run.deadline_at,
                metadata={"input": "typed" if typed else "plain"},
            )
        )
        epoch = await self.store.claim_run(run.run_id, _owner(), self.lease_s)
        return Journal(self.store, run.run_id, epoch)

    async def reopen(
        self,
        run_id: str,
        *,
        answer: Any = None,
        answers: Mapping[str, Any] | None = None,
        on_change: str = "refuse",
    ) -> StoredRun:
        """Claim a stored run and read its input, context and journal."""
        record = await self.store.load_run(run_id)
        if record is None:
            raise RunNotFound(f"no run has the id {run_id!r}", hint="See the stored runs with: flow runs")
        if on_change not in ("refuse", "continue"):
            raise ConfigurationError(f"on_change is 'refuse' or 'continue', got {on_change!r}")
        if record.fingerprint != self.fingerprint and on_change == "refuse":
            raise PipelineChanged(
                f"run {run_id!r} began with another pipeline", hint='Pass on_change="continue" to run it with this one'
            )
        given = _answers(record, answer, answers)
        epoch = await self.store.claim_run(run_id, _owner(), self.lease_s)
        await self.store.update_run(run_id, epoch, status="running", error=None, pending=None)
        steps = await self.store.load_steps(run_id)
        values = load_context(self.context_model, record.context) if record.context else {}
        data = (
            self._input.decode(record.input, record.metadata.get("input") != "plain", path=INPUT)
            if record.input
            else None
        )
        return StoredRun(
            record=record,
            journal=Journal(self.store, run_id, epoch, steps),
            data=data,
            context=build_context(self.context_model, values, data),
            answers=given,
        )


def _answers(record: RunRecord, answer: Any, answers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Put answers to the paths that wait for them."""
    if answer is None and not answers:
        return {}
    if record.status != RunStatus.PAUSED:
        raise NotPaused(f"run {record.run_id!r} is {record.status} and waits for no answer")
    waiting = [item["path"] for item in orjson.loads(record.pending or b"[]")]
    if answers is None:
        if len(waiting) != 1:
            raise ConfigurationError(
                f"run {record.run_id!r} waits for {len(waiting)} answers",
                hint=f"Pass answers={{path: value}} for {waiting}",
            )
        return {waiting[0]: answer}
    unknown = sorted(set(answers) - set(waiting))
    if unknown:
        raise NotPaused(f"nothing waits at {', '.join(unknown)}; questions wait at {', '.join(waiting)}")
    return dict(answers)


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
