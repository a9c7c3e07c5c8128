"""The display of an answer in a chat: its text on stdout as it arrives, what tools do on stderr."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager

import click

from lorimer.cli.chat.flow import Flow
from lorimer.cli.progress import Plain, Screen, screen_for
from lorimer.cli.story import Line, Story
from lorimer.cli.text import JOINERS, readable, visible
from lorimer.core.events import Event
from lorimer.core.world import World


class ChatScreen:
    """A `Screen` that also shows text. While text arrives, there is no activity line below it."""

    def __init__(self, story: Story, world: World) -> None:
        self._story = story
        self._world = world
        self._inner: Screen = Plain()
        self._turning = False
        self._in_line = False
        """The text shown last does not end with a newline."""
        self._flow = Flow(lambda: shutil.get_terminal_size().columns)
        self._last: str = ""
        """The last character shown, and after it a joiner that is not shown yet, if there is one:
        what it joins decides how it is shown."""
        self._lost: OSError | None = None
        """Why stdout could not be written: the reader is gone, or the disk is full."""

    def open(self) -> None:
        """An answer begins."""
        self._story.doing = "starting"
        self._turn()

    def show(self, event: Event) -> None:
        """Take in an event of the run."""
        for line in self._story.tell(event):
            self.line(line)
        if event.type in ("stage.enter", "tool.call_start") and not self._in_line:
            self._turn()

    def say(self, text: str) -> None:
        """Show a piece of the answer, with control characters escaped."""
        if not text or self._lost is not None:
            return
        self._stop()
        held = self._last + text
        whole = held.rstrip(JOINERS) or held
        shown = readable(whole)[len(visible(self._last[:1])) :]
        try:
            click.echo(self._flow.feed(shown) if sys.stdout.isatty() else shown, nl=False)
            sys.stdout.flush()
        except OSError as lost:  # raised at the end of the answer, which is kept
            self._lost = lost
            return
        self._last = held[len(whole) - 1 :]
        self._in_line = not held.endswith("\n")

    def line(self, line: Line) -> None:
        """Show a separate line below the text."""
        self._break()
        self._inner.line(line)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Release the terminal for a question."""
        self._break()
        self._stop()
        yield
        self._turn()

    def close(self) -> None:
        """The answer has ended. Raises OSError if stdout could not be written."""
        self._break()
        self._stop()
        if self._lost is not None:
            raise self._lost

    def _break(self) -> None:
        if self._in_line:
            click.echo(f"{self._flow.end()}{visible(self._last[1:])}")
            self._in_line = False
        self._last = ""

    def _turn(self) -> None:
        """Show the current activity below, on a terminal."""
        if not self._turning:
            self._inner = screen_for(self._story, self._world, quiet=False)
            self._inner.open()
            self._turning = True

    def _stop(self) -> None:
        if self._turning:
            self._inner.close()
            self._inner, self._turning = Plain(), False
