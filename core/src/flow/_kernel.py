"""The kernel: turns declared steps into functions, once, by asking the plugins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ._events import EventKind
from ._pipeline import Pipeline
from ._plugins import PluginKind, Plugins
from ._protocols import CacheBackend, Engine, Execute, Layer, StateBackend, Tracer, Wrapper
from ._results import StepResult
from ._run import Scope
from ._settings import Settings
from ._urls import without_password
from .errors import CheckFailed, ConfigurationError, ControlSignal, FallbackLoop, FlowError, PauseSignal, StateError

if TYPE_CHECKING:
    from ._run import Run
    from ._step import BaseStep

T = TypeVar("T")
_clock = time.perf_counter

_LAYER_OF_FIELD = {
    "cache": Layer.CACHE,
    "fallback": Layer.FALLBACK,
    "retries": Layer.RETRY,
    "timeout": Layer.TIMEOUT,
    "validators": Layer.CHECK,
    "plugins": Layer.CHECK,
    "processors": Layer.CHECK,
}


@attrs.frozen(eq=False)
class Services:
    """What a `Flow` opened for its runs: bound steps get layers only for what is there.

    :ivar policies: those of the whole flow, for plugins that know what to do with them; `Binder.policies` tells those
        of a step.
    """

    state: StateBackend | None = None
    cache: CacheBackend | None = None
    tracers: Sequence[Tracer] = ()
    policies: Sequence[Any] = ()


@attrs.frozen(eq=False)
class Binder:
    """Binds one step: plugins get it to bind children and to read what the user attached.

    :ivar kernel: the kernel that binds.
    :ivar segment: the part of the path that stands for this step, such as ``"2:refine"``.
    :ivar services: the state store, cache and tracers of the flow.
    """

    kernel: Kernel
    segment: str
    services: Services
    _fallbacks: tuple[BaseStep[Any, Any], ...] = ()

    def bind(self, child: BaseStep[Any, Any] | Pipeline[Any, Any], segment: str = "") -> Execute:
        """Return the execute of `child`; its path is the scope's it is called with, then `segment`."""
        return self.kernel.bind(child, segment, services=self.services)

    def bind_fallback(self, step: BaseStep[Any, Any], fallback: BaseStep[Any, Any]) -> Execute:
        """Return the execute of `fallback`, whose path is below that of `step`; raises when fallbacks form a circle."""
        chain = (*self._fallbacks, step)
        if any(fallback is earlier for earlier in chain):
            names = " -> ".join(item.name for item in (*chain, fallback))
            raise FallbackLoop(f"the fallbacks of step {chain[0].name!r} form a circle: {names}")
        return self.kernel.bind(fallback, "fallback", services=self.services, fallbacks=chain)

    def policy(self, step: BaseStep[Any, Any], kind: type[T]) -> T | None:
        """Return the policy of a type that is attached to `step`, the last one when there are several."""
        found = self.policies(step, kind)
        return found[-1] if found else None

    def policies(self, step: BaseStep[Any, Any], kind: type[T]) -> list[T]:
        """Return all policies of a type that are attached to `step`, in their order."""
        return [policy for policy in step.policies if isinstance(policy, kind)]


