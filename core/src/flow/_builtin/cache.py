"""The ``CACHE`` layer: steps with ``cache=Cache(...)`` reuse the result of an equal computation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import attrs
import orjson

from .._agents import call_user
from .._canonical import canonical
from .._context import commit
from .._context_changes import dump_changes, load_changes, may_hide_secrets
from .._events import EventKind
from .._policies import Cache
from .._protocols import CacheBackend, Execute, Layer, Wrapper
from .._results import StepResult
from .._serialize import Codec, codec_for
from .._single_flight import NoResult, flight_of, leading
from .._step import Step
from .._structure import describe, digest, structure
from ..errors import ConfigurationError
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from .._kernel import Binder, Services
    from .._run import Scope
    from .._single_flight import Outcome

logger = logging.getLogger("flow")

_VERSION = 1
"""Of what is stored: entries of another version are computed again."""

_complained: WeakSet[Services] = WeakSet()


@hookimpl
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Cache the steps that ask for it."""
    if step.cache is None or binder.services.cache is None:
        return None
    if not isinstance(step.cache, Cache):
        raise ConfigurationError(f"step {step.name!r}: cache must be a Cache, got {type(step.cache).__name__}")
    cached = _CachedStep(step, binder)
    return Wrapper(Layer.CACHE, cached.wrap)


def _agent_state(step: Any) -> Any:
    """Describe what an agent object holds, such as its model and prompt: equal agents share results, others do not."""
    agent = step.agent if isinstance(step, Step) else None
    state: Mapping[str, Any] = getattr(agent, "__dict__", {})
    return {key: describe(value) for key, value in state.items()}


@attrs.frozen
class _Entry:
    """What is stored: the JSON texts of the output and of the change of the context."""

    output: bytes
    typed: bool
    changes: bytes | None

    def dump(self) -> bytes:
        changes = None if self.changes is None else self.changes.decode()
        return orjson.dumps([_VERSION, self.typed, self.output.decode(), changes])

    @classmethod
    def load(cls, data: bytes) -> _Entry | None:
        """Read an entry; ``None`` when it is of another version. Raises `ValueError` and others when it is none."""
        version, *texts = orjson.loads(data)
        if version != _VERSION:
            return None
        typed, output, changes = texts
        return cls(output.encode(), typed, None if changes is None else changes.encode())


class _CachedStep:
    """How one bound step uses the cache; a cache that does not work is a miss, and says so once."""

    def __init__(self, step: Any, binder: Binder) -> None:
        assert binder.services.cache is not None  # noqa: S101  flow_wrap_step asked already
        self._step = step
        self._settings: Cache = step.cache
        self._services = binder.services
        self._backend: CacheBackend = binder.services.cache
        self._make_key = binder.kernel.hook.flow_make_cache_key
        self._codec: Codec = codec_for(step.declared_types()[1])
        self._identity = canonical(["flow", _VERSION, structure(step), _agent_state(step)])
        self._warned = False

    def wrap(self, execute: Execute) -> Execute:
        async def cached(data: Any, scope: Scope) -> StepResult:
            key = await self._key(data, scope)
            while key is not None:
                flight = flight_of(self._backend, key)
                if flight is None:
                    return await self._lead(key, execute, data, scope)
                if flight.needs_us():
                    break
                outcome = await flight.wait()
                if outcome is NoResult.NOT_SHARED:
                    break
                hit = self._restore(outcome, key, scope)
                if hit is not None:
                    await self._tell("shared", scope)
                    return hit
            return await execute(data, scope)

        return cached

    async def _lead(self, key: bytes, execute: Execute, data: Any, scope: Scope) -> StepResult:
        """Look into the cache and compute what is not there, while equal calls wait for it."""
        with leading(self._backend, key) as flight:
            stored = await self._get(key)
            hit = self._restore(stored, key, scope)
            if hit is not None:
                flight.outcome = stored
                await self._tell("hit", scope)
                return hit
            await self._tell("miss", scope)
            result = await execute(data, scope)
            result.metadata["cache_key"] = key.decode(errors="backslashreplace")
            if result.success and scope.breach() is None:
                flight.outcome = self._entry(result, scope)
                if isinstance(flight.outcome, bytes):
                    await self._set(key, flight.outcome)
            return result

    async def _tell(self, outcome: str, scope: Scope) -> None:
        if scope.run.observers is not None:
            await scope.run.publish(
                EventKind.CACHE,
                scope.path,
                step=self._step.name,
                step_kind=self._step.kind,
                detail={"outcome": outcome},
            )

    async def _key(self, data: Any, scope: Scope) -> bytes | None:
        try:
            if self._settings.key is not None:
                chosen = await call_user(self._settings.key, data, scope.context)
                return digest(self._identity + canonical(chosen)).encode()
            key: bytes | None = self._make_key(step=self._step, data=data, context=scope.context)
            return key or digest(self._identity + canonical(data)).encode()
        except Exception as error:  # noqa: BLE001  an input without a key is computed, not refused
            self._warn("makes no key", error)
            return None

    async def _get(self, key: bytes) -> Outcome:
        try:
            stored = await self._backend.get(key)
        except Exception as error:  # noqa: BLE001  a broken cache is a miss
            self._complain("cannot be read", error)
            return NoResult.FAILED
        return NoResult.FAILED if stored is None else stored

    async def _set(self, key: bytes, entry: bytes) -> None:
        try:
            await self._backend.set(key, entry, self._settings.ttl)
        except Exception as error:  # noqa: BLE001  a result that cannot be kept is still a result
            self._complain("cannot be written", error)

    def _restore(self, stored: Outcome, key: bytes, scope: Scope) -> StepResult | None:
        """Return the result that an entry holds, with its change of the context made again; ``None`` without one."""
        if isinstance(stored, NoResult):
            return None
        try:
            entry = _Entry.load(stored)
            if entry is None:
                return None
            output = self._codec.decode(entry.output, entry.typed, path=scope.path)
            if entry.changes is not None and scope.context is not None:
                # In the view of the step and not behind it: the journal records what the step's view says.
                commit(scope.context, load_changes(scope.context, entry.changes, path=scope.path))
        except Exception as error:  # noqa: BLE001  an entry that cannot be used is a miss
            self._complain("cannot be read", error)
            return None
        metadata = {"cache_key": key.decode(errors="backslashreplace")}
        return StepResult.ok(self._step, output, cached=True, metadata=metadata)

    def _entry(self, result: StepResult, scope: Scope) -> Outcome:
        try:
            changed = scope.changes()
            changes = dump_changes(scope.enclosing_context, changed, path=scope.path) if changed else None
            output, typed = self._codec.encode(result.output, path=scope.path)
            if (typed and self._codec.masks(result.output, output)) or (
                changes and may_hide_secrets(scope.context, changed)
            ):
                self._warn("keeps no secrets", ValueError("a hit would give a mask"))
                return NoResult.NOT_SHARED
            return _Entry(output, typed, changes).dump()
        except Exception as error:  # noqa: BLE001  a result that cannot be kept is still a result
            self._warn("cannot be written", error)
            return NoResult.NOT_SHARED

    def _complain(self, what: str, error: Exception) -> None:
        """Say that the cache does not work, once for all steps of a flow."""
        if self._services not in _complained:
            _complained.add(self._services)
            logger.warning("the cache of step %r %s and is not used: %s", self._step.name, what, error)

    def _warn(self, what: str, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("the cache of step %r %s and is not used: %s", self._step.name, what, error)
