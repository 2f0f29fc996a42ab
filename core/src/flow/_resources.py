"""Resources: what agents share and no store ever sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict


class AppResources(BaseModel):
    """Clients, connections and the like for agents that name a parameter ``resources``; shared by reference.

    Subclass it, or pass any other object to ``Flow(resources=...)``.

    >>> AppResources(db={"1": "one"}).db
    {'1': 'one'}
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")

    if TYPE_CHECKING:  # any name is a resource, which the model alone does not tell a type checker

        def __init__(self, **resources: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
