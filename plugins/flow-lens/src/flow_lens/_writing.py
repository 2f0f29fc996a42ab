"""Runs as lines of JSON, printed or sent."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import orjson
import typer

from flow_lens._content import Contents
from flow_lens._otlp import requests_of
from flow_lens._plain import trace_in_json
from flow_lens._sending import Receiver
from flow_lens._trace import Trace
from flow_lens._words import counted


@attrs.define(eq=False)
class Writer:
    """Writes runs one after the other.

    :ivar content: with inputs, outputs and contexts, secrets masked.
    :ivar receiver: where spans are sent; printed without one.
    :ivar refused: how many spans the receiver did not take.
    """

    form: Literal["jsonl", "otlp"]
    content: bool = attrs.field(default=False, kw_only=True)
    service: str = attrs.field(default="flow", kw_only=True)
    receiver: Receiver | None = attrs.field(default=None, kw_only=True)
    count: int = attrs.field(init=False, default=0)
    refused: int = attrs.field(init=False, default=0)

    def write(self, trace: Trace) -> None:
        """Write one run; raises `NotDelivered` when the receiver cannot be reached."""
        if self.form == "jsonl":
            shown = self.content
            typer.echo(_line(trace_in_json(trace, Contents(trace, shown), inputs=shown, outputs=shown, context=shown)))
        else:
            for request in requests_of(trace, content=self.content, service=self.service):
                self._hand_over(request)
        self.count += 1

    def _hand_over(self, request: dict[str, Any]) -> None:
        if self.receiver is None:
            typer.echo(_line(request))
        else:
            self.refused += self.receiver.send(request)

    def told(self) -> str:
        """Say how much was sent, and what was not taken."""
        assert self.receiver is not None  # noqa: S101  otherwise it was printed
        refused = f", {counted(self.refused, 'span')} refused" if self.refused else ""
        return f"{counted(self.count, 'run')} sent to {self.receiver.name}{refused}"


def _line(values: Any) -> str:
    return orjson.dumps(values, option=orjson.OPT_NON_STR_KEYS).decode()
