"""What sort of failure an error is, as the plugins of the kernel say that runs the step."""

from __future__ import annotations

import logging
from typing import Any

from flow import BaseStep, Binder
from flow.errors import ErrorCategory, FlowError

logger = logging.getLogger("flow.prometheus")


class Categories:
    """Remembers bound steps, so that their errors can be classified as the kernel does it.

    :param most: how many are remembered; an error of another step has the category that it says itself.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bound: dict[str, tuple[BaseStep[Any, Any], Any]] = {}

    def learn(self, step: BaseStep[Any, Any], binder: Binder) -> None:
        """Remember a step that is being bound."""
        if len(self._bound) < self._most or step.name in self._bound:
            self._bound[step.name] = step, binder.kernel.hook.flow_classify_error

    def of(self, error: BaseException | None, step_name: str) -> str:
        """Return the category of the error that a step of this name failed with."""
        known = self._bound.get(step_name)
        if error is None or known is None:
            return (error.category if isinstance(error, FlowError) else ErrorCategory.UNKNOWN).value
        step, classify = known
        try:
            category = classify(error=error, step=step)
        except Exception as raised:  # noqa: BLE001  whatever a plugin raises; the step that failed tells of it
            logger.debug("an error of step %r cannot be classified: %s", step_name, type(raised).__name__)
            category = None
        return category.value if isinstance(category, ErrorCategory) else ErrorCategory.UNKNOWN.value
