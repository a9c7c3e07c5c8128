"""`lorimer demo`: its options; `play.py` does the rest."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import click

from lorimer.cli.fail import Fault

DEFAULT_MODELS: Final = (
    ("anthropic", "claude-sonnet-4-6"),
    ("openai", "openai:gpt-5.2"),
    ("google", "google:gemini-3.5-flash"),
)
"""The model if only a key is given, by provider."""


@click.command()
@click.option("-m", "--model", metavar="SPEC", help="Use this model.")
@click.option("--base-url", metavar="URL", help="... at this address. Needs --model.")
@click.option("--api-key-env", metavar="NAME", help="The variable whose key is sent to --base-url.")
@click.option("--script", is_flag=True, help="Use the script even if there is a key.")
@click.option("--fast", is_flag=True, help="No pauses for the reader.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="A new folder for the demo. Default: lorimer-demo, here.",
)
def demo(
    model: str | None,
    base_url: str | None,
    api_key_env: str | None,
    script: bool,
    fast: bool,
    directory: Path | None,
) -> int:
    """See an agent work, be killed with -9, and go on without doing anything twice.

    It reads two tables of the US census, writes and runs an analysis, draws a chart and writes a
    report. With a key in the environment, or with --model, a model does that (for about $0.10,
    never more than $1); without one a script plays the model, and everything else is real.
    """
    if base_url and not model:
        raise Fault("--base-url needs --model: which model does that server have?")
    if script and model:
        raise Fault("--script and --model exclude each other: give one of them")
    from lorimer.cli import agent, host
    from lorimer.cli.demo.play import play
    from lorimer.cli.demo.show import Cast
    from lorimer.cli.demo.stage import choose_folder
    from lorimer.models.credentials import LOCAL

    if not script and model is None:
        model = _keyed_model()
    own = bool(base_url) or (model and agent.first(model, host.read(None)).provider in LOCAL)
    cast = Cast(model, base_url, api_key_env, priced=not own)
    paced = sys.stdout.isatty() and not fast
    return asyncio.run(play(choose_folder(directory), cast, paced=paced))


def _keyed_model() -> str | None:
    from lorimer.models.credentials import key_variable

    for provider, model in DEFAULT_MODELS:
        if os.environ.get(key_variable(provider, os.environ), "").strip():
            return model
    return None