class Kernel:
    """Binds pipelines and opens backends through the plugins it knows.

    :param settings: where state, cache and tracers come from when a `Flow` does not say; loaded when ``None``.
    :param only: names of the distributions or plugins that may be seen beside the kernel's own; ``None`` for all.
    :param plugins: modules with hook implementations to use although no distribution declares them.

    Raises `PluginError` when nothing is called what `only` names.

    >>> from flow import Step
    >>> callable(Kernel().bind(Step("upper", str.upper)))
    True
    """

    def __init__(
        self, settings: Settings | None = None, *, only: Iterable[str] | None = None, plugins: Iterable[object] = ()
    ) -> None:
        self.settings = Settings.load() if settings is None else settings
        visible = None if only is None else list(only)
        self.plugins = Plugins(self.settings, only=visible, modules=plugins)
        for name in visible or ():
            self.plugins.catalogue.named(name)  # a name that nothing answers to is a mistake, not an empty kernel
        self.plugins.load_policies()
        self._engines: dict[str, Engine] = {}

    @property
    def hook(self) -> Any:
        """The hook relay: ``kernel.hook.flow_bind_step(step=..., binder=...)``."""
        return self.plugins.hook

    def bind(
        self,
        step: BaseStep[Any, Any] | Pipeline[Any, Any],
        segment: str = "",
        *,
        services: Services | None = None,
        fallbacks: tuple[BaseStep[Any, Any], ...] = (),
    ) -> Execute:
        """Return the coroutine function that runs `step` with all its layers.

        Every step at every depth comes through here. Raises `ConfigurationError` when the step cannot be run.
        """
        binder = Binder(self, segment, services or Services(), fallbacks)
        execute = self._execute(step, binder)
        if isinstance(step, Pipeline):
            return execute
        wrappers = self._wrappers(step, binder)
        self._check_layers(step, {wrapper.layer for wrapper in wrappers})
        for wrapper in sorted(wrappers, key=lambda wrapper: wrapper.layer, reverse=True):
            execute = wrapper.wrap(execute)
        return _in_scope(step, segment, execute)

    def open_state(self, url: str) -> StateBackend:
        """Open the state store at `url`; raises `PluginError` when no plugin knows the scheme."""
        return self._open(PluginKind.STATE, url, self.hook.flow_open_state)  # type: ignore[no-any-return]

    def open_cache(self, url: str) -> CacheBackend:
        """Open the cache at `url`; raises `PluginError` when no plugin knows the scheme."""
        return self._open(PluginKind.CACHE, url, self.hook.flow_open_cache)  # type: ignore[no-any-return]

    def open_engine(self, url: str) -> Engine:
        """Open the engine at `url`, once; raises `PluginError` when no plugin knows the scheme."""
        if url not in self._engines:
            self._engines[url] = self._open(PluginKind.ENGINES, url, self.hook.flow_open_engine)
        return self._engines[url]

    def open_tracer(self, name: str) -> Tracer:
        """Open the tracer called `name`; raises `PluginError` when no plugin offers it."""
        return self._ask(PluginKind.TRACERS, name, self.hook.flow_open_tracer, name=name)  # type: ignore[no-any-return]

    def _open(self, kind: PluginKind, url: str, opener: Any) -> Any:
        scheme, separator, _ = url.partition("://")
        if not separator:
            hint = "Write it like memory:// or scheme:///path"
            raise ConfigurationError(f"{without_password(url)!r} is not a {kind.value} URL", hint=hint)
        return self._ask(kind, scheme, opener, url=url)

    def _ask(self, kind: PluginKind, wanted: str, opener: Any, **what: str) -> Any:
        """Load the plugin behind `wanted`, if a distribution declares one, and let the plugins open it."""
        contribution = self.plugins.find(kind, wanted)
        if contribution is not None:
            self.plugins.load(kind, wanted)
        opened = opener(**what, settings=self.settings.for_plugin(wanted))
        if opened is not None:
            return opened
        if contribution is None:
            raise self.plugins.catalogue.missing(kind, wanted)
        (asked,) = what.values()
        raise ConfigurationError(f"the plugin behind {kind.value} {wanted!r} did not open {without_password(asked)!r}")

    def _execute(self, step: BaseStep[Any, Any] | Pipeline[Any, Any], binder: Binder) -> Execute:
        if self.plugins.find(PluginKind.STEPS, step.kind) is not None:
            self.plugins.load(PluginKind.STEPS, step.kind)
        execute: Execute | None = self.hook.flow_bind_step(step=step, binder=binder)
        if execute is None:
            raise ConfigurationError(
                f"step {step.name!r} is of kind {step.kind!r}, which no installed plugin runs",
                hint="See the kinds with: flow plugins list --kind steps --all",
            )
        return execute

    def _wrappers(self, step: BaseStep[Any, Any], binder: Binder) -> list[Wrapper]:
        wrappers = [w for w in self.hook.flow_wrap_step(step=step, binder=binder) if w is not None]
        may_be_retried = any(wrapper.layer is Layer.RETRY for wrapper in wrappers)
        for tracer in binder.services.tracers:
            if (wrap := tracer.wrap_step(step, binder)) is not None:
                wrappers.append(Wrapper(Layer.TRACE, wrap))
            # At the end of the list, so that it is the outermost of its layer: an attempt is all that is retried.
            if may_be_retried and (wrap := tracer.wrap_attempt(step, binder)) is not None:
                wrappers.append(Wrapper(Layer.GUARD, wrap))
        return wrappers

    def _check_layers(self, step: BaseStep[Any, Any], present: set[Layer]) -> None:
        for field, layer in _LAYER_OF_FIELD.items():
            if layer not in present and step.__getattribute__(field) and field != "cache":
                raise ConfigurationError(
                    f"step {step.name!r} sets {field}, but no plugin provides the {layer.name} layer",
                    hint="A plugin of flow-core is blocked: see flow plugins list --all",
                )


@cache
def default_kernel() -> Kernel:
    """Return the kernel of this process: all installed plugins, settings of the working directory."""
    return Kernel()


