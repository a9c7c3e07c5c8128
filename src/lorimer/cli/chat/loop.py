"""A conversation on the terminal: reads input, shows answers.

Between answers the event loop is not running, so that the input line can be edited and Ctrl-C goes
to the line reader. An answer is one `runner.run`, which Ctrl-C cancels: the run ends, and its
journal says so."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli import fail
from lorimer.cli.call import Call
from lorimer.cli.chat.commands import COMMANDS, OTHER_WORDS, Leave
from lorimer.cli.chat.screen import ChatScreen
from lorimer.cli.fail import Fault
from lorimer.cli.foreground import assemble, prepare
from lorimer.cli.reading import take_over
from lorimer.cli.remedy import remedy
from lorimer.cli.standard_input import is_typed
from lorimer.cli.store import opened, store_path
from lorimer.cli.story import TOLD, Story
from lorimer.cli.text import ago, cost, count, duration, flow, one_line, short_id, visible
from lorimer.core.errors import LorimerError, nearest
from lorimer.core.events import Event
from lorimer.session import Session, SessionManager, stored_sessions
from lorimer.world import RealWorld

if TYPE_CHECKING:
    from lorimer.cli.options import Terms
    from lorimer.core.limits import Limits
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.core.result import PipelineResult
    from lorimer.journal.sqlite.store import SQLiteJournal
    from lorimer.pipeline import Pipeline

_PROMPT: Final = "> "
_MORE: Final = "… "
_WAIT_S: Final = 40.0
"""Seconds to wait for a conversation: longer than the claim of a dead process lasts."""


class Chat:
    """One chat: a pipeline, and the session of the current conversation."""

    def __init__(
        self,
        pipeline: Pipeline,
        manager: SessionManager,
        journal: SQLiteJournal,
        screen: ChatScreen,
        limits: Limits,
        call: Call,
    ) -> None:
        """Use `begin`."""
        self.pipeline = pipeline
        self.manager = manager
        self.session: Session = manager.create(pipeline)
        self.screen = screen
        self._journal = journal
        self._limits = limits
        self._call = call
        self._typed = is_typed()
        for kind in TOLD:
            pipeline.on(kind, screen.show)
        pipeline.on("text.delta", self._say)

    @classmethod
    async def begin(
        cls,
        manifest: EnvironmentManifest,
        limits: Limits,
        terms: Terms,
        stack: AsyncExitStack,
        session_id: str | None,
        *,
        last: bool,
    ) -> Chat:
        """Assemble a chat, which `stack` closes. Raises Fault, ConfigError and PipelineError."""
        if sys.stdin is None:
            raise Fault(
                "standard input is closed",
                hint='A chat reads your messages from it; to ask once: lorimer run "..."',
            )
        world = RealWorld()
        prepared = await prepare(manifest, terms, world)
        screen = ChatScreen(Story(streamed=True), world)
        journal = await stack.enter_async_context(opened(store_path(terms.store), world))
        pipeline = await stack.enter_async_context(assemble(prepared, journal, world, screen))
        manager = await stack.enter_async_context(SessionManager())
        if last:
            found = await stored_sessions(journal, world, limit=1)
            if not found:
                raise Fault("there is no conversation to continue", hint="Begin one: lorimer chat")
            session_id = found[0].session_id
        self = cls(pipeline, manager, journal, screen, limits, prepared.call)
        if session_id is not None:
            await self.open(session_id)
        return self

    async def open(self, session_id: str) -> None:
        """Switch to another conversation, by its id or the beginning of it. Raises PipelineError if
        there is none, JournalError if another process of this machine uses it."""
        session = await self.manager.open(self.pipeline, session_id)
        if session is not self.session:
            await take_over(self._journal, session.session_id, f"session {session.session_id}")
            await self.session.aclose()
            self.session = session

    # --- talking ---------------------------------------------------------------------------

    def talk(self, runner: asyncio.Runner) -> int:
        """Chat until the input ends or the user leaves. Returns the exit code; without a terminal,
        that of the last answer."""
        if self._typed:
            self._greet()
        code = fail.OK
        while (text := self._read()) is not None:
            if not text.strip():
                continue
            try:
                code = (
                    self._command(text, runner)
                    if text.startswith("/")
                    else self._answer(runner, text)
                )
            except Leave:
                return fail.OK
        return fail.OK if self._typed else code

    def _read(self) -> str | None:
        """Read a message; a line that ends with a backslash continues in the next one. None: the
        input has ended."""
        lines: list[str] = []
        while True:
            try:
                line = input((_MORE if lines else _PROMPT) if self._typed else "")
            except EOFError:
                if self._typed:
                    click.echo(err=True)
                return "\n".join(lines) if lines else None
            except KeyboardInterrupt:  # what was typed is dropped
                click.echo(err=True)
                return "" if self._typed else None
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])

    def _answer(self, runner: asyncio.Runner, text: str) -> int:
        return self.show(
            runner,
            lambda: self.session.run(
                text, limits=self._limits, wait_s=_WAIT_S, raise_on_error=False
            ),
        )

    def show(
        self, runner: asyncio.Runner, begin: Callable[[], Coroutine[None, None, PipelineResult]]
    ) -> int:
        """Execute a run and show how it ends; returns the exit code. After an error the chat
        continues."""
        world = self.pipeline.world
        started = world.monotonic()
        self.screen.open()
        try:
            result = runner.run(begin())
        except KeyboardInterrupt:
            self.screen.close()
            click.secho("stopped; the answer so far is kept", fg="yellow", err=True)
            return fail.INTERRUPTED
        except LorimerError as error:
            self.screen.close()
            return fail.report_error(error)
        self.screen.close()
        if result.exception is not None:
            hint = remedy(result.exception, self.pipeline.model_spec, self._call)
            fail.report(str(result.exception), code=result.exception.code.value, hint=hint)
        self._tell(result, world.monotonic() - started)
        return fail.OK if result.exception is None else fail.exit_code(result.exception)

    def _tell(self, result: PipelineResult, seconds: float) -> None:
        used = result.usage
        parts = [
            flow(used),
            cost(result.cost_nano, used.total),
            duration(seconds),
        ]
        info = self.session.info
        if info.runs > 1:
            whole = cost(round(info.total_cost_usd * 1e9), used.total)
            parts.append(f"{whole} in {count(info.runs, 'answer')}")
        click.secho(" · ".join(parts), dim=True, err=True)

    def _say(self, event: Event) -> None:
        self.screen.say(str(event.data.get("text", "")))

    # --- commands --------------------------------------------------------------------------

    def _command(self, text: str, runner: asyncio.Runner) -> int:
        word, _, rest = text[1:].partition(" ")
        command = COMMANDS.get(OTHER_WORDS.get(word, word))
        if command is None:
            hint = nearest(word, COMMANDS)
            fail.report(f"there is no /{word}{hint}", hint="/help lists what there is.")
            return fail.USAGE
        return command.do(self, runner, rest.strip())

    def _greet(self) -> None:
        if find_spec("readline") is not None:
            import_module("readline")  # lets `input` edit the line, and remember those before it
        info = self.session.info
        model = visible(self.pipeline.model_spec)
        click.secho(f"{model}  {short_id(info.session_id)}  /help", dim=True, err=True)
        if info.runs:
            used = ago(self.pipeline.world.time() - info.last_used)
            click.secho(
                f"{count(info.message_count, 'message')}, last used {used}: {one_line(info.title)}",
                dim=True,
                err=True,
            )
        if info.unfinished:
            click.secho(
                "the last answer was interrupted: /resume continues it, /drop discards it",
                fg="yellow",
                err=True,
            )
