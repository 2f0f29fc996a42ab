"""What all campaigns share: the seed, which a failing test prints."""

from __future__ import annotations

import pytest

from tests.reliability import scale


@pytest.fixture
def seed() -> int:
    """The seed of this campaign; set FLOW_TEST_SEED to it to do the same again."""
    number = scale.seed()
    print(f"FLOW_TEST_SEED={number}")
    return number
