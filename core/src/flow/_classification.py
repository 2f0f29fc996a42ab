"""What sort of failure an exception is, what status a service answered with, and how long it asks to wait."""

from __future__ import annotations

import errno
import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ._known_errors import KNOWN_ERRORS
from .errors import ControlSignal, ErrorCategory, FlowError, StepFailed

logger = logging.getLogger("flow")

_DEEPEST = 8
"""Causes that are followed: chains may be circular."""

_BY_STATUS: Mapping[int, ErrorCategory] = {
    401: ErrorCategory.AUTHENTICATION,
    402: ErrorCategory.USAGE,
    403: ErrorCategory.AUTHENTICATION,
    400: ErrorCategory.DATA,
    413: ErrorCategory.DATA,
    414: ErrorCategory.DATA,
    416: ErrorCategory.DATA,
    422: ErrorCategory.DATA,
    407: ErrorCategory.AUTHENTICATION,
    408: ErrorCategory.TIMEOUT,
    409: ErrorCategory.RESOURCE,
    423: ErrorCategory.RESOURCE,
    425: ErrorCategory.EXTERNAL_SERVICE,
    429: ErrorCategory.RATE_LIMIT,
    451: ErrorCategory.AUTHENTICATION,
    501: ErrorCategory.CONFIGURATION,
    504: ErrorCategory.TIMEOUT,
    505: ErrorCategory.CONFIGURATION,
    507: ErrorCategory.RESOURCE,
    511: ErrorCategory.AUTHENTICATION,
    524: ErrorCategory.TIMEOUT,
    598: ErrorCategory.TIMEOUT,
}
_CURABLE_REQUESTS = frozenset({408, 409, 423, 425, 429})

_BY_ERRNO: Mapping[int, ErrorCategory] = {
    **dict.fromkeys(
        (errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENOTCONN),
        ErrorCategory.NETWORK,
    ),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.ENOBUFS), ErrorCategory.RESOURCE
    ),
}

# What a cause may say about an exception that says nothing itself. A mistake in the program is not among it: whoever
# wraps one in an exception of his own has decided that it is something else.
_FROM_CAUSES = frozenset(
    {
        ErrorCategory.TIMEOUT,
        ErrorCategory.NETWORK,
        ErrorCategory.RATE_LIMIT,
        ErrorCategory.AUTHENTICATION,
        ErrorCategory.RESOURCE,
        ErrorCategory.EXTERNAL_SERVICE,
        ErrorCategory.USAGE,
    }
)


def classify(error: BaseException) -> ErrorCategory:
    """Return the category of `error`: by what it says, by the status of a response, by its type, by its cause.

    A group of exceptions has the category that all of them share.
    """
    return _classify(error, _DEEPEST)


def _classify(error: BaseException, depth: int) -> ErrorCategory:
    if isinstance(error, ControlSignal):
        return ErrorCategory.CONTROL_FLOW
    if isinstance(error, BaseExceptionGroup):
        found = {_classify(inner, depth - 1) for inner in error.exceptions} if depth else set()
        return found.pop() if len(found) == 1 else ErrorCategory.UNKNOWN
    if not depth:
        return _own_category(error)
    reason = _attribute(error, "reason")
    if isinstance(reason, BaseException):  # urllib and urllib3 wrap what happened
        inner = _classify(reason, depth - 1)
        return _own_category(error) if inner is ErrorCategory.UNKNOWN else inner
    category = _own_category(error)
    if category is not ErrorCategory.UNKNOWN or error.__cause__ is None:
        return category
    inner = _classify(error.__cause__, depth - 1)
    # A step that failed because of an exception is that failure; other exceptions only hint at it.
    return inner if inner in _FROM_CAUSES or isinstance(error, StepFailed) else category


