"""The policy that marks a step as the call of a tool."""

from __future__ import annotations

import attrs

TOOL_TYPES = ("function", "extension", "datastore")


@attrs.frozen
class AsTool:
    """Trace the step as the call of a tool: its span is ``execute_tool {name}``, as the GenAI conventions have it.

    :param name: what the tool is called; the step's name when ``None``.
    :param type: ``"function"``, ``"extension"`` (the agent's side calls an API) or ``"datastore"``.
    :param description: what the tool does, in a sentence.

    It changes what the step is called in traces, not how it runs.

    >>> from flow import Step
    >>> Step("search", str.upper, policies=[AsTool(type="datastore")]).policies[0].type
    'datastore'
    """

    name: str | None = None
    type: str = attrs.field(default="function", validator=attrs.validators.in_(TOOL_TYPES))
    description: str | None = None
