"""Where lines and trees go: a terminal with a live region, or any other stream with plain lines.

Nothing here raises because of the stream. A pipe whose reader has gone, or a file that was closed, ends the display
and not the run.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO, Protocol, TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.file_proxy import FileProxy
from rich.live import Live

_INTERVAL_S = 0.1  # ten pictures a second
_NOT_CI = ("", "0", "false")


class Stream:
    """A text stream that survives its reader: once writing fails it is dead, and writing to it does nothing.

    What the encoding of the stream cannot express is written as an escape.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.target = stream
        self.dead = False
        # An object of the user's: a text stream has an encoding, something that only writes has none.
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write `text`, if anybody can still get it."""
        if not self.dead:
            try:
                self._write(text)
            except (OSError, ValueError):  # gone, full, or closed
                self.dead = True
        return len(text)

    def _write(self, text: str) -> None:
        try:
            self.target.write(text)
        except UnicodeEncodeError:
            self.target.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))

    def flush(self) -> None:
        """Hand over what was written."""
        if not self.dead:
            try:
                self.target.flush()
            except (OSError, ValueError):
                self.dead = True

    def isatty(self) -> bool:
        """Say whether a person sees it."""
        try:
            return self.target.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        """Return the file descriptor; raises `OSError` where there is none."""
        return self.target.fileno()


def is_live_terminal(stream: Stream, environ: Mapping[str, str]) -> bool:
    """Say whether a picture can be drawn and redrawn: on a terminal that is not dumb and not a build log."""
    dumb = environ.get("TERM", "").lower() in ("dumb", "unknown")
    return stream.isatty() and not dumb and environ.get("CI", "").lower() in _NOT_CI


class Painter(Protocol):
    """Somebody with runs to show in the live region."""

    def frame(self, height: int) -> RenderableType:
        """Return the picture of the moment, of at most `height` lines."""
        ...

    def is_idle(self) -> bool:
        """Say whether nothing is left to show."""
        ...


class Screen:
    """The display on one stream; those who draw on the same terminal at the same time share it."""

    def __init__(self, stream: IO[str], *, colorized: bool | None = None, width: int | None = None) -> None:
        self._stream = Stream(stream)
        self.is_live = is_live_terminal(self._stream, os.environ)
        self._console = Console(
            file=cast(IO[str], self._stream),
            width=width,
            force_terminal=self.is_live or colorized is True,
            force_interactive=self.is_live,
            force_jupyter=False,
            color_system="auto" if self.is_live else "standard" if colorized else None,
            no_color=None if colorized is None else not colorized,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._painters: list[Painter] = []
        self._live: Live | None = None
        self._tick: tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle] | None = None
        self._drawn_at = 0.0
        self._drawing = threading.RLock()

    def print(self, *renderables: RenderableType) -> None:
        """Print what is to stay: above the live region on a terminal."""
        if self._stream.dead:
            return
        for renderable in renderables:
            self._console.print(renderable, soft_wrap=not self.is_live)

    def join(self, painter: Painter) -> None:
        """Draw for `painter` too, until it leaves."""
        with _registry:
            self._painters.append(painter)
            if self.is_live:
                _LIVE[id(self._stream.target)] = self

    def leave(self, painter: Painter) -> None:
        """Draw no longer for `painter`; the live region goes away with the last one."""
        with _registry:
            if painter in self._painters:
                self._painters.remove(painter)
            alone = not self._painters
            if alone:
                _LIVE.pop(id(self._stream.target), None)
        if alone:
            self.close()

    def update(self) -> None:
        """Draw anew if the last picture is old enough, and see to it that the picture moves on without events."""
        if not self.is_live or not self._painters or self._stream.dead:
            return
        if time.monotonic() - self._drawn_at >= _INTERVAL_S:
            self._draw()
        if self._tick is None or self._tick[0].is_closed() or self._tick[1].cancelled():
            self._schedule()

    def close(self) -> None:
        """Take the live region away and give the terminal back."""
        if self._tick is not None:
            self._tick[1].cancel()
            self._tick = None
        with self._drawing:
            live, self._live = self._live, None
            if live is not None:
                atexit.unregister(self.close)
                live.stop()  # erases the last picture

    def _begin(self, picture: RenderableType) -> Live:
        shares_stdout = self._stream.target in (sys.stdout, sys.stderr) and sys.stdout.isatty()
        live = Live(
            picture,
            console=self._console,
            auto_refresh=False,  # drawn from the event loop: a thread would read trees that are being changed
            transient=True,
            redirect_stdout=shares_stdout,  # what the program prints goes above the tree, unless it is piped elsewhere
            redirect_stderr=self._stream.target is sys.stderr,
            vertical_overflow="crop",
        )
        atexit.register(self.close)  # gives the cursor back when the program ends in the middle of a run
        live.start(refresh=True)
        return live

    def _draw(self) -> None:
        with self._drawing:
            self._drawn_at = time.monotonic()
            painters = list(self._painters)
            room = max(1, (self._console.size.height - 1) // max(1, len(painters)))
            picture = Group(*(painter.frame(room) for painter in painters))
            if self._live is not None:
                self._live.update(picture, refresh=True)
            elif painters:
                self._live = self._begin(picture)

    def _schedule(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # events without a loop: a test, or a replay of stored events
            return
        self._tick = (loop, loop.call_later(_INTERVAL_S, self._on_tick))

    def _on_tick(self) -> None:
        self._tick = None
        for painter in [painter for painter in self._painters if painter.is_idle()]:
            self.leave(painter)
        self.update()


_LIVE: dict[int, Screen] = {}
"""The terminals that are drawn on, by the identity of their stream: two screens on one would draw over each other."""

_registry = threading.Lock()


def screen_on(stream: IO[str] | None, *, colorized: bool | None, width: int | None) -> Screen:
    """Return the screen that is live on a stream, or a new one; ``None`` is the standard error of the moment."""
    target: IO[str] = sys.stderr if stream is None else stream
    if isinstance(target, FileProxy):  # somebody's live display stands before the real stream
        target = cast(TextIO, target.rich_proxied_file)
    return _LIVE.get(id(target)) or Screen(target, colorized=colorized, width=width)
