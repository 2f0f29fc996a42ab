"""What the tests across packages need of the process that runs them."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As the background jobs of a shell have it; programs that tests start and interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
