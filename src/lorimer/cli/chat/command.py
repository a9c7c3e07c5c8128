"""`lorimer chat`: talk with an agent on the terminal."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import click

from lorimer.cli.agent_options import AgentOptions, agent_options
from lorimer.cli.fail import Fault
from lorimer.cli.limit_options import LimitOptions, limit_options
from lorimer.cli.options import Terms, terms_options


@click.command()
@click.option("-c", "--continue", "go_on", is_flag=True, help="Continue the last conversation.")
@click.option(
    "--session",
    "--resume",
    "session",
    metavar="ID",
    help="Continue this one: an id or its beginning.",
)
@agent_options("chat or agent", "Talk with")
@limit_options(" per answer", "50 for the preset agent, 20 for chat")
@terms_options
def chat(
    go_on: bool,
    session: str | None,
    within: LimitOptions,
    wanted: AgentOptions,
    terms: Terms,
) -> int:
    """Chat with an agent. Answers are shown as they are produced, each with its cost; tools ask
    before they change something. /help lists further commands; Ctrl-C stops an answer, Ctrl-D ends
    the chat. Everything is stored: --continue resumes the last conversation.

    \b
    Examples:
      lorimer chat
      lorimer chat --continue
      lorimer chat --preset chat -m openai:gpt-5.2 --system "Answer in French."
    """
    if go_on and session is not None:
        raise Fault("--continue and --session both name a conversation: give one of them")
    from lorimer.cli import host, settings
    from lorimer.cli.chat.loop import Chat

    effective = settings.effective_settings(terms.workspace)
    described = wanted.described(host.read(terms.models), effective)
    limits = within.applied(described.limits)
    terms = settings.with_settings(terms, effective)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            begun = runner.run(Chat.begin(described, limits, terms, stack, session, last=go_on))
            return begun.talk(runner)
        finally:
            runner.run(stack.aclose())
