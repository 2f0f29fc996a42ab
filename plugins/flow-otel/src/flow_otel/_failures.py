"""Failures on spans: their type always, their words without what they repeat of inputs and outputs."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.trace import Span, StatusCode

from flow import ErrorCategory, FlowError
from flow.privacy import mask, withhold
from flow_otel import _names as names
from flow_otel._runs import RunState, leaves

logger = logging.getLogger("flow.otel")

_LONGEST_DESCRIPTION = 300


def type_of(error: BaseException) -> str:
    """Return the name of the type of `error`, with its module unless that is Python's own.

    >>> type_of(KeyError("x")), type_of(FlowError("x"))
    ('KeyError', 'flow.FlowError')
    """
    kind, module = type(error), type(error).__module__
    if module.startswith("flow."):  # its own modules are private, and a name is public from its first use on
        module = "flow"
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def category_of(error: BaseException, classify: Callable[..., Any]) -> str:
    """Return what sort of failure `error` is, as the plugins say."""
    try:
        category = classify(error=error)
    except Exception:
        logger.warning("a plugin could not classify %s", type(error).__name__, exc_info=True)
        category = None
    return str(category or ErrorCategory.UNKNOWN)


def fail(
    span: Span, error: BaseException, state: RunState, contents: Callable[[], Sequence[str]], content: bool
) -> None:
    """Give `span` the status of a failure, and tell of `error` unless a span inside it has done so.

    :param contents: returns the texts that the message must not repeat; asked when there is a message to be told.
    :param content: tell the message as it is, secrets masked, and where the exception was raised.
    """
    message = state.told(error)
    if message is None:
        message = _message_of(error) if content else withhold(_message_of(error), contents())
        message = mask(message)
        told = {names.EXCEPTION_TYPE: type_of(error), names.EXCEPTION_MESSAGE: message}
        if content:
            told[names.EXCEPTION_STACKTRACE] = mask("".join(traceback.format_exception(error)))
        span.add_event(names.EXCEPTION_EVENT, told)
    state.remember(error, message)
    span.set_attribute(names.ERROR_TYPE, type_of(error))
    span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {message}"[:_LONGEST_DESCRIPTION])


def _message_of(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(f"{type(inner).__name__}: {_message_of(inner)}" for inner in leaves(error))
    return error.message if isinstance(error, FlowError) else str(error)