def _own_category(error: BaseException) -> ErrorCategory:
    if isinstance(error, FlowError):
        return error.category
    by_status = category_of_status(_own_status(error))
    if by_status is not None:
        return ErrorCategory.USAGE if _attribute(error, "code") == "insufficient_quota" else by_status
    if type(error) is OSError and error.errno is not None and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno]
    for cls in type(error).__mro__:
        known = KNOWN_ERRORS.get((cls.__module__.partition(".")[0], cls.__name__))
        if known is not None:
            return known
    return ErrorCategory.UNKNOWN


def category_of_status(status: int | None) -> ErrorCategory | None:
    """Return the category of an HTTP status, ``None`` for one that tells of no failure."""
    if status is None or not 400 <= status < 600:
        return None
    general = ErrorCategory.CONFIGURATION if status < 500 else ErrorCategory.EXTERNAL_SERVICE
    return _BY_STATUS.get(status, general)


def is_refused_request(status: int | None) -> bool:
    """Tell whether a service says that the request itself is wrong, so that it would answer the same again."""
    return status is not None and 400 <= status < 500 and status not in _CURABLE_REQUESTS


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that a service answered with, as `error` or one of its causes knows it."""
    return next((status for item in _chain(error) if (status := _own_status(item)) is not None), None)


def retry_after_of(error: BaseException, now: float | None = None) -> float | None:
    """Return the seconds that a service asks to wait before the next attempt; ``None`` when it does not say.

    Read from ``retry-after-ms`` and ``Retry-After`` (seconds or a date) of a response, or from an attribute
    ``retry_after``, as `CircuitOpen` has one.

    :param now: epoch seconds to take a date against; the present when ``None``.
    """
    found = (wait for item in _chain(error) if (wait := _own_wait(item, now)) is not None)
    return next(found, None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and its causes, and of a group its first exception."""
    item: BaseException | None = error
    for _ in range(_DEEPEST):
        if item is None:
            return
        yield item
        item = item.exceptions[0] if isinstance(item, BaseExceptionGroup) else item.__cause__


def _own_status(error: BaseException) -> int | None:
    if isinstance(error, FlowError):
        return None
    candidates = [_attribute(error, "status_code"), _attribute(error, "status")]
    candidates += [_attribute(error, "code")] if _is_of_web(error) else []
    response = _attribute(error, "response")
    if response is not None:
        candidates += [_attribute(response, "status_code"), _attribute(response, "status")]
    for value in candidates:
        if isinstance(value, int) and 400 <= value < 600:
            return int(value)
    return None


def _is_of_web(error: BaseException) -> bool:
    """Tell whether ``code`` of an exception is an HTTP status: elsewhere it may be an exit code or anything."""
    return any(cls.__module__.partition(".")[0] in ("urllib", "google") for cls in type(error).__mro__)


def _own_wait(error: BaseException, now: float | None) -> float | None:
    stated = _attribute(error, "retry_after")
    if isinstance(stated, (int, float)) and not isinstance(stated, bool):
        return _waitable(float(stated))
    response = _attribute(error, "response")
    for headers in (_attribute(error, "headers"), _attribute(response, "headers")):
        if isinstance(headers, Mapping) or _attribute(headers, "items") is not None:  # urllib has a mail message
            wait = _wait_of_headers({str(name).lower(): str(value) for name, value in headers.items()}, now)
            if wait is not None:
                return wait
    return None


def _wait_of_headers(headers: Mapping[str, str], now: float | None) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _waitable(milliseconds / 1000)
    stated = headers.get("retry-after")
    seconds = _number(stated)
    if stated is None or seconds is not None:
        return _waitable(seconds)
    from email.utils import parsedate_to_datetime  # slow to import, and dates are rare

    try:
        date = parsedate_to_datetime(stated).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, date - (time.time() if now is None else now))


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _waitable(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None


def _attribute(item: object, name: str) -> Any:
    """Look at an object of another library, whose shape is not known; a property that raises tells nothing."""
    try:
        return getattr(item, name, None)
    except Exception as error:  # noqa: BLE001  code of another library, run to report another failure
        logger.debug("%s.%s cannot be read: %s", type(item).__name__, name, error)
        return None
