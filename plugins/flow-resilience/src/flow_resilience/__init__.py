"""Circuit breakers, rate limits, bulkheads, classification and graceful degradation as policies of flow.

`CircuitBreaker`, `RateLimit` and `Bulkhead` are attached to steps and stand around each attempt; `Classification` says
what sort of failure an exception is; `GracefulDegradation` belongs to a flow and leaves out what is optional while the
process is overloaded.

The door is lazy, because every kernel opens it: what is not used costs 8 ms less to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._breaker import BreakerState, CircuitState
    from ._circuits import CircuitBreaker, breaker_state
    from ._classify import Classification
    from ._degradation import GracefulDegradation
    from ._levels import LoadLevel
    from ._limits import Bulkhead, BulkheadFull, RateLimit, RateLimited

__all__ = [
    "BreakerState",
    "Bulkhead",
    "BulkheadFull",
    "CircuitBreaker",
    "CircuitState",
    "Classification",
    "GracefulDegradation",
    "LoadLevel",
    "RateLimit",
    "RateLimited",
    "breaker_state",
]

_HOMES = {
    "_breaker": ("BreakerState", "CircuitState"),
    "_circuits": ("CircuitBreaker", "breaker_state"),
    "_classify": ("Classification",),
    "_degradation": ("GracefulDegradation",),
    "_levels": ("LoadLevel",),
    "_limits": ("Bulkhead", "BulkheadFull", "RateLimit", "RateLimited"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'flow_resilience' has no attribute {name!r}")
    value = vars(importlib.import_module(f"flow_resilience.{_MODULE_OF[name]}"))[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
