"""Output on stdout: for people, tables and lines that fit the terminal, in a pager if they are
longer than the screen; for programs, plain text without wrapping."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.text import readable, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lorimer.cli.story import Line

_ROOM: Final = 20
"""Characters that a table's widest column keeps, if possible."""
_HANGS: Final = 16
"""Largest indentation of a line's second and later rows; beyond it they are not indented."""
_WRAPPED: Final = 50_000
"""Characters of a line that is wrapped between words: 1 us for each."""
_COMMAND: Final = "lorimer "
"""The beginning of a piece that may be copied: it is not wrapped."""


def console() -> Console:
    """A console for stdout; if that is not a terminal, nothing is wrapped or coloured."""
    from rich.console import Console

    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=400, no_color=True)


def print_table(table: Table, *, spare: Sequence[str] = ()) -> None:
    """Print a table, for a program without the padding of its columns. If the terminal is too
    narrow, first the columns with the headers in `spare` are left out, in that order; then the
    column with a `ratio` is truncated."""
    out = console()
    if out.is_terminal:
        out.print(_fitted(table, out, spare))
        return
    with out.capture() as captured:
        out.print(table)
    click.echo("\n".join([line.rstrip() for line in captured.get().splitlines()]))


def _fitted(table: Table, out: Console, spare: Sequence[str]) -> Table:
    """The table fitted to the terminal: rich alone would shrink all columns that must not wrap
    equally, until most of them are empty."""
    if not any(column.ratio for column in table.columns) or _width(table, out) <= out.width:
        return table
    for name in (None, *spare):
        table = _without(table, name)
        natural = _width(table, out)
        for column in table.columns:
            column.width = 1 if column.ratio else None
        room = max(1 + out.width - _width(table, out), 1)
        for column in table.columns:
            column.width = room if column.ratio else None
        if room >= _ROOM or natural <= out.width:
            break
    return table


def _without(table: Table, name: str | None) -> Table:
    """The table without the column with that header."""
    from rich.table import Table as Fresh

    kept = [column for column in table.columns if column.header != name]
    fresh = Fresh(*[column.copy() for column in kept], box=None, pad_edge=False)
    fresh.header_style = table.header_style
    for column in fresh.columns:
        column.width = None
    for row in zip(*[column.cells for column in kept], strict=True):
        fresh.add_row(*row)
    return fresh


def truncated(text: str, width: int) -> str:
    """The text on one line, in at most `width` columns: some letters take two."""
    from rich.cells import cell_len, set_cell_size

    shown = visible(text)
    return shown if cell_len(shown) <= width else f"{set_cell_size(shown, width - 1).rstrip()}…"


def padding(text: str, width: int) -> str:
    """The blanks after a text that is to fill `width` columns."""
    from rich.cells import cell_len

    return " " * (width - cell_len(text))


def _width(table: Table, out: Console) -> int:
    """The width that the table needs."""
    from rich.measure import Measurement

    return Measurement.get(out, out.options.update(width=10_000), table).maximum


def print_lines(lines: Iterable[Line], *, cut: Sequence[tuple[str, str]] = ()) -> None:
    """Print lines, which may contain untrusted text. On a terminal they are wrapped between words,
    with later rows indented to the second piece; those whose first piece is in `cut` are truncated.
    For a program, and if they contain a command to copy, they are not wrapped."""
    from rich.text import Text

    out = console()
    for line in lines:
        pieces = [(visible(text), style) for text, style in line]
        if not out.is_terminal:  # rich would take 1 kB for each line of a text
            click.echo("".join([text for text, _ in pieces]).expandtabs())
            continue
        whole = Text.assemble(*pieces)
        copied = any(text.lstrip().startswith(_COMMAND) for text, _ in pieces)
        if copied or "\n" in whole.plain or len(whole) > _WRAPPED:
            out.print(whole, soft_wrap=True)
        elif line[:1] and line[0] in cut:
            out.print(whole, no_wrap=True, overflow="ellipsis")
        else:
            out.print(hanging(whole, line, out))


def hanging(whole: Text, line: Line, out: Console) -> Text:
    """The line wrapped, with its second and later rows indented to its second piece."""
    from rich.cells import cell_len
    from rich.text import Text

    indent = cell_len(line[0][0]) if len(line) > 1 else 0
    if whole.cell_len <= out.width or not 0 < indent <= min(_HANGS, out.width // 3):
        return whole
    head, body = whole.divide([len(line[0][0])])
    rows = body.wrap(out, out.width - indent)
    blank = Text(" " * indent)
    for row in rows:
        row.rstrip()
    return Text("\n").join([(blank if at else head) + row for at, row in enumerate(rows)])


def print_answer(text: str) -> None:
    """Print an answer: unchanged for programs, rendered as Markdown for people."""
    if not sys.stdout.isatty():
        click.echo(text, color=True)  # else click would remove what looks like a colour code
        return
    from rich.markdown import Markdown

    out = console()
    out.print()
    out.print(Markdown(readable(text)))
    out.print()


# ---------------------------------------------------------------- a pager


@contextmanager
def paged() -> Generator[None]:
    """Send what is printed in the block through a pager if it is longer than the terminal: $PAGER,
    else less; none if that is empty or `cat`, or if nobody is at the terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty() and _has_pager()):
        yield
        return
    held = _Held()
    try:
        with redirect_stdout(held):
            yield
    finally:
        _show(held.getvalue())


def _has_pager() -> bool:
    words = shlex.split(os.environ.get("PAGER", "less"))
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    return not dumb and words not in ([], ["cat"]) and shutil.which(words[0]) is not None


class _Held(io.StringIO):
    """A buffer that looks like the terminal to its writers."""

    encoding = "utf-8"  # pyright: ignore[reportAssignmentType]

    def isatty(self) -> bool:
        return True


def _show(text: str) -> None:
    columns, rows = shutil.get_terminal_size()
    # colour codes are counted as characters: if the text fits after all, less shows it and exits
    taken = sum([1 + len(row) // columns for row in text.splitlines()])
    if taken < rows:
        click.echo(text, nl=False)
        return
    os.environ.setdefault("LESS", "FRX")  # like git
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pager's
    try:
        click.echo_via_pager(text.removesuffix("\n"), color=True)
    finally:
        signal.signal(signal.SIGINT, before)
