"""Asks a person on the terminal whether a call may run."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import termios
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from lorimer.cli.text import visible

CUT_AT: Final = 2000
"""Characters after which the engine cuts what is shown of a call."""

_QUESTION: Final = "Run it? [y]es, [n]o, [a]lways this very call: "
_ASK_SHORT: Final = "Run it? [y]es, [n]o: "


class TerminalApprover:
    """An `Approver` on the controlling terminal. "Always" holds for the same call, letter for
    letter, until this process ends; it is kept nowhere."""

    def __init__(self, paused: Callable[[], AbstractContextManager[None]]) -> None:
        self._paused = paused
        self._always: set[tuple[str, str]] = set()
        self._turn = asyncio.Lock()

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        """Show exactly what would run and wait for an answer. No terminal: no."""
        if (tool, summary) in self._always:
            return True
        cut = len(summary) >= CUT_AT
        async with self._turn:
            with self._paused():
                answer = await _ask(_shown(tool, summary, reason, cut), always=not cut)
        if answer == "a":
            self._always.add((tool, summary))
        return answer in ("y", "a")


def can_ask() -> bool:
    """Somebody sits at a terminal and sees stderr."""
    if not sys.stderr.isatty():
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _shown(tool: str, summary: str, reason: str, cut: bool) -> str:
    """The question's text. Arguments are shown in full, one a paragraph, nothing hidden."""
    try:
        given = json.loads(summary)
    except ValueError:
        given = None
    lines = [f"\x1b[1;33m{tool}\x1b[0m wants to run ({visible(reason)}):"]
    if isinstance(given, dict) and not cut:
        for name, value in given.items():  # pyright: ignore[reportUnknownVariableType]
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            body = visible(text).split("\n")
            lines.append(f"  \x1b[36m{visible(str(name))}\x1b[0m: {body[0]}")  # pyright: ignore[reportUnknownArgumentType]
            lines.extend([f"  {' ' * len(str(name))}  {line}" for line in body[1:]])  # pyright: ignore[reportUnknownArgumentType]
    else:
        lines.extend([f"  {line}" for line in visible(summary).split("\n")])
    if cut:
        lines.append("  \x1b[31m[cut here: the call is longer than what is shown]\x1b[0m")
    return "\n".join(lines)


async def _ask(shown: str, *, always: bool) -> str:
    """The first letter of the answer; anything unclear asks again, the end of input is no."""
    try:
        tty = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return "n"
    letters = "yna" if always else "yn"
    try:
        termios.tcflush(tty, termios.TCIFLUSH)  # what was typed before is no answer to this
        os.write(tty, f"{shown}\n".encode())
        while True:
            os.write(tty, (_QUESTION if always else _ASK_SHORT).encode())
            line = await _line(tty)
            if not line:
                os.write(tty, b"\n")
                return "n"
            letter = line.strip().lower()[:1]
            if letter and letter in letters:
                return letter
    finally:
        os.close(tty)


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
