"""Minutes of work and trouble on one store: nothing grows, nothing is stuck, every promise is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.measured import note
from tests.reliability.scale import SOAK, SOAK_MINUTES
from tests.reliability.soak import MIB, soak
from tests.reliability.stores import LASTING


@pytest.mark.skipif(not SOAK, reason="takes minutes: make soak")
@pytest.mark.parametrize("kind", LASTING)
def test_nothing_grows_and_nothing_is_stuck(kind: str, tmp_path: Path, seed: int) -> None:
    trends, done = soak(kind, tmp_path, seed, SOAK_MINUTES / len(LASTING))
    note("soak", f"{kind}, {SOAK_MINUTES / len(LASTING):g} minutes", f"{sum(done.values())} disturbances {done}")
    for trend in trends:
        note("soak", f"{kind}, one of two workers", trend)
        assert trend.runs > 0
        assert trend.mib_per_minute < 1.0
        assert trend.descriptors <= 0
        assert trend.threads <= 0
        assert trend.wal <= 64 * MIB
