"""The hooks: the architecture of flow on one page.

A hook is a plain function named ``flow_<verb>_<noun>`` marked with ``@hookimpl`` in a plugin module. Hooks are
synchronous and *return* objects (coroutine functions, backends, tracers) whose methods are async. They are called
while a pipeline is declared, bound or opened, never per step of a run; the exceptions are the two error hooks, which
are called when an attempt has failed, and `flow_observe`.

*First result*: implementations are asked in turn, third parties before the kernel's defaults, until one returns
something other than ``None``. *All*: every implementation is asked and every result is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._events import Event
    from ._kernel import Binder
    from ._pipeline import Pipeline
    from ._policies import Failure, Recovery
    from ._protocols import CacheBackend, Engine, Execute, StateBackend, Tracer, Wrapper
    from ._step import BaseStep
    from .errors import ErrorCategory

hookspec = pluggy.HookspecMarker("flow")
hookimpl = pluggy.HookimplMarker("flow")

# -- step execution: while a pipeline is bound --


@hookspec(firstresult=True)
def flow_bind_step(step: BaseStep[Any, Any] | Pipeline[Any, Any], binder: Binder) -> Execute | None:
    """Return the coroutine function that runs `step`, or ``None`` when the step is of another plugin's kind.

    Phase: bind, once per step. Combines: first result.
    Children are bound with ``binder.bind(child, segment)``. Raising refuses the whole pipeline before anything ran.
    """


@hookspec
def flow_wrap_step(step: BaseStep[Any, Any], binder: Binder) -> Wrapper | None:
    """Return a `Wrapper` that goes around `step` at its layer, or ``None`` when the step does not use it.

    Phase: bind, once per step and implementation. Combines: all, sorted by layer.
    Read what the user attached with ``binder.policy(step, Type)``. Raising refuses the whole pipeline.
    """


# -- error classification: when an attempt has failed --


@hookspec(firstresult=True)
def flow_classify_error(error: BaseException, step: BaseStep[Any, Any]) -> ErrorCategory | None:
    """Say what sort of failure `error` is, or ``None`` when this plugin does not know it.

    Phase: run, once per failed attempt. Combines: first result.
    Raising fails the step with the exception that was raised.
    """


@hookspec(firstresult=True)
def flow_choose_recovery(failure: Failure) -> Recovery | None:
    """Decide what happens after a failed attempt, or ``None`` to leave the decision to the next plugin.

    Phase: run, once per failed attempt. Combines: first result.
    Control signals and errors that end the run are never offered. Raising fails the step.
    """


# -- caching --


@hookspec(firstresult=True)
def flow_open_cache(url: str, settings: Mapping[str, Any]) -> CacheBackend | None:
    """Return the cache behind `url`, or ``None`` when the scheme is not this plugin's.

    Phase: open, once per `Flow`; the scheme is the entry point's name. Combines: first result. Raising is reported.
    """


@hookspec(firstresult=True)
def flow_make_cache_key(step: BaseStep[Any, Any], data: Any, context: Any) -> bytes | None:
    """Return the key under which the result of `step` for `data` is cached, or ``None`` for the default key.

    Phase: run, only for steps with ``cache=``. Combines: first result. Raising skips the cache with one warning.
    """


# -- state --


@hookspec(firstresult=True)
def flow_open_state(url: str, settings: Mapping[str, Any]) -> StateBackend | None:
    """Return the state store behind `url`, or ``None`` when the scheme is not this plugin's.

    Phase: open, once per `Flow`; the scheme is the entry point's name. Combines: first result. Raising is reported.
    """


# -- telemetry --


@hookspec(firstresult=True)
def flow_open_tracer(name: str, settings: Mapping[str, Any]) -> Tracer | None:
    """Return the tracer called `name`, or ``None`` when it is not this plugin's.

    Phase: open, once per `Flow` that switches the tracer on. Combines: first result. Raising is reported.
    """


@hookspec
def flow_observe(event: Event) -> None:
    """Take one event of a run.

    Phase: run, off the step's path through a bounded queue. Combines: every implementation, isolated.
    Raising is logged once and disables this observer for the rest of the run; nothing else is disturbed.
    """


# -- placement --


@hookspec(firstresult=True)
def flow_open_engine(url: str, settings: Mapping[str, Any]) -> Engine | None:
    """Return the engine behind `url`, or ``None`` when the scheme is not this plugin's.

    Phase: bind, once per kernel and URL, for steps with a ``PlaceOn`` policy. Combines: first result.
    Raising refuses the pipeline.
    """
