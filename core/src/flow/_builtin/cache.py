"""The ``CACHE`` layer: steps with ``cache=Cache(...)`` reuse the result of an equal computation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from .._agents import call_user
from .._policies import Cache
from .._protocols import CacheBackend, Execute, Layer, Wrapper
from .._results import StepResult
from .._serialize import Codec, codec_for, dump_context, load_context
from .._step import Step
from .._structure import describe, digest, structure
from ..errors import ConfigurationError
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from .._kernel import Binder
    from .._run import Scope

logger = logging.getLogger("flow")


@hookimpl
def flow_wrap_step(step: Any, binder: Binder) -> Wrapper | None:
    """Cache the steps that ask for it."""
    if step.cache is None or binder.services.cache is None:
        return None
    if not isinstance(step.cache, Cache):
        raise ConfigurationError(f"step {step.name!r}: cache must be a Cache, got {type(step.cache).__name__}")
    cached = _CachedStep(step, binder)
    return Wrapper(Layer.CACHE, cached.wrap)


def _canonical(value: Any) -> bytes:
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(value, option=options, default=_canonical_default)


def _canonical_default(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(_canonical(item).decode() for item in value)
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return {"type": f"{type(value).__module__}.{type(value).__qualname__}", "value": dump(mode="json")}
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _agent_state(step: Any) -> Any:
    """Describe what an agent object holds, such as its model and prompt: equal agents share results, others do not."""
    agent = step.agent if isinstance(step, Step) else None
    state: Mapping[str, Any] = getattr(agent, "__dict__", {})
    return {key: describe(value) for key, value in state.items()}


class _CachedStep:
    """How one bound step uses the cache; a cache that does not work is a miss, and says so once."""

    def __init__(self, step: Any, binder: Binder) -> None:
        assert binder.services.cache is not None  # noqa: S101  flow_wrap_step asked already
        self._step = step
        self._settings: Cache = step.cache
        self._backend: CacheBackend = binder.services.cache
        self._make_key = binder.kernel.hook.flow_make_cache_key
        self._codec: Codec = codec_for(step.declared_types()[1])
        self._identity = _canonical([structure(step), _agent_state(step)])
        self._warned = False

    def wrap(self, execute: Execute) -> Execute:
        async def cached(data: Any, scope: Scope) -> StepResult:
            key = await self._key(data, scope)
            if key is None:
                return await execute(data, scope)
            hit = await self._load(key, scope)
            if hit is not None:
                return hit
            result = await execute(data, scope)
            result.metadata["cache_key"] = key.decode()
            if result.success:
                await self._store(key, result, scope)
            return result

        return cached

    async def _key(self, data: Any, scope: Scope) -> bytes | None:
        try:
            if self._settings.key is not None:
                chosen = await call_user(self._settings.key, data, scope.context)
                return digest(self._identity + _canonical(chosen)).encode()
            key: bytes | None = self._make_key(step=self._step, data=data, context=scope.context)
            return key or digest(self._identity + _canonical(data)).encode()
        except Exception as error:  # noqa: BLE001  an input without a key is computed, not refused
            self._warn("makes no key", error)
            return None

    async def _load(self, key: bytes, scope: Scope) -> StepResult | None:
        try:
            stored = await self._backend.get(key)
            if stored is None:
                return None
            entry = orjson.loads(stored)
            output = self._codec.decode(entry["output"].encode(), entry["typed"], path=scope.path)
            changed = load_context(type(scope.context), entry["changes"].encode()) if entry["changes"] else {}
        except Exception as error:  # noqa: BLE001  a broken cache is a miss
            self._warn("cannot be read", error)
            return None
        scope.commit(changed)
        return StepResult.ok(self._step, output, cached=True, metadata={"cache_key": key.decode()})

    async def _store(self, key: bytes, result: StepResult, scope: Scope) -> None:
        try:
            changed = scope.changes()
            changes = dump_context(type(scope.context), changed, path=scope.path).decode() if changed else None
            output, typed = self._codec.encode(result.output, path=scope.path)
            entry = {"output": output.decode(), "typed": typed, "changes": changes}
            await self._backend.set(key, orjson.dumps(entry), self._settings.ttl)
        except Exception as error:  # noqa: BLE001  a result that cannot be kept is still a result
            self._warn("cannot be written", error)

    def _warn(self, what: str, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("the cache of step %r %s and is not used: %s", self._step.name, what, error)
