"""What a flow opened and bound, once, for all its runs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from typing import Any, Protocol

import attrs

from ._durable import DurableRuns
from ._events import Event, EventFilter, Listener, Observers
from ._execution import execute_run
from ._kernel import Kernel, Services
from ._pipeline import Pipeline
from ._plugins import PluginKind
from ._protocols import AroundRun, CacheBackend, Execute, FiltersEvents, StateBackend, Tracer
from ._results import RunResult
from ._run import Run
from .errors import ConfigurationError

logger = logging.getLogger("flow")


class _NoState:
    """Says that no store is to be opened, also when a setting names one."""


NO_STATE = _NoState()


class Closable(Protocol):
    """Something that is closed when the flow is."""

    async def aclose(self) -> None:
        """Release what is held."""
        ...


@attrs.frozen(eq=False)
class Bound:
    """A pipeline that is ready to run: its execute, its services, and what must be closed in the end."""

    execute: Execute
    services: Services
    durable: DurableRuns | None
    listeners: Sequence[tuple[str, Listener]]
    opened: Sequence[Closable]
    around: Sequence[Callable[[Run], AbstractContextManager[Any]]]
    filters: Sequence[EventFilter]
    traced: Sequence[Callable[[Run], AbstractContextManager[Any]]]

    @property
    def is_watched(self) -> bool:
        """True when anything listens to runs or goes around them."""
        return bool(self.listeners or self.traced)

    @asynccontextmanager
    async def watched(self, run: Run) -> AsyncIterator[None]:
        """Let the listeners and tracers see all of `run`: also that it is stored, and if that fails."""
        if self.listeners:
            run.observers = Observers(self.listeners, filters=self.filters)
        try:
            with ExitStack() as stack:
                for enter in self.traced:
                    stack.enter_context(_Isolated(enter, run))
                yield
        finally:
            if run.observers is not None:
                await run.observers.close()

    async def run(self, data: Any, run: Run) -> RunResult[Any]:
        """Execute `run` inside what policies of the flow put around it."""
        if not self.around:
            return await execute_run(self.execute, data, run)
        with ExitStack() as stack:
            for enter in self.around:
                stack.enter_context(enter(run))
            return await execute_run(self.execute, data, run)


class _Isolated:
    """What a tracer puts around a run: when it raises, it is logged, and the run goes on without it."""

    def __init__(self, enter: Callable[[Run], AbstractContextManager[Any]], run: Run) -> None:
        self._enter = enter
        self._run = run
        self._entered: AbstractContextManager[Any] | None = None

    def __enter__(self) -> None:
        try:
            around = self._enter(self._run)
            around.__enter__()
            self._entered = around
        except Exception as error:  # noqa: BLE001  whatever a tracer raises is its own affair
            self._complain(error)

    def __exit__(self, *raised: Any) -> None:
        if self._entered is None:
            return
        try:
            self._entered.__exit__(*raised)  # whether it wants to swallow what was raised is not asked
        except Exception as error:  # noqa: BLE001
            if error is not raised[1]:
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        message = "%r raised around run %s and is left out"
        logger.error(message, self._enter, self._run.run_id, exc_info=error)


def bind_flow(
    kernel: Kernel,
    pipeline: Pipeline[Any, Any],
    *,
    state: str | StateBackend | _NoState | None,
    cache: str | CacheBackend | None,
    tracers: Sequence[str | Tracer],
    hooks: Sequence[Callable[[Event], Any]],
    policies: Sequence[Any],
    durable: Callable[[StateBackend], DurableRuns],
) -> Bound:
    """Open what the arguments and the settings name, and bind the pipeline to it."""
    settings = kernel.settings
    opened: list[Closable] = []

    def open_with(opener: Callable[[str], Any], value: Any) -> Any:
        if not isinstance(value, str):
            return value
        opened.append(opener(value))
        return opened[-1]

    store = None
    if not isinstance(state, _NoState):
        store = open_with(kernel.open_state, state if state is not None else settings.state)
    services = Services(
        state=store,
        cache=_open_cache(lambda url: open_with(kernel.open_cache, url), cache or settings.cache or "memory://"),
        tracers=tuple(open_with(kernel.open_tracer, _tracer_name(kernel, t)) for t in (*tracers, *settings.tracers)),
        policies=tuple(policies),
    )
    for tracer in services.tracers:
        if not isinstance(tracer, Tracer):
            raise ConfigurationError(f"{tracer!r:.60} is not a Tracer", hint="Pass a tracer's name or a Tracer object")
    return Bound(
        execute=kernel.bind(pipeline, services=services),
        services=services,
        durable=None if store is None else durable(store),
        listeners=_listeners(kernel, services, hooks),
        opened=opened,
        around=[policy.around_run for policy in policies if isinstance(policy, AroundRun)],
        filters=[policy.filter_event for policy in policies if isinstance(policy, FiltersEvents)],
        traced=[tracer.around_run for tracer in services.tracers],
    )


def _open_cache(open_url: Callable[[Any], Any], cache: str | CacheBackend) -> CacheBackend | None:
    """Open the cache; one that cannot be opened is no cache, which costs time and not the run."""
    try:
        return open_url(cache)  # type: ignore[no-any-return]
    except ConfigurationError:  # wrong use is told at once
        raise
    except Exception as error:  # noqa: BLE001  whatever a backend raises
        logger.warning("the cache cannot be opened and is not used: %s", error)
        return None


def _tracer_name(kernel: Kernel, tracer: str | Tracer) -> str | Tracer:
    if tracer != "default":
        return tracer
    return "console" if kernel.plugins.find(PluginKind.TRACERS, "console") is not None else "log"


def _listeners(
    kernel: Kernel, services: Services, hooks: Sequence[Callable[[Event], Any]]
) -> list[tuple[str, Listener]]:
    found: list[tuple[str, Listener]] = [
        (type(tracer).__name__, tracer.on_event)
        for tracer in services.tracers
        if type(tracer).on_event is not Tracer.on_event  # nothing would come of its events: none are built for it
    ]
    found += [(repr(hook), hook) for hook in hooks]
    found += [(impl.plugin_name, impl.function) for impl in kernel.hook.flow_observe.get_hookimpls()]
    return found
