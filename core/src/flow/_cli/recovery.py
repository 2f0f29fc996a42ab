"""Recovers the orphaned runs of one or several apps, and tells what became of each."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import attrs
import typer

from .._blocking import run_sync
from .._durable import DEAD, DurableRuns
from .._flow import Flow
from .._protocols import RunRecord, StateBackend
from .._results import RunResult, RunStatus
from ..errors import ConfigurationError, FlowError, LeaseLost, PipelineChanged, RunNotFound, RunOwned
from . import report
from .interruption import Interruption, leave_threads_behind
from .remembered import app_of
from .run_views import RUNNING, is_orphaned
from .session import Session
from .store import Store, every_run, store_of
from .target import imported_apart, load_flow
from .wording import lines_of, one_line

_FINE = (RunStatus.COMPLETED, RunStatus.PAUSED, RunStatus.INTERRUPTED)


@attrs.define(kw_only=True)
class Recovery:
    """How runs are recovered, and what has become of them so far.

    :ivar results: of the runs that were continued.
    :ivar alive: ids of runs that a living process executes.
    :ivar parked: ids of runs that are dead from now on, `dead` of those that were before.
    :ivar refused: runs that could not be continued, and why.
    :ivar not_begun: how many were left when a signal came.
    """

    on_change: Literal["refuse", "continue"]
    max_recoveries: int
    concurrency: int
    as_json: bool
    results: list[RunResult[Any]] = attrs.field(factory=list)
    alive: list[str] = attrs.field(factory=list)
    parked: list[str] = attrs.field(factory=list)
    dead: list[str] = attrs.field(factory=list)
    refused: list[tuple[str, FlowError]] = attrs.field(factory=list)
    not_begun: int = 0
    interruption: Interruption = attrs.field(factory=Interruption)
    _last_hint: str | None = None

    def run(self, targets: Sequence[str], state: str | None) -> None:
        """Recover the runs of the apps that are named, or those of the apps that runs remember."""
        with self.interruption, Session(as_json=self.as_json).own_stdout():
            if not targets:
                self._by_memory(store_of(state))
            for target in targets:
                with imported_apart():
                    flow = load_flow(target)
                    store = store_of(state, flow)
                    self._recover(flow, store, self._orphans(store, flow.pipeline.name))

    def _by_memory(self, store: Store) -> None:
        groups: dict[str, list[RunRecord]] = {}
        for run in self._orphans(store):
            try:
                groups.setdefault(app_of(run), []).append(run)
            except ConfigurationError as error:
                self._refuse(run.run_id, error)
        for target, runs in groups.items():
            with imported_apart():
                try:
                    flow = load_flow(target)
                except FlowError as error:
                    for run in runs:
                        self._refuse(run.run_id, error)
                    continue
                self._recover(flow, store, runs)

    # -- finding

    def _orphans(self, store: Store, pipeline: str | None = None) -> list[RunRecord]:
        """Return the runs that nobody executes, the oldest first."""
        runs = run_sync(_unfinished(store, pipeline), "recover", "recover_async")
        self.dead += [run.run_id for run in runs if run.status == DEAD and run.run_id not in self.parked]
        alive = [run.run_id for run in runs if run.status == RUNNING and not is_orphaned(run)]
        self.alive += alive
        return sorted(
            (run for run in runs if run.status != DEAD and run.run_id not in alive), key=lambda run: run.created_at
        )

    # -- continuing

    def _recover(self, flow: Flow[Any, Any], store: Store, runs: Sequence[RunRecord]) -> None:
        if runs:
            flow = flow.evolve(state=store.where)
            run_sync(self._recover_all(flow, runs), "recover", "recover_async")

    async def _recover_all(self, flow: Flow[Any, Any], runs: Sequence[RunRecord]) -> None:
        slots = asyncio.Semaphore(self.concurrency)
        stopping: list[asyncio.Task[bool]] = []  # the loop itself keeps no task alive
        async with flow:
            self.interruption.cancels(lambda: stopping.append(asyncio.ensure_future(flow.interrupt())))
            durable = flow._require_store()
            async with asyncio.TaskGroup() as group:
                for run in runs:
                    group.create_task(self._recover_one(flow, durable, run.run_id, slots))

    async def _recover_one(
        self, flow: Flow[Any, Any], durable: DurableRuns, run_id: str, slots: asyncio.Semaphore
    ) -> None:
        async with slots:
            if self.interruption.signal is not None:
                self.not_begun += 1
                return
            try:
                stored = await durable.reopen_orphan(
                    run_id, on_change=self.on_change, max_recoveries=self.max_recoveries
                )
                if stored is None:
                    await self._note_parked(durable.store, run_id)
                    return
                running = asyncio.ensure_future(flow._resume(stored))
                await asyncio.sleep(0)  # from here on it can be interrupted
                if self.interruption.signal is not None:
                    await flow.interrupt(run_id)
                self._note(await running)
            except (RunOwned, LeaseLost):
                self.alive.append(run_id)
            except RunNotFound:
                return  # forgotten since it was listed
            except PipelineChanged as changed:
                self._refuse(run_id, report.typed_hint(changed))
            except FlowError as error:
                self._refuse(run_id, error)

    # -- telling

    async def _note_parked(self, store: StateBackend, run_id: str) -> None:
        run = await store.load_run(run_id)
        if run is not None and run.status == DEAD:
            self.parked.append(run_id)
            self._print(f"{one_line(run.pipeline)}: parked, {one_line(run.error or '')}, run {run_id}")

    def _note(self, result: RunResult[Any]) -> None:
        self.results.append(result)
        self._print(f"{one_line(result.pipeline)}: {report.summary(result)}")
        if result.status not in _FINE:
            self._print(f"  {one_line(report.failure_of(result).message, 500)}")
        for question in result.pending:
            self._print(f"  {one_line(question.path)} asks: {one_line(question.message, 300)}")

    def _refuse(self, run_id: str, error: FlowError) -> None:
        self.refused.append((run_id, error))
        first, *more = lines_of(error.message)
        named = first.startswith((f"run {run_id} ", f"run {run_id!r}"))
        self._print(f"not recovered: {'' if named else f'run {run_id}: '}{first}")
        for line in more:
            self._print(f"  {line}")
        if error.hint and error.hint != self._last_hint and not self.as_json:
            typer.echo(f"hint: {error.hint}", err=True)
        self._last_hint = error.hint

    def _print(self, line: str) -> None:
        if not self.as_json:
            typer.echo(line)

    # -- ending

    def finish(self) -> None:
        """Print the sum of it; raises `typer.Exit` unless all went well."""
        if self.as_json:
            self._print_json()
        typer.echo(self._summary(), err=True)
        if self.dead:
            some = ", ".join(self.dead[:5]) + (", ..." if len(self.dead) > 5 else "")
            typer.echo(f"parked earlier: {some}; flow resume continues one", err=True)
        code = self.interruption.exit_code or int(bool(self.refused or self.parked or self._failed))
        leave_threads_behind(code)
        if code:
            raise typer.Exit(code)

    @property
    def _failed(self) -> bool:
        return any(result.status not in _FINE for result in self.results)

    def _summary(self) -> str:
        statuses = Counter(result.status.value.replace("_", " ") for result in self.results)
        what = ", ".join(f"{count} {status}" for status, count in statuses.items())
        parts = [f"recovered {_runs(len(self.results))}{f': {what}' if what else ''}"]
        if self.alive:
            parts.append(f"{_runs(len(self.alive))} left to the living process")
        if self.refused:
            parts.append(f"{_runs(len(self.refused))} not recovered")
        if self.parked:
            parts.append(f"{_runs(len(self.parked))} parked")
        if self.interruption.signal is not None:
            parts.append(f"interrupted by {self.interruption.signal.name}, {_runs(self.not_begun)} not begun")
        return "; ".join(parts) if len(parts) > 1 or self.results else "nothing to recover"

    def _print_json(self) -> None:
        report.print_json(
            {
                "results": [json.loads(report.result_as_json(result)) for result in self.results],
                "alive": self.alive,
                "refused": [
                    {"run_id": run_id, "code": error.code, "error": error.message, "hint": error.hint}
                    for run_id, error in self.refused
                ],
                "parked": self.parked,
                "dead": self.dead,
            }
        )


async def _unfinished(store: Store, pipeline: str | None) -> list[RunRecord]:
    filters: list[dict[str, Any]] = [{"status": RUNNING}, {"status": "interrupted"}, {"status": DEAD}]
    filters.append({"status": "paused", "due": time.time()})
    async with store.opened() as backend:
        return [run for wanted in filters async for run in every_run(backend, pipeline=pipeline, **wanted)]


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"
