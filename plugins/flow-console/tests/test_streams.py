"""Whatever becomes of the stream, the run goes on as if nobody watched."""

from __future__ import annotations

import errno
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from flow_console import ConsoleTracer

from flow import Flow, Step


class Failing(io.StringIO):
    """A stream on which the second and every further write fails."""

    def __init__(self, error: BaseException, tty: bool) -> None:
        super().__init__()
        self.error = error
        self.tty = tty
        self.writes = 0

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> int:
        self.writes += 1
        if self.writes > 1:
            raise self.error
        return super().write(text)


class Closing(Failing):
    def write(self, text: str) -> int:
        super().write(text)
        self.close()
        return len(text)


def gone(tty: bool) -> Failing:
    return Failing(BrokenPipeError(), tty)


def full(tty: bool) -> Failing:
    return Failing(OSError(errno.ENOSPC, "no space left"), tty)


def closing(tty: bool) -> Failing:
    return Closing(ValueError(), tty)


@pytest.mark.parametrize("tty", [True, False])
@pytest.mark.parametrize("make", [gone, full, closing])
def test_a_stream_that_fails_ends_the_display_and_not_the_run(
    make: Callable[[bool], Failing], tty: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stream = make(tty)
    flow = Flow(
        Step("upper", str.upper) >> Step("strip", str.strip), local_tracer=ConsoleTracer(stream=stream, width=80)
    )
    with caplog.at_level(logging.INFO):
        assert flow.run(" hello ").output == "HELLO"
    assert caplog.records == []
    assert stream.writes <= 2


def test_a_closed_stream(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    stream.close()
    assert Flow(Step("upper", str.upper), local_tracer=ConsoleTracer(stream=stream)).run("hello").output == "HELLO"
    assert caplog.records == []


def test_a_stream_that_only_writes() -> None:
    class Writer:
        text = ""

        def write(self, text: str) -> int:
            self.text += text
            return len(text)

        def flush(self) -> None:
            pass

        def isatty(self) -> bool:
            return False

    stream: Any = Writer()
    Flow(Step("upper", str.upper), local_tracer=ConsoleTracer(stream=stream)).run("hello")
    assert "done      upper" in stream.text


def test_what_the_encoding_cannot_express_is_escaped() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    Flow(Step("größe", str.upper), local_tracer=ConsoleTracer(stream=stream)).run("hello")
    stream.flush()
    assert rb"done      gr\xf6\xdfe" in written.getvalue()


def test_a_reader_that_goes_away() -> None:
    program = (
        "from flow import Flow, Step\n"
        "steps = [Step(f's{i}', str.upper) for i in range(50)]\n"
        "from flow import Pipeline\n"
        "print(Flow(Pipeline(steps), tracers=['console']).run('x').output)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, text=True, check=False
    )
    os.close(writer)
    assert done.stdout == "X\n"
