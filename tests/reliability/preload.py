"""Imported once by the server that processes are forked from."""

from __future__ import annotations

from tests.reliability import driving, oracle, processes
from tests.reliability.pipelines import Works, build
from tests.reliability.stores import kernel

kernel()
LOADED = (driving, oracle, processes, Works, build)
