"""The way to a collector: what it reports of trouble is told once, however long the trouble lasts.

The exporters of OpenTelemetry log each batch that they cannot deliver, with a retry every few seconds. Here that is one
warning when it begins, and a line when it is over.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from flow.privacy import mask

ResultT = TypeVar("ResultT")

logger = logging.getLogger("flow.otel")

_delivering: ContextVar[Delivery | None] = ContextVar("flow_otel_delivering", default=None)
"""The delivery that this thread is making; ``None`` outside of one of ours."""

_BATCHES = "opentelemetry.sdk._shared_internal"
_OVERFLOW = "Queue full"
_REPEAT_S = 3600.0
_LONGEST_REASON = 320


class _Mute(logging.Filter):
    """Keeps what our exporters log from being printed; what others log passes."""

    def filter(self, record: logging.LogRecord) -> bool:
        delivery = _delivering.get()
        if delivery is not None:
            delivery.hear(record.getMessage())
        return delivery is None


class _Overflow(logging.Filter):
    """Tells once an hour that more is made than the collector takes, where the SDK tells it every 20 seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._told_at = -_REPEAT_S

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith(_OVERFLOW):
            return True
        if time.monotonic() - self._told_at >= _REPEAT_S:
            self._told_at = time.monotonic()
            logger.warning("more is traced than the collector takes: what does not fit into the queue is dropped")
        return False


_mute, _overflow = _Mute(), _Overflow()


class Delivery:
    """What is known about the way to one collector.

    :param what: what is delivered: ``"spans"`` or ``"metrics"``.
    :param where: the collector, as people name it.
    """

    def __init__(self, what: str, where: str) -> None:
        self._what = what
        self._where = where
        self._heard: str | None = None
        self._told = False

    @property
    def troubled(self) -> bool:
        """True from the first sign of trouble, such as a retry, until something is delivered."""
        return self._heard is not None

    def hear(self, message: str) -> None:
        """Take what the exporter says: it only speaks of trouble."""
        self._heard = self._heard or message

    def attempt(self, export: Callable[[], ResultT], failed: ResultT) -> ResultT:
        """Return what `export` returns, or `failed` when it raises; tell when it begins or ceases to fail."""
        token = _delivering.set(self)
        try:
            outcome = export()
        except Exception as error:  # noqa: BLE001  whatever an exporter raises must not end the thread that exports
            self.hear(f"{type(error).__name__}: {error}")
            outcome = failed
        finally:
            _delivering.reset(token)
        if outcome == failed:
            self.give_up("no reason was given")
        else:
            self._succeed()
        return outcome

    def give_up(self, otherwise: str) -> None:
        """Tell that nothing is delivered, once: for what was heard, or for a reason that is known without that."""
        self.hear(otherwise)
        if not self._told:
            self._told = True
            logger.warning(
                "%s cannot be delivered to %s: %s; runs go on, and this is not repeated until it works again",
                self._what,
                self._where,
                _in_one_line(self._heard or otherwise),
            )

    def _succeed(self) -> None:
        if self._told:
            logger.info("%s are delivered to %s again", self._what, self._where)
        self._heard, self._told = None, False


_ERRNO = re.compile(r"\[Errno -?[0-9]+\] ([^\"'()\[\]]+)")
_RETRIED = re.compile(r" encountered while exporting .*")


def _in_one_line(message: str) -> str:
    """Return what matters of a message: what the system says of a connection, without who has wrapped that and why.

    >>> _in_one_line("Transient (Caused by E('[Errno 111] Connection refused')) encountered while ...")
    'Connection refused'
    """
    text = " ".join(mask(message).split())
    of_the_system = _ERRNO.search(text)
    text = of_the_system[1].strip() if of_the_system is not None else _RETRIED.sub("", text)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"


def guarded(exporter: Any, delivery: Delivery, failed: Any) -> Any:
    """Return `exporter` with its ``export`` going by way of `delivery`.

    The object itself is changed: readers of metrics ask an exporter for more than its public methods, which a wrapper
    would have to imitate.
    """
    export = exporter.export

    def attempt(*batch: Any, **options: Any) -> Any:
        return delivery.attempt(lambda: export(*batch, **options), failed)

    exporter.export = attempt
    for cls in type(exporter).__mro__:
        if cls.__module__.startswith("opentelemetry.exporter"):
            logging.getLogger(cls.__module__).addFilter(_mute)
    logging.getLogger(_BATCHES).addFilter(_overflow)
    return exporter
