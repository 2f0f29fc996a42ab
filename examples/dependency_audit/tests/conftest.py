"""Makes the modules beside app.py importable, as `flow run app.py` does, and a made-up environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from examples.dependency_audit.tests.made_up_site import Site

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return an empty environment."""
    from examples.dependency_audit.tests.made_up_site import Site

    return Site(tmp_path / "site-packages")


@pytest.fixture(autouse=True)
def circuit_of_the_disk_is_closed() -> None:
    """All audits of a process share the circuit, and so would these."""
    from audit.disk import FAILING_DISK

    FAILING_DISK.reset()
