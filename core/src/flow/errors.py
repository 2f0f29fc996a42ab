"""Every error flow raises or reports, and the signals that are not errors.

::

    FlowError                     anything from flow: .code .message .path .hint .category
    ├── ConfigurationError        wrong use: raised, never turned into a failed step
    │   ├── MissingAgentError     a step has nothing to run
    │   ├── SettingsError         flow.toml, [tool.flow] or FLOW_* cannot be used
    │   ├── PluginError           a plugin that was asked for is absent, broken or incompatible
    │   └── RunningLoopError      ``Flow.run`` was called where ``await flow.run_async`` is needed
    ├── RunFailed                 ``result.output`` of a run that did not complete
    ├── StateError                the state store cannot be used as asked
    │   ├── StateBusy             another process holds it
    │   ├── StateCorrupt          its content is damaged
    │   ├── RunNotFound           no run has this id
    │   ├── RunOwned              another process executes this run
    │   ├── LeaseLost             this process no longer owns the run
    │   ├── NotPaused             an answer came for a run that asks nothing
    │   ├── AnswerInvalid         the answer does not fit its schema; the run stays paused
    │   ├── ReplayIncomplete      a run that is replayed has come to a step of which nothing is recorded
    │   └── PipelineChanged       the pipeline differs from the one the run started with
    ├── StepFailed                a step failed: what ``result.error`` holds
    │   ├── Escalated             a recovery policy says that nobody shall try again: ends the run
    │   ├── StepTimeout           one attempt took longer than ``timeout``
    │   ├── ValidationFailed      a validator or a declared type refused a value
    │   ├── PluginFailed          a validation plugin refused the output
    │   ├── InfiniteRedirect      validation plugins redirect in a circle
    │   ├── FallbackLoop          fallbacks refer to each other in a circle
    │   ├── ContextConflict       parallel branches changed one context field differently
    │   ├── SerializationError    a value cannot be stored or restored
    │   └── CircuitOpen           a circuit breaker rejects calls for ``retry_after`` seconds
    ├── UsageLimitExceeded        the budget is spent: ends the run
    └── DeadlineExceeded          the run's time is over: ends the run

    ControlSignal(BaseException)  not a failure: ``except Exception`` cannot swallow it
    ├── PauseSignal               the run waits for an answer
    └── CancelSignal              a step asks that the run be cancelled
        └── InterruptSignal       the process must stop: the run is left to be resumed
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from ._step import BaseStep


class ErrorCategory(enum.StrEnum):
    """What sort of failure an exception is; recovery strategies apply to categories."""

    CONTROL_FLOW = "control_flow"
    VALIDATION = "validation"
    PLUGIN = "plugin"
    TIMEOUT = "timeout"
    NETWORK = "network"
    RATE_LIMIT = "rate_limit"
    AUTHENTICATION = "authentication"
    RESOURCE = "resource"
    EXTERNAL_SERVICE = "external_service"
    USAGE = "usage"
    CONFIGURATION = "configuration"
    DATA = "data"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class FlowError(Exception):
    """Base of every flow error: catch it to catch "anything from flow".

    :param message: the cause, in one sentence.
    :param path: the step path it concerns, such as ``"2:refine/i3/0:generate"``.
    :param hint: what the reader can do about it.

    >>> error = FlowError("the file is gone", hint="restore it")
    >>> error.code, str(error)
    ('flow', 'the file is gone. restore it')
    """

    code: ClassVar[str] = "flow"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNKNOWN
    halts_run: ClassVar[bool] = False
    """True for errors that end the whole run: no retry, no fallback, siblings stop."""

    def __init__(self, message: str, *, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message.rstrip('.')}. {self.hint}" if self.hint else self.message


class ConfigurationError(FlowError):
    """Wrong use of flow: raised to the caller, never a failed result."""

    code = "configuration"
    category = ErrorCategory.CONFIGURATION


class MissingAgentError(ConfigurationError):
    """A step has no agent, so there is nothing to run."""

    code = "missing_agent"


class SettingsError(ConfigurationError):
    """A settings file or ``FLOW_*`` variable cannot be used."""

    code = "settings"


class PluginError(ConfigurationError):
    """A plugin that was asked for is absent, blocked, broken or incompatible."""

    code = "plugin"


class RunningLoopError(ConfigurationError, TypeError):
    """The synchronous facade was called inside a running event loop."""

    code = "running_loop"


class RunFailed(FlowError):
    """Raised by ``RunResult.output`` when the run did not complete; ``__cause__`` is the step's error."""

    code = "run_failed"


class StateError(FlowError):
    """The state store cannot do what was asked."""

    code = "state"
    category = ErrorCategory.RESOURCE


class StateBusy(StateError):
    """The store is held by somebody else; nothing was changed."""

    code = "state_busy"


class StateCorrupt(StateError):
    """The stored content is damaged; nothing was changed."""

    code = "state_corrupt"


class RunNotFound(StateError):
    """No run with this id is known."""

    code = "run_not_found"


class RunOwned(StateError):
    """Another process executes this run."""

    code = "run_owned"


class LeaseLost(StateError):
    """Another process took this run over; results of this one are discarded."""

    code = "lease_lost"


class NotPaused(StateError):
    """An answer was given to a run that waits for none."""

    code = "not_paused"


class AnswerInvalid(StateError):
    """The answer does not fit the schema of the question; the run stays paused."""

    code = "answer_invalid"
    category = ErrorCategory.VALIDATION