def _in_scope(step: BaseStep[Any, Any], segment: str, execute: Execute) -> Execute:
    """Go around all layers of `step`: give it a scope, and complete and record its result."""
    limits = step.usage_limits
    suffix = f"/{segment}" if segment else ""

    # One function and not five, because it runs once per step: 0.6 µs as it is, 0.15 more for each call moved out.
    async def run_step(data: Any, scope: Scope) -> StepResult:
        run = scope.run
        if run.interruption is not None or (run.deadline is not None and run.overdue()):
            raise asyncio.CancelledError
        path = scope.path + suffix if scope.path else segment
        own = Scope(run, path, scope, True)
        own.limits = limits
        if run.observers is not None:
            await run.publish(EventKind.STEP_STARTED, path, step=step.name, step_kind=step.kind, data=data)
        started = _clock()
        try:
            result = await execute(data, own)
            if own._context is not None:
                result.branch_context = own._context
                if result.success and not result.replayed:
                    own.commit(own.changes())
        except StateError:
            raise  # what happened cannot be recorded, so nothing further may run
        except Exception as error:  # noqa: BLE001  an agent may raise anything; it becomes the step's failure
            result = failed_result(step, error, attempts=own.attempt)
        except BaseException as raised:  # noqa: BLE001  signals and cancellation, which go on below
            signal = _signal_of(raised)
            await _interrupted(step, scope, own, started, signal)
            raise signal from None
        result.latency_s = _clock() - started
        result.path = path
        if own._items is not None:
            result.children = result.children or own.history
            own._items = None  # scopes below refer back: freed here at once, and not by the garbage collector
        if own._spent is not None:
            result.usage = own._spent
            if (result.success or not result.halts_run) and not (result.replayed and _is_replayed_on(run, path)):
                breach = own.breach()
                if breach is not None:
                    result.success, result.error, result.feedback = False, breach, breach.message
                    if run.observers is not None:
                        await run.publish(EventKind.LIMIT, path, step=step.name, step_kind=step.kind, error=breach)
        scope.record(result)
        if run.observers is not None:
            await run.publish(EventKind.STEP_FINISHED, path, step=step.name, step_kind=step.kind, result=result)
        return result

    return run_step


def _is_replayed_on(run: Run, path: str) -> bool:
    """Tell whether further records follow that of a replayed step: then a later one may have breached a limit."""
    return run.journal is not None and not run.journal.ends_with(path)


def _signal_of(raised: BaseException) -> BaseException:
    """Return what `raised` means: a task group wraps the signals of its tasks, which go on as themselves."""
    if not isinstance(raised, BaseExceptionGroup):
        return raised
    signals = list(_leaves(raised))
    pauses = [signal for signal in signals if isinstance(signal, PauseSignal)]
    other = next((s for s in signals if isinstance(s, ControlSignal) and not isinstance(s, PauseSignal)), None)
    return other or (PauseSignal.join(pauses) if pauses else raised)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _interrupted(
    step: BaseStep[Any, Any], scope: Scope, own: Scope, started: float, signal: BaseException
) -> None:
    """Keep what finished inside a step that was paused or cancelled; the signal goes on as itself."""
    paused = isinstance(signal, PauseSignal)
    if isinstance(signal, PauseSignal) and not signal.path:
        signal.path, signal.step = own.path, step
    children = own.history
    if children or not paused:  # a question itself is not history: it has not been answered yet
        feedback = "waits for an answer" if paused else "cancelled"
        result = StepResult.failed(step, feedback, signal, children=children, usage=own.usage)
        result.path, result.latency_s = own.path, _clock() - started
        scope.record(result)
    if scope.run.observers is not None:
        kind = EventKind.PAUSED if paused else EventKind.CANCELLED
        await scope.run.publish(kind, own.path, step=step.name, step_kind=step.kind, error=signal)


def failed_result(step: BaseStep[Any, Any], error: Exception, *, attempts: int = 1) -> StepResult:
    """Turn an exception into the failed result of `step`, with the feedback text people see."""
    output = error.output if isinstance(error, CheckFailed) and not _is_gate(step) else None
    return StepResult.failed(step, feedback_of(error), error, output=output, attempts=attempts)


def feedback_of(error: BaseException) -> str:
    """Say why an attempt failed: flow's own failures in their words, an agent's with the exception's type."""
    if isinstance(error, FlowError):
        return str(error)
    return f"Agent failed with {type(error).__name__}: {error}"


def _is_gate(step: BaseStep[Any, Any]) -> bool:
    from ._step import Step

    return isinstance(step, Step) and step.gate
