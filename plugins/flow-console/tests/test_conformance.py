"""The tracer keeps the promises every tracer gives, on a terminal and elsewhere, silent and talkative."""

from __future__ import annotations

import io

from flow_console import ConsoleTracer
from flow_testkit import TracerSuite

from flow import Tracer


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestConsoleTracer(TracerSuite):
    def make_tracer(self) -> str:
        return "console"


class TestConsoleTracerOnATerminal(TracerSuite):
    def make_tracer(self) -> Tracer:
        return ConsoleTracer(stream=Tty(), width=80)


class TestTalkativeConsoleTracer(TracerSuite):
    shows_content = True

    def make_tracer(self) -> Tracer:
        return ConsoleTracer(level="debug", log_inputs=True, log_outputs=True)
