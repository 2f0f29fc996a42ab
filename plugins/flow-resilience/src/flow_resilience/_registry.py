"""What the runs of a process share: the state behind a policy, found by the policy's name or by the policy itself."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import attrs

from flow import ConfigurationError


class Named(Protocol):
    """A policy that may have a name."""

    @property
    def name(self) -> str | None:
        """Under which its state is shared."""
        ...


PolicyT = TypeVar("PolicyT", bound=Named)
StateT = TypeVar("StateT")


class Shared(Generic[PolicyT, StateT]):
    """The states of one kind of policy.

    States with a name live as long as the process, since flows come and go with requests. Those without belong to one
    policy object and go with it: steps that carry the same object share, steps with equal ones do not.
    """

    def __init__(self, make: Callable[[PolicyT], StateT]) -> None:
        self._make = make
        self._lock = threading.RLock()  # a policy may be freed, and its state with it, while the lock is held
        self._named: dict[str, tuple[PolicyT, StateT]] = {}
        self._unnamed: dict[int, StateT] = {}

    def of(self, policy: PolicyT) -> StateT:
        """Return the state of `policy`; raises `ConfigurationError` when its name is used with other settings."""
        with self._lock:
            if policy.name is None:
                return self._of_object(policy)
            known, state = self._named.get(policy.name) or (policy, self._make(policy))
            if known != policy:
                differences = _differences(known, policy)
                raise ConfigurationError(
                    f"{type(policy).__name__} {policy.name!r} is used with different settings: {differences}",
                    hint="Make it once and attach that object to all steps that share it",
                )
            self._named[policy.name] = (known, state)
            return state

    def states(self) -> Mapping[str, StateT]:
        """Return the states that have a name."""
        with self._lock:
            return {name: state for name, (_, state) in self._named.items()}

    def every(self) -> list[StateT]:
        """Return all states."""
        with self._lock:
            return [*(state for _, state in self._named.values()), *list(self._unnamed.values())]

    def clear(self) -> None:
        """Forget the states; steps that are bound keep theirs."""
        with self._lock:
            self._named.clear()
            self._unnamed.clear()

    def _of_object(self, policy: PolicyT) -> StateT:
        key = id(policy)
        if key not in self._unnamed:
            self._unnamed[key] = self._make(policy)
            weakref.finalize(policy, self._unnamed.pop, key, None).atexit = False
        return self._unnamed[key]


def _differences(known: Any, given: Any) -> str:
    before, after = attrs.asdict(known, recurse=False), attrs.asdict(given, recurse=False)
    return ", ".join(f"{name} {before[name]!r} and {after[name]!r}" for name in before if before[name] != after[name])
