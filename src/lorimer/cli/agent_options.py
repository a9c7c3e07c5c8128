"""The options of `run` and `chat` that choose and configure an agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.fail import Fault
from lorimer.cli.options import gathered, with_options

if TYPE_CHECKING:
    from lorimer.cli.options import Command
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.environment.settings import Settings
    from lorimer.models.hostfile import Host

_MODEL: Final = "claude-sonnet-4-6"
"""The same as `DEFAULT_MODEL` of manifests, whose import would slow the help down."""
_USUAL: Final = "filesystem,shell,web"
"""Tools of the preset `agent`, unless others are named."""


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """The values of the options; None: not given."""

    preset: str | None
    manifest: Path | None
    model: str | None
    provider: str | None
    system: str | None
    tools: str | None

    def __post_init__(self) -> None:
        if self.preset is not None and self.manifest is not None:
            raise Fault("--preset and --manifest both name an agent: give one of them")

    def described(self, host: Host, settings: Settings) -> EnvironmentManifest:
        """The manifest of the agent, composed with the settings. Raises Fault or ConfigError."""
        from lorimer.cli import agent
        from lorimer.cli import settings as settings_files

        name = self.preset or "agent"
        found = (
            settings_files.load(self.manifest, settings)
            if self.manifest is not None
            else settings_files.preset(name, settings)
        ).manifest
        usual = self.manifest is None and name == "agent"
        agent.choose(found, self.model, self.provider, host)
        if self.system is not None:
            agent.instruct(found, self.system)
        elif usual:
            agent.instruct(found, agent.AGENT_PROMPT)
        if self.tools is not None:
            agent.equip(found, self.tools)
        elif usual:
            agent.equip(found, _USUAL)
        return found


def agent_options(presets: str, verb: str) -> Callable[[Command], Command]:
    """Options that say which agent; the command gets them as `wanted`. For their help texts:
    `presets` says which presets there are, `verb` what the command does with an agent."""

    options = with_options(*_options(presets, verb))
    return lambda command: options(gathered("wanted", AgentOptions)(command))


def _options(presets: str, verb: str) -> tuple[Callable[[Command], Command], ...]:
    return (
        click.option("--preset", metavar="NAME", help=f"{presets}. Default: agent."),
        click.option(
            "--manifest",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help=f"{verb} the agent that this file describes (.json, .yaml, .toml).",
        ),
        click.option(
            "-m",
            "--model",
            metavar="SPEC",
            help="e.g. claude-sonnet-4-6, openai:gpt-5.2. Default: the agent's; a preset's is that"
            f" of the settings, else {_MODEL}.",
        ),
        click.option(
            "--provider",
            metavar="NAME",
            help="The provider, if not implied by the model.",
        ),
        click.option("--system", metavar="TEXT", help="The system prompt."),
        click.option(
            "--tools",
            metavar="NAMES",
            help="Shipped tools or groups, separated by commas; '*' for all, '' for none. Default"
            f" for the preset agent: {_USUAL}.",
        ),
    )
