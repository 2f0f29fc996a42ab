"""The campaign's pipeline as a program for ``flow run``; the environment says where its store is."""

from __future__ import annotations

import os
from typing import Any

from flow import Flow
from tests.reliability.driving import new_life
from tests.reliability.ledger import Ledger
from tests.reliability.pipelines import Tally, Works, build
from tests.reliability.stores import open_store
from tests.reliability.witness import Witness

TAP = os.environ.get("RELIABILITY_TAP")
ledger = Ledger(os.environ["RELIABILITY_LEDGER"], new_life(), os.open(TAP, os.O_WRONLY) if TAP else None)
state: Any = Witness(open_store(os.environ["RELIABILITY_STATE"]), ledger)
flow = Flow(build(Works(ledger), os.environ["RELIABILITY_SIZE"]), context_model=Tally, state=state)
