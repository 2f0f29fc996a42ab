"""What plugins implement: the shapes the kernel calls, and the records it hands to stores."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import attrs

from ._usage import NO_USAGE, Usage

if TYPE_CHECKING:
    from ._events import Event
    from ._kernel import Binder
    from ._results import StepResult
    from ._run import Run, Scope
    from ._step import BaseStep

Execute: TypeAlias = Callable[[Any, "Scope"], Awaitable["StepResult"]]
"""What runs a bound step: ``await execute(data, scope)``."""

Wrap: TypeAlias = Callable[[Execute], Execute]

_In = TypeVar("_In", contravariant=True)
_Out = TypeVar("_Out", covariant=True)
_Context = TypeVar("_Context", contravariant=True)


class Layer(enum.IntEnum):
    """Where a wrapper sits around a step; smaller is further out.

    >>> Layer.RETRY < Layer.TIMEOUT   # each attempt gets the full timeout
    True
    """

    TRACE = 10
    JOURNAL = 20
    CACHE = 30
    PLACE = 40
    FALLBACK = 50
    RETRY = 60
    GUARD = 70
    TIMEOUT = 80
    CHECK = 90
    CALL = 100


@attrs.frozen
class Wrapper:
    """A layer around one step: ``wrap(execute)`` returns the execute that replaces it."""

    layer: Layer
    wrap: Wrap


@runtime_checkable
class AsyncAgentProtocol(Protocol[_In, _Out]):
    """An agent: an object with an async ``run(data)``; it gets ``context``, ``resources``, ``run`` by naming them."""

    async def run(self, data: _In, **kwargs: Any) -> _Out:
        """Do the work for `data` and return the output."""
        ...


@runtime_checkable
class ContextAwareAgentProtocol(Protocol[_In, _Out, _Context]):
    """An agent whose ``run`` also takes the typed pipeline context."""

    async def run(self, data: _In, *, context: _Context, **kwargs: Any) -> _Out:
        """Do the work for `data`; writes to `context` persist when the step succeeds."""
        ...


class Tracer:
    """Watches runs. Subclass and override what you need; every method defaults to doing nothing.

    ``on_event`` gets each event in order, off the step's path; for a tracer that leaves it as it is no event is built.
    ``wrap_step`` may return a wrap for the ``TRACE`` layer, for tracers that must make a span current while the step
    runs; ``wrap_attempt`` does the same for each attempt, ``around_run`` for a run.
    """

    def around_run(self, run: Run) -> AbstractContextManager[Any]:
        """Return a context manager that is entered around the whole run, before a new run is stored.

        What it adds to ``run.metadata`` is kept with a stored run: at once for a new one, with the end of this
        execution for one that is resumed (``run.resumed``), whose metadata is what was kept before; a fork begins with
        that of the run it comes from. When the context manager is left, ``run.result`` says how the run has ended.
        """
        return nullcontext()

    def wrap_step(self, step: BaseStep[Any, Any], binder: Binder) -> Wrap | None:
        """Return a wrap for this step, or ``None`` when events are enough (asked once, at bind time)."""

    def wrap_attempt(self, step: BaseStep[Any, Any], binder: Binder) -> Wrap | None:
        """Return a wrap for each attempt of this step, or ``None``; ``scope.attempt`` is its number.

        Asked once, at bind time, and only for steps that may be retried.
        """

    def on_event(self, event: Event) -> Awaitable[None] | None:
        """Take one event; may be a coroutine. An exception disables this tracer for the rest of the run."""

    async def aclose(self) -> None:
        """Flush and release what the tracer holds."""


@attrs.frozen(kw_only=True)
class StepRecord:
    """One finished step in the journal of a run. ``output``, ``changes`` and ``metadata`` are JSON text.

    ``typed`` says whether the output was written with the type that the step declares, or is plain JSON.
    """

    path: str
    parent: str
    name: str
    kind: str
    status: str
    output: bytes | None = None
    typed: bool = True
    changes: bytes | None = None
    metadata: bytes | None = None
    usage: Usage = NO_USAGE
    attempts: int = 1
    started_at: float = 0.0
    latency_s: float = 0.0
    feedback: str | None = None
    error: str | None = None


@attrs.frozen(kw_only=True)
class RunRecord:
    """A run as a store knows it. Times are epoch seconds; ``input``, ``context`` and ``pending`` are JSON text.

    ``owner`` and ``lease_until`` say which process executes the run and until when it has promised to show itself
    again. ``wake_at`` is when a paused run has something to do although nobody has answered.
    """

    run_id: str
    pipeline: str
    fingerprint: str
    status: str = "running"
    trace_id: str = ""
    input: bytes | None = None
    context: bytes | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    deadline_at: float | None = None
    owner: str | None = None
    epoch: int = 0
    lease_until: float = 0.0
    recoveries: int = 0
    usage: Usage = NO_USAGE
    error: str | None = None
    pending: bytes | None = None
    wake_at: float | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict, hash=False)


INTERNAL_METADATA = frozenset({"input", "traceparent", "usage_limits"})
"""Keys of `RunRecord.metadata` that the kernel and its tracers use, and nobody wants to read or search."""


def search_texts(run: RunRecord) -> list[str]:
    """Return the texts in which ``list_runs(text=...)`` looks: id, pipeline, error, and the values of the metadata.

    >>> search_texts(RunRecord(run_id="r1", pipeline="audit", fingerprint="", metadata={"ticket": "A-17"}))
    ['r1', 'audit', 'A-17']
    """
    told = [value for name, value in run.metadata.items() if name not in INTERNAL_METADATA]
    return [run.run_id, run.pipeline, *([run.error] if run.error else ()), *told]


def holds_text(run: RunRecord, text: str) -> bool:
    """Tell whether `text` stands in one of the `search_texts` of a run, ASCII letters in either case.

    >>> run = RunRecord(run_id="r1", pipeline="Audit", fingerprint="")
    >>> holds_text(run, "audit"), holds_text(run, "report")
    (True, False)
    """
    wanted = _ascii_lower(text)
    return any(wanted in _ascii_lower(told) for told in search_texts(run))


def _ascii_lower(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").lower()  # of bytes, only ASCII letters have a lower case


class StateBackend(Protocol):
    """A store of runs and their journals.

    A write to a run names the epoch that `claim_run` returned; a store refuses it with `LeaseLost` when the run was
    claimed again since, in the same transaction as the write. A method that returns has stored what it was given;
    one that raises has stored nothing of it. ``sync=False`` allows a store to return when the write survives the end
    of the process but not yet a loss of power. Run ids were checked before they come here.
    """

    async def create_run(self, run: RunRecord, lease_s: float = 0.0, *, sync: bool = True) -> None:
        """Store a new run; `StateError` when the id is taken.

        A record that names an owner is claimed by it, with the record's epoch, for `lease_s` seconds.
        """
        ...

    async def load_run(self, run_id: str) -> RunRecord | None:
        """Return the run, or ``None`` when it is unknown."""
        ...

    async def claim_run(self, run_id: str, owner: str, lease_s: float) -> int:
        """Make `owner` the one execution of the run for `lease_s` seconds and return the new, higher epoch.

        `RunNotFound` when it is unknown; `RunOwned` when another owner holds a lease that `lease_is_over` denies.
        """
        ...

    async def renew_run(self, run_id: str, epoch: int, lease_s: float) -> None:
        """Prolong the lease to `lease_s` seconds from now; `LeaseLost` when the run was claimed by another since."""
        ...

    async def append_steps(self, run_id: str, epoch: int, records: Sequence[StepRecord], *, sync: bool = True) -> None:
        """Add finished steps, all or none of them; a later record for the same path replaces an earlier one."""
        ...

    async def load_steps(self, run_id: str) -> Sequence[StepRecord]:
        """Return the journal in the order in which it was written, replaced records where they were replaced."""
        ...

    async def update_run(self, run_id: str, epoch: int, *, sync: bool = True, **changes: Any) -> None:
        """Change fields of the `RunRecord`: status, usage, error, pending and the like.

        ``owner=None`` gives the run free. The store itself keeps ``epoch``, ``lease_until`` and ``updated_at``.
        """
        ...

    async def list_runs(
        self,
        *,
        status: str | None = None,
        pipeline: str | None = None,
        since: float | None = None,
        due: float | None = None,
        id_prefix: str | None = None,
        text: str | None = None,
        min_cost_usd: float | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> Sequence[RunRecord]:
        """Return the newest runs first: those with all the given values.

        `since` is the earliest ``created_at``, `due` the latest ``wake_at``; runs without one are never due.
        `id_prefix` is how the id begins, `min_cost_usd` the least that was spent, and `text` stands in one of the
        `search_texts`, ASCII letters in either case.
        """
        ...

    async def delete_run(self, run_id: str) -> bool:
        """Forget one run and its journal; ``False`` when it was unknown."""
        ...

    async def prune(self, *, older_than: float, keep: int = 0) -> int:
        """Forget runs that have ended and were last changed before the epoch second `older_than`.

        Runs that are running, paused or interrupted stay, and so do the `keep` newest of the ended ones.
        Returns how many were forgotten.
        """
        ...

    async def save_pipeline(self, fingerprint: str, structure: bytes) -> None:
        """Keep the JSON text that describes a pipeline under its fingerprint, so that differences can be shown."""
        ...

    async def load_pipeline(self, fingerprint: str) -> bytes | None:
        """Return what `save_pipeline` kept, or ``None``."""
        ...

    async def aclose(self) -> None:
        """Finish what was begun and release what the backend holds; used afterwards, it opens again or raises."""
        ...


class CacheBackend(Protocol):
    """A store of computed results: bytes under a key, for a time."""

    async def get(self, key: bytes) -> bytes | None:
        """Return the value, or ``None`` when there is none or it has expired."""
        ...

    async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> None:
        """Keep `value` for `ttl` seconds, or until room is needed when `ttl` is ``None``."""
        ...

    async def aclose(self) -> None:
        """Release what the backend holds."""
        ...


@runtime_checkable
class AroundRun(Protocol):
    """A policy of a flow that does something while runs are active."""

    def around_run(self, run: Run) -> AbstractContextManager[Any]:
        """Return a context manager that is entered around each whole run."""
        ...


@runtime_checkable
class FiltersEvents(Protocol):
    """A policy of a flow that decides what listeners are told."""

    def filter_event(self, event: Event) -> Event | None:
        """Return the event that is handed to listeners in the place of `event`, or ``None`` for none."""
        ...


class Engine(Protocol):
    """Runs steps elsewhere: another process, another machine."""

    def place(self, step: BaseStep[Any, Any], binder: Binder) -> Wrap:
        """Return the wrap that ships the inner layers of `step` to the engine."""
        ...

    async def aclose(self) -> None:
        """Release workers and connections."""
        ...
