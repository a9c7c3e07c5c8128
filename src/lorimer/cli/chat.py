"""`lorimer chat`: talk with an agent on the terminal."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import click

from lorimer.cli.drive import Output
from lorimer.cli.fail import Fault
from lorimer.cli.options import Terms, terms_options
from lorimer.core.world import SandboxMode

_USUAL = "filesystem,shell,web"


@click.command()
@click.option("-c", "--continue", "go_on", is_flag=True, help="Go on with the last conversation.")
@click.option("--session", metavar="ID", help="Go on with this one: an id or its beginning.")
@click.option("--preset", metavar="NAME", help="chat or agent. Default: agent.")
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Talk with the agent that this file describes (.json, .yaml, .toml).",
)
@click.option("-m", "--model", metavar="SPEC", help="e.g. claude-sonnet-4-6, openai:gpt-5.2.")
@click.option("--provider", metavar="NAME", help="Who answers, if the model's name does not tell.")
@click.option("--system", metavar="TEXT", help="The system prompt.")
@click.option(
    "--tools",
    metavar="NAMES",
    help="Shipped tools or groups of them, by comma, '*' for all, '' for none. Default, for the"
    f" preset agent: {_USUAL}.",
)
@click.option("--max-turns", type=click.IntRange(min=1), help="Model calls an answer at most.")
@click.option("--max-cost-usd", type=click.FloatRange(min=0), help="US dollars an answer at most.")
@terms_options
def chat(
    go_on: bool,
    session: str | None,
    preset: str | None,
    manifest: Path | None,
    model: str | None,
    provider: str | None,
    system: str | None,
    tools: str | None,
    max_turns: int | None,
    max_cost_usd: float | None,
    workspace: Path | None,
    allow: tuple[str, ...],
    sandbox: SandboxMode | None,
    network: tuple[str, ...],
    env: tuple[str, ...],
    permission_mode: str | None,
    base_url: str | None,
    api_key_env: str | None,
    models: str | None,
    store: str | None,
) -> int:
    """Talk with an agent: what it says comes as it says it, tools ask before they change
    something, and every answer tells what it cost. /help lists what else can be typed; Ctrl-C
    stops an answer, Ctrl-D ends the chat. All of it is kept: --continue goes on where it ended.

    \b
    Examples:
      lorimer chat
      lorimer chat --continue
      lorimer chat --preset chat -m openai:gpt-5.2 --system "Answer in French."
    """
    if go_on and session is not None:
        raise Fault("--continue and --session both say which conversation: give one of them")
    if preset is not None and manifest is not None:
        raise Fault("--preset and --manifest both say whom to talk with: give one of them")
    from lorimer.cli import agent, host, settings
    from lorimer.cli.chat_loop import Chat

    standing = settings.standing(workspace)
    found = (
        settings.load(manifest, standing)
        if manifest is not None
        else settings.preset(preset or "agent", standing)
    )
    described = found.manifest
    plain_agent = manifest is None and (preset or "agent") == "agent"
    agent.choose(described, model, provider, host.read(models))
    if system is not None:
        agent.instruct(described, system)
    elif plain_agent:
        agent.instruct(described, agent.AGENT_PROMPT)
    if tools is not None:
        agent.equip(described, tools)
    elif plain_agent:
        agent.equip(described, _USUAL)
    limits = agent.limited(described.limits, max_turns, max_cost_usd, None, unpriced=False)
    terms = Terms(
        workspace,
        allow,
        base_url,
        api_key_env,
        store,
        Output(),
        permission_mode=permission_mode,
        models=models,
        sandbox=sandbox,
        network=network,
        env=env,
    )
    terms = settings.settle(terms, standing)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            begun = runner.run(Chat.begin(described, limits, terms, stack, session, last=go_on))
            return begun.talk(runner)
        finally:
            runner.run(stack.aclose())
