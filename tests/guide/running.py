"""Running programs given as text, and marking those that wait for a package."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec

import pytest

from flow import PluginError

P = ParamSpec("P")


class PackageMissing(Exception):
    """A program needs a package that is not installed."""


async def run_program(text: str, **names: Any) -> dict[str, Any]:
    """Run `text` with some names defined, awaiting what it awaits at its top level; return all names afterwards."""
    namespace: dict[str, Any] = {"__name__": "guide", **names}
    # dont_inherit: the programs do not begin with `from __future__ import annotations`, as this module does.
    code = compile(text, "<guide>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    outcome = eval(code, namespace)
    if inspect.iscoroutine(outcome):
        await outcome
    return namespace


def needs(*packages: str) -> Callable[[Callable[P, Awaitable[None]]], Callable[P, Awaitable[None]]]:
    """Mark a test that fails because some of these packages are not there; it is an error once it passes.

    Any other failure, such as one that names another package, counts as a failure.
    """

    def decorate(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
        @functools.wraps(test)
        async def attempt(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                await test(*args, **kwargs)
            except (AttributeError, ImportError, PluginError) as error:
                if not any(_names(error, package) for package in packages):
                    raise
                raise PackageMissing(str(error)) from error

        reason = f"{' and '.join(packages)} will make this run; then take the mark off"
        return pytest.mark.xfail(raises=PackageMissing, strict=True, reason=reason)(attempt)

    return decorate


def _names(error: Exception, package: str) -> bool:
    if isinstance(error, ImportError):
        return error.name == package.replace("-", "_")
    return package in str(error)
