"""Classification by types and patterns that users register."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from flow import ConfigurationError, ErrorCategory, ErrorContext


def _pairs(value: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> tuple[tuple[Any, ErrorCategory], ...]:
    items = value.items() if isinstance(value, Mapping) else value
    return tuple((key, ErrorCategory(category)) for key, category in items)


def _exceptions(policy: Any, attribute: attrs.Attribute[Any], value: tuple[tuple[Any, ErrorCategory], ...]) -> None:
    for item, _ in value:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise ConfigurationError(f"Classification: types holds exception types, got {item!r:.60}")


def _expressions(policy: Any, attribute: attrs.Attribute[Any], value: tuple[tuple[Any, ErrorCategory], ...]) -> None:
    for item, _ in value:
        try:
            re.compile(item)
        except (re.error, TypeError) as error:
            raise ConfigurationError(f"Classification: {item!r} is no regular expression: {error}") from None


@attrs.frozen
class Classification:
    """Says what sort of failure the exceptions of a step, or of all steps of a flow, are.

    :param types: categories by exception type; the type closest to the exception's own wins.
    :param patterns: categories by regular expression, in their order; searched in the text of exceptions whose type
        says nothing, neither here nor to flow.

    >>> rules = Classification(types={LookupError: "data"}, patterns={r"quota|too many": "rate_limit"})
    >>> rules.of(KeyError("k")), rules.of(RuntimeError("too many calls"))
    (<ErrorCategory.DATA: 'data'>, <ErrorCategory.RATE_LIMIT: 'rate_limit'>)
    """

    types: tuple[tuple[type[BaseException], ErrorCategory], ...] = attrs.field(
        default=(), converter=_pairs, validator=_exceptions
    )
    patterns: tuple[tuple[str, ErrorCategory], ...] = attrs.field(default=(), converter=_pairs, validator=_expressions)

    def of(self, error: BaseException) -> ErrorCategory | None:
        """Return the category of `error`, or ``None`` when nothing here applies to it."""
        by_type = dict(self.types)
        for cls in type(error).__mro__:
            if cls in by_type:
                return by_type[cls]
        if not self.patterns or ErrorContext.from_exception(error).category is not ErrorCategory.UNKNOWN:
            return None
        text = str(error)
        return next((category for pattern, category in self.patterns if re.search(pattern, text)), None)


def category_of(error: BaseException, step: Any) -> ErrorCategory | None:
    """Ask the classifications that the step carries, its own before those of the flow."""
    found = (policy.of(error) for policy in step.policies if isinstance(policy, Classification))
    return next((category for category in found if category is not None), None)
