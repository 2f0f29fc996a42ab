"""People in the loop for flow: steps that ask a question and wait until somebody answers.

>>> from flow import Flow, Step
>>> flow = Flow(human_in_the_loop("label", "Is {{ data }} spam?") >> Step("shout", str.upper), state="memory://")
>>> paused = flow.run("buy now")
>>> paused.status.value, paused.pending[0].message
('paused', 'Is buy now spam?')
>>> flow.resume(paused.run_id, "yes").output
'YES'
"""

from __future__ import annotations

from ._binding import flow_bind_step
from ._steps import Approval, HumanInTheLoop, approval, human_in_the_loop

__all__ = ["Approval", "HumanInTheLoop", "approval", "flow_bind_step", "human_in_the_loop"]
