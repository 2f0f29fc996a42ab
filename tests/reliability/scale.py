"""How much is done: a short form with every run of the tests, a long one that is measured, seeds for both."""

from __future__ import annotations

import os
import random
import sys

SOAK = os.environ.get("FLOW_TEST_SOAK", "") not in ("", "0")
SOAK_MINUTES = float(os.environ.get("FLOW_TEST_SOAK_MINUTES", "4"))
THOROUGH = sys.version_info[:2] == (3, 11)
"""The matrix runs on several Pythons at once; one of them does the whole short form, the others a taste of it."""


def amount(long: int, short: int, taste: int = 1) -> int:
    """How often something is done here."""
    return long if SOAK else short if THOROUGH else taste


def seed() -> int:
    """The seed of a campaign: ``FLOW_TEST_SEED``, or the same every time, or in the long form another every time."""
    given = os.environ.get("FLOW_TEST_SEED")
    if given is not None:
        return int(given)
    return random.SystemRandom().randrange(2**32) if SOAK else 20_261
