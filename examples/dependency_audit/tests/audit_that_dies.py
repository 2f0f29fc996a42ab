"""The audit with a disk that keeps a ledger of what it reads and may kill its process; `test_durability` runs it.

LEDGER is the file of the ledger, DIE_AT after how many lines of it the process is killed, 0 for never.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from app import make_flow  # the modules beside it are found by now

from audit.disk import Disk


class DiskWithLedger(Disk):
    """Writes down what is read, in a file that outlives the process."""

    def load(self, path: Path) -> bytes:
        ledger = Path(os.environ["LEDGER"])
        with ledger.open("a", encoding="utf-8") as file:
            file.write(f"{path}\n")
        # Several threads write: none of them need see exactly this many lines.
        if 0 < int(os.environ["DIE_AT"]) <= len(ledger.read_text(encoding="utf-8").splitlines()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(path)


flow = make_flow(DiskWithLedger())
