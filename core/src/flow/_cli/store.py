"""The state store that a command reads: which one it is, and the runs in it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs

from .._durable import Durability
from .._flow import Flow
from .._kernel import Kernel, default_kernel
from .._protocols import RunRecord, StateBackend
from .._run_ids import check_run_id
from ..errors import ConfigurationError, FlowError, RunNotFound
from .wording import one_line

_PAGE = 500
_MOST_ALIKE = 100
_SEARCHED = 500
_FILES = ("sqlite", "file")
_USER = re.compile(r"^([^:/?#]*:(?://)?[^:/?#@]*):[^?#]*@")
_SECRET_OPTION = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|key|auth)[^=&]*=)[^&#]*", re.IGNORECASE)


def without_secrets(url: str) -> str:
    """Return `url` as it may be printed: without its password.

    >>> without_secrets("postgres://me:geheim@host/runs?sslkey=abc")
    'postgres://me:***@host/runs?sslkey=***'
    """
    return one_line(_SECRET_OPTION.sub(r"\1***", _USER.sub(r"\1:***@", url)))


@attrs.frozen
class Store:
    """A state store by its URL, or one that the user's program has made."""

    where: str | StateBackend
    kernel: Kernel

    @property
    def name(self) -> str:
        """What messages call the store."""
        return without_secrets(self.where) if isinstance(self.where, str) else "the store of the app"

    @property
    def outlives_the_program(self) -> bool:
        """False when what is stored ends with this program."""
        return isinstance(self.where, str) and not self.where.startswith("memory:")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[StateBackend]:
        """Open the store, and close it afterwards if it is ours to close."""
        if not isinstance(self.where, str):
            yield self.where
            return
        _require_file(self.where)
        try:
            backend = self.kernel.open_state(self.where)
        except FlowError as error:
            raise type(error)(error.message.replace(self.where, self.name), hint=error.hint) from error
        try:
            yield backend
        finally:
            await backend.aclose()


def _require_file(url: str) -> None:
    """Refuse the URL of a file that does not exist: a slip in it must not look like an empty store, or make one."""
    scheme, _, rest = url.partition("://")
    name = unquote(rest.partition("?")[0])
    if scheme in _FILES and name.startswith("/") and name.strip("/") and "\0" not in name:
        path = Path(name[1:] if scheme == "sqlite" else name)
        if not path.exists():
            hint = "A first flow run --state URL makes it; relative paths start at the working directory"
            raise ConfigurationError(
                f"nothing is stored in {without_secrets(url)}: {one_line(str(path))} does not exist", hint=hint
            )


def store_of(option: str | None, flow: Flow[Any, Any] | None = None) -> Store:
    """Return the store that the option ``--state``, the flow or a setting names, in this order.

    Raises `ConfigurationError` when nothing names one.
    """
    kernel = default_kernel() if flow is None else flow.kernel
    where: str | StateBackend | None = option
    if where is None and flow is not None:
        where = flow._state
    if where is None:
        where = kernel.settings.state
    if where is None:
        raise ConfigurationError(
            "no state store is named",
            hint='Name one: --state sqlite:///runs.db, FLOW_STATE, or state = "sqlite:///runs.db" in flow.toml',
        )
    return Store(where, kernel)


def stored_in(flow: Flow[Any, Any]) -> str | None:
    """Return the URL of the store in which runs of `flow` outlive this program; ``None`` when they do not."""
    where = flow._state if flow._state is not None else flow.kernel.settings.state
    if flow._durability is Durability.OFF or not isinstance(where, str):
        return None
    return where if Store(where, flow.kernel).outlives_the_program else None


async def find_run(backend: StateBackend, run_id: str, store: str) -> RunRecord:
    """Return the run whose id is `run_id`, or else the only one whose id begins so.

    Raises `RunNotFound`, and `ConfigurationError` for what cannot be an id or begins several.
    """
    record = await backend.load_run(check_run_id(run_id))
    if record is not None:
        return record
    found = await backend.list_runs(id_prefix=run_id, limit=_MOST_ALIKE)
    if not found:
        newest = [run.run_id for run in await backend.list_runs(limit=_SEARCHED)]
        # Ids that were made up differ in their last characters only; whoever types a part of one means the end.
        near = get_close_matches(run_id, newest, n=3) or [known for known in newest if run_id in known][:3]
        hint = f"Did you mean {' or '.join(near)}?" if near else "See: flow runs"
        raise RunNotFound(f"no run in {store} has an id that is or begins with {run_id!r}", hint=hint)
    if len(found) > 1:
        some = ", ".join(record.run_id for record in found[:3])
        dots = ", ..." if len(found) > 3 else ""
        count = f"{_MOST_ALIKE} or more" if len(found) == _MOST_ALIKE else f"{len(found)}"
        raise ConfigurationError(
            f"{count} runs begin with {run_id!r}: {some}{dots}", hint="Type more of the one you mean"
        )
    return found[0]


async def every_run(backend: StateBackend, **filters: Any) -> AsyncIterator[RunRecord]:
    """Yield all runs with the given values, the newest first."""
    offset = 0
    while page := await backend.list_runs(**filters, limit=_PAGE, offset=offset):
        for record in page:
            yield record
        offset += len(page)
