"""The ``log`` tracer: one line per step through the ``flow.trace`` logger. No content, only names and numbers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .._events import Event, EventKind
from .._protocols import Tracer
from .._results import StepResult
from ..hookspecs import hookimpl

logger = logging.getLogger("flow.trace")


@hookimpl
def flow_open_tracer(name: str, settings: Mapping[str, Any]) -> Tracer | None:
    """Open the tracer called ``log``."""
    return LogTracer() if name == "log" else None


class LogTracer(Tracer):
    """Writes what happens to the standard `logging` module: failures as warnings, the rest as information."""

    def on_event(self, event: Event) -> None:
        """Log one event; inputs and outputs never appear."""
        if event.kind is EventKind.CHUNK:
            return
        level, detail = logging.INFO, ""
        if isinstance(event.result, StepResult):
            result = event.result
            level = logging.INFO if result.success else logging.WARNING
            outcome = "ok" if result.success else f"failed: {type(result.error).__name__}"
            detail = f" {outcome} {result.latency_s * 1000:.1f} ms attempts={result.attempts}"
        elif event.error is not None:
            level, detail = logging.WARNING, f" {type(event.error).__name__} attempt={event.attempt}"
        logger.log(level, "%s run=%s path=%s%s", event.kind.value, event.run_id, event.path, detail)
