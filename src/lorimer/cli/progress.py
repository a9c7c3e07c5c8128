"""Progress on stderr: for a run, a live line on a terminal and plain lines elsewhere; for a long
command, how far it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import click

from lorimer.cli.printing import hanging
from lorimer.cli.story import GOOD, REFUSED, Line, Story
from lorimer.cli.text import duration, visible
from lorimer.core.world import World

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_PAUSE_S: Final = 0.1


class Screen(Protocol):
    """Where progress goes."""

    def open(self) -> None:
        """The run begins."""
        ...

    def line(self, line: Line) -> None:
        """Add a line that stays."""
        ...

    def paused(self) -> AbstractContextManager[None]:
        """Release the terminal for a question."""
        ...

    def close(self) -> None:
        """The run has ended: restore the terminal. May be called twice."""
        ...


class Silent:
    """`--quiet`: nothing but errors."""

    def open(self) -> None: ...

    def line(self, line: Line) -> None: ...

    @contextmanager
    def paused(self) -> Generator[None]:
        yield

    def close(self) -> None: ...


class Plain(Silent):
    """Plain lines as they come, for logs and pipes."""

    def line(self, line: Line) -> None:
        click.echo(visible("".join([text for text, _ in line])).rstrip(), err=True)


class Live(Silent):
    """Permanent lines, above a line that shows the current activity."""

    def __init__(self, story: Story, world: World, since_s: float = 0.0) -> None:
        """`since_s`: for how many seconds it has been running."""
        from rich.console import Console
        from rich.live import Live as RichLive
        from rich.spinner import Spinner

        self._story = story
        self._world = world
        self._began = world.monotonic() - since_s
        self._spinner = Spinner("dots", style="cyan")
        self._console = Console(stderr=True, highlight=False)
        self._live = RichLive(
            self, console=self._console, refresh_per_second=8, transient=True, redirect_stdout=False
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        story = self._story
        elapsed = duration(self._world.monotonic() - self._began)
        row = Table.grid(padding=(0, 1))
        row.add_column()
        row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_row(
            self._spinner,
            Text.assemble((story.doing, "bold"), (f"  {story.sums} · {elapsed}", "dim")),
        )
        yield row

    def open(self) -> None:
        self._live.start()

    def line(self, line: Line) -> None:
        from rich.text import Text

        shown = [(visible(text), style) for text, style in line]
        whole = Text.assemble(*shown)
        # of a result that is good, what does not fit is not worth a second line; and what a
        # refused call would need is told at the end
        if line[:1] in ([GOOD], [REFUSED]):
            self._console.print(whole, no_wrap=True, overflow="ellipsis")
        else:
            self._console.print(hanging(whole, shown, self._console))

    @contextmanager
    def paused(self) -> Generator[None]:
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def close(self) -> None:
        self._live.stop()


class Gauge:
    """The progress of a long command, on the last line of a terminal; elsewhere nothing. Leaves no
    trace at its end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._live = is_live()
        self._shown = False
        self._what = ""
        self._next = 0.0
        """When the line may change again."""

    def __enter__(self) -> Gauge:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def count(self, what: str, number: int, of: int) -> None:
        """Show that item `number` of `of` is being processed; numbers are left out if there is only
        one. The line changes every 0.1 s at most."""
        now = self._world.monotonic()
        if what != self._what or now >= self._next:
            self._what, self._next = what, now + _PAUSE_S
            self.say(what if of == 1 else f"{what} {number:,} of {of:,}")

    def say(self, what: str) -> None:
        """Show the current item."""
        if self._live:
            self._shown = True
            last_line(f"… {what}")

    def clear(self) -> None:
        """Remove the line, so that a permanent one can be printed; the next call shows it again."""
        if self._shown:
            last_line("")
            self._shown, self._what = False, ""


def last_line(text: str) -> None:
    """Replace the last line of a terminal that `is_live`, on stderr."""
    click.echo(f"\r\x1b[K{text}", nl=False, err=True, color=True)  # NO_COLOR: it is none


def screen_for(story: Story, world: World, *, quiet: bool, since_s: float = 0.0) -> Screen:
    """The screen for this stderr. `since_s`: for how many seconds the run has been running."""
    if quiet:
        return Silent()
    return Live(story, world, since_s) if is_live() else Plain()


def is_live() -> bool:
    """Whether stderr is a terminal on which a line can be rewritten."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
