"""`lorimer run`: give an agent a task and watch it work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from lorimer.cli.agent_options import AgentOptions, agent_options
from lorimer.cli.fail import Fault
from lorimer.cli.limit_options import LimitOptions, limit_options
from lorimer.cli.options import Terms, execution_options
from lorimer.cli.standard_input import UNREAD, UNREAD_BESIDE_FILE, has_more, piped


@click.command(no_args_is_help=True)
@click.argument("words", nargs=-1, metavar="[TASK] [-]")
@click.option(
    "--input-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the task from a file.",
)
@agent_options("minimal, chat, agent, evaluator or coding", "Run")
@click.option(
    "--output-schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Answer with JSON that conforms to the JSON Schema in this file (.json, .yaml, .toml). An"
    " invalid answer is returned to the model, at most twice.",
)
@limit_options("", "50 for the preset agent")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Record the models' answers, with digests of the requests, in this file; replay it with"
    " -m scripted:FILE.jsonl.",
)
@execution_options
def run(
    words: tuple[str, ...],
    input_file: Path | None,
    output_schema: Path | None,
    within: LimitOptions,
    record: Path | None,
    wanted: AgentOptions,
    terms: Terms,
) -> int:
    """Give an agent a TASK and watch it work. `-` reads standard input: as the task or, after a
    TASK, as the material for it. Without `-` standard input is not read.

    The answer goes to stdout, progress to stderr. Reading is always allowed within the workspace.
    To change something or run a program, the agent needs a rule (--allow) or your confirmation on
    the terminal; otherwise the call is refused.

    \b
    Examples:
      lorimer run "what does this project do?"
      lorimer run --allow Write --allow 'Bash(make test)' "make the tests pass"
      git diff | lorimer run --preset minimal "review this:" -
      lorimer run -m openai:gpt-5.2 --max-cost-usd 0.50 --output-format json - < task.txt
    """
    text = _task(words, input_file)
    if record is not None and record.suffix != ".jsonl":
        raise Fault(f"--record: {record} is to be named .jsonl, so that -m scripted: can play it")
    from lorimer.cli import agent, host, settings
    from lorimer.cli.foreground import begin

    effective = settings.effective_settings(terms.workspace)
    described = wanted.described(host.read(terms.models), effective)
    if output_schema is not None:
        agent.shape(described, output_schema)
    limits = within.applied(described.limits)
    terms = settings.with_settings(terms, effective)
    forgets = "-" not in words and not terms.output.quiet
    unread = UNREAD if input_file is None else UNREAD_BESIDE_FILE
    told = forgets and has_more()
    if told:
        terms = replace(terms, notes=(*terms.notes, unread))
    code = asyncio.run(begin(described, text, limits, terms, record))
    if forgets and not told and has_more():  # it came after we had looked
        click.echo(f"{click.style('note:', fg='yellow')} {unread}", err=True)
    return code


def _task(words: Sequence[str], input_file: Path | None) -> str:
    task, more = words[0] if words else None, words[1:]
    if more and more != ("-",):
        raise Fault(
            f"there are {len(words)} texts, and one task is wanted",
            hint="Several words that are one text go into quotes. See: lorimer run --help",
        )
    if (task is None) == (input_file is None):
        raise Fault(
            "no task" if task is None else "two tasks: one as text, one in --input-file",
            hint="Give it as text, as - for standard input, or with --input-file.",
        )
    try:
        if input_file is not None:
            text, where = input_file.read_text("utf-8"), str(input_file)
        elif task == "-":
            text, where = piped(), "standard input"
        else:
            text, where = task or "", "the task"
        about = piped() if more else ""
    except UnicodeDecodeError as error:
        raise Fault(f"the task is not UTF-8 text: {error}") from None
    except OSError as error:
        raise Fault(f"{input_file}: {error.strerror}") from None
    if not text.strip():
        raise Fault(f"{where} is empty")
    if more and not about.strip():
        raise Fault("standard input is empty")
    return f"{text}\n\n{about}" if more else text
