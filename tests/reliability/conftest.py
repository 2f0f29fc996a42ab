"""What all campaigns share: the seed, which a failing test prints, and a place for their stores."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability import scale

MEMORY = Path("/dev/shm")  # a file system in memory, where there is one


@pytest.fixture
def seed() -> int:
    """The seed of this campaign; set FLOW_TEST_SEED to it to do the same again."""
    number = scale.seed()
    print(f"FLOW_TEST_SEED={number}")
    return number


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory on the disk for the long form; in memory for the short one, which must not take a slow disk's time.

    A process that is killed loses nothing in memory either; losses of power are tested by the packages of the stores.
    """
    if scale.SOAK or not os.access(MEMORY, os.W_OK):
        yield tmp_path_factory.mktemp("reliability")
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="flow-reliability-") as folder:
        yield Path(folder)
