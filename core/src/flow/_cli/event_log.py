"""``flow run --events``: what happens in a run, as lines of JSON in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import orjson

from .._event_json import as_json_values
from .._events import Event, EventKind
from .._results import StepResult
from ..errors import ConfigurationError
from ..privacy import texts_in, withhold

_MOST_TEXTS = 500
_ENDS = frozenset({EventKind.STEP_FINISHED, EventKind.PAUSED, EventKind.CANCELLED})


def event_log(path: Path | None, *, content: bool) -> EventLog | None:
    """Return the log that the options ask for; raises `ConfigurationError` when it cannot be written."""
    if path is None and content:
        raise ConfigurationError("--events-content says what --events FILE holds: name a file")
    return None if path is None else EventLog(path, content=content)


class EventLog:
    """A hook that adds a line for each event to a file; `flow.event_schema` says what is in a line.

    :param content: inputs and outputs are written too. Without it the texts of errors are written without what they
        repeat of these.

    Raises `ConfigurationError` when the file cannot be written.
    """

    def __init__(self, path: Path, *, content: bool = False) -> None:
        self._content = content
        self._inputs: dict[str, Any] = {}
        self._repeated: list[str] = []
        """What steps that failed were given and made: the errors of the steps around them may repeat it."""
        self._path = path
        self._file: BinaryIO | None = None
        try:
            self._open().close()
        except OSError as error:
            raise ConfigurationError(
                f"--events {path}: {error.strerror or error}", hint="Name a file in a directory that exists"
            ) from error

    def _open(self) -> BinaryIO:
        return self._path.open("ab", buffering=0)  # each line is one write: whole, whoever else writes

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if event.kind in (EventKind.RUN_STARTED, EventKind.STEP_STARTED):
            self._inputs[event.path] = event.data
        values = as_json_values(event, content=self._content, wording=lambda text: self._worded(text, event))
        if self._file is None:
            self._file = self._open()
        self._file.write(orjson.dumps(values, option=orjson.OPT_NON_STR_KEYS) + b"\n")
        if event.kind is EventKind.RUN_FINISHED:
            self._file.close()
            self._file = None
        if event.kind in _ENDS:
            self._inputs.pop(event.path, None)

    def _worded(self, text: str, event: Event) -> str:
        made = event.result.output if isinstance(event.result, StepResult) else None
        here = texts_in(self._inputs.get(""), self._inputs.get(event.path), made)
        self._repeated = list(dict.fromkeys([*here, *self._repeated]))[:_MOST_TEXTS]
        return withhold(text, self._repeated)
