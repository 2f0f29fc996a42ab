"""Merge functions of users: their errors say which function raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow import FlowError, MergePolicy, Step, StepFailed


def bind_merge(policy: MergePolicy) -> MergePolicy:
    """Return `policy`; a function is wrapped, so that what it raises becomes a `StepFailed` that names it."""
    if not callable(policy):
        return policy
    name = Step.from_callable(policy).name

    def merge(context: Any, branches: Mapping[str, Any]) -> Any:
        try:
            return policy(context, branches)
        except FlowError:
            raise
        except Exception as error:
            raise StepFailed(f"merge function {name!r} raised {type(error).__name__}: {error}", cause=error) from error

    return merge
