"""Loops for flow: repeat a pipeline until a condition holds, refine a draft until a critic is content.

>>> from flow import Flow, Step
>>> grow = loop_until("grow", Step("double", lambda n: n * 2), lambda n, context: n > 100, max_loops=10)
>>> result = Flow(grow).run(3)
>>> result.output, result.step_history[0].metadata["iterations"]
(192, 6)
"""

from __future__ import annotations

from ._binding import flow_bind_step
from ._loop import Loop, loop_until
from ._refine import Refine, Refinement, refine_until

__all__ = ["Loop", "Refine", "Refinement", "flow_bind_step", "loop_until", "refine_until"]
