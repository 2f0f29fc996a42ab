"""Branches for flow: one of several pipelines runs, chosen while running.

>>> from flow import Flow, Step
>>> sizes = branch_on("size", lambda n, context: "big" if n > 9 else "small", {
...     "big": Step("halve", lambda n: n // 2),
...     "small": Step("double", lambda n: n * 2),
... })
>>> Flow(sizes).run(10).output, Flow(sizes).run(3).output
(5, 6)
"""

from __future__ import annotations

from ._binding import flow_bind_step
from ._branch import Branch, branch_on, route_by_policy
from ._policy import RoutingPolicy

__all__ = ["Branch", "RoutingPolicy", "branch_on", "flow_bind_step", "route_by_policy"]