class ReplayIncomplete(StateError):
    """A run that is only replayed has come to a step of which nothing is recorded: what ``result.error`` holds."""

    code = "replay_incomplete"


class PipelineChanged(StateError):
    """The pipeline's structure differs from the one the stored run began with."""

    code = "pipeline_changed"


class StepFailed(FlowError):
    """A step failed. ``cause`` is the exception of the agent when there was one."""

    code = "step_failed"

    def __init__(
        self, message: str, *, path: str | None = None, hint: str | None = None, cause: BaseException | None = None
    ) -> None:
        super().__init__(message, path=path, hint=hint)
        self.__cause__ = cause

    @property
    def cause(self) -> BaseException | None:
        """The exception that made the step fail."""
        return self.__cause__


class Escalated(StepFailed):
    """A failure was escalated: no retry and no fallback of an enclosing step applies, the run fails.

    ``cause`` is the failure itself.
    """

    code = "escalated"
    halts_run = True


class StepTimeout(StepFailed, TimeoutError):
    """One attempt of a step took longer than its ``timeout`` (seconds)."""

    code = "step_timeout"
    category = ErrorCategory.TIMEOUT


class CheckFailed(StepFailed):
    """A check refused a value; ``output`` is what the step had produced."""

    code = "check_failed"
    category = ErrorCategory.VALIDATION

    def __init__(
        self,
        message: str,
        *,
        output: Any = None,
        path: str | None = None,
        hint: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message, path=path, hint=hint, cause=cause)
        self.output = output


class ValidationFailed(CheckFailed):
    """A validator, or the declared type of an input or output, refused a value."""

    code = "validation_failed"


class PluginFailed(CheckFailed):
    """A validation plugin refused the output."""

    code = "plugin_failed"
    category = ErrorCategory.PLUGIN


class InfiniteRedirect(StepFailed):
    """A validation plugin redirects to an agent that already ran in this attempt."""

    code = "infinite_redirect"
    category = ErrorCategory.CONFIGURATION


class FallbackLoop(StepFailed):
    """A step is, directly or not, its own fallback."""

    code = "fallback_loop"
    category = ErrorCategory.CONFIGURATION


class ContextConflict(StepFailed):
    """Branches changed the same context field to different values and no reducer says how to join them.

    :param field: the field, dotted for nested keys.
    :param branches: the names of the branches that disagree.
    """

    code = "context_conflict"
    category = ErrorCategory.DATA

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        branches: Sequence[str] = (),
        path: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, path=path, hint=hint)
        self.field = field
        self.branches = tuple(branches)


class SerializationError(StepFailed):
    """A value cannot be written as JSON with its declared type, or not read back."""

    code = "serialization"
    category = ErrorCategory.DATA


class CircuitOpen(StepFailed):
    """A circuit breaker rejects the call; ``retry_after`` is in seconds."""

    code = "circuit_open"
    category = ErrorCategory.EXTERNAL_SERVICE

    def __init__(self, message: str, *, retry_after: float, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, path=path, hint=hint)
        self.retry_after = retry_after


class UsageLimitExceeded(FlowError):
    """The budget of the run or of a step is spent.

    ``usage`` holds what was spent, ``limits`` what was allowed.
    """

    code = "usage_limit"
    category = ErrorCategory.USAGE
    halts_run = True

    def __init__(self, message: str, *, usage: Any = None, limits: Any = None, path: str | None = None) -> None:
        super().__init__(message, path=path)
        self.usage = usage
        self.limits = limits


class DeadlineExceeded(FlowError, TimeoutError):
    """The run's deadline has passed."""

    code = "deadline"
    category = ErrorCategory.TIMEOUT
    halts_run = True


class ControlSignal(BaseException):
    """Control flow, not failure: user code with ``except Exception`` cannot swallow it.

    No layer turns a control signal into a failed result; it reaches the runner as itself.
    """


class PauseSignal(ControlSignal):
    """The step needs an answer before it can go on.

    :param message: the question for the person who answers.
    :param schema: JSON schema of the answer, if one is declared.
    :param deadline: epoch seconds after which a default applies, if any.
    """

    def __init__(self, message: str, *, schema: Any = None, deadline: float | None = None, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.schema = schema
        self.deadline = deadline
        self.path = path
        self.step: BaseStep[Any, Any] | None = None
        """The step that asks; the kernel fills it in."""
        self.others: tuple[PauseSignal, ...] = ()
        """Further questions that wait at the same time, asked by steps that ran beside this one."""

    @classmethod
    def join(cls, signals: Sequence[PauseSignal]) -> PauseSignal:
        """Return one signal that carries the questions of all `signals`: the first, with the others attached."""
        first, *rest = signals
        first.others = (*first.others, *rest)
        return first

    def questions(self) -> Iterator[PauseSignal]:
        """Yield this signal and all that were joined to it."""
        yield self
        for other in self.others:
            yield from other.questions()


class CancelSignal(ControlSignal):
    """A step asks that the run be cancelled; the result has the status ``cancelled``."""

    def __init__(self, reason: str = "cancelled by a step") -> None:
        super().__init__(reason)
        self.reason = reason


class InterruptSignal(CancelSignal):
    """The process must stop, the run need not: it is stored as ``interrupted`` and waits to be resumed."""

    def __init__(self, reason: str = "interrupted") -> None:
        super().__init__(reason)


__all__ = sorted(name for name, value in globals().items() if isinstance(value, type) and value.__module__ == __name__)  # pyright: ignore[reportUnsupportedDunderAll]
