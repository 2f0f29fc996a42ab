"""What a run returns: a result per step, and one for the run."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
from pydantic_core import to_jsonable_python

from ._usage import NO_USAGE, Usage
from .errors import FlowError, RunFailed, StepFailed

if TYPE_CHECKING:
    from ._pipeline import Pipeline
    from ._step import BaseStep

OutT = TypeVar("OutT", covariant=True)

DECISIONS = (
    "executed_branch_key", "selected_branches", "executed_branches", "failed_branches", "failed_items", "iterations",
    "exit_reason", "recovery", "retry_refused", "fallback_triggered", "validation_passed", "repairs", "cache_key",
)  # fmt: skip
"""Metadata of a step that is no content: decisions, in words of the author of the pipeline or in numbers."""


class RunStatus(enum.StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    LIMIT_EXCEEDED = "limit_exceeded"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    INTERRUPTED = "interrupted"


# Not frozen: the kernel fills in path, time and usage after the step has returned, and a frozen attrs __init__ with
# these fields costs 1.1 µs where this one costs 0.2. Treat a result you were given as read-only.
@attrs.define(eq=False)
class StepResult:
    """What one step did.

    ``children`` are the results of the steps inside it; ``usage`` includes theirs and that of failed attempts.
    ``replayed`` says that the result came from the journal, ``cached`` that it came from the cache. ``branch_context``
    is the context as the step left it, when it asked for the context.
    """

    name: str
    kind: str
    success: bool = True
    output: Any = None
    path: str = ""
    attempts: int = 1
    latency_s: float = 0.0
    usage: Usage = NO_USAGE
    feedback: str | None = None
    error: BaseException | None = None
    children: tuple[StepResult, ...] = ()
    branch_context: Any = None
    replayed: bool = False
    cached: bool = False
    _metadata: dict[str, Any] | None = attrs.field(default=None, alias="metadata")

    @classmethod
    def ok(cls, step: BaseStep[Any, Any] | Pipeline[Any, Any], output: Any, **fields: Any) -> StepResult:
        """Return a successful result of `step`; `fields` are further fields, such as ``metadata={...}``."""
        return cls(step.name, step.kind, True, output, **fields)

    @classmethod
    def failed(
        cls,
        step: BaseStep[Any, Any] | Pipeline[Any, Any],
        feedback: str,
        error: BaseException | None = None,
        **fields: Any,
    ) -> StepResult:
        """Return a failed result of `step`: `feedback` says why in words, `error` is the exception behind it."""
        return cls(step.name, step.kind, False, feedback=feedback, error=error or StepFailed(feedback), **fields)

    @property
    def metadata(self) -> dict[str, Any]:
        """Decisions and remarks by key, such as ``iterations`` or ``fallback_triggered``."""
        if self._metadata is None:
            self._metadata = {}  # made on demand: most results have none
        return self._metadata

    @property
    def cost_usd(self) -> float:
        """The money this step spent, in US dollars."""
        return self.usage.cost_usd

    @property
    def token_counts(self) -> int:
        """The tokens this step used, in and out."""
        return self.usage.total_tokens

    @property
    def halts_run(self) -> bool:
        """True when the failure ends the whole run (budget, deadline): containers stop and pass it on."""
        return isinstance(self.error, FlowError) and self.error.halts_run

    def walk(self) -> Iterator[StepResult]:
        """Yield this result and all those inside it, outermost first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for printing as JSON."""
        return {
            "name": self.name,
            "path": self.path,
            "kind": self.kind,
            "success": self.success,
            "output": self.output,
            "attempts": self.attempts,
            "latency_s": self.latency_s,
            "usage": attrs.asdict(self.usage),
            "cost_usd": self.cost_usd,
            "token_counts": self.token_counts,
            "feedback": self.feedback,
            "error": describe_error(self.error),
            "metadata": self.metadata,
            "replayed": self.replayed,
            "cached": self.cached,
            "children": [child.to_dict() for child in self.children],
        }


@attrs.frozen(kw_only=True)
class Pending:
    """A question a paused run waits for. Times are epoch seconds; `schema` is the JSON schema of the answer.

    ``since`` and ``deadline`` are those of the first time it was asked. ``step`` is the fingerprint of the step.
    """

    path: str
    message: str
    schema: Mapping[str, Any] | None = None
    since: float = 0.0
    deadline: float | None = None
    step: str = ""


@attrs.define(kw_only=True, eq=False)
class RunResult(Generic[OutT]):
    """What a run did: how it ended, every step, what it cost.

    ``output`` is the last step's output and raises `RunFailed` when the run did not complete.
    """

    run_id: str
    trace_id: str
    pipeline: str
    status: RunStatus
    step_history: list[StepResult]
    usage: Usage
    final_pipeline_context: Any
    _output: Any = attrs.field(default=None, alias="output")
    error: BaseException | None = None
    failed_path: str | None = None
    pending: list[Pending] = attrs.field(factory=list)
    started_at: float = 0.0
    latency_s: float = 0.0

    @property
    def success(self) -> bool:
        """True when every step completed."""
        return self.status is RunStatus.COMPLETED

    @property
    def output(self) -> OutT:
        """The last output. Raises `RunFailed`, naming the step path and the cause, when the run did not complete."""
        if not self.success:
            raise self._failure() from self.error
        return self._output  # type: ignore[no-any-return]

    @property
    def total_cost_usd(self) -> float:
        """The money the run spent, in US dollars."""
        return self.usage.cost_usd

    @property
    def total_tokens(self) -> int:
        """The tokens the run used, in and out."""
        return self.usage.total_tokens

    def walk(self) -> Iterator[StepResult]:
        """Yield every step result of the run, containers before what is inside them."""
        for result in self.step_history:
            yield from result.walk()

    def step(self, path_or_name: str) -> StepResult:
        """Return the result at a path, or the first with a name; `KeyError` lists the paths there are."""
        paths = []
        for result in self.walk():
            if path_or_name in (result.path, result.name):
                return result
            paths.append(result.path)
        raise KeyError(f"no step {path_or_name!r} in this run; there are: {', '.join(paths) or 'none'}")

    def _failure(self) -> RunFailed:
        where = f" at {self.failed_path}" if self.failed_path else ""
        if self.status is RunStatus.PAUSED:
            asked = "; ".join(f"{p.path}: {p.message}" for p in self.pending)
            hint = f'resume it with: await flow.resume_async("{self.run_id}", answer)'
            return RunFailed(f"run {self.run_id} is paused and waits for an answer ({asked})", hint=hint)
        failed = next((r for r in self.walk() if r.path == self.failed_path), None)
        cause = (failed.feedback if failed else None) or describe_error(self.error) or self.status.value
        return RunFailed(f"run {self.run_id} ended {self.status.value}{where}: {cause}", path=self.failed_path)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for printing as JSON."""
        context = self.final_pipeline_context
        return {
            "run_id": self.run_id,
            "trace_id": self.trace_id,
            "pipeline": self.pipeline,
            "status": self.status.value,
            "success": self.success,
            "output": self._output if self.success else None,
            "error": describe_error(self.error),
            "failed_path": self.failed_path,
            "usage": attrs.asdict(self.usage),
            "total_cost_usd": self.total_cost_usd,
            "total_tokens": self.total_tokens,
            "started_at": self.started_at,
            "latency_s": self.latency_s,
            "pending": [attrs.asdict(p) for p in self.pending],
            "final_pipeline_context": to_jsonable_python(context, serialize_unknown=True),
            "step_history": [result.to_dict() for result in self.step_history],
        }


_MOST_CAUSES = 5


def describe_causes(error: BaseException | None) -> str | None:
    """Say in one line what `error` is and what has caused it, as far as its own words do not say so.

    >>> try:
    ...     raise ValueError("no answer") from OSError("the disk is full")
    ... except ValueError as error:
    ...     print(describe_causes(error))
    ValueError: no answer; caused by OSError: the disk is full
    """
    text = describe_error(error)
    for _ in range(_MOST_CAUSES):
        if error is None or text is None:
            break
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        words = describe_error(error)
        if words is not None and words not in text:
            text = f"{text}; caused by {words}"
    return text


def describe_error(error: BaseException | None) -> str | None:
    """Say in one line what `error` is: flow's errors by their message, others with their type."""
    if error is None:
        return None
    return str(error) if isinstance(error, FlowError) else f"{type(error).__name__}: {error}"
