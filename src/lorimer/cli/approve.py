"""Asks a person on the terminal whether a call may run."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, cast

from lorimer.cli.text import count, rows, seen, seen_on_line, visible, without_gaps
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.tool import TextQuestion
from lorimer.tools.asking import CUT

_SHOWN_LINES: Final = 40
"""Characters shown of a longer argument, such as the content of a file; `v` shows all of it. A
command is always shown in full."""
_ANSWERS: Final = {"y": "[y]es", "n": "[n]o", "a": "[a]lways this very call", "v": "[v]iew all"}


class TerminalApprover:
    """An `Approver` on the controlling terminal. "Always" applies to exactly the same call, asked
    about for the same reason (which says where links lead), until this process ends; it is not
    stored."""

    def __init__(self, paused: Callable[[], AbstractContextManager[None]]) -> None:
        self._paused = paused
        self._always: set[tuple[str, str, str]] = set()
        self._turn = asyncio.Lock()

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        """Show exactly what would run and wait for an answer. Without a terminal, the answer is
        no."""
        if (tool, summary, reason) in self._always:
            return True
        async with self._turn:
            with self._paused():
                answer = await _ask(tool, summary, reason)
        if answer == "a":
            self._always.add((tool, summary, reason))
        return answer in ("y", "a")

    async def approve_again(self, tool: str, summary: str, reason: str) -> bool:
        """Like `approve`, for a call that may have taken effect; "always" applies only this
        once."""
        async with self._turn:
            with self._paused():
                return await _ask(tool, summary, reason) in ("y", "a")

    async def ask(self, question: TextQuestion) -> str:
        """Show a question and wait for a line of text, or the number of an option. An empty line is
        the default; without a default, or without a terminal, there is no answer."""
        async with self._turn:
            with self._paused():
                return await _words(question)


def can_ask() -> bool:
    """Whether a person is at a terminal and sees stderr."""
    if not sys.stderr.isatty():
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Shown:
    """The text of a question."""

    short: str
    whole: str
    """The same as `short` if nothing was left out."""
    letters: str
    """The possible answers."""


def _shown(tool: str, summary: str, reason: str) -> _Shown:
    """Arguments, one per paragraph, with nothing hidden in them."""
    head = f"\x1b[1;33m{visible(tool)}\x1b[0m wants to run ({seen_on_line(reason)}):"
    if summary.endswith(CUT):
        cut = f"\x1b[31m{CUT.strip()}\x1b[0m"
        text = f"{head}\n  {seen(summary.removesuffix(CUT))}\n  {cut}"
        return _Shown(text, text, "yn")  # no "always" for a call that was not shown completely
    try:
        given = cast("JSON", json.loads(summary))
    except ValueError:
        given = summary
    arguments = given if isinstance(given, Mapping) else {"input": given}
    short, whole = [head], [head]
    for name, value in arguments.items():
        text = value if isinstance(value, str) else dumps(value)
        lines = _paragraph(name, text)
        whole += lines
        most = len(lines) if name == "command" else _SHOWN_LINES
        short += lines[:most]
        if len(lines) > most:
            left = count(len(lines) - most, "more line")
            short.append(f"  \x1b[31m[... {left} of {name}]\x1b[0m")
    more = "v" if len(short) < len(whole) else ""
    return _Shown("\n".join(short), "\n".join(whole), f"yna{more}")


def _paragraph(name: str, text: str) -> list[str]:
    name = seen(name)
    first, *rest = without_gaps(seen(text)).split("\n")
    blank = " " * len(name)
    return [f"  \x1b[36m{name}\x1b[0m: {first}", *[f"  {blank}  {line}" for line in rest]]


def further_up(text: str) -> str:
    """A note if the text has more lines than the screen; else ""."""
    width, height = shutil.get_terminal_size()
    taken = rows(text, width)
    if taken < height:
        return ""
    return f"\x1b[31m[{count(taken, 'line')}: it begins further up]\x1b[0m\n"


async def _ask(tool: str, summary: str, reason: str) -> str:
    """The letter of the answer; anything unclear asks again, the end of input means no."""
    shown = _shown(tool, summary, reason)
    try:
        tty = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return "n"
    question = f"Run it? {', '.join([_ANSWERS[letter] for letter in shown.letters])}: "
    try:
        termios.tcflush(tty, termios.TCIFLUSH)  # drop what was typed before the question
        _write(tty, f"{shown.short}\n{further_up(shown.short)}")
        while True:
            _write(tty, question)
            line = await _line(tty)
            letter = line.strip().lower()[:1]
            if not line:
                _write(tty, "\n")
                return "n"
            if letter == "v" and "v" in shown.letters:
                _write(tty, f"{shown.whole}\n{further_up(shown.whole)}")
            elif letter and letter in shown.letters:
                return letter
    finally:
        os.close(tty)


async def _words(question: TextQuestion) -> str:
    default = question.default or ""
    lines = [f"\x1b[1;33mA question\x1b[0m: {visible(question.text)}"]
    lines += [f"  {at}. {visible(option)}" for at, option in enumerate(question.options, 1)]
    hint = f" [{visible(default)}]" if default else ""
    head = "Number or words" if question.options else "Your answer"
    try:
        tty = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        termios.tcflush(tty, termios.TCIFLUSH)
        _write(tty, "\n".join([*lines, f"{head}{hint}: "]))
        line = await _line(tty)
        if not line:
            _write(tty, "\n")
    finally:
        os.close(tty)
    return chosen(line.strip(), question.options) or default


def chosen(words: str, options: Sequence[str]) -> str:
    """The option with that number, else the text unchanged."""
    if words.isdecimal() and 1 <= int(words) <= len(options):
        return options[int(words) - 1]
    return words


def _write(tty: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(tty, data) :]


async def _line(tty: int) -> str:
    """One line from the terminal. Waiting can be cancelled, so Ctrl-C still ends the run."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        loop.remove_reader(tty)
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(tty, wake)
    try:
        await ready
    finally:
        loop.remove_reader(tty)
    return os.read(tty, 4096).decode("utf-8", "replace")
