"""Fan-out for flow: branches side by side, a pipeline mapped over items, results folded as they arrive.

>>> from flow import Flow, Step
>>> both = parallel("both", {"upper": Step("upper", str.upper), "title": Step("title", str.title)})
>>> Flow(both).run("on rivers").output
{'upper': 'ON RIVERS', 'title': 'On Rivers'}
>>> Flow(map_over("each", Step("length", len))).run(["a", "bcd"]).output
[1, 3]
"""

from __future__ import annotations

from ._binding import flow_bind_step
from ._map import MapOver, map_over, map_reduce
from ._parallel import Parallel, parallel

__all__ = ["MapOver", "Parallel", "flow_bind_step", "map_over", "map_reduce", "parallel"]
