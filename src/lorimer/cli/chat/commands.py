"""The slash commands of a chat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli import fail
from lorimer.cli.text import ago, cost, count, one_line, readable, short_id, visible

if TYPE_CHECKING:
    from lorimer.cli.chat.loop import Chat
    from lorimer.core.messages import Message


class Leave(Exception):
    """Ends the chat."""


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command."""

    help: str
    do: Callable[[Chat, asyncio.Runner, str], int]
    """Called with the text after the command's name; returns the exit code."""


def _help(chat: Chat, runner: asyncio.Runner, rest: str) -> int:
    width = max(map(len, COMMANDS))
    for word, command in COMMANDS.items():
        click.echo(f"  /{word:<{width}}  {command.help}", err=True)
    click.echo("  A line that ends with \\ continues in the next one.", err=True)
    return fail.OK


def _info(chat: Chat, runner: asyncio.Runner, rest: str) -> int:
    info = chat.session.info
    parts = [
        short_id(info.session_id),
        visible(chat.pipeline.model_spec),
        count(info.message_count, "message"),
        count(info.runs, "answer"),
        count(info.iterations, "model call"),
        cost(round(info.total_cost_usd * 1e9), info.iterations),
        info.freshness.value,
    ]
    click.echo(" · ".join(parts), err=True)
    return fail.OK


def _history(chat: Chat, runner: asyncio.Runner, rest: str) -> int:
    messages = chat.session.messages or runner.run(_read(chat))
    for message in messages:
        text = message.text.strip()
        calls = [f"[{use.name}]" for use in message.tool_uses]
        if text or calls:
            mark = "> " if message.role == "user" else "  "
            click.echo(readable(mark + " ".join([part for part in (text, *calls) if part])))
    return fail.OK


async def _read(chat: Chat) -> list[Message]:
    from lorimer.journal.conversation import read

    return (await read(chat.pipeline.journal, chat.session.session_id))[0].messages


def _new(chat: Chat, runner: asyncio.Runner, rest: str) -> int:
    runner.run(chat.session.aclose())
    chat.session = chat.manager.create(chat.pipeline)
    click.secho("started a new conversation; the old one is kept", dim=True, err=True)
    return fail.OK


def _sessions(chat: Chat, runner: asyncio.Runner, rest: str) -> int:
    from lorimer.session import stored_sessions

    world = chat.pipeline.world
    for info in runner.run(stored_sessions(chat.pipeline.journal, world, limit=10)):
        here = "*" if info.session_id == chat.session.session_id else " "
        used = ago(world.time() - info.last_used)
        line = f"{here} {short_id(info.session_id)}  {used}  {one_line(info.title, 60)}"
        click.echo(line, err=True)
    return fail.OK


def _open(chat: Chat, runner: asyncio.Runner, rest: str) -> int:
    from lorimer.core.errors import LorimerError

    if not rest:
        fail.report("/open needs the id of a conversation", hint="/sessions lists them.")
        return fail.USAGE
    try:
        runner.run(chat.open(rest))
    except LorimerError as error:
        return fail.report_error(error)
    return _info(chat, runner, "")


def _resume(chat: Chat, runner: asyncio.Runner, rest: str) -> int:
    run_id = chat.session.info.unfinished
    if not run_id:
        fail.report("nothing is interrupted here")
        return fail.USAGE
    return chat.show(runner, lambda: chat.session.resume(run_id, wait_s=40.0, raise_on_error=False))


def _drop(chat: Chat, runner: asyncio.Runner, rest: str) -> int:
    from lorimer.core.errors import LorimerError

    run_id = chat.session.info.unfinished
    if not run_id:
        fail.report("nothing is interrupted here")
        return fail.USAGE
    try:
        runner.run(chat.session.abandon(run_id, wait_s=40.0))
    except LorimerError as error:
        return fail.report_error(error)
    runner.run(chat.session.refresh())
    click.secho("discarded", dim=True, err=True)
    return fail.OK


def _exit(chat: Chat, runner: asyncio.Runner, rest: str) -> int:
    raise Leave


COMMANDS: Final[Mapping[str, Command]] = {
    "help": Command("list these commands", _help),
    "info": Command("this conversation: length, cost, model", _info),
    "history": Command("what was said", _history),
    "new": Command("begin a new conversation", _new),
    "sessions": Command("the last conversations", _sessions),
    "open": Command("continue another conversation: /open ID", _open),
    "resume": Command("resume an interrupted answer", _resume),
    "drop": Command("give it up", _drop),
    "exit": Command("end the chat (also Ctrl-D)", _exit),
}

OTHER_WORDS: Final[Mapping[str, str]] = {"quit": "exit", "q": "exit"}
"""Names that other programs use."""
