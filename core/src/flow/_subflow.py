"""Sub-workflows: a pipeline, or a flow with its context model, as one step of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import attrs
from pydantic import BaseModel

from ._pipeline import Pipeline
from ._step import BaseStep

InT = TypeVar("InT", contravariant=True)
OutT = TypeVar("OutT", covariant=True)


@attrs.frozen(kw_only=True)
class SubWorkflow(BaseStep[InT, OutT]):
    """Runs a pipeline as one step.

    :param inherit_context: ``True``: the inner steps see the outer context and what they change comes back;
        ``False``: nothing flows either way.
    :param context_model: the context class of the inner steps when it differs from the outer one: fields of the same
        name are handed in, and handed back on success.
    """

    kind: ClassVar[str] = "pipeline"

    pipeline: Pipeline[Any, Any]
    inherit_context: bool = True
    context_model: type[BaseModel] | None = None

    def children(self) -> Mapping[str, Pipeline[Any, Any]]:
        """Return the pipeline."""
        return {"pipeline": self.pipeline}

    def declared_types(self) -> tuple[Any, Any]:
        """Return what the first inner step takes and the last one returns."""
        return self.pipeline.declared_types()
