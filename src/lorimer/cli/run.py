"""`lorimer run`: give an agent a task and watch it work."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from lorimer.cli.fail import Fault
from lorimer.cli.options import Span, Terms, execution_options, output_of
from lorimer.core.world import SandboxMode

_USUAL = "filesystem,shell,web"
"""Tools of the preset `agent`, unless others are named."""


@click.command(no_args_is_help=True)
@click.argument("task", required=False)
@click.option(
    "--input-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the task from a file.",
)
@click.option("--preset", metavar="NAME", help="minimal, chat, agent or evaluator. Default: agent.")
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Run the agent that this file describes (.json, .yaml, .toml).",
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
@click.option("--max-turns", type=click.IntRange(min=1), help="Model calls at most.")
@click.option("--max-cost-usd", type=click.FloatRange(min=0), help="US dollars at most.")
@click.option(
    "--allow-unpriced",
    is_flag=True,
    help="Under a cost limit, also call a model whose price is not known: it counts as free.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what the models are asked (as digests) and say into this file; play it again with"
    " -m scripted:FILE.jsonl.",
)
@click.option("--timeout", type=Span(), metavar="TIME", help="Seconds, or 90s, 5m, 2h at most.")
@execution_options
def run(
    task: str | None,
    input_file: Path | None,
    preset: str | None,
    manifest: Path | None,
    model: str | None,
    provider: str | None,
    system: str | None,
    tools: str | None,
    max_turns: int | None,
    max_cost_usd: float | None,
    allow_unpriced: bool,
    record: Path | None,
    timeout: float | None,
    workspace: Path | None,
    allow: tuple[str, ...],
    ask_later: bool,
    sandbox: SandboxMode | None,
    network: tuple[str, ...],
    env: tuple[str, ...],
    permission_mode: str | None,
    base_url: str | None,
    api_key_env: str | None,
    models: str | None,
    store: str | None,
    output_format: str,
    include_partial_messages: bool,
    quiet: bool,
) -> int:
    """Give an agent a TASK and watch it work. `-` reads the task from standard input.

    The answer goes to stdout, progress to stderr. Reading is always allowed beneath the
    workspace; whatever changes something or runs a program needs a rule (--allow), or is asked
    about on the terminal, or is refused.

    \b
    Examples:
      lorimer run "what does this project do?"
      lorimer run --allow Write --allow 'Bash(make test)' "make the tests pass"
      git diff | lorimer run --preset minimal -
      lorimer run -m openai:gpt-5.2 --max-cost-usd 0.50 --output-format json - < task.txt
    """
    text = _task(task, input_file)
    if record is not None and record.suffix != ".jsonl":
        raise Fault(f"--record: {record} is to be named .jsonl, so that -m scripted: can play it")
    if preset is not None and manifest is not None:
        raise Fault("--preset and --manifest both say what to run: give one of them")
    from lorimer.cli import agent, host, settings

    known, standing = host.read(models), settings.standing(workspace)
    found = (
        settings.load(manifest, standing)
        if manifest is not None
        else settings.preset(preset or "agent", standing)
    )
    described = found.manifest
    agent.choose(described, model, provider, known)
    if system is not None:
        agent.instruct(described, system)
    elif manifest is None and (preset or "agent") == "agent":
        agent.instruct(described, agent.AGENT_PROMPT)
    if tools is not None:
        agent.equip(described, tools)
    elif manifest is None and (preset or "agent") == "agent":
        agent.equip(described, _USUAL)
    limits = agent.limited(
        described.limits, max_turns, max_cost_usd, timeout, unpriced=allow_unpriced
    )
    terms = Terms(
        workspace,
        allow,
        base_url,
        api_key_env,
        store,
        output_of(output_format, quiet, include_partial_messages, store),
        ask_later,
        permission_mode,
        models,
        sandbox,
        network,
        env,
    )
    from lorimer.cli.foreground import begin

    terms = settings.settle(terms, standing)
    return asyncio.run(begin(described, text, limits, terms, record))


def _task(task: str | None, input_file: Path | None) -> str:
    if (task is None) == (input_file is None):
        raise Fault(
            "no task" if task is None else "two tasks: one as text, one in --input-file",
            hint="Give it as text, as - for standard input, or with --input-file.",
        )
    try:
        if input_file is not None:
            text, where = input_file.read_text("utf-8"), str(input_file)
        elif task == "-":
            if sys.stdin is None:
                raise Fault("standard input is closed")
            text, where = sys.stdin.buffer.read().decode("utf-8"), "standard input"
        else:
            text, where = task or "", "the task"
    except UnicodeDecodeError as error:
        raise Fault(f"the task is not UTF-8 text: {error}") from None
    except OSError as error:
        raise Fault(f"{input_file}: {error.strerror}") from None
    if not text.strip():
        raise Fault(f"{where} is empty")
    return text
